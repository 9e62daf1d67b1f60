//! How many requests a listener has answered.
//!
//! Does: counts by class of status. Does not: count what was no HTTP, or was cut off before its
//! answer.

use derp_relay::counter::{CounterBy, Label};
use hyper::StatusCode;

/// Counters of one listener.
#[derive(Debug, Default)]
pub struct Requests {
    /// Requests, by the class of their answer.
    pub by_class: CounterBy<Class>,
}

/// A class of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Done.
    Success,
    /// Nothing new, or elsewhere.
    Redirect,
    /// Whoever asks is at fault.
    Client,
    /// The bridge, or what it depends on.
    Server,
}

impl Requests {
    /// Counts an answer.
    pub fn count(&self, status: StatusCode) {
        self.by_class.add_one(match status.as_u16() {
            0..300 => Class::Success,
            300..400 => Class::Redirect,
            400..500 => Class::Client,
            _ => Class::Server,
        });
    }
}

impl Label for Class {
    const ALL: &'static [Self] = &[Self::Success, Self::Redirect, Self::Client, Self::Server];

    fn word(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::Client => "4xx",
            Self::Server => "5xx",
        }
    }
}
