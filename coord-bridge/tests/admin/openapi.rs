//! The document of the API against the API, by a reader of schemas that is not ours.

use std::collections::BTreeSet;
use std::path::Path;

use boon::{Compiler, Draft, Schemas};
use coord_bridge::http::api::openapi::document;
use serde_json::{Value, json};

use crate::access::operations;
use crate::client::Answer;
use crate::running::{JSON, Running, json as body_of};

/// Where the document is, for its reader.
const PLACE: &str = "file:///openapi.json";

#[test]
fn the_committed_document_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/openapi.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, document()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(committed == document(), "docs/api/openapi.json is old; BLESS=1 writes it again");
}

/// Every operation is asked for well, and answers with what the document promises; its problems
/// too.
#[test]
fn every_operation_answers_as_the_document_says() {
    let running = Running::new();
    let mut left: BTreeSet<String> =
        operations().iter().map(|(_, _, it)| it["operationId"].as_str().unwrap().into()).collect();
    let (id, key) = running.register("one");
    running.bench.headscale.join(&key, "one");
    let of_machine = |end: &str| format!("/api/v1/machines/{id}{end}");
    let mut document = Document::new();
    for (method, path, body, status) in [
        ("GET", "/api/v1/openapi.json".to_owned(), "", 200),
        ("GET", "/api/v1/status".to_owned(), "", 200),
        ("GET", "/api/v1/map".to_owned(), "", 200),
        ("GET", "/api/v1/relays".to_owned(), "", 200),
        ("POST", "/api/v1/tokens".to_owned(), r#"{"name": "lab", "quota": 1}"#, 201),
        ("POST", "/api/v1/tokens".to_owned(), r#"{"name": "lab"}"#, 409),
        ("POST", "/api/v1/tokens/lab/rotate".to_owned(), "{}", 200),
        ("GET", "/api/v1/tokens".to_owned(), "", 200),
        ("DELETE", "/api/v1/tokens/lab".to_owned(), "", 204),
        ("DELETE", "/api/v1/tokens/lab".to_owned(), "", 404),
        ("POST", "/api/v1/keys".to_owned(), "{}", 201),
        ("POST", "/api/v1/keys/expire".to_owned(), "{}", 200),
        ("GET", "/api/v1/machines?limit=1".to_owned(), "", 200),
        ("GET", of_machine(""), "", 200),
        ("POST", of_machine("/expire"), "", 200),
        ("DELETE", of_machine(""), "", 200),
        ("POST", "/api/v1/machines/none/expire".to_owned(), "", 404),
        ("GET", "/api/v1/events?limit=1".to_owned(), "", 200),
        ("GET", "/api/v1/events?limit=none".to_owned(), "", 400),
        ("POST", "/api/v1/keys".to_owned(), "{\"x\": 1}", 400),
    ] {
        let headers = if body.is_empty() { "" } else { JSON };
        let answer = running.ask(method, &path, headers, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        let operation = document.holds(method, &path, &answer);
        if status < 300 {
            left.remove(&operation);
        }
    }
    assert!(left.is_empty(), "not asked for: {left:?}");
}

/// What the document says of requests is what is taken: its examples of good and bad are those of
/// the program.
#[test]
fn the_schemas_of_requests_take_what_the_program_takes() {
    let running = Running::new();
    let mut document = Document::new();
    for (path, schema, body) in [
        ("/tokens", "NewToken", json!({ "name": "a1" })),
        ("/tokens", "NewToken", json!({ "name": "a2", "quota": 1, "sources": ["192.0.2.0/24"] })),
        ("/tokens", "NewToken", json!({ "name": "a3", "quota": 0 })),
        ("/tokens", "NewToken", json!({ "name": "a4", "expires_in_seconds": 0 })),
        ("/tokens", "NewToken", json!({ "name": "a5", "expires_in_seconds": 1 })),
        ("/tokens", "NewToken", json!({ "name": "a6", "profile": "other" })),
        ("/tokens", "NewToken", json!({ "name": "a7", "unknown": 1 })),
        ("/tokens", "NewToken", json!({})),
        ("/keys", "NewKey", json!({})),
        ("/keys", "NewKey", json!({ "profile": "iso", "expires_in_seconds": 60 })),
        ("/keys", "NewKey", json!({ "expires_in_seconds": 59 })),
        ("/keys", "NewKey", json!({ "expires_in_seconds": 604_801 })),
        ("/keys", "NewKey", json!({ "profile": null })),
        ("/keys/expire", "KeyExpiry", json!({ "all": true })),
        ("/keys/expire", "KeyExpiry", json!({ "all": 1 })),
    ] {
        let answer = running.post(&format!("/api/v1{path}"), &body.to_string());
        let is_taken = answer.status < 300;
        let found = document.fault(&format!("/components/schemas/{schema}"), &body);
        assert_eq!(found.is_none(), is_taken, "{body}: {found:?}, {}", answer.text());
    }
}

/// Nothing is answered that is not in the document: not with another method, either.
#[test]
fn there_is_nothing_beside_the_document() {
    let running = Running::new();
    let all = operations();
    let paths: BTreeSet<&String> = all.iter().map(|(_, path, _)| path).collect();
    for path in paths {
        let mut known: BTreeSet<&str> = all
            .iter()
            .filter(|(_, it, _)| it == path)
            .map(|(method, ..)| method.as_str())
            .collect();
        if known.contains("GET") {
            known.insert("HEAD");
        }
        let path = path.replace("{id}", "none").replace("{name}", "none");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]
        {
            let answer = running.ask(method, &path, "", "");
            assert_eq!(answer.status != 405, known.contains(method), "{method} {path}");
            if answer.status == 405 {
                let allowed: BTreeSet<&str> = answer.header("allow").unwrap().split(", ").collect();
                assert_eq!(allowed, known, "{path}");
            }
        }
    }
}

/// The head without the body, for whoever wants that.
#[test]
fn the_head_alone_has_no_body() {
    let running = Running::new();
    let answer = running.ask("HEAD", "/api/v1/status", "", "");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_ne!(answer.header("content-length"), Some("0"));
}

/// The document, with schemas that take no fields which it does not name.
struct Document {
    document: Value,
    compiler: Compiler,
    schemas: Schemas,
}

impl Document {
    fn new() -> Self {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let mut closed = document.clone();
        close(&mut closed);
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.add_resource(PLACE, closed).unwrap();
        Self { document, compiler, schemas: Schemas::new() }
    }

    /// What keeps `value` from being what the schema at `pointer` takes, if anything does.
    fn fault(&mut self, pointer: &str, value: &Value) -> Option<String> {
        let place = format!("{PLACE}#{pointer}");
        let schema = self.compiler.compile(&place, &mut self.schemas).unwrap();
        self.schemas.validate(value, schema).err().map(|error| error.to_string())
    }

    /// That `answer` is one that the document names. Gives the name of the operation.
    fn holds(&mut self, method: &str, path: &str, answer: &Answer) -> String {
        let path = path.split('?').next().unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let own: Vec<&str> = template.split('/').collect();
            own.len() == parts.len()
                && own.iter().zip(&parts).all(|(own, part)| own.starts_with('{') || own == part)
        };
        let paths = self.document["paths"].as_object().unwrap();
        // A plain path weighs more than one with braces.
        let mut found: Vec<&String> = paths.keys().filter(|template| fits(template)).collect();
        found.sort_by_key(|template| template.contains('{'));
        let template = found[0].clone();
        let method = method.to_lowercase();
        let operation = &self.document["paths"][&template][&method];
        let name = operation["operationId"].as_str().unwrap().to_owned();
        let response = &operation["responses"][answer.status.to_string()];
        assert!(response.is_object(), "{name}: {} is not named", answer.status);
        let Some(kind) = answer.header("content-type") else {
            assert!(response["content"].is_null() && answer.body.is_empty(), "{name}");
            return name;
        };
        assert!(response["content"][kind]["schema"].is_object(), "{name}: {kind}");
        let escape = |text: &str| {
            text.replace('~', "~0").replace('/', "~1").replace('{', "%7B").replace('}', "%7D")
        };
        let pointer = format!(
            "/paths/{}/{method}/responses/{}/content/{}/schema",
            escape(&template),
            answer.status,
            escape(kind).replace('+', "%2B")
        );
        let found = self.fault(&pointer, &body_of(answer));
        assert!(found.is_none(), "{name}: {found:?}: {}", answer.text());
        name
    }
}

/// Lets every object schema that names its fields take no others.
fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("type") == Some(&json!("object"))
                && fields.contains_key("properties")
                && !fields.contains_key("additionalProperties")
            {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
