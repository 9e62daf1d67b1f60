//! The pages of administrators, and the way to them.
//!
//! ```text
//! request -> style sheet
//!         -> form? sent from a page of ours -> session -> word of the session, first time -> do
//!                                           -> page
//! ```
//!
//! Does: lets nobody see or do anything without a session but log in; does what a form asks for
//! by the operations of the API.
//! Does not: look at whom a request was meant for; `admin` does.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, SET_COOKIE};
use hyper::{Method, Request, StatusCode};
use maud::{Markup, html};

use super::form::Form;
use super::frame::{self, Page, Section};
use super::sessions::{Session, Sessions};
use super::visit::{ONCE_FIELD, Visit, WORD_FIELD};
use super::{cookie, events, keys, login, machines, map, origin, overview, relays, style, tokens};
use crate::headscale::Secret;
use crate::http::api::problem::Problem;
use crate::http::api::{Api, MAX_BODY_LEN};
use crate::http::scope::Scope;
use crate::http::{Answer, caller, request};
use crate::provisioning::admin::Subject;
use crate::provisioning::token_file::{TokenHash, new_token};
use crate::provisioning::{Caller, Provisioning};

/// First parts of all paths that lead somewhere. Which there are is no secret, so programs that
/// ask at the wrong listener are told so, and not to log in.
const PLACES: [&str; 10] =
    ["", "login", "logout", "machines", "tokens", "keys", "relays", "map", "map.json", "events"];

/// The pages of administrators.
#[derive(Debug)]
pub(super) struct Site {
    /// Names that it goes by, in lower case.
    hosts: Vec<String>,
    scope: Arc<Scope>,
    api: Arc<Api>,
    sessions: Sessions,
}

/// What comes of a request.
pub(super) enum Shown {
    Page(Page),
    /// Another page, to which the browser is led.
    Elsewhere(String),
    /// Something that is no page.
    Raw(Answer),
}

/// A request, before anybody is let in.
struct Arrival {
    method: Method,
    path: String,
    query: Form,
    headers: HeaderMap,
    /// Whether it came by TLS, as a trusted proxy says.
    by_tls: bool,
    form: Form,
}

impl Site {
    pub(super) fn new(hosts: &[String], scope: Arc<Scope>, api: Arc<Api>) -> Self {
        Self { hosts: hosts.to_vec(), scope, api, sessions: Sessions::default() }
    }

    pub(super) async fn answer(&self, asked: Request<Incoming>) -> Answer {
        if asked.uri().path() == style::PATH.as_str() && asked.method() != Method::POST {
            return style::get();
        }
        let Some(provisioning) = self.scope.provisioning.clone() else { return no_registration() };
        if !PLACES.contains(&asked.uri().path().split('/').nth(1).unwrap_or_default()) {
            return refused(&Problem::not_found("the address leads nowhere"));
        }
        let caller = caller::of(&asked, &provisioning);
        let by_tls = caller::is_by_tls(&asked, &provisioning);
        let (head, body) = asked.into_parts();
        // Taken in before it is refused: a browser that is still sending would not see the answer.
        let body = request::body(body, MAX_BODY_LEN).await;
        let method = if head.method == Method::HEAD { Method::GET } else { head.method };
        let form = match (method.clone(), body) {
            (Method::GET, _) => Form::default(),
            (Method::POST, Ok(body)) if is_form(&head.headers) => Form::read(&body),
            (Method::POST, Ok(_)) => return refused(&Problem::invalid("a form is wanted")),
            (Method::POST, Err(fault)) => return refused(&Problem::from(fault)),
            _ => return other_method(),
        };
        if method == Method::POST && !origin::is_ours(&head.headers, &self.hosts) {
            return refused(&foreign(
                "the browser does not say that a page of this bridge sent it",
            ));
        }
        let query = Form::read(head.uri.query().unwrap_or_default().as_bytes());
        let path = head.uri.path().to_owned();
        let arrival = Arrival { method, path, query, headers: head.headers, by_tls, form };
        if arrival.path == "/login" && arrival.method == Method::POST {
            return self.log_in(&arrival, caller, &provisioning).await;
        }
        let admin = match provisioning.admin_token().await {
            Ok(admin) => admin,
            Err(refusal) => return refused(&Problem::from(refusal)),
        };
        let shown = cookie::read(&arrival.headers, by_tls);
        let now = provisioning.elapsed();
        let session = shown.as_ref().and_then(|it| self.sessions.find(it, admin.as_ref(), now));
        match session {
            None if arrival.path == "/login" => login::page(StatusCode::OK, &arrival.query, None),
            None if arrival.method == Method::GET && shown.is_none() => frame::go("/login"),
            None => frame::go("/login?why=ended"),
            Some(_) if arrival.path == "/login" => frame::go("/"),
            Some(session) => self.visit(arrival, caller, provisioning, session).await,
        }
    }

    async fn log_in(
        &self,
        arrival: &Arrival,
        caller: Caller,
        provisioning: &Provisioning,
    ) -> Answer {
        let token = arrival.form.text("token");
        let token = (!token.is_empty()).then(|| Secret::new(token.to_owned()));
        let caller = Caller { token, ..caller };
        if let Err(refusal) = provisioning.admit_admin(&caller).await {
            let mut answer = login::page(login::status(refusal), &arrival.query, Some(refusal));
            if let Some(seconds) = refusal.retry_after() {
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            return answer;
        }
        let Some(token) = &caller.token else { return refused(&Problem::internal()) };
        let opened = self.sessions.open(TokenHash::of(token), provisioning.elapsed());
        let Ok(opened) = opened else { return refused(&Problem::internal()) };
        provisioning.note_admin(&caller, "logIn", Subject::default()).await;
        let mut answer = frame::go("/");
        if let Some(cookie) = cookie::keep(&opened, arrival.by_tls) {
            answer.headers_mut().insert(SET_COOKIE, cookie);
        }
        answer
    }

    async fn visit(
        &self,
        arrival: Arrival,
        caller: Caller,
        provisioning: Arc<Provisioning>,
        session: Session,
    ) -> Answer {
        let Arrival { method, path, query, form, by_tls, .. } = arrival;
        let Ok(once) = new_token() else { return refused(&Problem::internal()) };
        let visit = Visit {
            api: Arc::clone(&self.api),
            scope: Arc::clone(&self.scope),
            now_ms: provisioning.now_ms(),
            provisioning,
            caller,
            session,
            once,
            query,
            form,
        };
        let is_post = method == Method::POST;
        if is_post && !visit.session.is_word(visit.form.text(WORD_FIELD)) {
            return error_page(&visit, &path, &foreign("it is not from a page of this session"));
        }
        let once = Secret::new(visit.form.text(ONCE_FIELD).to_owned());
        if is_post && !self.sessions.spend(&visit.session, &once) {
            let detail = "go back and look what came of it before you do it again";
            let (status, title) = (StatusCode::CONFLICT, "This form was sent before");
            let problem = Problem::new(status, "sent_before", title, detail);
            return error_page(&visit, &path, &problem);
        }
        if is_post && path == "/logout" {
            self.sessions.close(&visit.session);
            visit.provisioning.note_admin(&visit.caller, "logOut", Subject::default()).await;
            let mut answer = frame::go("/login?why=left");
            if let Some(cookie) = cookie::forget(by_tls) {
                answer.headers_mut().insert(SET_COOKIE, cookie);
            }
            return answer;
        }
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let shown = if is_post { send(&visit, &parts).await } else { look(&visit, &parts).await };
        match shown {
            Ok(Shown::Page(page)) => page.answer(&visit),
            Ok(Shown::Elsewhere(path)) => frame::go(&path),
            Ok(Shown::Raw(answer)) => answer,
            Err(problem) => {
                if is_post {
                    self.sessions.give_back(&visit.session, &once);
                }
                error_page(&visit, &path, &problem)
            }
        }
    }
}

/// Pages that are looked at.
async fn look(visit: &Visit, path: &[&str]) -> Result<Shown, Problem> {
    match path {
        [""] => overview::show(visit).await,
        ["machines"] => machines::list(visit).await,
        ["machines", id] => machines::one(visit, id).await,
        ["machines", id, "delete"] => machines::ask(visit, id, machines::Deed::Delete).await,
        ["machines", id, "log-out"] => machines::ask(visit, id, machines::Deed::LogOut).await,
        ["tokens"] => tokens::list(visit).await,
        ["tokens", "new"] => Ok(tokens::new(visit, None)),
        ["tokens", name, "rotate"] => tokens::ask_rotation(visit, name).await,
        ["tokens", name, "revoke"] => tokens::ask_end(visit, name).await,
        ["keys"] => keys::show(visit, None).await,
        ["keys", "end"] => Ok(keys::ask_end(visit)),
        ["relays"] => Ok(relays::show(visit)),
        ["map"] => Ok(map::show(visit)),
        ["map.json"] => Ok(map::json(visit)),
        ["events"] => events::list(visit).await,
        _ => Err(Problem::not_found("the address leads nowhere")),
    }
}

/// Forms that are sent.
async fn send(visit: &Visit, path: &[&str]) -> Result<Shown, Problem> {
    match path {
        ["machines", id, "delete"] => machines::end(visit, id, machines::Deed::Delete).await,
        ["machines", id, "log-out"] => machines::end(visit, id, machines::Deed::LogOut).await,
        ["tokens", "new"] => tokens::create(visit).await,
        ["tokens", name, "rotate"] => tokens::rotate(visit, name).await,
        ["tokens", name, "revoke"] => tokens::revoke(visit, name).await,
        ["keys"] => keys::create(visit).await,
        ["keys", "end"] => keys::end(visit).await,
        _ => Err(Problem::not_found("no form goes there")),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn foreign(detail: &str) -> Problem {
    let title = "The form was not taken, and nothing was done";
    Problem::new(StatusCode::FORBIDDEN, "foreign_form", title, detail)
}

/// What went wrong, for whoever has logged in.
fn error_page(visit: &Visit, path: &str, problem: &Problem) -> Answer {
    let section = Section::ALL.into_iter().skip(1).find(|it| path.starts_with(it.path()));
    let section = section.unwrap_or(Section::Overview);
    let body = html! {
        (explain(problem))
        p.hint {
            "Request " code { (visit.caller.request_id) } "; the log and the events have this id."
        }
        p { a.button href=(section.path()) { "Back to: " (section.title()) } }
    };
    let page = Page { status: problem.status, ..Page::new(section, &*problem.title, body) };
    let mut answer = page.answer(visit);
    problem.hint(answer.headers_mut());
    answer
}

/// What went wrong, for whoever has not, or nobody knows.
fn refused(problem: &Problem) -> Answer {
    let body = html! { (explain(problem)) p { a.button href="/" { "Back to the overview" } } };
    let mut answer = frame::bare(problem.status, &problem.title, &body);
    problem.hint(answer.headers_mut());
    answer
}

fn explain(problem: &Problem) -> Markup {
    html! { div.note.bad role="alert" { p { "What is wrong: " (problem.detail) "." } } }
}

fn other_method() -> Answer {
    let title = "The method is not for this address";
    let detail = "pages are read with GET, and forms are sent with POST";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut answer = refused(&Problem::new(status, "method_not_allowed", title, detail));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    answer
}

fn no_registration() -> Answer {
    let body = html! {
        p { "So there is no administrator's token either, and nobody can log in here." }
        p {
            "To have both, set " code { "login_server" } " and the table " code { "[headscale]" }
            " in the configuration, and start the bridge again. The map is served all the same."
        }
    };
    let status = StatusCode::SERVICE_UNAVAILABLE;
    frame::bare(status, "This bridge does not register machines", &body)
}
