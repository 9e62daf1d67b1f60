//! Asking Headscale, or whoever speaks its `/verify`, about a node.
//!
//! Does: one small POST per question, over kept connections, with the body that derper sends;
//! once more over a new connection where a kept one was closed under the question, which the
//! other end may do at any time.
//! Does not: cache, or take anything but a clean answer for one: an error page of a proxy is an
//! outage, not a denial (fault-D20).
//!
//! Spec: docs/protocol/derp.md, DERP-8.1 and DERP-8.2.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use derp::key::NodePublic;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::USER_AGENT;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::door::limits::DEFAULT_ACCESS_TIME;
use crate::tls::outgoing::{self, TrustError};

/// Most bytes of an answer that are read. Source: DERP-8.1.
pub const MAX_ANSWER_LEN: usize = 4_096;

/// Time that the verifier has for an answer, connecting included. Source: DERP-8.4.
const ANSWER_TIME: Duration = DEFAULT_ACCESS_TIME;

/// What the verifier says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    Deny,
    Unavailable,
}

/// Why the verifier cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL is none.
    #[error("verify_url: `{url}` is not an http:// or https:// URL with a host")]
    Url {
        /// What was given.
        url: String,
    },
    /// Its certificate could not be checked.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

#[derive(Debug)]
pub(super) struct Verifier {
    uri: Uri,
    /// One that keeps connections, and one that makes a new one each time.
    clients: [Client<HttpsConnector<HttpConnector>, Full<Bytes>>; 2],
}

impl Verifier {
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, SetupError> {
        let wrong = || SetupError::Url { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.host().is_none_or(str::is_empty)
            || !matches!(uri.scheme_str(), Some("http" | "https"))
        {
            return Err(wrong());
        }
        let config = outgoing::client_config(uri.scheme_str() == Some("https"), ca_file)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .build();
        let mut builder = Client::builder(TokioExecutor::new());
        let kept = builder.build(connector.clone());
        let fresh = builder.pool_max_idle_per_host(0).build(connector);
        Ok(Self { uri, clients: [kept, fresh] })
    }

    /// Asks about one node. No answer in time is no answer.
    pub(super) async fn ask(&self, key: &NodePublic, source: IpAddr) -> Answer {
        match tokio::time::timeout(ANSWER_TIME, self.ask_at_leisure(key, source)).await {
            Ok(answer) => answer,
            Err(_) => {
                tracing::debug!("the verifier does not answer in time");
                Answer::Unavailable
            }
        }
    }

    async fn ask_at_leisure(&self, key: &NodePublic, source: IpAddr) -> Answer {
        let body = format!(r#"{{"NodePublic":"{key}","Source":"{}"}}"#, source.to_canonical());
        let request = || {
            let body = Full::new(Bytes::from(body.clone()));
            Request::builder()
                .method(Method::POST)
                .uri(self.uri.clone())
                .header(USER_AGENT, concat!("derp-relay/", env!("CARGO_PKG_VERSION")))
                .body(body)
        };
        let (Ok(first), Ok(second)) = (request(), request()) else { return Answer::Unavailable };
        let [kept, fresh] = &self.clients;
        let response = match kept.request(first).await {
            Err(error) if was_cut_off(&error) => fresh.request(second).await,
            answered => answered,
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(%error, "the verifier cannot be reached");
                return Answer::Unavailable;
            }
        };
        if response.status() != StatusCode::OK {
            tracing::debug!(status = %response.status(), "the verifier answers no question");
            return Answer::Unavailable;
        }
        match Limited::new(response.into_body(), MAX_ANSWER_LEN).collect().await {
            Ok(body) => read_answer(&body.to_bytes()),
            Err(error) => {
                tracing::debug!(%error, "the verifier's answer does not end");
                Answer::Unavailable
            }
        }
    }
}

/// Whether the connection ended after the question and before an answer.
fn was_cut_off(error: &(dyn Error + 'static)) -> bool {
    let first: Option<&(dyn Error + 'static)> = Some(error);
    std::iter::successors(first, |error| (**error).source()).any(|error| {
        let by_hyper = error.downcast_ref::<hyper::Error>();
        let by_system = error.downcast_ref::<io::Error>();
        by_hyper.is_some_and(|error| error.is_incomplete_message() || error.is_canceled())
            || by_system.is_some_and(|error| {
                matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::BrokenPipe
                )
            })
    })
}

/// Reads `{"Allow":true}`, in any letter case, as Go does: what is absent means no.
fn read_answer(body: &[u8]) -> Answer {
    let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(body) else {
        return Answer::Unavailable;
    };
    let mut allow = false;
    for (name, value) in object {
        if name.eq_ignore_ascii_case("allow") {
            match value {
                serde_json::Value::Bool(said) => allow = said,
                serde_json::Value::Null => {}
                serde_json::Value::Number(_)
                | serde_json::Value::String(_)
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_) => return Answer::Unavailable,
            }
        }
    }
    if allow { Answer::Allow } else { Answer::Deny }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DERP-8.2, DERP-8.4, check-V2, fault-D20: only a clean no is a denial.
    #[test]
    fn answers_are_read_as_go_reads_them() {
        for (body, answer) in [
            (r#"{"Allow":true}"#, Answer::Allow),
            (r#"{"allow":true,"Extra":[1]}"#, Answer::Allow),
            ("{\"Allow\":true}\n", Answer::Allow),
            (r#"{"Allow":false}"#, Answer::Deny),
            (r#"{"Allow":null}"#, Answer::Deny),
            ("{}", Answer::Deny),
            (r#"{"Allow":"true"}"#, Answer::Unavailable),
            (r#"{"Allow":1}"#, Answer::Unavailable),
            ("<html>502 Bad Gateway</html>", Answer::Unavailable),
            ("[]", Answer::Unavailable),
            ("null", Answer::Unavailable),
            ("", Answer::Unavailable),
        ] {
            assert_eq!(read_answer(body.as_bytes()), answer, "{body}");
        }
    }

    #[test]
    fn a_wrong_url_or_ca_file_is_named() {
        for url in ["", "headscale", "ftp://x/verify", "http://", "/verify"] {
            assert!(matches!(Verifier::new(url, None), Err(SetupError::Url { .. })), "{url}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Verifier::new("https://x/verify", Some(file.path())).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
