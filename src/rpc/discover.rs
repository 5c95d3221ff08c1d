//! The table of methods and the types of the wire, as an OpenRPC document
//! (<https://spec.open-rpc.org>).

use serde_json::{Map, Value, json};

use super::methods::{METHODS, Method, Role};
use crate::api::schema::{component, of_type};
use crate::api::{CODES, Code, NOTES, declarations};

/// The document.
#[must_use]
pub fn discover() -> Value {
    let schemas: Map<String, Value> = declarations()
        .map(component)
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    let errors: Map<String, Value> = CODES
        .iter()
        .map(|(code, name, about)| {
            let error = json!({"code": *code as i32, "message": about.trim()});
            ((*name).to_owned(), error)
        })
        .collect();
    json!({
        "openrpc": "1.2.6",
        "info": {
            "title": "Zinit RPC API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": env!("CARGO_PKG_DESCRIPTION"),
            "license": {"name": "Apache-2.0"},
        },
        "methods": METHODS.iter().map(shown).collect::<Vec<_>>(),
        "components": {"schemas": schemas, "errors": errors},
    })
}

fn shown(method: &Method) -> Value {
    let params = method.params().map(|param| {
        json!({
            "name": param.name,
            "required": !param.may_be_absent,
            "description": param.about,
            "schema": of_type(param.kind),
        })
    });
    // Whoever may not do it is told so.
    let denied = [Code::PermissionDenied];
    let denied = denied.iter().filter(|_| method.role > Role::Nothing);
    let errors = method.errors.iter().chain(denied).map(|code| {
        let name = CODES
            .iter()
            .find(|(known, ..)| known == code)
            .map_or("", |known| known.1);
        json!({"$ref": format!("#/components/errors/{name}")})
    });
    let mut shown = json!({
        "name": method.name,
        "description": method.about(),
        "paramStructure": "by-name",
        "params": params.collect::<Vec<_>>(),
        "result": {"name": "result", "schema": of_type(method.reply())},
        "errors": errors.collect::<Vec<_>>(),
        "x-role": method.role.name(),
    });
    // OpenRPC has no word for what a server tells unasked.
    if method.errors.contains(&Code::InvalidRequest) {
        let (stream, _) = method.name.split_once('.').unwrap_or_default();
        let of_stream = NOTES
            .iter()
            .filter(|(name, _)| name.split('.').next() == Some(stream));
        shown["x-notifications"] = of_stream
            .map(|(name, kind)| json!({"name": name, "params": of_type(kind)}))
            .collect();
    }
    shown
}
