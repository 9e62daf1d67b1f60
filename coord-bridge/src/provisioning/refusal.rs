//! Why a request is refused, as clients, logs and the audit have it.
//!
//! Does: names each refusal once: status, code, words, and when to come again. The words are
//! those of the provisioner that this bridge takes the place of, where that had any.
//! Does not: tell a stranger more than that; causes are in the log.

use std::time::Duration;

use crate::headscale::FailureKind;

/// Time after which a client comes again when nobody knows better: what the installers' own
/// schedule has.
const COME_AGAIN: Duration = Duration::from_secs(10);

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token, or none that is valid.
    #[error("unauthorized")]
    Unauthorized,
    /// Too many wrong tokens from that address.
    #[error("too many failed attempts")]
    TooManyFailures(Duration),
    /// Too many registrations.
    #[error("rate limit exceeded")]
    TooMany(Duration),
    /// A token for machines where the one of administrators is needed.
    #[error("admin token required")]
    AdminRequired,
    /// The token may not be used from there.
    #[error("token not valid from this address")]
    Source,
    /// The token has registered as many machines as it may.
    #[error("token quota used up")]
    Quota,
    /// No JSON object.
    #[error("JSON body required")]
    BodyRequired,
    /// A field is missing, blank or no text.
    #[error("hostname and mac are required")]
    FieldsRequired,
    /// Not a DNS label.
    #[error("hostname must be 1 to 63 letters, digits or hyphens")]
    Hostname,
    /// Not a MAC address.
    #[error("mac must be six pairs of hex digits, or unknown")]
    Mac,
    /// Not an id.
    #[error("machine_id must be 1 to 64 letters, digits or any of -_.:")]
    MachineId,
    /// The same machine is being registered just now.
    #[error("registration under way")]
    UnderWay(Duration),
    /// The machine was deleted, or has come in with another key, while its key was made.
    #[error("registration ended meanwhile")]
    Ended,
    /// Headscale does not answer.
    #[error("Headscale cannot be reached")]
    HeadscaleAway,
    /// Headscale does not give the owner of the keys.
    #[error("provisioning user not found on Headscale server")]
    UserMissing,
    /// Headscale does not make a key.
    #[error("failed to create pre-auth key")]
    KeyFailed,
    /// The store does not take or give anything.
    #[error("the store is not available")]
    Store,
    /// It has taken longer than a client waits.
    #[error("not done in time")]
    TooSlow,
    /// A fault of ours.
    #[error("internal error")]
    Internal,
}

impl Refusal {
    /// Status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BodyRequired
            | Self::FieldsRequired
            | Self::Hostname
            | Self::Mac
            | Self::MachineId => 400,
            Self::Unauthorized => 401,
            Self::AdminRequired | Self::Source | Self::Quota => 403,
            Self::TooManyFailures(_) | Self::TooMany(_) => 429,
            Self::Internal => 500,
            Self::UserMissing | Self::KeyFailed => 502,
            Self::UnderWay(_) | Self::Ended | Self::HeadscaleAway | Self::Store | Self::TooSlow => {
                503
            }
        }
    }

    /// A word for programs, which stays.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::TooManyFailures(_) => "too_many_failures",
            Self::TooMany(_) => "rate_limited",
            Self::AdminRequired => "admin_token_required",
            Self::Source => "source_not_allowed",
            Self::Quota => "quota_used_up",
            Self::BodyRequired => "body_required",
            Self::FieldsRequired => "fields_required",
            Self::Hostname => "bad_hostname",
            Self::Mac => "bad_mac",
            Self::MachineId => "bad_machine_id",
            Self::UnderWay(_) => "under_way",
            Self::Ended => "ended",
            Self::HeadscaleAway => "headscale_unreachable",
            Self::UserMissing => "user_missing",
            Self::KeyFailed => "key_failed",
            Self::Store => "store_unavailable",
            Self::TooSlow => "too_slow",
            Self::Internal => "internal",
        }
    }

    /// When to come again, in whole seconds, at least one; `None` where that would not help.
    #[must_use]
    pub fn retry_after(self) -> Option<u64> {
        let wait = match self {
            Self::TooMany(wait) | Self::TooManyFailures(wait) | Self::UnderWay(wait) => wait,
            Self::Ended | Self::HeadscaleAway | Self::Store | Self::TooSlow => COME_AGAIN,
            Self::Unauthorized
            | Self::AdminRequired
            | Self::Source
            | Self::Quota
            | Self::BodyRequired
            | Self::FieldsRequired
            | Self::Hostname
            | Self::Mac
            | Self::MachineId
            | Self::UserMissing
            | Self::KeyFailed
            | Self::Internal => return None,
        };
        Some(wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX).max(1))
    }

    /// What a failure of Headscale is to a client, `otherwise` unless it is away.
    #[must_use]
    pub const fn of_headscale(kind: FailureKind, otherwise: Self) -> Self {
        match kind {
            FailureKind::Unreachable | FailureKind::Paused => Self::HeadscaleAway,
            FailureKind::Unauthorized
            | FailureKind::Refused
            | FailureKind::Faulty
            | FailureKind::Unintelligible => otherwise,
        }
    }
}
