//! Requests and replies as they stand on the wire (JSON-RPC 2.0, <https://www.jsonrpc.org>).

use serde::de::IgnoredAny;
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
    /// A batch, answered by one line.
    Batch(Batch),
}

/// The requests of a batch that were not taken yet, as they stand in its line: half a million that
/// are none take no more room than that. Each is understood when its turn comes.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    line: Vec<u8>,
    /// Where the next one begins.
    at: usize,
}

impl Batch {
    /// A line that is an array.
    fn new(line: Vec<u8>) -> Result<Self, Refusal> {
        let items: Vec<IgnoredAny> = serde_json::from_slice(&line).map_err(refuse)?;
        if items.is_empty() {
            let text = "a batch needs at least one request";
            return Err(Refusal::new(Code::InvalidRequest, text));
        }
        let open = line.iter().position(|byte| *byte == b'[');
        let mut batch = Self { line, at: 0 };
        batch.go_on(open.map_or(0, |at| at + 1));
        Ok(batch)
    }

    /// Goes to what comes `count` bytes further on.
    fn go_on(&mut self, count: usize) {
        self.at += count;
        let rest = &self.line[self.at..];
        let is_between = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',');
        self.at += rest.iter().take_while(is_between).count();
        if matches!(self.line.get(self.at), None | Some(b']')) {
            *self = Self::default();
        }
    }

    /// Is there none any more?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Bytes that are kept for them.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.line.len()
    }
}

impl Iterator for Batch {
    type Item = Result<Request, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.line.get(self.at..).filter(|rest| !rest.is_empty())?;
        let mut items = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        items.next()?.ok()?;
        let end = items.byte_offset();
        let request = serde_json::from_slice(&rest[..end]);
        self.go_on(end);
        Some(request.map_err(refuse).and_then(understand))
    }
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
pub fn parse(line: Vec<u8>) -> Incoming {
    if line.trim_ascii_start().first() != Some(&b'[') {
        return Incoming::One(
            serde_json::from_slice(&line)
                .map_err(refuse)
                .and_then(understand),
        );
    }
    Batch::new(line).map_or_else(|refusal| Incoming::One(Err(refusal)), Incoming::Batch)
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
        match parse(line.as_bytes().to_vec()) {
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
            "[1,",
            "[1]]",
            &params,
        ] {
            assert_eq!(one(line).expect_err(line).code, -32700, "{line}");
        }
        assert_eq!(one("[]").expect_err("empty").code, -32600);
        assert!(one("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"method\":\"n\"}").is_err());
        assert!(matches!(
            parse(b"\"\xff\xfe\"".to_vec()),
            Incoming::One(Err(_))
        ));
    }

    #[test]
    fn requests_of_a_batch_are_cut_where_they_end() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let odd = r#"true,-1.5e3 ,null,"],[\"",[1,[]],{"a":{"b":"}"}},"\ud800",1e999"#;
        let ask = |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m[","params":[{{}}]}}"#);
        let line = format!(" [ {} ,\t{odd},{deep},{}\r]\t", ask(1), ask(2));
        let Incoming::Batch(mut batch) = parse(line.clone().into_bytes()) else {
            panic!("no batch");
        };
        assert_eq!(batch.held_bytes(), line.len());
        let ids = batch.by_ref().map(|request| match request {
            Ok(request) => request.id.expect("an id"),
            Err(refusal) => json!(refusal.code),
        });
        let refused = vec![json!(-32700); 9];
        assert_eq!(
            ids.collect::<Vec<_>>(),
            [vec![json!(1)], refused, vec![json!(2)]].concat()
        );
        assert!(batch.is_empty() && batch.next().is_none());
        assert_eq!(batch.held_bytes(), 0);
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
