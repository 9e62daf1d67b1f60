//! The page that asks for the administrator's token.
//!
//! Does: says where the token is, and why one was not taken. Does not: check it.

use hyper::StatusCode;
use maud::html;

use super::form::Form;
use super::frame;
use super::words;
use crate::http::Answer;
use crate::provisioning::refusal::Refusal;

/// The page. `refusal` is what came of a token that was shown.
pub(super) fn page(status: StatusCode, query: &Form, refusal: Option<Refusal>) -> Answer {
    let body = html! {
        @if let Some(refusal) = refusal {
            div.note.bad role="alert" {
                p { strong { span aria-hidden="true" { "✕ " } "You are not logged in" } }
                p #why { (reason(refusal)) }
            }
        } @else if let Some(note) = note(query.text("why")) {
            (words::done(note))
        }
        form.card method="post" action="/login" {
            div.field {
                label for="token" { "Administrator's token" }
                input #token name="token" type="password" autocomplete="current-password"
                    required autofocus aria-describedby="where"
                    aria-invalid=[refusal.map(|_| "true")];
                p.hint #where {
                    "It is in the file " code { "admin-token" } " in the bridge's "
                    code { "state_dir" } ", and can be read by whoever runs the bridge."
                }
            }
            button type="submit" { "Log in" }
        }
    };
    frame::bare(status, "Log in", &body)
}

/// Status of the page after a token that was not taken. Not 401: that has a browser ask by itself.
pub(super) fn status(refusal: Refusal) -> StatusCode {
    let status = match refusal.status() {
        401 => 403,
        status => status,
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN)
}

fn note(why: &str) -> Option<&'static str> {
    match why {
        "ended" => Some("Your session has ended. Log in again."),
        "left" => Some("You are logged out."),
        _ => None,
    }
}

fn reason(refusal: Refusal) -> String {
    if refusal == Refusal::Unauthorized {
        return "That is not the administrator's token.".to_owned();
    }
    if refusal == Refusal::AdminRequired {
        return "That is an enrollment token. The administrator's is in another file.".to_owned();
    }
    match refusal.retry_after() {
        Some(seconds) => {
            format!("The bridge says: {refusal}. Come again in {}.", words::span(seconds))
        }
        None => format!("The bridge says: {refusal}."),
    }
}
