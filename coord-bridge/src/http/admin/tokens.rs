//! The pages about enrollment tokens.
//!
//! Does: lists them, makes and rotates them with the secret shown once, asks before one ends.
//! Does not: put a secret into an address, or anything that a browser keeps.

use std::net::IpAddr;

use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::frame::{Page, Section};
use super::site::Shown;
use super::visit::Visit;
use super::words::{self, Mark, choice, date, facts, mark, maybe_date, text};
use crate::http::api::problem::Problem;
use crate::provisioning::tokens::FILE_TOKEN;
use crate::store::tokens::{self, Profile, Token};

/// Ends that a token can be given, in seconds.
const EXPIRIES: [(&str, &str); 6] = [
    ("3600", "in an hour"),
    ("86400", "in a day"),
    ("604800", "in a week"),
    ("2592000", "in 30 days"),
    ("31536000", "in a year"),
    ("", "never"),
];

/// Times that an old secret can hold, in seconds.
const GRACES: [(&str, &str); 5] = [
    ("0", "it ends at once"),
    ("600", "10 minutes"),
    ("3600", "an hour"),
    ("86400", "a day"),
    ("604800", "a week"),
];

/// What is chosen unless somebody chooses: a week, since tokens are for a batch of machines.
const USUAL_EXPIRY: &str = "604800";

/// As the command has it.
const USUAL_GRACE: &str = "86400";

pub(super) async fn list(visit: &Visit) -> Result<Shown, Problem> {
    let found = visit.provisioning.store().read(tokens::all).await?;
    let in_file = !found.iter().any(|token| token.name == FILE_TOKEN);
    let now_ms = visit.now_ms;
    let rows = found.iter().map(|token| {
        [
            html! { strong { (token.name) } },
            standing(token, now_ms),
            profile(token.profile),
            html! {
                (token.uses) @if let Some(quota) = token.quota { " of " (quota) }
            },
            maybe_date(token.last_used_ms, now_ms, "never"),
            bounds(token),
            actions(token),
        ]
    });
    let heads = ["Name", "State", "Machines are", "Used", "Last used", "Only", "Change"];
    let body = html! {
        (done(visit))
        p { "Whoever shows a token may register machines. Secrets are not listed: the bridge has hashes only." }
        div.actions { a.button href="/tokens/new" { "Create a token" } }
        @if found.is_empty() {
            (words::nothing("No token has been made or used yet", &html! {
                "There is one in the bridge's token file, named " code { (FILE_TOKEN) } "."
            }))
        } @else {
            (words::table("Enrollment tokens, by name", heads, rows))
        }
        @if in_file {
            p.hint {
                "The token in the bridge's token file is listed as " code { (FILE_TOKEN) }
                " once it was used. " a href={ "/tokens/" (FILE_TOKEN) "/rotate" } { "Rotate it" } "."
            }
        }
    };
    Ok(Shown::Page(Page::new(Section::Tokens, "Tokens", body)))
}

/// The form for a token, with what was wrong with the one before.
pub(super) fn new(visit: &Visit, problem: Option<&Problem>) -> Shown {
    let said = |name: &str| visit.form.text(name).to_owned();
    let expiry = if problem.is_some() { said("expiry") } else { USUAL_EXPIRY.to_owned() };
    let body = html! {
        @if let Some(problem) = problem { (words::trouble(problem)) }
        form.card method="post" action="/tokens/new" {
            (visit.seal())
            div.field {
                label for="name" { "Name" }
                input #name name="name" required maxlength="63" value=(said("name"))
                    autocomplete="off" autocapitalize="none" spellcheck="false"
                    aria-describedby="name-is" autofocus;
                p.hint #name-is { "1 to 63 letters, digits and hyphens, such as batch-7." }
            }
            (profiles(&said("profile")))
            div.field {
                label for="expiry" { "It ends" }
                (choice("expiry", &expiry, &EXPIRIES))
            }
            div.field {
                label for="quota" { "Most machines" }
                input #quota name="quota" type="number" min="1" inputmode="numeric"
                    value=(said("quota")) aria-describedby="quota-is";
                p.hint #quota-is { "Empty for as many as there are." }
            }
            div.field {
                label for="sources" { "Only from these networks" }
                input #sources name="sources" value=(said("sources")) autocomplete="off"
                    spellcheck="false" aria-describedby="sources-are";
                p.hint #sources-are { "Addresses with bits, such as 192.0.2.0/24, with blanks between them. Empty for any." }
            }
            div.field {
                label for="tags" { "Tags of its nodes" }
                input #tags name="tags" value=(said("tags")) autocomplete="off"
                    spellcheck="false" aria-describedby="tags-are";
                p.hint #tags-are { "Such as tag:lab, with blanks between them. Empty for none." }
            }
            div.actions {
                button type="submit" { "Create the token" }
                a.button.quiet href="/tokens" { "Leave it" }
            }
        }
    };
    let page = Page::new(Section::Tokens, "Create a token", body);
    Shown::Page(match problem {
        Some(problem) => Page { status: problem.status, ..page },
        None => page,
    })
}

pub(super) async fn create(visit: &Visit) -> Result<Shown, Problem> {
    match try_create(visit).await {
        Ok(made) => Ok(told(visit, "Token created", &made)),
        Err(problem) if problem.status.is_client_error() => Ok(new(visit, Some(&problem))),
        Err(problem) => Err(problem),
    }
}

async fn try_create(visit: &Visit) -> Result<Value, Problem> {
    let mut wanted = Map::new();
    wanted.insert("name".to_owned(), visit.form.text("name").into());
    wanted.insert("profile".to_owned(), visit.form.text("profile").into());
    wanted.insert("tags".to_owned(), visit.form.words("tags").into());
    let sources: Vec<String> = visit.form.words("sources").into_iter().map(network).collect();
    wanted.insert("sources".to_owned(), sources.into());
    for (field, name, label) in
        [("expires_in_seconds", "expiry", "It ends"), ("quota", "quota", "Most machines")]
    {
        if let Some(number) = number(visit, name, label)? {
            wanted.insert(field.to_owned(), number.into());
        }
    }
    visit.perform("createToken", &[], Value::Object(wanted)).await
}

pub(super) async fn ask_rotation(visit: &Visit, name: &str) -> Result<Shown, Problem> {
    let token = find(visit, name).await?;
    let body = html! {
        p.lead { "The token gets another secret, which is shown once. Its bounds stay." }
        @if let Some(token) = &token { (described(token, visit.now_ms)) }
        form.card method="post" action={ "/tokens/" (name) "/rotate" } {
            (visit.seal())
            div.field {
                label for="grace" { "How long the old secret holds" }
                (choice("grace", USUAL_GRACE, &GRACES))
            }
            div.actions {
                button type="submit" { "Rotate " (name) }
                a.button.quiet href="/tokens" { "Leave it" }
            }
        }
    };
    Ok(Shown::Page(Page::new(Section::Tokens, format!("Rotate {name}?"), body)))
}

pub(super) async fn rotate(visit: &Visit, name: &str) -> Result<Shown, Problem> {
    let grace = number(visit, "grace", "How long the old secret holds")?.unwrap_or_default();
    let made = visit.perform("rotateToken", &[name], json!({ "grace_seconds": grace })).await?;
    Ok(told(visit, "Token rotated", &made))
}

pub(super) async fn ask_end(visit: &Visit, name: &str) -> Result<Shown, Problem> {
    let token = find(visit, name).await?;
    let body = html! {
        p.lead {
            "All its secrets end at once, for good. Machines that have registered with it stay."
        }
        @if let Some(token) = &token { (described(token, visit.now_ms)) }
        form.actions method="post" action={ "/tokens/" (name) "/revoke" } {
            (visit.seal())
            button.danger type="submit" { "Revoke " (name) }
            a.button.quiet href="/tokens" { "Leave it" }
        }
    };
    Ok(Shown::Page(Page::new(Section::Tokens, format!("Revoke {name}?"), body)))
}

pub(super) async fn revoke(visit: &Visit, name: &str) -> Result<Shown, Problem> {
    visit.perform("revokeToken", &[name], json!({})).await?;
    Ok(Shown::Elsewhere("/tokens?done=revoked".to_owned()))
}

/// A choice of what machines are.
pub(super) fn profiles(chosen: &str) -> Markup {
    html! {
        fieldset {
            legend { "Its machines" }
            @for (value, label, hint) in [
                ("machine", "Installed machines", "They survive a restart, and so do their nodes."),
                ("iso", "Live systems", "Their nodes go when they are switched off."),
            ] {
                div.option {
                    input type="radio" name="profile" value=(value) id={ "profile-" (value) }
                        aria-describedby={ "profile-" (value) "-is" }
                        checked[chosen == value || chosen.is_empty() && value == "machine"];
                    div {
                        label for={ "profile-" (value) } { (label) }
                        p.hint id={ "profile-" (value) "-is" } { (hint) }
                    }
                }
            }
        }
    }
}

/// A field with a number, if there is anything in it.
pub(super) fn number(visit: &Visit, name: &str, label: &str) -> Result<Option<u64>, Problem> {
    let said = visit.form.text(name);
    if said.is_empty() {
        return Ok(None);
    }
    let number = said.parse().map_err(|_| Problem::invalid(format!("{label}: write a number")));
    number.map(Some)
}

/// An address alone is a network of its own.
fn network(word: &str) -> String {
    match word.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => format!("{address}/32"),
        Ok(IpAddr::V6(address)) => format!("{address}/128"),
        Err(_) => word.to_owned(),
    }
}

fn told(visit: &Visit, title: &str, made: &Value) -> Shown {
    let field = |name: &str| made.get(name).and_then(Value::as_str).unwrap_or_default();
    let (name, register) = (field("name"), &visit.provisioning.settings().login_server);
    let body = html! {
        (words::done("Done. Copy the secret before you leave this page."))
        div.card {
            (words::secret(&format!("Secret of {name}"), field("secret")))
            p.hint {
                @if name == FILE_TOKEN { "It is in the bridge's token file too. " }
                @else { "The bridge keeps only a hash of it. " }
                "Machines show it to register at this bridge; they log in at " code { (register) } "."
            }
        }
        p { a.button href="/tokens" { "I have copied it" } }
    };
    Shown::Page(Page::new(Section::Tokens, title, body))
}

/// The token of this name; the one in the file has no row before it was used.
async fn find(visit: &Visit, name: &str) -> Result<Option<Token>, Problem> {
    let wanted = name.to_owned();
    let read = visit.provisioning.store().read(move |session| tokens::by_name(session, &wanted));
    match read.await? {
        None if name != FILE_TOKEN => Err(Problem::not_found("no token has this name")),
        found => Ok(found),
    }
}

fn done(visit: &Visit) -> Markup {
    match visit.query.text("done") {
        "revoked" => words::done("The token is revoked."),
        _ => html! {},
    }
}

fn described(token: &Token, now_ms: i64) -> Markup {
    facts([
        ("State", standing(token, now_ms)),
        ("Machines registered", html! { (token.uses) }),
        ("Last used", maybe_date(token.last_used_ms, now_ms, "never")),
    ])
}

fn standing(token: &Token, now_ms: i64) -> Markup {
    let is_full = token.quota.is_some_and(|quota| token.uses >= quota);
    match (token.revoked_ms, token.expires_ms) {
        (Some(at), _) => html! { (mark(Mark::Plain, "revoked")) " " (date(at, now_ms)) },
        (None, Some(at)) if at <= now_ms => {
            html! { (mark(Mark::Plain, "ended")) " " (date(at, now_ms)) }
        }
        _ if is_full => mark(Mark::Plain, "used up"),
        (None, Some(at)) => html! { (mark(Mark::Good, "valid")) " ends " (date(at, now_ms)) },
        (None, None) => mark(Mark::Good, "valid"),
    }
}

fn profile(profile: Profile) -> Markup {
    html! {
        @match profile {
            Profile::Iso => "live systems",
            Profile::Machine => "installed",
        }
    }
}

fn bounds(token: &Token) -> Markup {
    let bounds: Vec<&str> = token.sources.iter().chain(&token.tags).map(String::as_str).collect();
    text(&bounds.join(", "))
}

fn actions(token: &Token) -> Markup {
    let (name, is_revoked) = (&token.name, token.revoked_ms.is_some());
    // The one in the file comes back with another secret.
    if is_revoked && name != FILE_TOKEN {
        return html! { span.none { "none" } };
    }
    html! {
        span.links {
            a href={ "/tokens/" (name) "/rotate" } aria-label={ "Rotate " (name) } { "Rotate" }
            @if !is_revoked {
                " " a href={ "/tokens/" (name) "/revoke" } aria-label={ "Revoke " (name) } { "Revoke" }
            }
        }
    }
}
