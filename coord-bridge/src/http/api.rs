//! The REST API of administrators, below `/api/v1`.
//!
//! ```text
//! request -> route -> body -> token -> idempotency -> operation -> answer
//!              |        |        |          |             |
//!              +--------+--------+----------+-------------+--> problem+json
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `routes`, `route` | every operation once |
//! | [`openapi`] | the document of them |
//! | `problem` | what goes wrong, as RFC 9457 has it |
//! | `idempotency` | requests that are sent twice and done once |
//! | `page` | lists, page by page |
//! | `tokens`, `machines`, `keys`, `events`, `state` | what the operations do |
//!
//! Does: bounds what is sent; asks for the administrator's token before anything is done, and
//! writes down what was. Does not: have rules of its own for machines, tokens and keys; those are
//! in `provisioning`, where the commands find them too.

mod events;
mod idempotency;
mod keys;
mod machines;
pub mod openapi;
pub(super) mod page;
pub(super) mod problem;
mod route;
mod routes;
mod state;
mod tokens;

// Commands print what the API tells, in the same form.
pub(crate) use machines::MachineBody;
pub(crate) use tokens::TokenBody;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;

use self::idempotency::{Answers, MAX_KEY_CHARS, Turn};
use self::problem::Problem;
use self::route::{Asked, Reply, Route};
use self::routes::ROUTES;
use super::scope::Scope;
use super::{Answer, caller, request};
use crate::provisioning::admin::Subject;
use crate::provisioning::{Caller, Provisioning};

/// What all paths begin with.
pub const PREFIX: &str = "/api/v1";

/// Most bytes in a request body. A token with 16 tags and 100 networks takes 3 KiB.
pub const MAX_BODY_LEN: usize = 16 * 1024;

/// The API.
#[derive(Debug)]
pub(super) struct Api {
    scope: Arc<Scope>,
    answers: Arc<Answers>,
}

impl Api {
    pub(super) fn new(scope: Arc<Scope>) -> Self {
        Self { scope, answers: Arc::default() }
    }

    /// The answer to what was meant for another host.
    pub(super) fn misdirected() -> Answer {
        let detail = "the Host header names neither an address nor a name in admin_hosts";
        let title = "Meant for another host";
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", title, detail).answer(None)
    }

    pub(super) async fn answer(&self, asked: Request<Incoming>) -> Answer {
        let caller =
            self.scope.provisioning.as_ref().map(|provisioning| caller::of(&asked, provisioning));
        let request_id = caller.as_ref().map(|caller| caller.request_id.clone());
        let request_id = request_id.as_deref();
        let (route, path) = match find(asked.method(), asked.uri().path()) {
            Ok(found) => found,
            Err(problem) => return problem.answer(None),
        };
        let (head, body) = asked.into_parts();
        // Taken in before it is refused: a client that is still sending would not see the answer.
        let body = request::body(body, MAX_BODY_LEN).await;
        if !route.is_open
            && let Err(problem) = self.admit(caller.as_ref()).await
        {
            return problem.answer(request_id);
        }
        let asked = body.map_err(Problem::from).and_then(|body| {
            check_body(route, &head.headers, &body)?;
            let query = query(route, head.uri.query().unwrap_or_default())?;
            Ok(Asked { scope: Arc::clone(&self.scope), path, query, body })
        });
        let key = key(&head.headers);
        let done = match (asked, key) {
            (Ok(asked), Ok(key)) => self.run(route, asked, key, caller).await,
            (Err(problem), _) | (Ok(_), Err(problem)) => Err(problem),
        };
        match done {
            Ok(reply) => reply.answer(),
            Err(problem) => problem.answer(request_id),
        }
    }

    /// Does an operation that changes something for an administrator who was let in elsewhere.
    /// Gives the body of its answer; null if it has none.
    pub(super) async fn perform(
        &self,
        operation: &str,
        path: Vec<String>,
        body: &Value,
        caller: Caller,
    ) -> Result<Value, Problem> {
        let Some(route) = ROUTES.iter().find(|route| route.operation == operation) else {
            tracing::error!(operation, "there is no such operation");
            return Err(Problem::internal());
        };
        let body = Bytes::from(body.to_string());
        let asked = Asked { scope: Arc::clone(&self.scope), path, query: Vec::new(), body };
        let reply = self.run(route, asked, None, Some(caller)).await?;
        Ok(serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    async fn admit(&self, caller: Option<&Caller>) -> Result<(), Problem> {
        match caller {
            Some(caller) => Ok(self.scope.provisioning()?.admit_admin(caller).await?),
            None => Err(unavailable()),
        }
    }

    /// Does what is asked, and writes it down if something is different afterwards.
    async fn run(
        &self,
        route: &'static Route,
        asked: Asked,
        key: Option<String>,
        caller: Option<Caller>,
    ) -> Result<Reply, Problem> {
        if !route.verb.changes() {
            return (route.run)(asked).await;
        }
        let first = match key {
            None => None,
            Some(key) => {
                let operation = format!("{} {}", route.operation, asked.path.join("/"));
                match self.answers.turn(&key, operation, &asked.body, Instant::now())? {
                    Turn::Again(reply) => return Ok(reply),
                    Turn::First(first) => Some(first),
                }
            }
        };
        let provisioning = Arc::clone(asked.scope.provisioning()?);
        // On a task of its own: what is begun is not broken off because nobody waits any more.
        let work = tokio::spawn(async move {
            let done = (route.run)(asked).await;
            if let Some(caller) = &caller {
                let (outcome, subject) = match &done {
                    Ok(reply) => (route.operation, reply.subject.clone()),
                    Err(problem) => (problem.code, Subject::default()),
                };
                provisioning.note_admin(caller, outcome, subject).await;
            }
            if let (Some(first), Ok(reply)) = (first, &done) {
                first.done(reply);
            }
            done
        });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "an operation ended by a fault of ours");
            Err(Problem::internal())
        })
    }
}

impl Scope {
    /// Registration, where there is any.
    fn provisioning(&self) -> Result<&Arc<Provisioning>, Problem> {
        self.provisioning.as_ref().ok_or_else(unavailable)
    }
}

fn unavailable() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "This bridge does not register machines",
        "without login_server and headscale there is no administrator's token either",
    )
}

/// The operation that is asked for, and the parts of the path that stand for something.
fn find(method: &Method, path: &str) -> Result<(&'static Route, Vec<String>), Problem> {
    let own = path.strip_prefix(PREFIX).and_then(|path| path.strip_prefix('/'));
    let parts: Vec<&str> = own.map(|path| path.split('/').collect()).unwrap_or_default();
    let mut methods = Vec::new();
    // Who wants the head only is answered as for all; the rest is left out on the way.
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    for route in ROUTES {
        let Some(found) = route.matches(&parts) else { continue };
        if route.verb.method() == *wanted {
            return Ok((route, found));
        }
        methods.push(route.verb.method());
    }
    if methods.is_empty() {
        return Err(Problem::not_found(format!("{PREFIX}/openapi.json says what there is")));
    }
    if methods.contains(&Method::GET) {
        methods.push(Method::HEAD);
    }
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    Err(Problem::method(methods.join(", ")))
}

/// JSON where it is taken, and nothing where not.
fn check_body(route: &Route, headers: &HeaderMap, body: &Bytes) -> Result<(), Problem> {
    if body.is_empty() {
        return Ok(());
    }
    if route.body.is_none() {
        return Err(Problem::invalid("the body: this operation takes none"));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_json",
        "The body is not JSON",
        "Content-Type: application/json is wanted",
    ))
}

/// The parameters in a query, each once, and none that the operation does not know.
fn query(route: &Route, text: &str) -> Result<Vec<(String, String)>, Problem> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        if !route.query.iter().any(|known| known.name == name) {
            return Err(Problem::invalid(format!("unknown parameter {name:?} in the query")));
        }
        if found.iter().any(|(known, _)| *known == name) {
            return Err(Problem::invalid(format!("{name}: twice in the query")));
        }
        found.push((name.into_owned(), value.into_owned()));
    }
    Ok(found)
}

/// The word by which a request is known when it is sent again.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let (key, more) = (keys.next(), keys.next());
    let Some(key) = key else { return Ok(None) };
    let text = key.to_str().ok().filter(|key| {
        let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain && (1..=MAX_KEY_CHARS).contains(&key.len()) && more.is_none()
    });
    let wanted = || {
        let rule = format!("1 to {MAX_KEY_CHARS} characters of ASCII without blanks, once");
        Problem::invalid(format!("Idempotency-Key: {rule}"))
    };
    text.map(|text| Some(text.to_owned())).ok_or_else(wanted)
}
