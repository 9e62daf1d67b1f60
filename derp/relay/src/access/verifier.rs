//! Asking Headscale, or whoever speaks its `/verify`, about a node.
//!
//! Does: one small POST per question, over kept connections, with the body that derper sends;
//! once more over a new connection where a kept one was closed under the question, which the
//! other end may do at any time.
//! Does not: keep answers, limit its own time, or take anything but a clean answer for one: an
//! error page of a proxy is an outage, not a denial (fault-D20).
//!
//! Spec: docs/protocol/derp.md, DERP-8.1 and DERP-8.2.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use bytes::Bytes;
use derp::key::NodePublic;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::USER_AGENT;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::tls::outgoing::{self, TrustError};

/// Most bytes of an answer that are read. Source: DERP-8.1.
pub const MAX_ANSWER_LEN: usize = 4_096;

/// What the verifier says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    Deny,
    Unavailable(Fault),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("too many questions are under way")]
    Busy,
    #[error("it cannot be reached")]
    Unreachable,
    #[error("it does not answer in time")]
    Timeout,
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("its answer has no end or is not the wanted JSON")]
    Malformed,
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
    /// The URL has a user's name or password in it, and is not shown for that.
    #[error("verify_url: a URL holds a user name or password; remove it, questions carry none")]
    Password,
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
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(SetupError::Password);
        }
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

    /// Asks about one node. Where it comes from is left out where nobody knows.
    pub(super) async fn ask(&self, key: &NodePublic, source: Option<IpAddr>) -> Answer {
        let body = match source.map(|source| source.to_canonical()) {
            Some(source) => format!(r#"{{"NodePublic":"{key}","Source":"{source}"}}"#),
            None => format!(r#"{{"NodePublic":"{key}"}}"#),
        };
        let request = || {
            let body = Full::new(Bytes::from(body.clone()));
            Request::builder()
                .method(Method::POST)
                .uri(self.uri.clone())
                .header(USER_AGENT, concat!("derp-relay/", env!("CARGO_PKG_VERSION")))
                .body(body)
        };
        let (Ok(first), Ok(second)) = (request(), request()) else {
            return Answer::Unavailable(Fault::Unreachable);
        };
        let [kept, fresh] = &self.clients;
        let response = match kept.request(first).await {
            Err(error) if was_cut_off(&error) => fresh.request(second).await,
            answered => answered,
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(%error, "the verifier cannot be reached");
                return Answer::Unavailable(Fault::Unreachable);
            }
        };
        if response.status() != StatusCode::OK {
            return Answer::Unavailable(Fault::Status(response.status().as_u16()));
        }
        match Limited::new(response.into_body(), MAX_ANSWER_LEN).collect().await {
            Ok(body) => read_answer(&body.to_bytes()),
            Err(error) => {
                tracing::debug!(%error, "the verifier's answer does not end");
                Answer::Unavailable(Fault::Malformed)
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
        return Answer::Unavailable(Fault::Malformed);
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
                | serde_json::Value::Object(_) => return Answer::Unavailable(Fault::Malformed),
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
            (r#"{"Allow":"true"}"#, Answer::Unavailable(Fault::Malformed)),
            (r#"{"Allow":1}"#, Answer::Unavailable(Fault::Malformed)),
            ("<html>502 Bad Gateway</html>", Answer::Unavailable(Fault::Malformed)),
            ("[]", Answer::Unavailable(Fault::Malformed)),
            ("null", Answer::Unavailable(Fault::Malformed)),
            ("", Answer::Unavailable(Fault::Malformed)),
        ] {
            assert_eq!(read_answer(body.as_bytes()), answer, "{body}");
        }
    }

    #[test]
    fn a_wrong_url_or_ca_file_is_named() {
        for url in ["", "headscale", "ftp://x/verify", "http://", "/verify"] {
            assert!(matches!(Verifier::new(url, None), Err(SetupError::Url { .. })), "{url}");
        }
        let error = Verifier::new("http://user:hunter2@x/", None).unwrap_err();
        assert!(matches!(error, SetupError::Password) && !error.to_string().contains("hunter2"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Verifier::new("https://x/verify", Some(file.path())).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
