//! Requests to a bridge, and its stream of events.
//!
//! Does: shows the token, which is read from its file each time; bounds what is read and how long
//! that takes; cuts the stream into lines.
//! Does not: try twice, or know what a line means.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, timeout, timeout_at};

use super::wire::MAX_MESSAGE_LEN;
use crate::config::BridgeConfig;
use crate::secret_file;
use crate::settings::NoCredentials;
use crate::tls::outgoing::{self, TrustError};

/// Time for an answer, connecting included; for a stream, for its head.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Time without a byte after which a stream is taken for dead. The bridge sends an empty line
/// every 10 s.
pub(super) const SILENCE_TIME: Duration = Duration::from_secs(30);

/// Most bytes of a token's file.
const MAX_TOKEN_LEN: usize = 4_096;

/// Why the bridge cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The token is a credential, and there are none.
    #[error("bridge_token_file: {0}")]
    Credentials(#[from] NoCredentials),
    /// Its certificate could not be checked.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Why something was not said or heard.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the token file {} cannot be read: {source}", path.display())]
    Token {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("it cannot be reached ({0})")]
    Unreachable(String),
    #[error("it does not answer in time")]
    Timeout,
    #[error("it refuses the token")]
    Unauthorized,
    /// It does not know this relay, or no longer.
    #[error("it does not know this relay")]
    Unknown,
    #[error("it answers with status {0}: {1}")]
    Status(u16, String),
    #[error("it says what makes no sense ({0})")]
    Malformed(String),
    #[error("it has ended the stream")]
    Ended,
}

/// The way to one bridge.
#[derive(Debug)]
pub(super) struct Client {
    base: String,
    token: PathBuf,
    http: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    /// Connects nowhere yet, but reads certificates.
    pub(super) fn new(config: &BridgeConfig) -> Result<Self, SetupError> {
        let is_https = config.url.scheme_str() == Some("https");
        let tls = outgoing::client_config(is_https, config.ca_file.as_deref())?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        // Nothing is kept: requests are seconds apart, and a kept connection may be closed under one.
        let http =
            HttpClient::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let base = config.url.to_string().trim_end_matches('/').to_owned();
        Ok(Self { base, token: config.token_file.locate()?, http })
    }

    /// Where the bridge is, for people.
    pub(super) fn place(&self) -> &str {
        &self.base
    }

    /// Sends `body` to `path`, and reads the whole answer.
    pub(super) async fn post(&self, path: &str, body: String) -> Result<Bytes, Fault> {
        let exchange = async {
            let response = self.send(Method::POST, path, body).await?;
            read(response).await
        };
        timeout(ANSWER_TIME, exchange).await.map_err(|_| Fault::Timeout)?
    }

    /// Opens the stream at `path`.
    pub(super) async fn stream(&self, path: &str) -> Result<Lines, Fault> {
        let opened = self.send(Method::GET, path, String::new());
        let response = timeout(ANSWER_TIME, opened).await.map_err(|_| Fault::Timeout)??;
        Ok(Lines { body: response.into_body(), buffer: Vec::new(), heard: Instant::now() })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Response<Incoming>, Fault> {
        let no_request = |error: &dyn std::fmt::Display| Fault::Unreachable(error.to_string());
        let uri: Uri = format!("{}{path}", self.base).parse().map_err(|e| no_request(&e))?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(USER_AGENT, concat!("derp-relay/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, self.bearer().await?)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| no_request(&error))?;
        let response =
            self.http.request(request).await.map_err(|error| Fault::Unreachable(words(&error)))?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::UNAUTHORIZED => Err(Fault::Unauthorized),
            StatusCode::NOT_FOUND => Err(Fault::Unknown),
            status => {
                let body = timeout(ANSWER_TIME, read(response)).await;
                let body = body.ok().and_then(Result::ok).unwrap_or_default();
                Err(Fault::Status(status.as_u16(), shown(&body)))
            }
        }
    }

    async fn bearer(&self) -> Result<HeaderValue, Fault> {
        let path = self.token.clone();
        // The disk may be slow; nobody's login waits for it.
        let read = tokio::task::spawn_blocking(move || bearer(&path)).await;
        let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
        read.map_err(|source| Fault::Token { path: self.token.clone(), source })
    }
}

/// The lines of a stream of events.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    /// What came behind the last line end.
    buffer: Vec<u8>,
    /// When something last came.
    heard: Instant,
}

impl Lines {
    /// The next line that is not empty. Cancel safe: what has come is kept.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.truncate(line.trim_ascii_end().len());
                if line.is_empty() {
                    continue;
                }
                return Ok(line);
            }
            if self.buffer.len() > MAX_MESSAGE_LEN {
                return Err(Fault::Malformed("a line without end".to_owned()));
            }
            let frame = timeout_at(self.heard + SILENCE_TIME, self.body.frame()).await;
            match frame.map_err(|_| Fault::Timeout)? {
                Some(Ok(frame)) => {
                    self.heard = Instant::now();
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Fault::Unreachable(words(&error))),
                None => return Err(Fault::Ended),
            }
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes, Fault> {
    match Limited::new(response.into_body(), MAX_MESSAGE_LEN).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(Fault::Malformed(error.to_string())),
    }
}

fn bearer(path: &Path) -> io::Result<HeaderValue> {
    let bytes = secret_file::read(path, MAX_TOKEN_LEN)?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| io::Error::other("it holds what no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What another program says, on one line and not for ever.
fn shown(body: &[u8]) -> String {
    const MOST: usize = 200;
    let text = String::from_utf8_lossy(body);
    text.trim().chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The cause behind all others, which has the words of the system.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
