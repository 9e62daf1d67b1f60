//! Dates as text: RFC 3339, in UTC.
//!
//! Does: writes whole seconds, and reads what is written here and by Python's `isoformat`.
//! Does not: know time zones or leap seconds.

const DAY_SECONDS: i64 = 86_400;

/// Days from 1970 to the first day of an era of 400 years, counted from March of year 0.
const EPOCH_DAYS: i64 = 719_468;

const ERA_DAYS: i64 = 146_097;

/// `millis` ms after 1970, such as `2026-01-01T01:00:00Z`.
#[must_use]
pub fn write(millis: i64) -> String {
    let seconds = millis.div_euclid(1_000);
    let (year, month, day) = civil(seconds.div_euclid(DAY_SECONDS));
    let rest = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The ms after 1970 of a date in UTC: `2026-01-01T01:00:00`, with or without a fraction, and
/// with `Z`, `+00:00` or nothing at its end.
#[must_use]
pub fn read(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').or(text.strip_suffix("+00:00")).unwrap_or(text);
    let (date, time) = text.split_once(['T', ' '])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let in_bounds = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_bounds || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis = fraction.bytes().chain(*b"000").take(3);
    let millis = millis.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let seconds = days(year, month, day) * DAY_SECONDS + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000 + millis)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(|part| {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { part.parse().ok() } else { None }
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

/// Year, month and day of a day after 1970, counted in eras whose years begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let day = days + EPOCH_DAYS;
    let (era, day) = (day.div_euclid(ERA_DAYS), day.rem_euclid(ERA_DAYS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Days after 1970 of a date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let month = (month + 9) % 12;
    let day = (153 * month + 2) / 5 + day - 1;
    era * ERA_DAYS + year * 365 + year / 4 - year / 100 + day - EPOCH_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_and_read() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_767_229_200_000, "2026-01-01T01:00:00Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(write(millis), text);
            assert_eq!(read(text), Some(millis));
        }
        assert_eq!(read("2026-01-01T01:00:00.25+00:00"), Some(1_767_229_200_250));
        assert_eq!(read("2026-01-01T01:00:00.123456"), Some(1_767_229_200_123));
        for day in 0..200_000 {
            let millis = day * DAY_SECONDS * 1_000;
            assert_eq!(read(&write(millis)), Some(millis));
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["", "2026", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+02:00", "x-y-zT1:2:3"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
