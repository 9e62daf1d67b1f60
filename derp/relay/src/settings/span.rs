//! Durations as operators write them: `30s`, `5m`, `1h`, `1d`, `500ms`; a bare number is seconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration in a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// The text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: write a number and ms, s, m, h or d, such as 30s or 5m")]
pub struct ParseSpanError;

/// Units, longest name first where one ends like another.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Self, ParseSpanError> {
        let text = text.trim();
        let (number, millis) = UNITS
            .iter()
            .find_map(|(unit, millis)| Some((text.strip_suffix(unit)?, *millis)))
            .unwrap_or((text, 1_000));
        // `u64` alone would take a leading plus.
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseSpanError);
        }
        let count: u64 = number.parse().map_err(|_| ParseSpanError)?;
        count.checked_mul(millis).map(Duration::from_millis).map(Self).ok_or(ParseSpanError)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let mut units = UNITS.iter().rev().map(|(unit, size)| (unit, u128::from(*size)));
        match units.find(|(_, size)| millis.is_multiple_of(*size)) {
            Some((unit, size)) if millis > 0 => write!(f, "{}{unit}", millis / size),
            Some(_) | None => f.write_str("0s"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30s\", or a number of seconds")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
                let seconds = u64::try_from(seconds).map_err(|_| E::custom(ParseSpanError))?;
                self.visit_u64(seconds)
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
                Ok(Span(Duration::from_secs(seconds)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_in_the_largest_whole_unit() {
        for (text, millis, shown) in [
            ("30s", 30_000, "30s"),
            ("5m", 300_000, "5m"),
            ("90", 90_000, "90s"),
            ("1h", 3_600_000, "1h"),
            ("2d", 172_800_000, "2d"),
            ("500ms", 500, "500ms"),
            ("0", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", "-1s", "+1s", "1.5h", "5 m", "1w", "99999999999999999999s"] {
            assert_eq!(text.parse::<Span>(), Err(ParseSpanError), "{text:?}");
        }
    }
}
