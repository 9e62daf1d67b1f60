//! The listener that installers register machines at.
//!
//! Does: answers four paths, in JSON always, also what is wrong; finds out who asks; bounds what
//! a body may be and how long it may take. A proxy may expose this listener whole.
//! Does not: decide who may register; that is `provisioning`. Without it, it says so with 503,
//! upon which installers try again later.

mod answers;

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use self::answers::{Fault, error, machines, ready, refusal, registered};
use super::request::{self, BodyFault};
use super::{Answer, HEALTHY, JSON, Pages, allow, answer, caller};
use crate::provisioning::Provisioning;

/// Most bytes in a request body.
pub const MAX_BODY_LEN: usize = 4 * 1024;

/// What the provisioning listener answers.
#[derive(Debug, Default)]
pub struct ProvisioningPages {
    provisioning: Option<Arc<Provisioning>>,
}

impl ProvisioningPages {
    /// Answers for `provisioning`; without it, that machines cannot be registered.
    #[must_use]
    pub const fn new(provisioning: Option<Arc<Provisioning>>) -> Self {
        Self { provisioning }
    }
}

impl Pages for ProvisioningPages {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = plain_path(request.uri().path());
        let (page, methods) = match path.as_str() {
            "/health" => (Page::Health, "GET, HEAD"),
            "/ready" => (Page::Ready, "GET, HEAD"),
            "/machines" => (Page::Machines, "GET, HEAD"),
            "/register" => (Page::Register, "POST"),
            _ => return error(Fault::NotFound),
        };
        if !methods.split(", ").any(|method| method == request.method().as_str()) {
            return allow(error(Fault::Method), methods);
        }
        match (page, &self.provisioning) {
            (Page::Health, _) => answer(StatusCode::OK, JSON, HEALTHY),
            (Page::Register, provisioning) => register(request, provisioning.as_ref()).await,
            (Page::Ready | Page::Machines, None) => error(Fault::Unavailable),
            (Page::Ready, Some(provisioning)) => ready(&provisioning.findings().await),
            (Page::Machines, Some(provisioning)) => {
                let caller = caller::of(&request, provisioning);
                match provisioning.machines(&caller).await {
                    Ok(list) => machines(&list),
                    Err(refused) => refusal(refused, &caller.request_id),
                }
            }
        }
    }
}

/// What is there.
enum Page {
    Health,
    Ready,
    Machines,
    Register,
}

async fn register(asked: Request<Incoming>, provisioning: Option<&Arc<Provisioning>>) -> Answer {
    let caller = provisioning.map(|provisioning| caller::of(&asked, provisioning));
    let body = match request::body(asked.into_body(), MAX_BODY_LEN).await {
        Ok(body) => body,
        Err(BodyFault::TooLong) => return error(Fault::BodyTooLong),
        Err(BodyFault::Broken) => return error(Fault::BodyBroken),
        Err(BodyFault::TooSlow) => return error(Fault::BodyTooSlow),
    };
    let (Some(provisioning), Some(caller)) = (provisioning, caller) else {
        return error(Fault::Unavailable);
    };
    let request_id = caller.request_id.clone();
    match provisioning.register(caller, body.into()).await {
        Ok(machine) => registered(&machine),
        Err(refused) => refusal(refused, &request_id),
    }
}

/// `path` without doubled slashes and without one at its end: installers join a base URL and a
/// path as they come.
fn plain_path(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        plain.push('/');
        plain.push_str(part);
    }
    plain
}
