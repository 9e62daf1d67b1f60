//! What the front door has done, in numbers. The metrics read them.
//!
//! Does: counts, one relaxed atomic per number: the door runs once per connection.
//! Does not: name metrics; the words here are the values of their labels.
//!
//! Active connections before the login are [`Counters::pending`]; handshakes under way are
//! `handshakes.started - handshakes.ended`.

use std::sync::Arc;

use super::limits::Gate;
use crate::counter::{Counter, CounterBy, label};
use crate::tls;

label! {
    /// Which listener a connection came to.
    Listener {
        /// The one that serves DERP.
        Derp = "derp",
        /// The one that sends browsers to HTTPS.
        Http = "http",
    }
}

label! {
    /// Why a connection was closed at once.
    Reject {
        /// Too many connections before the login.
        Total = "total",
        /// Too many of them from one source.
        Source = "source",
        /// No descriptor left.
        Descriptors = "descriptors",
    }
}

label! {
    /// Version of a finished TLS handshake.
    TlsVersion {
        /// TLS 1.2.
        Tls12 = "1.2",
        /// TLS 1.3.
        Tls13 = "1.3",
    }
}

label! {
    /// What an HTTP request was for.
    Endpoint {
        /// `/derp`.
        Derp = "derp",
        /// `/derp/probe` and `/derp/latency-check`.
        Probe = "probe",
        /// `/generate_204`.
        GenerateNoContent = "generate_204",
        /// `/robots.txt`.
        Robots = "robots",
        /// `/`.
        Home = "home",
        /// A redirect to HTTPS, or the refusal of one.
        Redirect = "redirect",
        /// Anything else.
        Unknown = "unknown",
    }
}

label! {
    /// Why a connection never became a client.
    LoginFailure {
        /// Not done in time.
        Timeout = "timeout",
        /// The client left.
        Closed = "closed",
        /// The first frame is not a `ClientInfo`, or not of a length it can have.
        Frame = "frame",
        /// The box does not open, or its text is not what it has to be.
        ClientInfo = "client_info",
        /// All large logins together hold too much memory.
        Memory = "memory",
        /// The client may not enter.
        Refused = "refused",
        /// The access decision took too long.
        AccessTimeout = "access_timeout",
        /// Our own fault: no randomness, or a socket that does not obey.
        Internal = "internal",
    }
}

/// Every number of the front door.
#[derive(Debug)]
pub struct Counters {
    /// Connections accepted, by listener; those that were closed at once included.
    pub accepts: CounterBy<Listener>,
    /// Of these, connections closed at once.
    pub rejects: CounterBy<Reject>,
    /// Accepts that failed for any other reason than a lack of descriptors.
    pub accept_errors: Counter,
    /// TLS handshakes begun: a first record is there.
    pub handshakes_started: Counter,
    /// TLS handshakes over, in whatever way.
    pub handshakes_ended: Counter,
    /// TLS handshakes that came to nothing.
    pub tls_failures: CounterBy<tls::FailureReason>,
    /// TLS handshakes that were finished.
    pub tls_versions: CounterBy<TlsVersion>,
    /// HTTP requests.
    pub requests: CounterBy<Endpoint>,
    /// Connections that ended because no request came in time, or none that could be read.
    pub http_failures: Counter,
    /// Requests for `/derp` that asked for no upgrade, or for one we do not know.
    pub upgrades_refused: Counter,
    /// Upgrades to DERP.
    pub upgrades: Counter,
    /// Of these, without an HTTP answer.
    pub fast_starts: Counter,
    /// Upgrades that did not end in a login.
    pub login_failures: CounterBy<LoginFailure>,
    /// Logins: connections handed over.
    pub logins: Counter,
    gate: Arc<Gate>,
}

impl Counters {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self {
            accepts: CounterBy::default(),
            rejects: CounterBy::default(),
            accept_errors: Counter::default(),
            handshakes_started: Counter::default(),
            handshakes_ended: Counter::default(),
            tls_failures: CounterBy::default(),
            tls_versions: CounterBy::default(),
            requests: CounterBy::default(),
            http_failures: Counter::default(),
            upgrades_refused: Counter::default(),
            upgrades: Counter::default(),
            fast_starts: Counter::default(),
            login_failures: CounterBy::default(),
            logins: Counter::default(),
            gate,
        }
    }

    /// Connections that have not logged in, now.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.gate.pending() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::Label;

    #[test]
    fn counts_stand_beside_their_labels() {
        let rejects = CounterBy::<Reject>::default();

        rejects.add_one(Reject::Source);
        rejects.add_one(Reject::Source);
        rejects.add_one(Reject::Total);

        assert_eq!(rejects.get(Reject::Source), 2);
        assert_eq!(rejects.get(Reject::Descriptors), 0);
        assert_eq!(rejects.total(), 3);
        assert_eq!(format!("{rejects:?}"), r#"{"total": 1, "source": 2, "descriptors": 0}"#);
    }

    #[test]
    fn words_of_one_label_differ() {
        fn words<L: Label>() {
            for (n, label) in L::ALL.iter().enumerate() {
                assert!(L::ALL[..n].iter().all(|other| other.word() != label.word()), "{label:?}");
            }
        }
        words::<Listener>();
        words::<Reject>();
        words::<TlsVersion>();
        words::<Endpoint>();
        words::<LoginFailure>();
        words::<tls::FailureReason>();
    }
}
