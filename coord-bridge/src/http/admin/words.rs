//! Small things that are on many pages: dates, marks, tables, notes, what went wrong.
//!
//! Does: says everything in words; colour and signs only repeat it. Does not: know pages.

use std::time::Duration;

use maud::{Markup, Render, html};

use crate::http::api::problem::Problem;
use crate::provisioning::timestamp;
use crate::store::machines::State;

/// What a date has behind its minutes, in length.
const SECONDS: &str = ":00Z";

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// As it should be.
    Good,
    /// Somebody should look.
    Look,
    /// It does not work.
    Bad,
    /// Neither well nor ill.
    Plain,
}

impl Mark {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "mark good",
            Self::Look => "mark look",
            Self::Bad => "mark bad",
            Self::Plain => "mark plain",
        }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Look => "!",
            Self::Bad => "✕",
            Self::Plain => "–",
        }
    }
}

/// A word with a sign and a colour that repeat it.
pub(super) fn mark(mark: Mark, word: &str) -> Markup {
    html! { span class=(mark.class()) { span aria-hidden="true" { (mark.sign()) } " " (word) } }
}

/// Where a registration stands.
pub(super) fn state(state: State) -> Markup {
    let how = match state {
        State::Online => Mark::Good,
        State::Stale => Mark::Look,
        State::Pending | State::Joined | State::Expired | State::Replaced | State::Deleted => {
            Mark::Plain
        }
    };
    mark(how, state.as_str())
}

/// What a state means.
pub(super) const fn meaning(state: State) -> &'static str {
    match state {
        State::Pending => "It has a key, and Headscale has no node of it yet.",
        State::Joined => "Headscale has its node, which is not connected.",
        State::Online => "Its node is connected.",
        State::Stale => "Its node has not been connected for long.",
        State::Expired => "Its key has ended unused.",
        State::Replaced => "The same machine has registered again.",
        State::Deleted => "Its node is gone.",
    }
}

/// A date to the minute, and how long ago it was or will be.
pub(super) fn date(at_ms: i64, now_ms: i64) -> Markup {
    let text = timestamp::write(at_ms);
    let plain = text.get(..text.len() - SECONDS.len()).unwrap_or(&text).replace('T', " ") + " UTC";
    when(&text, &plain, at_ms, now_ms)
}

/// The same to the second, for what follows each other closely.
pub(super) fn moment(at_ms: i64, now_ms: i64) -> Markup {
    let text = timestamp::write(at_ms);
    let plain = text.replace('T', " ").replace('Z', " UTC");
    when(&text, &plain, at_ms, now_ms)
}

fn when(text: &str, plain: &str, at_ms: i64, now_ms: i64) -> Markup {
    html! {
        time.date datetime=(text) {
            (distance(at_ms, now_ms)) " " span.at { (plain) }
        }
    }
}

/// The same, or nothing to say.
pub(super) fn maybe_date(at_ms: Option<i64>, now_ms: i64, otherwise: &str) -> Markup {
    match at_ms {
        Some(at_ms) => date(at_ms, now_ms),
        None => html! { (otherwise) },
    }
}

fn distance(at_ms: i64, now_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(at_ms) / 1_000;
    match seconds {
        -4..=4 => "just now".to_owned(),
        5.. => format!("{} ago", span(seconds.unsigned_abs())),
        _ => format!("in {}", span(seconds.unsigned_abs())),
    }
}

/// How long ago something was.
pub(super) fn ago(age: Duration) -> String {
    match age.as_secs() {
        0..5 => "just now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

/// A time in its largest unit of which there are two or more.
pub(super) fn span(seconds: u64) -> String {
    for (unit, length) in [("days", 86_400), ("hours", 3_600), ("min", 60)] {
        if seconds >= 2 * length {
            return format!("{} {unit}", seconds / length);
        }
    }
    format!("{seconds} s")
}

/// `one` or `several` things.
pub(super) fn count(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// A table that is a list of cards on a phone. The first cell of a row names it.
///
/// Roles are written out, since what is not laid out as a table is none to screen readers.
pub(super) fn table<const N: usize>(
    caption: &str,
    heads: [&str; N],
    rows: impl IntoIterator<Item = [Markup; N]>,
) -> Markup {
    html! {
        table role="table" {
            caption { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for head in heads { th role="columnheader" scope="col" { (head) } }
                }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (place, (cell, head)) in row.iter().zip(heads).enumerate() {
                            @if place == 0 {
                                th role="rowheader" scope="row" data-head=(head) { (cell) }
                            } @else {
                                td role="cell" data-head=(head) { div { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Pairs of a name and a value.
pub(super) fn facts<const N: usize>(pairs: [(&str, Markup); N]) -> Markup {
    html! {
        dl {
            @for (name, value) in pairs {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A text of somebody else's, or that there is none.
pub(super) fn text(text: &str) -> Markup {
    if text.is_empty() {
        html! { span.none { "none" } }
    } else {
        text.render()
    }
}

/// Where there is nothing to list.
pub(super) fn nothing(title: &str, what_to_do: &Markup) -> Markup {
    html! { div.nothing { p { strong { (title) } } p { (what_to_do) } } }
}

/// What has been done.
pub(super) fn done(what: &str) -> Markup {
    html! { p.note.good role="status" { span aria-hidden="true" { "✓ " } (what) } }
}

/// What has gone wrong.
pub(super) fn trouble(problem: &Problem) -> Markup {
    html! {
        div.note.bad role="alert" {
            p { strong { span aria-hidden="true" { "✕ " } (problem.title) } }
            p { (problem.detail) }
        }
    }
}

/// A choice of one among several.
pub(super) fn choice(name: &str, chosen: &str, options: &[(&str, &str)]) -> Markup {
    html! {
        select id=(name) name=(name) {
            @for (value, label) in options {
                option value=(value) selected[*value == chosen] { (label) }
            }
        }
    }
}

/// A secret that is shown this once; it can be marked and copied by keyboard.
pub(super) fn secret(label: &str, value: &str) -> Markup {
    html! {
        div.field {
            label for="secret" { (label) }
            textarea #secret readonly rows="2" autocomplete="off" spellcheck="false" autofocus {
                (value)
            }
        }
        p.hint {
            "It is shown this once, and this page cannot be opened again. Mark it with Ctrl+A, copy \
             it with Ctrl+C."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_words() {
        for (seconds, text) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 hours"), (172_800, "2 days")]
        {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(distance(0, 4_000), "just now");
        assert_eq!(distance(0, 60_000), "60 s ago");
        assert_eq!(distance(3_600_000, 0), "in 60 min");
        let shown = date(1_767_225_600_000, 1_767_225_600_000).into_string();
        assert!(shown.contains("2026-01-01 00:00 UTC"), "{shown}");
        let shown = moment(1_767_225_600_000, 0).into_string();
        assert!(shown.contains("2026-01-01 00:00:00 UTC"), "{shown}");
    }

    /// Whatever a machine calls itself stays text, wherever it is put.
    #[test]
    fn what_comes_from_outside_stays_text() {
        let hostile = "\"'><script>alert(1)</script>&amp;";
        let cell = || html! { a href=(hostile) { (hostile) } };
        for shown in [
            table("c", ["a", "b"], [[cell(), text(hostile)]]),
            facts([("name", cell())]),
            text(hostile),
            mark(Mark::Good, hostile),
            secret(hostile, hostile),
            done(hostile),
            trouble(&Problem::not_found(hostile)),
            choice(hostile, hostile, &[(hostile, hostile)]),
        ] {
            let shown = shown.into_string();
            assert!(!shown.contains("<script") && shown.contains("&lt;script"), "{shown}");
            assert!(!shown.contains("\"'>"), "{shown}");
            assert!(shown.contains("&amp;amp;"), "{shown}");
        }
    }
}
