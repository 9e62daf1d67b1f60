//! One operation of the API: how it is asked for, what does it, and what its document says.
//!
//! Does: holds everything about an operation in one place, so that what is answered and what is
//! documented are the same. Does not: read bodies or check tokens; that is `api`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::http::scope::Scope;
use crate::http::{Answer, JSON, answer};
use crate::provisioning::admin::Subject;

/// An operation.
pub(super) struct Route {
    pub(super) verb: Verb,
    /// Below `/api/v1`; `{name}` stands for one part of a path.
    pub(super) path: &'static str,
    /// Its name in programs.
    pub(super) operation: &'static str,
    pub(super) summary: &'static str,
    /// Whether it takes the administrator's token.
    pub(super) is_open: bool,
    pub(super) query: &'static [Parameter],
    /// Schema of its body, if it takes one.
    pub(super) body: Option<SchemaOf>,
    /// Status if all is well.
    pub(super) status: StatusCode,
    /// Schema of its answer, if that has a body.
    pub(super) reply: Option<SchemaOf>,
    /// Statuses of problems that are its own, beside those that all can have.
    pub(super) problems: &'static [u16],
    pub(super) run: fn(Asked) -> Doing,
}

/// How an operation is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
    Delete,
}

/// A parameter in the query.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) schema: SchemaOf,
}

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// An operation under way.
pub(super) type Doing = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

/// What an operation is given.
pub(super) struct Asked {
    pub(super) scope: Arc<Scope>,
    /// The parts of the path that stand for something.
    pub(super) path: Vec<String>,
    /// The query, with parameters of the operation only.
    pub(super) query: Vec<(String, String)>,
    /// JSON, or nothing.
    pub(super) body: Bytes,
}

/// What came of an operation.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// What was changed.
    pub(super) subject: Subject,
}

impl Verb {
    pub(super) const fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Delete => Method::DELETE,
        }
    }

    /// Whether something is different afterwards.
    pub(super) const fn changes(self) -> bool {
        match self {
            Self::Get => false,
            Self::Post | Self::Delete => true,
        }
    }
}

impl Route {
    /// The parts of `parts` that stand for something, if this is its path.
    pub(super) fn matches(&self, parts: &[&str]) -> Option<Vec<String>> {
        let own: Vec<&str> = self.path.split('/').skip(1).collect();
        if own.len() != parts.len() {
            return None;
        }
        let mut found = Vec::new();
        for (own, part) in own.iter().zip(parts) {
            if own.starts_with('{') && !part.is_empty() {
                found.push((*part).to_owned());
            } else if own != part {
                return None;
            }
        }
        Some(found)
    }
}

impl Asked {
    /// The part of the path that stands for something, where there is one.
    pub(super) fn name(&self) -> String {
        self.path.first().cloned().unwrap_or_default()
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as what the operation takes; nothing counts as an object without fields.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let bytes = if self.body.is_empty() { b"{}" } else { self.body.as_ref() };
        // A list would be taken for an object whose fields are in order.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Problem::invalid("the body: a JSON object is wanted"));
        }
        serde_json::from_slice(bytes)
            .map_err(|error| Problem::invalid(format!("the body: {error}")))
    }
}

impl Reply {
    /// An answer with a body.
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| {
            tracing::error!(%error, "an answer cannot be written");
            Problem::internal()
        })?;
        Ok(Self { status, body: body.into(), subject: Subject::default() })
    }

    /// That it is done.
    pub(super) fn done() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: Bytes::new(), subject: Subject::default() }
    }

    /// The same, about this machine.
    pub(super) fn about_machine(mut self, id: &str) -> Self {
        self.subject.machine = Some(id.to_owned());
        self
    }

    /// The same, about this token.
    pub(super) fn about_token(mut self, name: &str) -> Self {
        self.subject.token = Some(name.to_owned());
        self
    }

    pub(super) fn answer(self) -> Answer {
        let mut answer = answer(self.status, JSON, self.body);
        if self.status == StatusCode::NO_CONTENT {
            answer.headers_mut().remove(hyper::header::CONTENT_TYPE);
        }
        answer
    }
}

/// The schema of `T`.
pub(super) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}
