//! What all pages have around them: head, navigation, foot and headers.
//!
//! Does: puts every page into the same frame, and tells browsers to load nothing but the style
//! sheet, run nothing, and keep nothing. Does not: know what is on a page.

use hyper::StatusCode;
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
};
use maud::{DOCTYPE, Markup, html};

use super::style;
use super::visit::Visit;
use crate::http::{Answer, answer};

/// What browsers may do with a page: show it, style it, and send its forms back here.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Pages that the navigation leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Machines,
    Tokens,
    Keys,
    Relays,
    Map,
    Events,
}

impl Section {
    /// All, in their order.
    pub(super) const ALL: [Self; 7] = [
        Self::Overview,
        Self::Machines,
        Self::Tokens,
        Self::Keys,
        Self::Relays,
        Self::Map,
        Self::Events,
    ];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Machines => "/machines",
            Self::Tokens => "/tokens",
            Self::Keys => "/keys",
            Self::Relays => "/relays",
            Self::Map => "/map",
            Self::Events => "/events",
        }
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Machines => "Machines",
            Self::Tokens => "Tokens",
            Self::Keys => "Keys",
            Self::Relays => "Relays",
            Self::Map => "Map",
            Self::Events => "Events",
        }
    }
}

/// What a page is to be.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    /// Its heading, and the first part of its title.
    pub(super) title: String,
    /// What is marked in the navigation.
    pub(super) section: Section,
    pub(super) body: Markup,
}

impl Page {
    pub(super) fn new(section: Section, title: impl Into<String>, body: Markup) -> Self {
        Self { status: StatusCode::OK, title: title.into(), section, body }
    }

    /// The page as an answer, for whoever has logged in.
    pub(super) fn answer(self, visit: &Visit) -> Answer {
        let Self { status, title, section, body } = self;
        let top = html! {
            nav aria-label="Main" {
                ul {
                    @for other in Section::ALL {
                        li {
                            a href=(other.path()) aria-current=[(other == section).then_some("page")] {
                                (other.title())
                            }
                        }
                    }
                }
            }
            form.logout method="post" action="/logout" {
                (visit.seal())
                button.quiet type="submit" { "Log out" }
            }
        };
        whole(status, &title, &top, &body)
    }
}

/// A page for whoever has not logged in.
pub(super) fn bare(status: StatusCode, title: &str, body: &Markup) -> Answer {
    whole(status, title, &html! {}, body)
}

/// Leads a browser to another page.
pub(super) fn go(path: &str) -> Answer {
    let mut answer = answer(StatusCode::SEE_OTHER, HTML, "");
    if let Ok(path) = HeaderValue::try_from(path) {
        answer.headers_mut().insert(LOCATION, path);
    }
    protect(answer.headers_mut());
    answer
}

fn whole(status: StatusCode, title: &str, top: &Markup, body: &Markup) -> Answer {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · coord-bridge" }
                link rel="stylesheet" href=(style::PATH.as_str());
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    div.bar {
                        a.brand href="/" { "coord-bridge" }
                        (top)
                    }
                }
                main #main tabindex="-1" {
                    h1 { (title) }
                    (body)
                }
                footer { p { "coord-bridge " (env!("CARGO_PKG_VERSION")) } }
            }
        }
    };
    let mut answer = answer(status, HTML, page.into_string());
    protect(answer.headers_mut());
    answer
}

fn protect(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Not `no-referrer`: browsers would then say `Origin: null` with our own forms.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("same-origin"));
    }
}
