//! Where a program listens: an address with a port, or nowhere.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// One value of a `listen` setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `IP:PORT`, port 0 for any free one.
    At(SocketAddr),
    /// `none`: this listener is not wanted.
    Nowhere,
}

/// The text is no listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address to listen on: write IP:PORT, such as 127.0.0.1:8010 or [::]:443, or none")]
pub struct ParseListenError;

impl Listen {
    /// The addresses among `list`; `default` where the setting is absent.
    #[must_use]
    pub fn addresses(list: Option<&[Self]>, default: &[SocketAddr]) -> Vec<SocketAddr> {
        let Some(list) = list else { return default.to_vec() };
        let address = |listen: &Self| match listen {
            Self::At(address) => Some(*address),
            Self::Nowhere => None,
        };
        list.iter().filter_map(address).collect()
    }
}

impl FromStr for Listen {
    type Err = ParseListenError;

    fn from_str(text: &str) -> Result<Self, ParseListenError> {
        match text.trim() {
            "none" => Ok(Self::Nowhere),
            text => text.parse().map(Self::At).map_err(|_| ParseListenError),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Nowhere => f.write_str("none"),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_none_are_read() {
        for text in ["127.0.0.1:0", "[::]:443", "[fe80::1%2]:3478", "none"] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!(listen.to_string(), text);
        }
        for text in ["", ":443", "443", "localhost:80", "127.0.0.1", "::1:80x"] {
            assert_eq!(text.parse::<Listen>(), Err(ParseListenError), "{text:?}");
        }
    }
}
