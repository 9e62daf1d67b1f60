//! The listener of administrators.
//!
//! ```text
//! request -> host (whom it was meant for) -+-> api    /api/v1/…
//!                                          `-> site   pages for people
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `host`, `origin` | whom a request was meant for, where a form was sent from |
//! | `site`, `visit` | the way to a page, and what a page is told |
//! | `sessions`, `cookie`, `login` | who has logged in |
//! | `form` | what a form says |
//! | `frame`, `style`, `words` | what all pages have |
//! | `overview`, `machines`, `tokens`, `keys`, `relays`, `map`, `events` | the pages |
//!
//! Does: turns away what a browser was talked into sending, before anything else is looked at.
//! Does not: let anybody in; each part of it asks for the administrator's token. It is not for
//! the public: no proxy on the internet should lead here.

mod cookie;
mod events;
mod form;
mod frame;
mod host;
mod keys;
mod login;
mod machines;
mod map;
mod origin;
mod overview;
mod relays;
mod sessions;
mod site;
mod style;
mod tokens;
mod visit;
mod words;

use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;

use self::site::Site;
use super::api::Api;
use super::scope::Scope;
use super::{Answer, Pages};

/// What the paths of the API, and of what looks like it, begin with.
const API: &str = "api";

/// What the listener of administrators answers.
#[derive(Debug)]
pub struct AdminPages {
    /// Names that requests may be meant for, beside addresses and `localhost`; in lower case.
    hosts: Vec<String>,
    api: Arc<Api>,
    site: Site,
}

impl AdminPages {
    /// Answers about what is in `scope`. `hosts` are names that it goes by.
    #[must_use]
    pub fn new(hosts: &[String], scope: Scope) -> Self {
        let hosts: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let scope = Arc::new(scope);
        let api = Arc::new(Api::new(Arc::clone(&scope)));
        let site = Site::new(&hosts, scope, Arc::clone(&api));
        Self { hosts, api, site }
    }
}

impl Pages for AdminPages {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if !host::is_ours(&request, &self.hosts) {
            return Api::misdirected();
        }
        if request.uri().path().split('/').nth(1) == Some(API) {
            return self.api.answer(request).await;
        }
        self.site.answer(request).await
    }
}
