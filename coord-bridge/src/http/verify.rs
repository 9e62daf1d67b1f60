//! The listener that relays ask about nodes at, and hear of them.
//!
//! Does: answers `/verify` as Headscale does, and 503 where nobody can say, which a relay does not
//! take for a no; takes relays in that show the token; lets them follow the events.
//! Does not: know who may enter (`verify`), or what relays have to hear (`relays`). `/verify` asks
//! for no token, as Headscale's does not: relays of any make can use it.

mod answers;

use std::sync::Arc;

use derp::key::NodePublic;
use derp_relay::bridge::wire::{
    EVENTS_PATH, HEARTBEAT_PATH, Heartbeat, MAX_MESSAGE_LEN, REGISTER_PATH, Registration,
};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::Value;

use self::answers::{Fault, error, ready};
use super::listener::Tenure;
use super::request::{self, BodyFault};
use super::{Answer, Body, HEALTHY, JSON, Pages, allow, answer};
use crate::provisioning::token_file::TokenHash;
use crate::relays::{AuthenticationError, RegistrationFault, Relays, Stream};
use crate::verify::{Front, Refusal, Verdict, Verify};

/// Most bytes of a question. Headscale takes as many; one has 150.
pub const MAX_QUESTION_LEN: usize = 4 * 1_024;

/// What the listener answers.
#[derive(Debug)]
pub struct VerifyPages {
    verify: Option<Verify>,
}

impl VerifyPages {
    /// Answers for these; without them, that nobody can say.
    #[must_use]
    pub const fn new(verify: Option<Verify>) -> Self {
        Self { verify }
    }
}

impl Pages for VerifyPages {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (page, methods) = match request.uri().path() {
            "/verify" => (Page::Verify, "POST"),
            REGISTER_PATH => (Page::Register, "POST"),
            HEARTBEAT_PATH => (Page::Heartbeat, "POST"),
            EVENTS_PATH => (Page::Events, "GET"),
            "/health" => (Page::Health, "GET, HEAD"),
            "/ready" => (Page::Ready, "GET, HEAD"),
            _ => return error(Fault::NotFound),
        };
        if !methods.split(", ").any(|method| method == request.method().as_str()) {
            return allow(error(Fault::Method), methods);
        }
        match (page, &self.verify) {
            (Page::Health, _) => answer(StatusCode::OK, JSON, HEALTHY),
            (_, None) => error(Fault::Unavailable),
            (Page::Ready, Some(Verify { front, .. })) => ready(&front.findings()),
            (Page::Verify, Some(Verify { front, .. })) => verify_node(request, front).await,
            (Page::Register, Some(Verify { relays, .. })) => register(request, relays).await,
            (Page::Heartbeat, Some(Verify { relays, .. })) => heartbeat(request, relays).await,
            (Page::Events, Some(Verify { relays, .. })) => events(&request, relays).await,
        }
    }
}

/// What is there.
enum Page {
    Verify,
    Register,
    Heartbeat,
    Events,
    Health,
    Ready,
}

async fn verify_node(asked: Request<Incoming>, front: &Front) -> Answer {
    let refusals = &front.counters().refusals;
    let body = match request::body(asked.into_body(), MAX_QUESTION_LEN).await {
        Ok(body) => body,
        Err(fault) => {
            refusals.add_one(match fault {
                BodyFault::TooLong => Refusal::TooLong,
                BodyFault::TooSlow | BodyFault::Broken => Refusal::Broken,
            });
            return error(fault.into());
        }
    };
    let Some(key) = question(&body) else {
        refusals.add_one(Refusal::Malformed);
        return error(Fault::Malformed("not a question about a node".to_owned()));
    };
    match front.decide(&key).await {
        Verdict::Allow => answer(StatusCode::OK, JSON, "{\"Allow\":true}\n"),
        Verdict::Deny => answer(StatusCode::OK, JSON, "{\"Allow\":false}\n"),
        Verdict::Unavailable => error(Fault::NobodyCanSay),
    }
}

/// The node that a question is about, read as Go does: names in any letter case, and what is
/// absent or null is the node that nobody is.
fn question(body: &[u8]) -> Option<NodePublic> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return None };
    let mut key = NodePublic::from_bytes([0; 32]);
    for (name, value) in fields {
        if !name.eq_ignore_ascii_case("nodepublic") {
            continue;
        }
        match value {
            Value::Null => {}
            Value::String(text) => key = text.parse().ok()?,
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => return None,
        }
    }
    Some(key)
}

async fn register(asked: Request<Incoming>, relays: &Arc<Relays>) -> Answer {
    let (_, body) = match from_relay(asked, relays).await {
        Ok(body) => body,
        Err(fault) => return error(fault),
    };
    let said = match Registration::parse(&body) {
        Ok(said) => said,
        Err(fault) => return error(Fault::Malformed(fault.to_string())),
    };
    match relays.register(said).await {
        Ok(registered) => answer(StatusCode::OK, JSON, registered.to_json()),
        Err(fault) => error(fault.into()),
    }
}

async fn heartbeat(asked: Request<Incoming>, relays: &Arc<Relays>) -> Answer {
    let (_, body) = match from_relay(asked, relays).await {
        Ok(body) => body,
        Err(fault) => return error(fault),
    };
    match Heartbeat::parse(&body) {
        Ok(said) if relays.beat(&said.id).await => answer(StatusCode::OK, JSON, "{}"),
        Ok(_) => error(Fault::UnknownRelay),
        Err(fault) => error(Fault::Malformed(fault.to_string())),
    }
}

async fn events(asked: &Request<Incoming>, relays: &Arc<Relays>) -> Answer {
    let token = match relays.authenticate(request::token(asked.headers()).as_ref()).await {
        Ok(token) => token,
        Err(cause) => return error(cause.into()),
    };
    let mut id = None;
    let mut after = Some(0);
    for pair in asked.uri().query().unwrap_or_default().split('&') {
        match pair.split_once('=') {
            Some(("relay", value)) => id = Some(value),
            Some(("after", value)) => after = value.parse().ok(),
            Some(_) | None => {}
        }
    }
    let (Some(id), Some(after)) = (id, after) else {
        return error(Fault::Malformed("not ?relay=ID&after=NUMBER".to_owned()));
    };
    let Some((stream, lines)) = Stream::open(relays, id, after, token).await else {
        return error(Fault::UnknownRelay);
    };
    // One stream a relay, and relays are bounded.
    let tenure = asked.extensions().get::<Tenure>().cloned();
    if let Some(tenure) = &tenure {
        tenure.lengthen();
    }
    tokio::spawn(async move {
        stream.run().await;
        if let Some(tenure) = tenure {
            tenure.end();
        }
    });
    answers::lines(Response::new(Body::Lines(lines)))
}

/// The token and the body of a request that only relays may make.
async fn from_relay(
    asked: Request<Incoming>,
    relays: &Relays,
) -> Result<(TokenHash, bytes::Bytes), Fault> {
    let token = request::token(asked.headers());
    let body = request::body(asked.into_body(), MAX_MESSAGE_LEN).await?;
    let shown = relays.authenticate(token.as_ref()).await?;
    Ok((shown, body))
}

impl From<BodyFault> for Fault {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::TooLong => Self::BodyTooLong,
            BodyFault::TooSlow => Self::BodyTooSlow,
            BodyFault::Broken => Self::BodyBroken,
        }
    }
}

impl From<AuthenticationError> for Fault {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Unauthorized => Self::Unauthorized,
            AuthenticationError::NoToken(cause) => {
                tracing::debug!(?cause, "no relay token");
                Self::NoToken
            }
        }
    }
}

impl From<RegistrationFault> for Fault {
    fn from(fault: RegistrationFault) -> Self {
        match &fault {
            RegistrationFault::Map(_) => Self::Refused(fault.to_string()),
            RegistrationFault::NameTaken(_) => Self::NameTaken(fault.to_string()),
            RegistrationFault::TooMany => Self::TooMany(fault.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_as_go_reads_them() {
        let key = NodePublic::from_bytes([7; 32]);
        for body in [
            format!(r#"{{"NodePublic":"{key}","Source":"203.0.113.9"}}"#),
            format!(r#"{{"nodepublic":"{key}","More":[{{}}]}}"#),
        ] {
            assert_eq!(question(body.as_bytes()), Some(key), "{body}");
        }
        for body in ["{}", r#"{"NodePublic":null}"#] {
            assert!(question(body.as_bytes()).is_some_and(|key| key.is_zero()), "{body}");
        }
        for body in ["", "null", "[]", r#"{"NodePublic":1}"#, r#"{"NodePublic":"nodekey:00"}"#, "{"]
        {
            assert_eq!(question(body.as_bytes()), None, "{body}");
        }
    }
}
