//! Answers of the provisioning listener, in JSON always.
//!
//! Does: keeps the fields that installers read, which may be added to and never renamed.
//! Does not: show keys or tokens, but for the one key to the machine that it is for.

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::http::{Answer, JSON, answer};
use crate::provisioning::legacy::seconds;
use crate::provisioning::refusal::Refusal;
use crate::provisioning::registration::Registered;
use crate::store::machines::Machine;

const BEARER: HeaderValue = HeaderValue::from_static("Bearer");

/// What is wrong with a request before anybody looks at who asks.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    NotFound,
    Method,
    BodyTooLong,
    BodyTooSlow,
    BodyBroken,
    Unavailable,
}

/// An error as installers read it.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct RegisteredBody<'a> {
    headscale_key: &'a str,
    login_server: &'a str,
    hostname: &'a str,
    machine_id: &'a str,
    expires_at: &'a str,
    region_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    derp_map_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces_node: Option<&'a str>,
}

#[derive(Serialize)]
struct MachineBody<'a> {
    id: &'a str,
    hostname: &'a str,
    mac: &'a str,
    /// Seconds since 1970, with a fraction.
    registered_at: f64,
    tailscale_ip: &'a str,
    state: &'a str,
    node_id: Option<&'a str>,
    last_seen: Option<f64>,
    remote_ip: &'a str,
    token_name: &'a str,
    replaces: Option<&'a str>,
}

#[derive(Serialize)]
struct ReadyBody<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    reasons: &'a [String],
}

pub(super) fn registered(machine: &Registered) -> Answer {
    json(
        StatusCode::OK,
        &RegisteredBody {
            headscale_key: machine.key.reveal(),
            login_server: &machine.login_server,
            hostname: &machine.hostname,
            machine_id: &machine.machine_id,
            expires_at: &machine.expires_at,
            region_id: machine.region_id,
            derp_map_url: machine.map_url.as_deref(),
            replaces_node: machine.replaces_node.as_deref(),
        },
    )
}

pub(super) fn machines(list: &[Machine]) -> Answer {
    let body: Vec<MachineBody<'_>> = list
        .iter()
        .map(|machine| MachineBody {
            id: &machine.id,
            hostname: &machine.hostname,
            mac: &machine.mac,
            registered_at: seconds(machine.registered_ms),
            tailscale_ip: &machine.tailscale_ip,
            state: machine.state.as_str(),
            node_id: machine.node_id.as_deref(),
            last_seen: machine.last_seen_ms.map(seconds),
            remote_ip: &machine.remote_ip,
            token_name: &machine.token,
            replaces: machine.replaces.as_deref(),
        })
        .collect();
    json(StatusCode::OK, &body)
}

pub(super) fn ready(reasons: &[String]) -> Answer {
    if reasons.is_empty() {
        json(StatusCode::OK, &ReadyBody { status: "ready", reasons })
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, &ReadyBody { status: "not ready", reasons })
    }
}

pub(super) fn refusal(refusal: Refusal, request_id: &str) -> Answer {
    // Each has a status of its own, and all of them are valid.
    let status =
        StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = ErrorBody {
        error: &refusal.to_string(),
        code: refusal.code(),
        request_id: Some(request_id),
    };
    let mut answer = json(status, &body);
    if let Some(seconds) = refusal.retry_after() {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
    }
    answer
}

pub(super) fn error(fault: Fault) -> Answer {
    let (status, code, words) = match fault {
        Fault::NotFound => (StatusCode::NOT_FOUND, "not_found", "not found"),
        Fault::Method => {
            (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method not allowed")
        }
        Fault::BodyTooLong => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_long", "body too long"),
        Fault::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow", "body too slow"),
        Fault::BodyBroken => (StatusCode::BAD_REQUEST, "body_broken", "body cannot be read"),
        Fault::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "this bridge does not register machines: it has no Headscale",
        ),
    };
    json(status, &ErrorBody { error: words, code, request_id: None })
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    // Texts and numbers always serialize.
    answer(status, JSON, serde_json::to_vec(body).unwrap_or_default())
}
