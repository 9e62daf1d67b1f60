//! The OpenAPI document of the API.
//!
//! Does: puts it together from the list of operations and the types of their bodies, so that no
//! line of it is written twice. `docs/api/openapi.json` is held equal to it by a test.
//! Does not: describe the other listeners.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::problem::{PROBLEM_JSON, Problem, ProblemBody};
use super::route::{Asked, Reply, Route, Verb, schema};
use super::routes::ROUTES;
use super::{MAX_BODY_LEN, PREFIX, idempotency};
use crate::provisioning::admin::Subject;

/// Statuses of problems that every operation with a token can have: wrong request, no token, an
/// enrollment token, body too slow, too many wrong tokens, a fault of ours, no registration.
const COMMON: [u16; 7] = [400, 401, 403, 408, 429, 500, 503];

/// The document, as it is served.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document()));

/// The OpenAPI 3.1 document, with two blanks for each level and a line break at its end.
#[must_use]
pub fn document() -> String {
    let mut replies = settings().for_serialize().into_generator();
    let mut bodies = settings().for_deserialize().into_generator();
    let problem = schema::<ProblemBody<'_>>(&mut replies);
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(format!("{PREFIX}{}", route.path)).or_insert_with(|| json!({}));
        path[word(route.verb)] = operation(route, &mut bodies, &mut replies, &problem);
    }
    let mut schemas = replies.take_definitions(true);
    schemas.extend(bodies.take_definitions(true));
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "coord-bridge",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "What administrators do to machines, tokens and keys. Every error is \
                            application/problem+json (RFC 9457).",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "adminToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token in the file admin_token_file",
                },
            },
        },
        "security": [{ "adminToken": [] }],
    });
    format!("{document:#}\n")
}

#[expect(clippy::unused_async, reason = "as all operations are")]
pub(super) async fn get(_: Asked) -> Result<Reply, Problem> {
    Ok(Reply { status: StatusCode::OK, body: DOCUMENT.clone(), subject: Subject::default() })
}

/// Schemas as OpenAPI 3.1 has them, in the place that it has for them.
fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
}

fn operation(
    route: &Route,
    bodies: &mut SchemaGenerator,
    replies: &mut SchemaGenerator,
    problem: &Schema,
) -> Value {
    let mut operation = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "parameters": parameters(route, replies),
        "responses": responses(route, replies, problem),
    });
    if route.is_open {
        operation["security"] = json!([]);
    }
    if let Some(schema_of) = route.body {
        operation["requestBody"] = json!({
            "description": format!("At most {MAX_BODY_LEN} bytes"),
            "content": { "application/json": { "schema": schema_of(bodies) } },
        });
    }
    operation
}

fn parameters(route: &Route, replies: &mut SchemaGenerator) -> Vec<Value> {
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')).map(|part| {
        let name = part.trim_end_matches('}');
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "schema": { "type": "string", "minLength": 1 },
        })
    });
    let mut parameters: Vec<Value> = in_path.collect();
    for parameter in route.query {
        parameters.push(json!({
            "name": parameter.name,
            "in": "query",
            "description": parameter.help,
            "schema": (parameter.schema)(replies),
        }));
    }
    if route.verb == Verb::Post {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "description": "A word of the caller's. The same request with the same word within \
                            five minutes is done once, and gets the first answer again",
            "schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": idempotency::MAX_KEY_CHARS,
                "pattern": "^[!-~]+$",
            },
        }));
    }
    parameters
}

fn responses(route: &Route, replies: &mut SchemaGenerator, problem: &Schema) -> Map<String, Value> {
    let mut responses = Map::new();
    let mut done = json!({ "description": "Done" });
    if let Some(schema_of) = route.reply {
        done["content"] = json!({ "application/json": { "schema": schema_of(replies) } });
    }
    responses.insert(route.status.as_str().to_owned(), done);
    let mut problems = route.problems.to_vec();
    problems.extend(if route.is_open { &[400, 408][..] } else { &COMMON[..] });
    if route.body.is_some() || route.verb == Verb::Post {
        problems.extend([409, 413, 415, 422]);
    }
    problems.extend([421]);
    problems.sort_unstable();
    problems.dedup();
    for status in problems {
        let words = StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason());
        let response = json!({
            "description": words.unwrap_or_default(),
            "content": { PROBLEM_JSON: { "schema": problem } },
        });
        responses.insert(status.to_string(), response);
    }
    responses
}

const fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::Post => "post",
        Verb::Delete => "delete",
    }
}
