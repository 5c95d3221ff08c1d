//! Templates: a service file whose name ends with `@` is none itself, but what its instances are
//! made of.

use serde_json::Value;

use super::file;
use super::rules::SetError;
use crate::engine::Spec;
use crate::engine::spec::Status;

/// Is that the name of a template?
#[must_use]
pub fn is_template(name: &str) -> bool {
    name.ends_with('@')
}

/// The template that a name would be an instance of, and which: `getty@` and `ttyS0`.
#[must_use]
pub fn template_of(name: &str) -> Option<(&str, &str)> {
    let (template, instance) = name.split_at(name.find('@')? + 1);
    (!instance.is_empty()).then_some((template, instance))
}

/// The instance of that name. In every text `%i` is what stands behind the `@`, `%p` what stands
/// before it, `%n` the whole name, and `%%` a percent sign. It is started on request only.
///
/// # Errors
/// [`SetError`], if what comes of it breaks rules.
pub fn instance(template: &Spec, name: &str) -> Result<Spec, SetError> {
    let (prefix, instance) = name.split_once('@').unwrap_or((name, ""));
    let mut value = file::to_value(template);
    fill(&mut value, &[('i', instance), ('p', prefix), ('n', name)]);
    let section = if template.is_target() {
        &mut value
    } else {
        &mut value["service"]
    };
    section["name"] = Value::from(name);
    let mut spec = if template.is_target() {
        let dependencies = value["dependencies"].take();
        file::from_value(serde_json::json!({"target": value, "dependencies": dependencies}))?
    } else {
        file::from_value(value)?
    };
    spec.status = Status::Stop;
    Ok(spec)
}

fn fill(value: &mut Value, words: &[(char, &str)]) {
    match value {
        Value::String(text) if text.contains('%') => *text = filled(text, words),
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, words)),
        Value::Object(members) => members
            .iter_mut()
            .for_each(|(_, member)| fill(member, words)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn filled(text: &str, words: &[(char, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('%') => out.push('%'),
            Some(key) => match words.iter().find(|(known, _)| *known == key) {
                Some((_, word)) => out.push_str(word),
                None => out.extend(['%', key]),
            },
            None => out.push('%'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::spec::Exec;

    #[test]
    fn an_instance_is_filled_in() {
        let exec = ["agetty", "%i", "100%%", "%n", "%p", "%x", "%"].map(str::to_owned);
        let mut template = Spec::new("getty@", Exec::Words(exec.to_vec()));
        template.links.requires = vec!["dev@%i".into()];
        let made = instance(&template, "getty@ttyS0").unwrap();
        let words = ["agetty", "ttyS0", "100%", "getty@ttyS0", "getty", "%x", "%"];
        let program = made.program().unwrap();
        assert_eq!(program.exec, Exec::Words(words.map(str::to_owned).to_vec()));
        assert_eq!(&*made.name, "getty@ttyS0");
        assert_eq!(&*made.links.requires[0], "dev@ttyS0");
        let target = instance(&Spec::target("group@"), "group@a").unwrap();
        assert_eq!((&*target.name, target.is_target()), ("group@a", true));
        assert_eq!(template_of("getty@ttyS0"), Some(("getty@", "ttyS0")));
        assert_eq!(template_of("a@b@c"), Some(("a@", "b@c")));
        assert_eq!(template_of("getty@"), None);
        assert_eq!(template_of("getty"), None);
    }
}
