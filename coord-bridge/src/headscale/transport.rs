//! One HTTP exchange with Headscale, over TCP, TLS or its Unix socket; for a machine that enrolls,
//! with a bridge.
//!
//! Does: keeps connections, bounds what is sent and read, and follows no redirect.
//! Does not: know what is asked, bound the time, or try twice; that is `client`, and `enroll`.

use std::error::Error;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use derp_relay::tls::outgoing::{self, TrustError};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tower_service::Service;

use super::SetupError;
use super::limits::{KEPT_TIME, MAX_CALLS, MAX_HEAD_LEN, MAX_REQUEST_LEN};
use crate::config::Reach;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query below the URL of the API.
    pub(crate) path: String,
    /// JSON.
    pub(crate) body: Option<String>,
    /// Whether asking twice does no harm.
    pub(crate) repeatable: bool,
    /// Most bytes of the answer.
    pub(crate) max_answer: usize,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Without parameters, in lower case; empty if none is named.
    pub(crate) content_type: String,
    /// Where a redirect leads to.
    pub(crate) location: Option<String>,
    /// When to come again, as it was written.
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Nothing was sent.
    #[error("{0}")]
    Connect(String),
    /// The request may have been read.
    #[error("the connection ended before the answer did ({0})")]
    CutOff(String),
    #[error("what answers does not speak HTTP ({0})")]
    NotHttp(String),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("the request would be longer than {MAX_REQUEST_LEN} bytes, or is none ({0})")]
    NoRequest(String),
}

/// A way to one Headscale.
#[derive(Debug)]
pub(crate) struct Transport {
    base: String,
    place: String,
    clients: Clients,
}

/// Each pair: one client that keeps connections, and one that makes a new one each time.
#[derive(Debug)]
enum Clients {
    Tcp([Client<HttpsConnector<HttpConnector>, Full<Bytes>>; 2]),
    Unix([Client<UnixConnector, Full<Bytes>>; 2]),
}

impl Transport {
    /// Connects nowhere yet, but reads certificates.
    pub(super) fn new(reach: &Reach) -> Result<Self, SetupError> {
        match reach {
            Reach::Url { url, ca_file, .. } => Ok(Self::to_url(url, ca_file.as_deref())?),
            Reach::Socket(path) => Ok(Self {
                base: "http://localhost".to_owned(),
                place: path.display().to_string(),
                clients: Clients::Unix(pair(&UnixConnector { path: path.clone() })),
            }),
        }
    }

    /// The same, of a URL: scheme, host, and maybe a path that goes before all others.
    pub(crate) fn to_url(url: &Uri, ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let is_https = url.scheme_str() == Some("https");
        let config = outgoing::client_config(is_https, ca_file)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .build();
        let base = url.to_string().trim_end_matches('/').to_owned();
        Ok(Self { place: base.clone(), base, clients: Clients::Tcp(pair(&connector)) })
    }

    /// Where Headscale is, for people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Whether it is Headscale's Unix socket.
    pub(super) const fn is_socket(&self) -> bool {
        matches!(self.clients, Clients::Unix(_))
    }

    /// Asks, and reads the whole answer. What must not be done twice goes over a connection of
    /// its own: a kept one may be closed under the request, and nobody could say whether it was
    /// read.
    pub(crate) async fn exchange(
        &self,
        ask: &Ask,
        key: Option<&HeaderValue>,
    ) -> Result<Answer, Fault> {
        let key = key.map(|key| (AUTHORIZATION, key.clone()));
        self.exchange_with(ask, key.as_slice()).await
    }

    /// The same, with `headers` beside those that every request has.
    pub(crate) async fn exchange_with(
        &self,
        ask: &Ask,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, Fault> {
        let request = self.request(ask, headers)?;
        let fresh = usize::from(!ask.repeatable);
        let response = match &self.clients {
            Clients::Tcp(clients) => clients[fresh].request(request).await,
            Clients::Unix(clients) => clients[fresh].request(request).await,
        };
        read(response.map_err(|error| explain(&error))?, ask.max_answer).await
    }

    fn request(
        &self,
        ask: &Ask,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Request<Full<Bytes>>, Fault> {
        let body = ask.body.clone().unwrap_or_default();
        if body.len() + ask.path.len() > MAX_REQUEST_LEN {
            return Err(Fault::NoRequest("too long".to_owned()));
        }
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(format!("{}{}", self.base, ask.path))
            .header(USER_AGENT, concat!("coord-bridge/", env!("CARGO_PKG_VERSION")));
        if ask.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Fault::NoRequest(error.to_string()))
    }
}

fn pair<C: Connect + Clone>(connector: &C) -> [Client<C, Full<Bytes>>; 2] {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEPT_TIME)
        .pool_max_idle_per_host(MAX_CALLS)
        .http1_max_buf_size(MAX_HEAD_LEN)
        .retry_canceled_requests(false);
    let kept = builder.build(connector.clone());
    let fresh = builder.pool_max_idle_per_host(0).build(connector.clone());
    [kept, fresh]
}

async fn read(response: Response<Incoming>, max: usize) -> Result<Answer, Fault> {
    let (head, body) = response.into_parts();
    let text = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let content_type = text(CONTENT_TYPE).and_then(|value| value.split(';').next());
    let (content_type, location, retry_after) = (
        content_type.unwrap_or_default().trim().to_ascii_lowercase(),
        text(LOCATION).map(str::to_owned),
        text(RETRY_AFTER).map(str::to_owned),
    );
    let body = Limited::new(body, max).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Fault::TooLong(max)
        } else {
            Fault::CutOff(innermost(&*error))
        }
    })?;
    Ok(Answer { status: head.status, content_type, location, retry_after, body: body.to_bytes() })
}

fn explain(error: &legacy::Error) -> Fault {
    if error.is_connect() {
        return Fault::Connect(innermost(error));
    }
    let first: Option<&(dyn Error + 'static)> = Some(error);
    let by_hyper = std::iter::successors(first, |error| (**error).source())
        .find_map(|error| error.downcast_ref::<hyper::Error>());
    match by_hyper {
        Some(error) if error.is_parse_too_large() => Fault::TooLong(MAX_HEAD_LEN),
        Some(error) if error.is_parse() => Fault::NotHttp(error.to_string()),
        Some(_) | None => Fault::CutOff(innermost(error)),
    }
}

/// The cause behind all others, which has the words of the system or of TLS.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Connects to one Unix socket, whatever the URI says.
#[derive(Clone, Debug)]
struct UnixConnector {
    path: PathBuf,
}

impl Service<Uri> for UnixConnector {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.path.clone();
        Box::pin(async move { connect(&path).await })
    }
}

async fn connect(path: &Path) -> std::io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(path).await.map(TokioIo::new)
}
