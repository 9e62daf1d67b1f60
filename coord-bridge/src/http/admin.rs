//! The listener of administrators.
//!
//! ```text
//! request -> host (whom it was meant for) -> api   /api/v1/…
//! ```
//!
//! Does: turns away what a browser was talked into sending, before anything else is looked at.
//! Does not: let anybody in; each part of it asks for the administrator's token. It is not for
//! the public: no proxy on the internet should lead here.

mod host;

use hyper::Request;
use hyper::body::Incoming;

use super::api::{Api, Scope};
use super::{Answer, Pages};

/// What the listener of administrators answers.
#[derive(Debug)]
pub struct AdminPages {
    /// Names that requests may be meant for, beside addresses and `localhost`; in lower case.
    hosts: Vec<String>,
    api: Api,
}

impl AdminPages {
    /// Answers about what is in `scope`. `hosts` are names that it goes by.
    #[must_use]
    pub fn new(hosts: &[String], scope: Scope) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { hosts, api: Api::new(scope) }
    }
}

impl Pages for AdminPages {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if !host::is_ours(&request, &self.hosts) {
            return Api::misdirected();
        }
        self.api.answer(request).await
    }
}
