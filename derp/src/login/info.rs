//! What client and relay tell each other about themselves: the JSON inside the sealed boxes.
//!
//! Does: reads both as Go's `encoding/json` does, so that whoever can log in at derper can log
//! in here; writes both byte for byte as Tailscale does. Does not: decide what they are worth.
//!
//! Spec: docs/protocol/derp.md, DERP-3.3 and DERP-3.4.

use std::fmt::Write as _;

use serde::de::MapAccess;
use zeroize::Zeroizing;

use crate::json::{self, Fault};
use crate::key::{MeshKey, ParseKeyError};

/// Version of the protocol that this crate speaks. Both sides tell it and neither compares.
pub const PROTOCOL_VERSION: i64 = 2;

/// Most bytes kept of a client's `AppName`. Ours: it ends up in logs and in the client list,
/// once per connection; a longer one is cut, not refused.
pub const MAX_APP_NAME_LEN: usize = 128;

/// Why the JSON in a sealed box is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// Not JSON, or something behind it.
    #[error("sealed text is not JSON")]
    Syntax,
    /// Not an object, or a field of the wrong type.
    #[error("sealed JSON has the wrong shape")]
    Shape,
    /// `meshKey` is there and is no 64 hex digits. A wrong but well-formed one is no error here.
    #[error("mesh key in sealed JSON is no 64 hex digits")]
    MeshKey,
}

/// What a client says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// Proof of the mesh right, if it equals the relay's. Ordinary clients have none.
    pub mesh_key: Option<MeshKey>,
    /// Protocol version of the client; 0 if it does not say.
    pub version: i64,
    /// Whether the client answers pings of the relay.
    pub can_ack_pings: bool,
    /// Whether the client measures relays rather than using them.
    pub is_prober: bool,
    /// What program it is, in its own words; at most [`MAX_APP_NAME_LEN`] bytes, any characters.
    pub app_name: String,
}

impl ClientInfo {
    /// Reads the text of an opened box.
    ///
    /// `null` and `{}` are fine and say nothing. Names are taken in any letter case; of a name
    /// that comes twice the last counts; `null` leaves a field as it was; unknown fields are
    /// passed over, however deep, without recursion. Two names in the manner of `ts_derp`,
    /// `can_ack_pings` and `is_prober`, count too. Its `mesh_key` does not: it says `none`.
    ///
    /// # Errors
    ///
    /// [`InfoError`]; the login ends.
    ///
    /// # Source
    ///
    /// DERP-3.3.
    pub fn parse(text: &[u8]) -> Result<Self, InfoError> {
        let mut reading = ClientReading::default();
        let read = json::read_object(text, &mut reading);
        match read {
            Ok(()) => Ok(reading.info),
            Err(Fault::Shape) if reading.bad_mesh_key => Err(InfoError::MeshKey),
            Err(Fault::Shape) => Err(InfoError::Shape),
            Err(Fault::Syntax) => Err(InfoError::Syntax),
        }
    }

    /// The JSON that Go's client sends for this.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let Self { mesh_key, version, can_ack_pings, is_prober, app_name } = self;
        // Room for everything at once: a growing string would leave copies of the mesh key.
        let mut out = Zeroizing::new(String::with_capacity(192 + 6 * app_name.len()));
        out.push('{');
        if let Some(key) = mesh_key {
            out.push_str("\"meshKey\":\"");
            out.push_str(&key.to_hex());
            out.push_str("\",");
        }
        if *version != 0 {
            push_integer(&mut out, "version", *version);
            out.push(',');
        }
        out.push_str(if *can_ack_pings { "\"CanAckPings\":true" } else { "\"CanAckPings\":false" });
        if *is_prober {
            out.push_str(",\"IsProber\":true");
        }
        if !app_name.is_empty() {
            out.push_str(",\"AppName\":");
            push_string(&mut out, app_name);
        }
        out.push('}');
        out
    }
}

/// What a relay says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Protocol version of the relay; 0 if it does not say.
    pub version: i64,
    /// Bytes a second, with framing, beyond which the client itself drops packets; 0 for none.
    pub token_bucket_bytes_per_second: i64,
    /// Bytes beyond that rate for a moment. With a rate, anything below 65,573 stops large packets.
    pub token_bucket_bytes_burst: i64,
}

impl Default for ServerInfo {
    /// What derper says: the version and nothing else.
    fn default() -> Self {
        Self {
            version: PROTOCOL_VERSION,
            token_bucket_bytes_per_second: 0,
            token_bucket_bytes_burst: 0,
        }
    }
}

impl ServerInfo {
    /// Reads the text of an opened box, as [`ClientInfo::parse`] does.
    ///
    /// # Errors
    ///
    /// [`InfoError::Syntax`] or [`InfoError::Shape`].
    pub fn parse(text: &[u8]) -> Result<Self, InfoError> {
        let mut info =
            Self { version: 0, token_bucket_bytes_per_second: 0, token_bucket_bytes_burst: 0 };
        json::read_object(text, &mut info).map_err(|fault| match fault {
            Fault::Syntax => InfoError::Syntax,
            Fault::Shape => InfoError::Shape,
        })?;
        Ok(info)
    }

    /// The JSON that Go's server sends for this: `{"version":2}` for the default.
    #[must_use]
    pub fn to_json(&self) -> String {
        let fields = [
            ("version", self.version),
            ("TokenBucketBytesPerSecond", self.token_bucket_bytes_per_second),
            ("TokenBucketBytesBurst", self.token_bucket_bytes_burst),
        ];
        let mut out = String::from("{");
        for (name, value) in fields {
            if value != 0 {
                if out.len() > 1 {
                    out.push(',');
                }
                push_integer(&mut out, name, value);
            }
        }
        out.push('}');
        out
    }
}

/// A `ClientInfo` half read.
#[derive(Default)]
struct ClientReading {
    info: ClientInfo,
    bad_mesh_key: bool,
}

impl json::Object for ClientReading {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &[u8],
        value: json::Value<'_, A>,
    ) -> Result<(), A::Error> {
        let is = |wanted| json::is_named(name, wanted);
        let info = &mut self.info;
        if is("meshkey") {
            self.bad_mesh_key = true;
            info.mesh_key = mesh_key(value)?;
            self.bad_mesh_key = false;
        } else if is("version") {
            info.version = value.integer()?.unwrap_or(info.version);
        } else if is("canackpings") || is("can_ack_pings") {
            info.can_ack_pings = value.flag()?.unwrap_or(info.can_ack_pings);
        } else if is("isprober") || is("is_prober") {
            info.is_prober = value.flag()?.unwrap_or(info.is_prober);
        } else if is("appname") {
            if let Some(name) = value.text()? {
                info.app_name = cut(name);
            }
        } else {
            value.ignore()?;
        }
        Ok(())
    }
}

impl json::Object for ServerInfo {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &[u8],
        value: json::Value<'_, A>,
    ) -> Result<(), A::Error> {
        let is = |wanted| json::is_named(name, wanted);
        let field = if is("version") {
            &mut self.version
        } else if is("tokenbucketbytespersecond") {
            &mut self.token_bucket_bytes_per_second
        } else if is("tokenbucketbytesburst") {
            &mut self.token_bucket_bytes_burst
        } else {
            return value.ignore();
        };
        *field = value.integer()?.unwrap_or(*field);
        Ok(())
    }
}

/// Reads a mesh key that is there: 64 hex digits, of which zeros alone stand for none.
///
/// Go hands even `null` to the key's own reader, which takes it for text without digits.
fn mesh_key<'de, A: MapAccess<'de>>(
    value: json::Value<'_, A>,
) -> Result<Option<MeshKey>, A::Error> {
    let bytes = value.bytes()?.ok_or_else(json::refuse)?;
    match MeshKey::from_hex(std::str::from_utf8(&bytes).map_err(|_| json::refuse())?) {
        Ok(key) => Ok(Some(key)),
        Err(ParseKeyError::Zero) => Ok(None),
        Err(ParseKeyError::Prefix { .. } | ParseKeyError::Length { .. } | ParseKeyError::Digit) => {
            Err(json::refuse())
        }
    }
}

/// Cuts `name` to [`MAX_APP_NAME_LEN`] bytes, between two characters.
fn cut(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(MAX_APP_NAME_LEN));
    name.shrink_to_fit();
    name
}

/// Appends `"name":value`.
fn push_integer(out: &mut String, name: &str, value: i64) {
    // Writing to a string cannot fail.
    let _written = write!(out, "\"{name}\":{value}");
}

/// Appends `text` as a JSON string, escaped as Go escapes: also what would end a script in HTML.
fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _written = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}
