//! Requests and replies as they stand on the wire (JSON-RPC 2.0, <https://www.jsonrpc.org>).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub(super) use crate::api::Code;

/// A request that can be understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Comes back with the reply; none marks a notification, which gets no reply.
    pub id: Option<Value>,
    /// What is asked.
    pub method: String,
    /// With what; null if absent.
    pub params: Value,
}

/// What a line holds.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// One request, or what is wrong with it.
    One(Result<Request, Refusal>),
    /// A batch, answered by one line. Each is [`understood`] when its turn comes: half a million that
    /// are none take little room until then.
    Batch(Vec<Value>),
}

/// An error reply.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusal {
    /// The kind, for programs.
    pub code: i32,
    /// One sentence, for people.
    pub message: String,
    /// More, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl Refusal {
    /// A refusal without data.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code as i32,
            message: message.into(),
            data: None,
        }
    }

    /// With data.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }
}

/// The members of a request. Unknown ones are ignored, known ones may not come twice.
#[derive(Deserialize)]
#[serde(rename = "request")]
struct Raw {
    #[serde(rename = "jsonrpc")]
    _jsonrpc: String,
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
    method: String,
    #[serde(default)]
    params: Value,
}

/// An explicit null is an id too, unlike none at all.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Reads a line. Whatever is no request is refused with the id 0, as zinit 0.3.9 did.
#[must_use]
pub fn parse(line: &[u8]) -> Incoming {
    if line.trim_ascii_start().first() != Some(&b'[') {
        return Incoming::One(
            serde_json::from_slice(line)
                .map_err(refuse)
                .and_then(understand),
        );
    }
    match serde_json::from_slice::<Vec<Value>>(line) {
        Err(error) => Incoming::One(Err(refuse(error))),
        Ok(items) if items.is_empty() => Incoming::One(Err(Refusal::new(
            Code::InvalidRequest,
            "a batch needs at least one request",
        ))),
        Ok(items) => Incoming::Batch(items),
    }
}

/// Reads a request of a batch.
///
/// # Errors
/// With what is wrong with it.
pub fn understood(item: Value) -> Result<Request, Refusal> {
    serde_json::from_value(item)
        .map_err(refuse)
        .and_then(understand)
}

fn refuse(error: serde_json::Error) -> Refusal {
    Refusal::new(Code::Parse, error.to_string())
}

fn understand(raw: Raw) -> Result<Request, Refusal> {
    if matches!(
        raw.id,
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_))
    ) {
        return Err(Refusal::new(Code::Parse, "id must be a number or a string"));
    }
    Ok(Request {
        id: raw.id,
        method: raw.method,
        params: raw.params,
    })
}

#[derive(Serialize)]
struct Reply<'a> {
    jsonrpc: &'static str,
    id: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Refusal>,
}

/// Appends a reply, without a newline.
pub fn reply(id: &Value, answer: &Result<Value, Refusal>, out: &mut Vec<u8>) {
    let reply = Reply {
        jsonrpc: "2.0",
        id,
        result: answer.as_ref().ok(),
        error: answer.as_ref().err(),
    };
    serde_json::to_writer(out, &reply)
        .expect("values that were built in memory can be written to memory");
}

#[derive(Serialize)]
struct Note<'a> {
    jsonrpc: &'static str,
    method: &'a str,
    params: &'a Value,
}

/// A notification (JSON-RPC 2.0, section 4.1), as a line.
#[must_use]
pub fn note(method: &str, params: &Value) -> Vec<u8> {
    let note = Note {
        jsonrpc: "2.0",
        method,
        params,
    };
    let mut line = serde_json::to_vec(&note)
        .expect("values that were built in memory can be written to memory");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(line: &str) -> Result<Request, Refusal> {
        match parse(line.as_bytes()) {
            Incoming::One(one) => one,
            Incoming::Batch(_) => panic!("a batch"),
        }
    }

    #[test]
    fn ids_may_be_numbers_strings_null_or_absent() {
        for (id, expected) in [
            ("7", json!(7)),
            ("\"a\"", json!("a")),
            ("null", Value::Null),
            ("-1.5", json!(-1.5)),
        ] {
            let request =
                one(&format!(r#"{{"jsonrpc":"1.0","id":{id},"method":"m"}}"#)).expect("a request");
            assert_eq!(
                request,
                Request {
                    id: Some(expected),
                    method: "m".into(),
                    params: Value::Null
                }
            );
        }
        assert_eq!(
            one(r#"{"jsonrpc":"2.0","method":"m"}"#)
                .expect("a notification")
                .id,
            None
        );
        assert_eq!(
            one(r#"{"jsonrpc":"2.0","id":[],"method":"m"}"#)
                .expect_err("no id")
                .code,
            -32700
        );
    }

    #[test]
    fn what_is_no_request_is_refused_without_harm() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let params = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{deep}}}"#);
        for line in [
            "",
            " ",
            "x",
            "{}",
            r#"{"jsonrpc":2,"id":1,"method":"m"}"#,
            &deep,
            &params,
        ] {
            assert_eq!(one(line).expect_err(line).code, -32700, "{line}");
        }
        assert_eq!(one("[]").expect_err("empty").code, -32600);
        assert!(one("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"method\":\"n\"}").is_err());
        assert!(matches!(parse(b"\"\xff\xfe\""), Incoming::One(Err(_))));
    }

    #[test]
    fn members_stand_in_the_old_order() {
        let mut line = Vec::new();
        reply(&json!(1), &Ok(json!({"b": 1, "a": 2})), &mut line);
        assert_eq!(
            String::from_utf8_lossy(&line),
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":2,"b":1}}"#
        );
        line.clear();
        reply(
            &json!("x"),
            &Err(Refusal::new(Code::MethodNotFound, "unknown method")),
            &mut line,
        );
        let expected =
            r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"unknown method"}}"#;
        assert_eq!(String::from_utf8_lossy(&line), expected);
    }
}
