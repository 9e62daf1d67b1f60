//! What has become of requests: numbers for metrics.
//!
//! Does: counts every request once, where its line of the audit is made. Does not: name metrics.

use std::time::Duration;

use derp_relay::counter::{CounterBy, Label};

use super::refusal::Refusal;

/// Counters of the requests of machines and administrators.
#[derive(Debug, Default)]
pub struct Counters {
    /// Registrations that were asked for, by what came of them.
    pub registrations: CounterBy<Registration>,
    /// Requests that were refused, by why.
    pub refusals: CounterBy<Refusal>,
}

/// What came of a registration that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// A machine got a key, which may be one that it was told before.
    Done,
    /// The machine, its token or its haste was at fault.
    Refused,
    /// The bridge or Headscale was.
    Failed,
}

impl Counters {
    /// Counts a request that was answered.
    pub(super) fn count(&self, kind: &str, refused: Option<Refusal>) {
        if let Some(refusal) = refused {
            self.refusals.add_one(refusal.without_time());
        }
        if kind == "register" {
            self.registrations.add_one(match refused {
                None => Registration::Done,
                Some(refusal) if refusal.status() >= 500 => Registration::Failed,
                Some(_) => Registration::Refused,
            });
        }
    }
}

impl Label for Registration {
    const ALL: &'static [Self] = &[Self::Done, Self::Refused, Self::Failed];

    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Label for Refusal {
    const ALL: &'static [Self] = &[
        Self::Unauthorized,
        Self::TooManyFailures(Duration::ZERO),
        Self::TooMany(Duration::ZERO),
        Self::AdminRequired,
        Self::Source,
        Self::Quota,
        Self::BodyRequired,
        Self::FieldsRequired,
        Self::Hostname,
        Self::Mac,
        Self::MachineId,
        Self::UnderWay(Duration::ZERO),
        Self::Ended,
        Self::HeadscaleAway,
        Self::UserMissing,
        Self::KeyFailed,
        Self::Store,
        Self::TooSlow,
        Self::Internal,
    ];

    fn word(self) -> &'static str {
        self.code()
    }
}

impl Refusal {
    /// The same for whoever does not want to know how long to wait.
    fn without_time(self) -> Self {
        let is_it = |known: &Self| known.code() == self.code();
        Self::ALL.iter().copied().find(is_it).unwrap_or(Self::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every refusal has a place, or it would be counted as another.
    #[test]
    fn a_refusal_is_counted_whatever_time_it_names() {
        let counters = Counters::default();
        counters.count("register", Some(Refusal::TooMany(Duration::from_secs(7))));
        counters.count("register", Some(Refusal::Store));
        counters.count("register", None);
        counters.count("admin", Some(Refusal::Unauthorized));
        assert_eq!(counters.refusals.total(), 3);
        assert_eq!(counters.refusals.get(Refusal::TooMany(Duration::ZERO)), 1);
        for outcome in Registration::ALL {
            assert_eq!(counters.registrations.get(*outcome), 1, "{outcome:?}");
        }
    }
}
