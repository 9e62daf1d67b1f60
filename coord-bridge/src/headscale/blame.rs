//! What callers and operators get to read of a failure: where, what, and what to do.
//!
//! Does: puts one line together, without the API key.
//! Does not: judge an answer; that is `answer`.

use super::answer::Trouble;
use super::api_key::ApiKeyFile;
use super::transport::Fault;
use super::{Failure, FailureKind};

/// What it means that there is no answer.
pub(super) fn trouble(fault: &Fault, is_socket: bool) -> Trouble {
    let advice = match fault {
        Fault::Connect(words) if words.contains("certificate") => {
            "if an authority of your own has signed it, name that in headscale.ca_file"
        }
        Fault::Connect(_) if is_socket => {
            "is Headscale running, and may this user open its socket?"
        }
        Fault::Connect(_) => "is Headscale running, and is headscale.url right?",
        Fault::CutOff(_) | Fault::NotHttp(_) if is_socket => {
            "see the log of Headscale; up to 0.29 its socket speaks gRPC: with those, give \
             headscale.url and an API key"
        }
        Fault::CutOff(_) => "see the log of Headscale, and of a proxy before it",
        Fault::NotHttp(_) | Fault::TooLong(_) => "is headscale.url right?",
        Fault::NoRequest(_) => "ask for less",
    };
    let detail = format!("{fault}; {advice}");
    match fault {
        Fault::Connect(_) => {
            Trouble { is_unsent: true, ..Trouble::hurt(FailureKind::Unreachable, detail) }
        }
        Fault::CutOff(_) => Trouble::hurt(FailureKind::Unreachable, detail),
        Fault::NotHttp(_) | Fault::TooLong(_) => Trouble::hurt(FailureKind::Unintelligible, detail),
        Fault::NoRequest(_) => Trouble::unsent(Failure { kind: FailureKind::Refused, detail }),
    }
}

/// The failure of a call at `place`, which makes something unless it `is_repeatable`.
pub(super) fn failure(
    trouble: &Trouble,
    place: &str,
    key: Option<&ApiKeyFile>,
    is_repeatable: bool,
) -> Failure {
    let Failure { kind, detail } = &trouble.failure;
    let mut line = format!("{place}: {detail}");
    if let (FailureKind::Unauthorized, Some(file)) = (kind, key) {
        line.push_str(&format!(
            "; put a key of `headscale apikeys create` into {}; it is taken without a restart",
            file.path().display()
        ));
    }
    let may_be_done = match kind {
        FailureKind::Unreachable | FailureKind::Faulty | FailureKind::Unintelligible => {
            !trouble.is_unsent
        }
        FailureKind::Paused | FailureKind::Unauthorized | FailureKind::Refused => false,
    };
    if may_be_done && !is_repeatable {
        line.push_str("; it may have been done all the same, and is not repeated");
    }
    Failure { kind: *kind, detail: line }
}
