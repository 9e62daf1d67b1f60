//! Quantities as people write them on a command line: `400M`, `64KiB`, `250us`.
//!
//! Does: reads and writes rates, sizes and durations, with their unit.
//! Does not: take a number without a unit where two units would make sense.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// What a sender offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Bits of packet payload a second, without DERP's, TLS's and TCP's own bytes.
    BitsPerSecond(u64),
    /// As fast as the socket takes.
    Unlimited,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of events a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency(pub u64);

/// The text is no quantity of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write {wanted}")]
pub struct ParseQuantityError {
    wanted: &'static str,
}

const RATE: ParseQuantityError = ParseQuantityError {
    wanted: "bits a second with K, M or G behind, such as 400M or 1.6G, or `max`",
};
const SIZE: ParseQuantityError = ParseQuantityError {
    wanted: "bytes, with KiB or MiB behind if you like, such as 1400 or 64KiB",
};
const SPAN: ParseQuantityError =
    ParseQuantityError { wanted: "a number with us, ms, s, m or h behind, such as 10s or 500us" };
const FREQUENCY: ParseQuantityError =
    ParseQuantityError { wanted: "events a second, with K or M behind if you like, such as 50K" };

/// Digits behind the decimal point that count.
const FRACTION_DIGITS: u32 = 6;

/// Units of decimal quantities.
const DECIMAL: [(&str, u64); 4] = [("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("", 1)];

/// Units of sizes.
const BINARY: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("", 1)];

/// Units of time, in nanoseconds; longest name first where one ends like another.
const TIME: [(&str, u64); 5] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads digits, perhaps a point and more digits, and one of `units`.
fn read(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) =
        units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // `u64` alone would take a sign.
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let mut value = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut part = unit;
    for digit in fraction.bytes().take(FRACTION_DIGITS as usize) {
        part /= 10;
        value = value.checked_add(part * u64::from(digit - b'0'))?;
    }
    Some(value)
}

/// Writes `value` in the largest of `units` in which it is whole.
fn write(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = units.iter().filter(|(_, unit)| value > 0 && value.is_multiple_of(*unit));
    match fits.max_by_key(|(_, unit)| *unit) {
        Some((name, unit)) => write!(f, "{}{name}", value / unit),
        None => write!(f, "{value}{}", units.last().map_or("", |(name, _)| *name)),
    }
}

impl FromStr for Rate {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        if text == "max" {
            return Ok(Self::Unlimited);
        }
        match read(text, &DECIMAL) {
            Some(bits) if bits > 0 => Ok(Self::BitsPerSecond(bits)),
            Some(_) | None => Err(RATE),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BitsPerSecond(bits) => write(f, *bits, &DECIMAL),
            Self::Unlimited => f.write_str("max"),
        }
    }
}

impl FromStr for Size {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        let bytes = read(text, &BINARY).and_then(|bytes| usize::try_from(bytes).ok());
        bytes.map(Self).ok_or(SIZE)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0 as u64, &BINARY)
    }
}

impl FromStr for Span {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        read(text, &TIME).map(Duration::from_nanos).map(Self).ok_or(SPAN)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, nanos(self.0), &TIME)
    }
}

impl FromStr for Frequency {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        match read(text, &DECIMAL) {
            Some(events) if events > 0 => Ok(Self(events)),
            Some(_) | None => Err(FREQUENCY),
        }
    }
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &DECIMAL)
    }
}

/// `span` in nanoseconds; five centuries at most.
#[must_use]
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Records carry quantities as numbers in the base unit, for programs that read them.
impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::BitsPerSecond(bits) => serializer.serialize_u64(*bits),
            Self::Unlimited => serializer.serialize_str("max"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0 as u64)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

impl Serialize for Frequency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_a_fraction_and_shown_whole() {
        for (text, bits, shown) in [
            ("400M", 400_000_000, "400M"),
            ("1.6G", 1_600_000_000, "1600M"),
            ("2G", 2_000_000_000, "2G"),
            ("64K", 64_000, "64K"),
            ("12", 12, "12"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate, Rate::BitsPerSecond(bits));
            assert_eq!(rate.to_string(), shown);
        }
        assert_eq!("max".parse(), Ok(Rate::Unlimited));
    }

    #[test]
    fn sizes_and_durations_have_their_units() {
        assert_eq!("1400".parse(), Ok(Size(1_400)));
        assert_eq!("64KiB".parse(), Ok(Size(65_536)));
        for (text, micros) in [("10s", 10_000_000), ("500us", 500), ("1.5ms", 1_500)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_micros(micros))), "{text}");
        }
        assert_eq!(Span(Duration::from_millis(1_500)).to_string(), "1500ms");
        assert_eq!("50K".parse(), Ok(Frequency(50_000)));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "M", "-1M", "+1M", "1.M", ".5M", "1T", "0", "1e3", "99999999999999999999G"]
        {
            assert_eq!(text.parse::<Rate>(), Err(RATE), "{text}");
        }
        for text in ["", "10", "s", "1 s", "1d"] {
            assert_eq!(text.parse::<Span>(), Err(SPAN), "{text}");
        }
        assert_eq!("1.5GB".parse::<Size>(), Err(SIZE));
        assert_eq!("max".parse::<Frequency>(), Err(FREQUENCY));
    }
}
