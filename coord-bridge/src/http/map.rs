//! The listener that Headscale and clients fetch the map from.
//!
//! Does: answers the map in both forms, to whoever knows the password if there is one; `/health`
//! and `/ready` to everybody.
//! Does not: ever answer anything else in JSON. Headscale takes whatever decodes as JSON for a
//! map, with any status, and an object without regions takes all relays from all clients; what
//! does not decode leaves it the map it has.
//!
//! Source: docs/protocol/derp.md, DERP-10.1.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, Request, StatusCode};
use tokio::sync::Semaphore;

use super::basic::{self, Login};
use super::{Answer, HEALTHY, JSON, Pages, TEXT, YAML, allow, answer};
use crate::map_file::MapFile;
use crate::published::{Format, Published, Rendering};

/// Time for the disk to say what is in the map's file.
const FILE_TIME: Duration = Duration::from_secs(5);

/// A cache asks every time whether it still has the map that is published.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// What the map's listener answers.
#[derive(Debug)]
pub struct MapPages {
    published: Arc<Published>,
    map_file: Option<MapFile>,
    login: Option<Login>,
    /// The one place for who looks into the file: a disk that hangs takes one thread, however
    /// often somebody asks.
    looking: Arc<Semaphore>,
}

impl MapPages {
    /// Answers what is published. `map_file` is where the map has to be as well, `login` who may
    /// fetch it.
    #[must_use]
    pub fn new(published: Arc<Published>, map_file: Option<MapFile>, login: Option<Login>) -> Self {
        Self { published, map_file, login, looking: Arc::new(Semaphore::new(1)) }
    }

    async fn ready(&self) -> Answer {
        let finding = match self.published.finding() {
            Some(finding) => Some(finding),
            None => self.file_finding().await,
        };
        match finding {
            None => answer(StatusCode::OK, TEXT, "ok\n"),
            Some(finding) => {
                answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {finding}\n"))
            }
        }
    }

    /// What is wrong with the map's file, without its path: strangers may read this.
    async fn file_finding(&self) -> Option<&'static str> {
        let file = self.map_file.clone()?;
        match tokio::time::timeout(FILE_TIME, self.look(file)).await {
            Ok(true) => None,
            Ok(false) => {
                Some("the map's file is gone or holds something else; SIGHUP writes it again")
            }
            Err(_) => Some("the map's file cannot be read in time"),
        }
    }

    /// Whether `file` holds what is published.
    async fn look(&self, file: MapFile) -> bool {
        let Ok(place) = Arc::clone(&self.looking).acquire_owned().await else { return false };
        let edition = self.published.edition();
        let look = tokio::task::spawn_blocking(move || {
            let _place = place;
            file.holds(&edition.rendering(Format::Yaml).bytes)
        });
        look.await.unwrap_or(false)
    }
}

impl Pages for MapPages {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let page = match request.uri().path() {
            "/derpmap.json" => Page::Map(Format::Json),
            "/derpmap.yaml" => Page::Map(Format::Yaml),
            "/health" => Page::Health,
            "/ready" => Page::Ready,
            _ => return answer(StatusCode::NOT_FOUND, TEXT, NOT_FOUND),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let refusal = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
            return allow(refusal, "GET, HEAD");
        }
        match page {
            Page::Map(_) if self.login.as_ref().is_some_and(|it| !it.admits(request.headers())) => {
                basic::refusal()
            }
            Page::Map(format) => {
                map(self.published.edition().rendering(format), format, request.headers())
            }
            Page::Health => answer(StatusCode::OK, JSON, HEALTHY),
            Page::Ready => self.ready().await,
        }
    }
}

/// What is there.
enum Page {
    Map(Format),
    Health,
    Ready,
}

const NOT_FOUND: &str = "not found: there are /derpmap.json, /derpmap.yaml, /health and /ready\n";

fn map(rendering: &Rendering, format: Format, headers: &HeaderMap) -> Answer {
    let kind = match format {
        Format::Json => JSON,
        Format::Yaml => YAML,
    };
    let mut map = if has(headers, &rendering.tag) {
        answer(StatusCode::NOT_MODIFIED, kind, "")
    } else {
        answer(StatusCode::OK, kind, rendering.bytes.clone())
    };
    let headers = map.headers_mut();
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(ETAG, rendering.tag.clone());
    map
}

/// Whether whoever asks has this rendering already.
fn has(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|tags| tags.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|known| known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes())
}
