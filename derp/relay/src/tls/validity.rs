//! When a certificate is valid, read out of its DER.
//!
//! Does: finds the two times in a certificate, and nothing else: rustls verifies certificates of
//! others but tells nothing about our own. Does not: verify.
//!
//! ```text
//! SEQUENCE { SEQUENCE { [0] version?, serial, algorithm, issuer, SEQUENCE { from, to }, .. } .. }
//! ```

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;

/// Time of which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: SystemTime,
    /// The last moment.
    pub not_after: SystemTime,
}

impl Validity {
    /// From `reach` before `now` to `reach` after it.
    pub(crate) fn around(now: SystemTime, reach: Duration) -> Self {
        Self { not_before: now - reach, not_after: now + reach }
    }

    /// The validity of `certificate`; `None` if that is no certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (outer, _) = element(certificate, SEQUENCE)?;
        let (mut fields, _) = element(outer, SEQUENCE)?;
        if let Some((_version, rest)) = element(fields, VERSION) {
            fields = rest;
        }
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            (_, fields) = element(fields, tag)?;
        }
        let (times, _) = element(fields, SEQUENCE)?;
        let (not_before, times) = time(times)?;
        let (not_after, _) = time(times)?;
        Some(Self { not_before, not_after })
    }
}

/// Whole seconds from 1970 to `time`; 0 for anything before that.
pub(crate) fn since_1970(time: SystemTime) -> Duration {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(since.as_secs())
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Splits the element with this tag off the front of `der`: its content, and what follows.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The number of bytes that the length takes; certificates are far below 64 KiB.
        0x81 => rest.split_first().map(|(&len, rest)| (usize::from(len), rest))?,
        0x82 => {
            let (&len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(len)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// Splits a time off the front of `der`. Both forms end in `Z` and have seconds: RFC 5280, 4.1.2.5.
fn time(der: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (digits, rest, year_digits) = match element(der, UTC_TIME) {
        Some((digits, rest)) => (digits, rest, 2),
        None => element(der, GENERALIZED_TIME).map(|(digits, rest)| (digits, rest, 4))?,
    };
    let text = std::str::from_utf8(digits).ok()?.strip_suffix('Z')?;
    if text.len() != year_digits + 10 || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (year, others) = text.split_at(year_digits);
    let year: i64 = year.parse().ok()?;
    let year = match year_digits {
        2 if year < 50 => year + 2_000,
        2 => year + 1_900,
        _ => year,
    };
    let mut numbers = [0; 5];
    for (n, number) in numbers.iter_mut().enumerate() {
        *number = others.get(2 * n..2 * n + 2)?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = numbers;
    let seconds = 86_400 * days_since_1970(year, month, day)? + 3_600 * hour + 60 * minute + second;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    Some((time?, rest))
}

/// Days from 1970 to a date of the Gregorian calendar, counted in years that begin in March,
/// so that the leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Some(365 * year + leap_days + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use x509_parser::certificate::X509Certificate;
    use x509_parser::prelude::FromDer;

    use super::*;

    /// Both forms of a time, leap years, and years on either side of a century.
    #[test]
    fn agrees_with_another_parser() {
        let key = KeyPair::generate().unwrap();
        for (from, to) in [
            ((1950, 1, 1), (1999, 12, 31)),
            ((1969, 12, 31), (1970, 1, 1)),
            ((2000, 2, 29), (2024, 2, 29)),
            ((2023, 3, 1), (2049, 12, 31)),
            ((2050, 1, 1), (2100, 3, 1)),
            ((2026, 11, 21), (9999, 12, 31)),
        ] {
            let mut params = CertificateParams::new(["relay.example".to_owned()]).unwrap();
            params.not_before = date_time_ymd(from.0, from.1, from.2);
            params.not_after = date_time_ymd(to.0, to.1, to.2) + Duration::from_secs(86_399);
            let certificate = params.self_signed(&key).unwrap();

            let validity = Validity::of(certificate.der()).unwrap();

            let (_, expected) = X509Certificate::from_der(certificate.der()).unwrap();
            let expected = expected.validity();
            assert_eq!(timestamp(validity.not_before), expected.not_before.timestamp());
            assert_eq!(timestamp(validity.not_after), expected.not_after.timestamp());
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        let key = KeyPair::generate().unwrap();
        let whole = CertificateParams::default().self_signed(&key).unwrap();

        for len in 0..whole.der().len() {
            assert_eq!(Validity::of(&whole.der()[..len].to_vec().into()), None, "{len}");
        }
        for junk in [&[0x30, 0x84, 1, 1][..], &[0x30, 0x82, 1], &[0xff; 600], &[0x30; 600]] {
            assert_eq!(Validity::of(&junk.to_vec().into()), None);
        }
    }

    fn timestamp(time: SystemTime) -> i64 {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap(),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap(),
        }
    }
}
