//! What went wrong, as RFC 9457 has it.
//!
//! Does: gives each kind of problem one type, title and status. Does not: tell secrets.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use schemars::JsonSchema;
use serde::Serialize;

use crate::headscale::{Failure, FailureKind};
use crate::http::request::{BODY_TIME, BodyFault};
use crate::http::{Answer, answer};
use crate::provisioning::administration::AdministrationError;
use crate::provisioning::refusal::Refusal;
use crate::provisioning::tokens::TokenError;
use crate::store::StoreError;

/// Media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// What every type begins with. The word behind it is what programs look at.
const TYPE_PREFIX: &str = "urn:coord-bridge:problem:";

/// Something that went wrong, before it is an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Problem {
    pub(in crate::http) status: StatusCode,
    /// A word for programs, which stays.
    pub(in crate::http) code: &'static str,
    pub(in crate::http) title: Cow<'static, str>,
    pub(in crate::http) detail: String,
    /// Seconds.
    retry_after: Option<u64>,
    allow: Option<String>,
}

/// A problem: what went wrong and what to do about it (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct ProblemBody<'a> {
    /// Names the kind of problem: `urn:coord-bridge:problem:` and a word that stays.
    r#type: String,
    /// The kind of problem, for people.
    title: &'a str,
    /// The status of the answer.
    status: u16,
    /// What is wrong with this request.
    detail: &'a str,
    /// Id of the request, which the log and the events have too; absent where nobody looked at
    /// who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

impl Problem {
    pub(in crate::http) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            title: Cow::Borrowed(title),
            detail: detail.into(),
            retry_after: None,
            allow: None,
        }
    }

    /// There is nothing at that path.
    pub(in crate::http) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// The request says something that cannot be.
    pub(in crate::http) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", "The request cannot be taken", detail)
    }

    /// What is there is in the way.
    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, "In conflict with what is there", detail)
    }

    /// The path takes other methods.
    pub(super) fn method(allow: String) -> Self {
        let detail = format!("this path takes {allow}");
        let title = "The method is not for this path";
        let problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title, detail);
        Self { allow: Some(allow), ..problem }
    }

    /// A fault of ours.
    pub(in crate::http) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "the log says more",
        )
    }

    pub(super) fn answer(&self, request_id: Option<&str>) -> Answer {
        let body = ProblemBody {
            r#type: format!("{TYPE_PREFIX}{}", self.code),
            title: &self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            request_id,
        };
        // Texts and numbers always serialize.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut answer = answer(self.status, HeaderValue::from_static(PROBLEM_JSON), body);
        let headers = answer.headers_mut();
        self.hint(headers);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|text| text.parse().ok()) {
            headers.insert(ALLOW, allow);
        }
        answer
    }

    /// Says when to come again, where that is known.
    pub(in crate::http) fn hint(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.status());
        let words = refusal.to_string();
        let detail = match refusal.code() {
            "unauthorized" => {
                "Authorization: Bearer and the administrator's token are wanted; it is in the \
                 file admin_token_file"
            }
            "too_many_failures" => {
                "too many wrong tokens came from this address; a right one is let in all the same"
            }
            "admin_token_required" => "that is an enrollment token; the administrator's is wanted",
            _ => &words,
        };
        let detail = detail.to_owned();
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: refusal.code(),
            title: Cow::Owned(words),
            detail,
            retry_after: refusal.retry_after(),
            allow: None,
        }
    }
}

impl From<BodyFault> for Problem {
    fn from(error: BodyFault) -> Self {
        match error {
            BodyFault::TooLong => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_long",
                "The body is too long",
                format!("at most {} bytes", super::MAX_BODY_LEN),
            ),
            BodyFault::TooSlow => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_too_slow",
                "The body is too slow",
                format!("it has {} s to arrive", BODY_TIME.as_secs()),
            ),
            BodyFault::Broken => Self::new(
                StatusCode::BAD_REQUEST,
                "body_broken",
                "The body cannot be read",
                "the connection broke, or the length is wrong",
            ),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let problem = Self::from(Refusal::Store);
        Self { detail: error.to_string(), ..problem }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let (status, code) = match failure.kind {
            FailureKind::Unreachable | FailureKind::Paused => {
                (StatusCode::SERVICE_UNAVAILABLE, "headscale_unreachable")
            }
            FailureKind::Unauthorized => (StatusCode::BAD_GATEWAY, "headscale_unauthorized"),
            FailureKind::Refused => (StatusCode::BAD_GATEWAY, "headscale_refused"),
            FailureKind::Faulty | FailureKind::Unintelligible => {
                (StatusCode::BAD_GATEWAY, "headscale_failed")
            }
        };
        Self {
            status,
            code,
            title: Cow::Owned(failure.kind.to_string()),
            detail: failure.detail,
            retry_after: Refusal::of_headscale(failure.kind, Refusal::KeyFailed).retry_after(),
            allow: None,
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Store(error) => error.into(),
            TokenError::Taken(_) => Self::conflict("name_taken", error.to_string()),
            TokenError::Revoked(_) => Self::conflict("token_revoked", error.to_string()),
            TokenError::Ended(_) => Self::conflict("token_ended", error.to_string()),
            TokenError::Unknown(_) => Self::not_found(error.to_string()),
            TokenError::Name(_) | TokenError::Tag(_) => Self::invalid(error.to_string()),
            TokenError::File(_) | TokenError::Random(_) => {
                tracing::error!(%error, "a token cannot be changed");
                Self::internal()
            }
        }
    }
}

impl From<AdministrationError> for Problem {
    fn from(error: AdministrationError) -> Self {
        match error {
            AdministrationError::UnknownMachine(_) => Self::not_found(error.to_string()),
            AdministrationError::NoNode(_) => Self::conflict("no_node", error.to_string()),
            AdministrationError::Headscale(failure) => failure.into(),
            AdministrationError::Store(error) => error.into(),
        }
    }
}
