//! Whether the verify front refuses a node that nobody knows.
//!
//! Does: asks it about a key that was made for this question. Does not: log in anywhere; what a
//! relay makes of a stranger is in `nodes`.

use std::net::SocketAddr;

use hyper::{Method, StatusCode, Uri};
use serde_json::json;

use super::ports::Running;
use super::{Finding, Part};
use crate::config::reachable;
use crate::headscale::transport::{Ask, Transport};
use crate::publication::new_probe_key;

/// Most bytes of an answer.
const MAX_ANSWER_LEN: usize = 4_096;

pub(super) async fn look(bridge: &Running) -> Vec<Finding> {
    let part = Part::Access;
    let Some(address) = bridge.verify else {
        let said = "no bridge answers at verify_listen: start `serve` and check again";
        return vec![Finding::not_tried(part, "a random key", said)];
    };
    let tried = format!("a random key at {address}");
    vec![match ask(reachable(address)).await {
        Ok((StatusCode::OK, body)) if body.contains("\"Allow\":false") => {
            Finding::good(part, tried, "refused, as it has to be")
        }
        Ok((StatusCode::OK, _)) => Finding::wrong(
            part,
            tried,
            "a node that nobody knows may enter",
            "whatever answers there is not this bridge: point relays elsewhere",
        ),
        Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => Finding::wrong(
            part,
            tried,
            "nobody can say: relays let in only whom they know",
            "mend what is wrong with Headscale, below or above; where it has no nodes yet, check \
             again a minute after the start",
        ),
        Ok((status, _)) => {
            Finding::wrong(part, tried, format!("answers {status}"), "is it this bridge?")
        }
        Err(why) => Finding::wrong(part, tried, why, "start the bridge again, and see its log"),
    }]
}

async fn ask(address: SocketAddr) -> Result<(StatusCode, String), String> {
    let key = new_probe_key().map_err(|error| error.to_string())?.public();
    let url: Uri = format!("http://{address}").parse().map_err(|_| "no URL".to_owned())?;
    let transport = Transport::to_url(&url, None).map_err(|error| error.to_string())?;
    let ask = Ask {
        method: Method::POST,
        path: "/verify".to_owned(),
        body: Some(json!({ "NodePublic": key.to_string() }).to_string()),
        repeatable: false,
        max_answer: MAX_ANSWER_LEN,
    };
    let answer = transport.exchange(&ask, None).await.map_err(|fault| fault.to_string())?;
    Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}
