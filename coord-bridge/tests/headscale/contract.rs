//! What is written, held against Headscale's own description of its API.
//!
//! The description is the one that the recorded 0.30 serves.

use serde_json::Value;

use crate::fake::Request;
use crate::recorded::{Replay, releases};
use crate::scenario;

/// Issue 5: strict writing. A property, path or type that 0.30 does not know is refused by it.
#[tokio::test]
async fn every_request_to_0_30_is_as_its_openapi_document_says() {
    let mut held = 0;
    for release in releases() {
        let Ok(document) = std::fs::read_to_string(release.join("openapi.json")) else { continue };
        let document: Value = serde_json::from_str(&document).unwrap();
        let mut replay = Replay::new(&release);
        scenario::run(&replay.client(), &mut replay).await;

        for request in replay.fake.asked() {
            if let Err(fault) = judge(&document, &request) {
                panic!("{}: {} {}: {fault}", release.display(), request.method, request.path);
            }
            held += 1;
        }
    }
    assert!(held > 20, "{held}");
}

/// The judge itself: it has to find what is wrong.
#[test]
fn requests_that_are_not_as_the_document_says_are_found() {
    let release = releases().into_iter().find(|it| it.join("openapi.json").exists()).unwrap();
    let document = std::fs::read_to_string(release.join("openapi.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let key = "/api/v1/preauthkey";
    for (method, path, body, fault) in [
        ("POST", key, r#"{"user":"1","expiration":"2099-01-01T00:00:00Z"}"#, None),
        ("GET", "/api/v1/node/7", "", None),
        ("POST", key, r#"{"acl_tags":[]}"#, Some("acl_tags")),
        ("POST", key, r#"{"user":1}"#, Some("user: not of type")),
        ("POST", key, r#"{"user":"one"}"#, Some("user: not a uint64")),
        ("POST", key, r#"{"expiration":"tomorrow"}"#, Some("expiration: not a date-time")),
        ("POST", key, r#"{"aclTags":[1]}"#, Some("aclTags: not of type")),
        ("POST", key, "", Some("a body is needed")),
        ("GET", key, "{}", Some("a body is not taken")),
        ("GET", "/api/v1/preauthkey?user=1", "", Some("user: no such parameter")),
        ("GET", "/api/v1/node/x", "", Some("nodeId: not a uint64")),
        ("PATCH", key, "", Some("no such method")),
        ("GET", "/api/v1/nothing", "", Some("no such path")),
    ] {
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            key: None,
            body: body.to_owned(),
        };
        match (judge(&document, &request), fault) {
            (Ok(()), None) => {}
            (Err(found), Some(wanted)) if found.contains(wanted) => {}
            (found, _) => panic!("{method} {path} {body}: {found:?}, not {fault:?}"),
        }
    }
}

/// Whether `request` is as `document` says.
fn judge(document: &Value, request: &Request) -> Result<(), String> {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let paths = document["paths"].as_object().unwrap();
    // A path without variables goes before one with them.
    let found = paths.get_key_value(path).or_else(|| paths.iter().find(|(it, _)| fits(it, path)));
    let (template, methods) = found.ok_or("no such path")?;
    let operation = methods.get(request.method.to_lowercase()).ok_or("no such method")?;

    let empty = Vec::new();
    let parameters = operation["parameters"].as_array().unwrap_or(&empty);
    let mut given: Vec<(&str, &str, String)> = Vec::new();
    for (name, value) in template.split('/').zip(path.split('/')) {
        if let Some(name) = name.strip_prefix('{') {
            given.push(("path", name.trim_end_matches('}'), value.to_owned()));
        }
    }
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        given.push(("query", name, value.to_owned()));
    }
    for (place, name, value) in &given {
        let known = parameters.iter().find(|it| it["in"] == *place && it["name"] == *name);
        let schema = &known.ok_or(format!("{name}: no such parameter"))?["schema"];
        conforms(document, schema, &Value::String(value.clone()), name)?;
    }
    for needed in parameters.iter().filter(|it| it["required"] == true) {
        let is_given = given.iter().any(|(_, name, _)| needed["name"] == *name);
        is_given.then_some(()).ok_or(format!("{} is missing", needed["name"]))?;
    }

    match (operation.get("requestBody"), request.body.is_empty()) {
        (None, true) => Ok(()),
        (None, false) => Err("a body is not taken".to_owned()),
        (Some(body), true) if body["required"] == true => Err("a body is needed".to_owned()),
        (Some(_), true) => Ok(()),
        (Some(body), false) => {
            let schema = &body["content"]["application/json"]["schema"];
            let value: Value = serde_json::from_str(&request.body).map_err(|it| it.to_string())?;
            conforms(document, schema, &value, "body")
        }
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(it, part)| it.starts_with('{') || it == part)
}

/// Whether `value` is of this schema: as much of JSON Schema as the document uses.
fn conforms(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return conforms(document, &document["components"]["schemas"][name], value, place);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            panic!("{place}: a schema without a type")
        }
    };
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&actual) {
        return Err(format!("{place}: not of type {types:?}"));
    }
    match value {
        Value::Object(members) => {
            let empty = serde_json::Map::new();
            let known = schema["properties"].as_object().unwrap_or(&empty);
            for (name, member) in members {
                let schema = known.get(name).ok_or(format!("{name}: no such property"))?;
                conforms(document, schema, member, name)?;
            }
            let needed = schema["required"].as_array().into_iter().flatten();
            for name in needed.filter_map(Value::as_str) {
                members.get(name).ok_or(format!("{name} is missing"))?;
            }
        }
        Value::Array(items) => {
            for item in items {
                conforms(document, &schema["items"], item, place)?;
            }
        }
        Value::String(text) => {
            let is_good = match schema["format"].as_str() {
                Some("uint64") => text.parse::<u64>().is_ok(),
                Some("date-time") => text.len() == 20 && text.ends_with('Z'),
                Some(_) | None => true,
            };
            is_good.then_some(()).ok_or(format!(
                "{place}: not a {}",
                schema["format"].as_str().unwrap_or_default()
            ))?;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}
