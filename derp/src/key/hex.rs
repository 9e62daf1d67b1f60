//! Hex digits of keys: 32 bytes to 64 digits and back.
//!
//! Does: reads either case, as Go does, and writes lower case. Does not: look a digit up in a
//! table, so that the cache lines touched do not depend on a secret.

use super::{KEY_LEN, ParseKeyError};

/// Hex digits in a key.
pub(crate) const DIGITS: usize = 2 * KEY_LEN;

/// The hex digits of `bytes`, lower case, in stream order.
pub(crate) fn digits(bytes: &[u8; KEY_LEN]) -> impl Iterator<Item = char> + '_ {
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)])
}

/// Reads exactly [`DIGITS`] hex digits into `out`, which keeps what was read before an error.
pub(crate) fn read(text: &[u8], out: &mut [u8; KEY_LEN]) -> Result<(), ParseKeyError> {
    if text.len() != DIGITS {
        return Err(ParseKeyError::Length { digits: text.len() });
    }
    let (pairs, _) = text.as_chunks::<2>();
    for (byte, &[high, low]) in out.iter_mut().zip(pairs) {
        *byte = value(high)? << 4 | value(low)?;
    }
    Ok(())
}

/// One hex digit; `nibble` is 0..=15.
fn digit(nibble: u8) -> char {
    // 39 is the way from behind '9' to 'a', added without a branch from 10 on.
    char::from(b'0' + nibble + 39 * u8::from(nibble > 9))
}

/// The value of one hex digit of either case.
fn value(digit: u8) -> Result<u8, ParseKeyError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ParseKeyError::Digit),
    }
}
