//! What a machine says of itself when it registers.
//!
//! Does: reads the body, which anybody may have written, and says what is wrong with it in the
//! words of the provisioner that this bridge takes the place of.
//! Does not: trust what it reads; it is a name, not a proof.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// What a MAC address is where there is none.
pub const UNKNOWN_MAC: &str = "unknown";

/// Most characters of a host name. Source: RFC 1035, section 2.3.4.
const MAX_HOSTNAME_LEN: usize = 63;

/// Most characters of an id that a machine gives itself.
const MAX_MACHINE_ID_LEN: usize = 64;

/// What a machine says of itself, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// A DNS label in lower case.
    pub hostname: String,
    /// Six pairs of hex digits in lower case with colons, or `unknown`.
    pub mac: String,
    /// What it calls itself, where it does; it stays the same machine with another host name.
    pub machine_id: Option<String>,
}

impl Request {
    /// Reads a body. Fields that are not known are left alone.
    ///
    /// # Errors
    ///
    /// [`Refusal`], for the first fault.
    pub fn read(body: &[u8]) -> Result<Self, Refusal> {
        let fields: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| Refusal::BodyRequired)?;
        if fields.is_empty() {
            return Err(Refusal::BodyRequired);
        }
        let hostname = text(&fields, "hostname")?.ok_or(Refusal::FieldsRequired)?;
        let mac = text(&fields, "mac")?.unwrap_or(UNKNOWN_MAC);
        let machine_id = match fields.get("machine_id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(checked_id(id)?),
            Some(_) => return Err(Refusal::MachineId),
        };
        Ok(Self { hostname: checked_hostname(hostname)?, mac: checked_mac(mac)?, machine_id })
    }
}

/// The text of a field, trimmed; `None` where it is absent.
fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Refusal> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim())),
        Some(_) => Err(Refusal::FieldsRequired),
    }
}

/// `name` as a DNS label in lower case.
///
/// # Errors
///
/// [`Refusal::Hostname`].
pub(crate) fn checked_hostname(name: &str) -> Result<String, Refusal> {
    let is_label = name.len() <= MAX_HOSTNAME_LEN
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_label { Ok(name.to_ascii_lowercase()) } else { Err(Refusal::Hostname) }
}

/// A MAC address in the form that we keep.
///
/// # Errors
///
/// [`Refusal::Mac`].
pub(crate) fn checked_mac(mac: &str) -> Result<String, Refusal> {
    if mac.eq_ignore_ascii_case(UNKNOWN_MAC) {
        return Ok(UNKNOWN_MAC.to_owned());
    }
    let pairs: Vec<&str> = mac.split([':', '-']).collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    if pairs.len() == 6 && pairs.iter().all(is_pair) {
        Ok(pairs.join(":").to_ascii_lowercase())
    } else {
        Err(Refusal::Mac)
    }
}

fn checked_id(id: &str) -> Result<String, Refusal> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if !id.is_empty() && id.len() <= MAX_MACHINE_ID_LEN && id.bytes().all(is_plain) {
        Ok(id.to_owned())
    } else {
        Err(Refusal::MachineId)
    }
}
