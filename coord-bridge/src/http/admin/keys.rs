//! The page about pre-auth keys.
//!
//! Does: makes one for an installer, shown once, and ends those that nobody has used.
//! Does not: list keys that can be used; nobody could tell one from its number.

use hyper::StatusCode;
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::frame::{Page, Section};
use super::site::Shown;
use super::tokens::{number, profiles};
use super::visit::Visit;
use super::words::{self, choice};
use crate::http::api::problem::Problem;
use crate::store::keys::{self, KeyState};

/// Times that a key can last, in seconds.
const EXPIRIES: [(&str, &str); 5] = [
    ("600", "in 10 minutes"),
    ("3600", "in an hour"),
    ("7200", "in two hours"),
    ("86400", "in a day"),
    ("604800", "in a week"),
];

/// As the command has it.
const USUAL_EXPIRY: &str = "7200";

/// What a state means, for people.
const fn meaning(state: KeyState) -> &'static str {
    match state {
        KeyState::Asked => "asked for",
        KeyState::Lost => "without an answer",
        KeyState::Issued => "issued and unused",
        KeyState::Used => "used",
        KeyState::Expired => "ended",
        KeyState::Void => "never made",
    }
}

/// The page, with what was wrong with the form before.
pub(super) async fn show(visit: &Visit, problem: Option<&Problem>) -> Result<Shown, Problem> {
    let counts = visit.provisioning.store().read(keys::count_by_state).await?;
    let said = |name: &str| visit.form.text(name).to_owned();
    let expiry = if problem.is_some() { said("expiry") } else { USUAL_EXPIRY.to_owned() };
    let body = html! {
        @if let Some(problem) = problem { (words::trouble(problem)) }
        @if visit.query.text("done") == "ended" { (ended(visit)) }
        p { "A pre-auth key lets one machine into the tailnet, once. Live systems get theirs by registering; installers are given one." }
        h2 { "Make a key for an installer" }
        form.card method="post" action="/keys" {
            (visit.seal())
            (profiles(&said("profile")))
            div.field {
                label for="expiry" { "It ends" }
                (choice("expiry", &expiry, &EXPIRIES))
            }
            div.field {
                label for="installs" { "Installed from" }
                input #installs name="installs" value=(said("installs")) autocomplete="off"
                    spellcheck="false" aria-describedby="installs-is";
                p.hint #installs-is {
                    "Id of the live system that the installer runs on, so that the two are linked. \
                     May be empty."
                }
            }
            div.actions { button type="submit" { "Make the key" } }
        }
        h2 { "Keys of this bridge" }
        ul.counts {
            @for (state, count) in &counts {
                li { span { strong { (count) } " " (meaning(*state)) } }
            }
        }
        div.actions { a.button.danger href="/keys/end" { "End unused keys…" } }
    };
    let page = Page::new(Section::Keys, "Keys", body);
    let status = problem.map_or(StatusCode::OK, |problem| problem.status);
    Ok(Shown::Page(Page { status, ..page }))
}

pub(super) async fn create(visit: &Visit) -> Result<Shown, Problem> {
    let made = match try_create(visit).await {
        Ok(made) => made,
        Err(problem) if problem.status.is_client_error() => {
            return show(visit, Some(&problem)).await;
        }
        Err(problem) => return Err(problem),
    };
    let field = |name: &str| made.get(name).and_then(Value::as_str).unwrap_or_default();
    let body = html! {
        (words::done("Done. Copy the key before you leave this page."))
        div.card {
            (words::secret("Pre-auth key", field("key")))
            p.hint { "It holds for one machine, until " (field("expires_at")) "." }
        }
        p { a.button href="/keys" { "I have copied it" } }
    };
    Ok(Shown::Page(Page::new(Section::Keys, "Key made", body)))
}

async fn try_create(visit: &Visit) -> Result<Value, Problem> {
    let mut wanted = Map::new();
    wanted.insert("profile".to_owned(), visit.form.text("profile").into());
    if let Some(expiry) = number(visit, "expiry", "It ends")? {
        wanted.insert("expires_in_seconds".to_owned(), expiry.into());
    }
    let installs = visit.form.text("installs");
    if !installs.is_empty() {
        wanted.insert("installs".to_owned(), installs.into());
    }
    visit.perform("createKey", &[], Value::Object(wanted)).await
}

/// Asks before keys are ended.
pub(super) fn ask_end(visit: &Visit) -> Shown {
    let user = &visit.provisioning.settings().user;
    let body = html! {
        p.lead {
            "Keys that no node has registered with end at once. Machines that have just been given \
             one and are not in the tailnet yet have to register again."
        }
        form.card method="post" action="/keys/end" {
            (visit.seal())
            fieldset {
                legend { "Which keys" }
                @for (value, label) in [
                    ("ours", "Those that this bridge has made".to_owned()),
                    ("all", format!("All of the user {user}, whoever has made them")),
                ] {
                    div.option {
                        input type="radio" name="which" value=(value) id={ "which-" (value) }
                            checked[value == "ours"];
                        label for={ "which-" (value) } { (label) }
                    }
                }
            }
            div.actions {
                button.danger type="submit" { "End unused keys" }
                a.button.quiet href="/keys" { "Leave them" }
            }
        }
    };
    Shown::Page(Page::new(Section::Keys, "End unused keys?", body))
}

pub(super) async fn end(visit: &Visit) -> Result<Shown, Problem> {
    let all = visit.form.text("which") == "all";
    let ended = visit.perform("expireKeys", &[], json!({ "all": all })).await?;
    let count = ended.get("ended").and_then(Value::as_u64).unwrap_or_default();
    Ok(Shown::Elsewhere(format!("/keys?done=ended&count={count}")))
}

fn ended(visit: &Visit) -> Markup {
    match visit.query.text("count").parse() {
        Ok(0) => words::done("There was no unused key to end."),
        Ok(count) => {
            words::done(&format!("{} ended.", words::count(count, "key has", "keys have")))
        }
        Err(_) => html! {},
    }
}
