//! What an answer means that is not what was asked for.
//!
//! Does: tells Headscale's own refusals, of either form, from those of a proxy before it, and
//! says which side failed and what to do, on one line.
//! Does not: read what was asked for; that is `wire`.
//!
//! | form | who writes it |
//! |---|---|
//! | `application/problem+json` | Headscale from 0.30 |
//! | `{"code":…,"message":…}` | Headscale up to 0.29 |
//! | the bare text `Unauthorized` | Headscale up to 0.29; with status 500 for some keys |
//! | anything else | somebody in between |

use hyper::StatusCode;
use serde::Deserialize;

use super::adapter::Adapter;
use super::limits::MAX_WORDS;
use super::transport::Answer;
use super::{Failure, FailureKind};

/// A failure, and what follows from it.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) failure: Failure,
    pub(super) health: Health,
    /// It looks like another release than the one that was found.
    pub(super) is_other_release: bool,
    /// Nothing was sent, so nothing can have been done.
    pub(super) is_unsent: bool,
}

/// What a failure says of Headscale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It is there and answers.
    Alive,
    /// It is hurt: enough of these in a row, and it is left alone.
    Hurt,
    /// Nothing: it was not asked.
    Unknown,
}

/// Who has written an answer that is no success.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// Headscale from 0.30.
    Http(String),
    /// Headscale up to 0.29.
    Gateway(String),
    /// The same, of an API key.
    GatewayUnauthorized,
    /// Not Headscale.
    Foreign,
}

impl Trouble {
    /// Headscale has said so.
    pub(super) fn told(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self::new(kind, detail.into(), Health::Alive)
    }

    /// Nobody has said so who speaks for a healthy Headscale.
    pub(super) fn hurt(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self::new(kind, detail.into(), Health::Hurt)
    }

    /// We say so before anything is sent.
    pub(super) fn unsent(failure: Failure) -> Self {
        let Failure { kind, detail } = failure;
        Self { is_unsent: true, ..Self::new(kind, detail, Health::Unknown) }
    }

    /// The same, and the release is to be found out anew.
    pub(super) fn of_another_release(self) -> Self {
        Self { is_other_release: true, ..self }
    }

    const fn new(kind: FailureKind, detail: String, health: Health) -> Self {
        let failure = Failure { kind, detail };
        Self { failure, health, is_other_release: false, is_unsent: false }
    }
}

/// What `answer`, whose status is no success, means to somebody who takes Headscale for
/// `adapter`.
pub(super) fn trouble(answer: &Answer, adapter: Adapter) -> Trouble {
    let status = answer.status;
    let (is_http, words) = match voice(answer) {
        Voice::Foreign => return foreign(answer),
        Voice::GatewayUnauthorized => (false, "Unauthorized".to_owned()),
        Voice::Gateway(words) => (false, words),
        Voice::Http(words) => (true, words),
    };
    if is_http != matches!(adapter, Adapter::Http) {
        let detail = format!("answers as another release does: {status}: {words}");
        return Trouble::told(FailureKind::Unintelligible, detail).of_another_release();
    }
    if is_unauthorized(answer) {
        return Trouble::told(FailureKind::Unauthorized, words);
    }
    let detail = format!("answers {status}: {words}");
    match (status.is_server_error(), is_http) {
        (false, _) => Trouble::told(FailureKind::Refused, detail),
        (true, true) => Trouble::hurt(FailureKind::Faulty, detail),
        // Up to 0.29 this is the status of most refusals too, so it says nothing of health.
        (true, false) => Trouble::told(FailureKind::Faulty, detail),
    }
}

/// Whether the API key was refused.
pub(super) fn is_unauthorized(answer: &Answer) -> bool {
    answer.status == StatusCode::UNAUTHORIZED
        || (answer.status.is_server_error() && voice(answer) == Voice::GatewayUnauthorized)
}

/// Who has written this answer.
pub(super) fn voice(answer: &Answer) -> Voice {
    #[derive(Deserialize)]
    struct Problem {
        #[serde(default)]
        title: Option<String>,
        #[serde(default)]
        detail: Option<String>,
        #[serde(default)]
        errors: Option<Vec<Cause>>,
    }
    #[derive(Deserialize)]
    struct Cause {
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        location: Option<String>,
    }
    #[derive(Deserialize)]
    struct Status {
        #[serde(rename = "code")]
        _code: i64,
        message: String,
    }
    if answer.body.trim_ascii() == b"Unauthorized" {
        return Voice::GatewayUnauthorized;
    }
    match answer.content_type.as_str() {
        "application/problem+json" => match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(Problem { title, detail, errors }) => {
                let causes = errors.unwrap_or_default().into_iter().map(|cause| {
                    let place = cause.location.filter(|place| !place.is_empty());
                    let message = cause.message.unwrap_or_default();
                    place.map_or(message.clone(), |place| format!("{message} ({place})"))
                });
                let words = detail.or(title).into_iter().chain(causes);
                Voice::Http(one_line(&words.collect::<Vec<_>>().join(": ")))
            }
            Err(_) => Voice::Foreign,
        },
        "application/json" => match serde_json::from_slice::<Status>(&answer.body) {
            Ok(Status { message, .. }) => Voice::Gateway(one_line(&message)),
            Err(_) => Voice::Foreign,
        },
        _ => Voice::Foreign,
    }
}

/// Something between the bridge and Headscale has answered.
pub(super) fn foreign(answer: &Answer) -> Trouble {
    let status = answer.status;
    if status.is_redirection() {
        let to = one_line(answer.location.as_deref().unwrap_or("nowhere"));
        let detail = format!(
            "answers {status} to {to}, which is not followed; set headscale.url to where the API \
             is"
        );
        return Trouble::hurt(FailureKind::Unintelligible, detail);
    }
    let (kind, detail) = match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            let advice = "is Headscale running behind it?";
            (FailureKind::Unreachable, format!("a proxy answers {status}; {advice}"))
        }
        StatusCode::TOO_MANY_REQUESTS => {
            let advice = "let it exempt the bridge, or go around it";
            (FailureKind::Unreachable, format!("a proxy answers {status}; {advice}"))
        }
        _ if status.is_server_error() => {
            let advice = "see the log of Headscale or of its proxy";
            (FailureKind::Faulty, format!("answers {status} without a reason; {advice}"))
        }
        _ => {
            let advice = "is headscale.url right, and does a proxy before it let /api/v1 through?";
            let detail = format!("answers {status} in a form that is not Headscale's; {advice}");
            (FailureKind::Unintelligible, detail)
        }
    };
    Trouble::hurt(kind, detail)
}

/// Other people's words, on one line and not too many.
pub(crate) fn one_line(words: &str) -> String {
    let mut line: String = words
        .chars()
        .take(MAX_WORDS)
        .map(|letter| if breaks_line(letter) { ' ' } else { letter })
        .collect();
    if words.chars().nth(MAX_WORDS).is_some() {
        line.push('…');
    }
    line
}

fn breaks_line(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::headscale::adapter::KeysBy;

    const GATEWAY: Adapter = Adapter::Gateway(KeysBy::Text);

    fn answer(status: u16, content_type: &str, body: &'static str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            content_type: content_type.to_owned(),
            location: Some("https://elsewhere/\nx".to_owned()),
            retry_after: None,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn each_side_is_told_by_its_form() {
        use FailureKind::{Faulty, Refused, Unauthorized, Unintelligible, Unreachable};
        let (json, problem, html) = ("application/json", "application/problem+json", "text/html");
        for (status, form, body, adapter, kind, said) in [
            (401, "text/plain", "Unauthorized", GATEWAY, Unauthorized, "Unauthorized"),
            (500, "text/plain", "Unauthorized", GATEWAY, Unauthorized, "Unauthorized"),
            (500, json, r#"{"code":2,"message":"no\nuser"}"#, GATEWAY, Faulty, "no user"),
            (400, json, r#"{"code":3,"message":"tag"}"#, GATEWAY, Refused, "400 Bad Request: tag"),
            (401, problem, r#"{"detail":"no"}"#, Adapter::Http, Unauthorized, "no"),
            (
                404,
                problem,
                r#"{"title":"t","detail":"d","errors":[{"message":"m","location":"body.x"}]}"#,
                Adapter::Http,
                Refused,
                "d: m (body.x)",
            ),
            (500, problem, "{}", Adapter::Http, Faulty, "500"),
            (422, problem, "{}", GATEWAY, Unintelligible, "another release"),
            (401, "text/plain", "Unauthorized", Adapter::Http, Unintelligible, "another release"),
            (502, html, "<h1>", GATEWAY, Unreachable, "proxy"),
            (429, html, "", GATEWAY, Unreachable, "proxy"),
            (500, html, "", GATEWAY, Faulty, "log"),
            (403, html, "", Adapter::Http, Unintelligible, "headscale.url"),
            (404, json, r#"{"error":"x"}"#, GATEWAY, Unintelligible, "headscale.url"),
            (302, html, "", GATEWAY, Unintelligible, "https://elsewhere/ x, which is not"),
        ] {
            let failure = trouble(&answer(status, form, body), adapter).failure;
            assert_eq!(failure.kind, kind, "{status} {body}: {failure}");
            assert!(failure.detail.contains(said), "{said:?} in {failure}");
            assert!(!failure.to_string().contains('\n'), "{failure}");
        }
    }

    #[test]
    fn words_of_others_are_cut() {
        let long = "ü".repeat(MAX_WORDS + 1);
        assert_eq!(one_line(&long).chars().count(), MAX_WORDS + 1);
        assert_eq!(one_line("a\r\nb"), "a  b");
    }
}
