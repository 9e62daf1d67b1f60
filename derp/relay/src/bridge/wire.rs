//! What relay and bridge say to each other, in JSON.
//!
//! Does: names paths, fields and events once, for both ends; writes strictly, and reads what has
//! more fields than are known here.
//! Does not: send anything, or judge the map.
//!
//! Spec: docs/protocol/relay-channel.md.

use derp::key::NodePublic;
use derp::map::DerpMap;
use serde::{Deserialize, Serialize};

/// Where a relay registers, by `POST`.
pub const REGISTER_PATH: &str = "/v1/relay/register";

/// Where it says that it is there, by `POST`.
pub const HEARTBEAT_PATH: &str = "/v1/relay/heartbeat";

/// Where it hears of events, by `GET`.
pub const EVENTS_PATH: &str = "/v1/relay/events";

/// Most bytes of a request's body, and of a line of the stream.
pub const MAX_MESSAGE_LEN: usize = 16 * 1_024;

/// Most bytes of a relay's id.
pub const MAX_ID_LEN: usize = 64;

/// What a relay says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Version of the relay.
    pub version: String,
    /// Its key: who it is, over restarts.
    pub key: NodePublic,
    /// A map with one region, and one node in it: this relay. Not judged.
    pub map: DerpMap,
}

/// What the bridge answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// By this the relay is known until the bridge forgets it.
    pub id: String,
    /// Seconds between two heartbeats.
    pub heartbeat_seconds: u64,
    /// Number of the last event so far.
    pub seq: u64,
}

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What the registration gave.
    pub id: String,
}

/// One line of the stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number to resume after; events that only this stream is told have none.
    pub seq: Option<u64>,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node may no longer be connected.
    Close(NodePublic),
    /// What verifiers say may be something else now, of any node.
    VerifyChanged,
    /// Limits of nodes have changed. Nobody sends this yet.
    Limits,
    /// Something that this release does not know.
    Unknown,
}

/// What was said makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not the wanted JSON.
    #[error("not the wanted JSON: {0}")]
    Json(String),
    /// No key of a node.
    #[error("key: not `nodekey:` and 64 hex digits")]
    Key,
    /// No map.
    #[error("map: {0}")]
    Map(String),
}

#[derive(Serialize, Deserialize)]
struct RegistrationBody {
    version: String,
    key: String,
    map: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct LineBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    event: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Registration {
    /// The body of a request.
    #[must_use]
    pub fn to_json(&self) -> String {
        // What was rendered here is JSON.
        let map = serde_json::from_str(&self.map.to_json()).unwrap_or_default();
        let (version, key) = (self.version.clone(), self.key.to_string());
        json(&RegistrationBody { version, key, map })
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    ///
    /// [`ParseError`].
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let body: RegistrationBody = read(body)?;
        let key = body.key.parse().map_err(|_| ParseError::Key)?;
        let map = DerpMap::parse(body.map.to_string().as_bytes());
        let map = map.map_err(|error| ParseError::Map(error.to_string()))?;
        Ok(Self { version: body.version, key, map })
    }
}

impl Registered {
    /// The body of an answer.
    #[must_use]
    pub fn to_json(&self) -> String {
        json(self)
    }

    /// Reads the body of an answer.
    ///
    /// # Errors
    ///
    /// [`ParseError::Json`].
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        read(body)
    }
}

impl Heartbeat {
    /// The body of a request.
    #[must_use]
    pub fn to_json(&self) -> String {
        json(self)
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    ///
    /// [`ParseError::Json`].
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        read(body)
    }
}

impl Line {
    /// The line, with its end.
    #[must_use]
    pub fn to_json(self) -> String {
        let key = match self.event {
            Event::Close(key) => Some(key.to_string()),
            Event::VerifyChanged | Event::Limits | Event::Unknown => None,
        };
        let event = self.event.name().to_owned();
        let mut line = json(&LineBody { seq: self.seq, event, key });
        line.push('\n');
        line
    }

    /// Reads a line. An event of another name than those known is no fault.
    ///
    /// # Errors
    ///
    /// [`ParseError`].
    pub fn parse(line: &[u8]) -> Result<Self, ParseError> {
        let LineBody { seq, event, key } = read(line)?;
        let event = match event.as_str() {
            CLOSE => {
                let key = key.as_deref().ok_or(ParseError::Key)?;
                Event::Close(key.parse().map_err(|_| ParseError::Key)?)
            }
            VERIFY_CHANGED => Event::VerifyChanged,
            LIMITS => Event::Limits,
            _ => Event::Unknown,
        };
        Ok(Self { seq, event })
    }
}

const CLOSE: &str = "close";
const VERIFY_CHANGED: &str = "verify-changed";
const LIMITS: &str = "limits";

impl Event {
    /// Its name in a line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Close(_) => CLOSE,
            Self::VerifyChanged => VERIFY_CHANGED,
            Self::Limits => LIMITS,
            Self::Unknown => "unknown",
        }
    }
}

fn json(value: &impl Serialize) -> String {
    // Texts, numbers and maps keyed by texts always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

fn read<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, ParseError> {
    serde_json::from_slice(text).map_err(|error| ParseError::Json(error.to_string()))
}

#[cfg(test)]
mod tests {
    use derp::map::{Node, Region};

    use super::*;

    fn key() -> NodePublic {
        NodePublic::from_bytes([7; 32])
    }

    #[test]
    fn a_registration_is_read_as_it_was_written() {
        let node = Node {
            name: "999-derp.example.org".to_owned(),
            region_id: 999,
            host_name: "derp.example.org".to_owned(),
            stun_port: -1,
            ..Node::default()
        };
        let region = Region {
            id: 999,
            code: "own".to_owned(),
            name: "Own \"relay\"".to_owned(),
            nodes: vec![node],
            ..Region::default()
        };
        let map = DerpMap { regions: [(999, region)].into(), ..DerpMap::default() };
        let said = Registration { version: "1.2.3".to_owned(), key: key(), map };
        assert_eq!(Registration::parse(said.to_json().as_bytes()), Ok(said));
    }

    #[test]
    fn lines_are_read_as_they_were_written_and_unknown_events_are_none_of_ours() {
        for (event, seq, text) in [
            (
                Event::Close(key()),
                Some(7),
                format!("{{\"seq\":7,\"event\":\"close\",\"key\":\"{}\"}}\n", key()),
            ),
            (Event::VerifyChanged, None, "{\"event\":\"verify-changed\"}\n".to_owned()),
            (Event::Limits, Some(1), "{\"seq\":1,\"event\":\"limits\"}\n".to_owned()),
        ] {
            let line = Line { seq, event };
            assert_eq!(line.to_json(), text);
            assert_eq!(Line::parse(text.as_bytes()), Ok(line));
        }
        let unknown = br#"{"seq":9,"event":"dance","with":["x"]}"#;
        assert_eq!(Line::parse(unknown), Ok(Line { seq: Some(9), event: Event::Unknown }));
        for text in [
            "",
            "{}",
            "[]",
            r#"{"event":1}"#,
            r#"{"event":"close"}"#,
            r#"{"event":"close","key":"nodekey:00"}"#,
            r#"{"seq":-1,"event":"limits"}"#,
        ] {
            assert!(Line::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
