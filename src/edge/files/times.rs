//! Times as logs write them.
//!
//! Enters: a cell, a JSON value or the head of a line. Leaves: nanoseconds since 1970, UTC, or `None` when it is no time.
//!
//! Reads ISO 8601 and its relatives (`2024-11-18T10:00:00.123Z`, `2024-11-18 10:00:00,123 +0200`, `2024/11/18 10:00`),
//! epoch seconds (with fraction), ms, µs and ns by magnitude, `18/Nov/2024:10:00:00 +0000`, `18 Nov 2024 10:00:00.123`,
//! `20241118T100000Z`, `Mon, 18 Nov 2024 10:00:00 GMT`, `Nov 18 10:00:00` (the year is the latest that is not in the
//! future), or one strftime format. Without a zone a time is in the zone of the settings.
//! Absent on purpose: guesses between day and month (`01/02/2024`): that needs `--time-format`.

use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::{FileError, Settings};

/// Reads times by one file's settings.
#[derive(Clone, Debug)]
pub(super) struct Times {
    format: Option<String>,
    zone: TimeZone,
    /// Dates without a year are before this.
    now: Timestamp,
}

impl Times {
    /// Resolves the settings' zone and tries the format.
    ///
    /// # Errors
    /// [`FileError::TimeZone`] and [`FileError::TimeFormat`].
    pub(super) fn new(settings: &Settings, now: Timestamp) -> Result<Times, FileError> {
        let name = settings.timezone.as_deref().unwrap_or("UTC");
        let zone = TimeZone::get(name).map_err(|_| FileError::TimeZone { name: name.to_owned() })?;
        if let Some(format) = &settings.time_format {
            let tried = jiff::fmt::strtime::format(format, &now.to_zoned(zone.clone()));
            tried.map_err(|error| FileError::TimeFormat {
                format: format.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(Times {
            format: settings.time_format.clone(),
            zone,
            now,
        })
    }

    /// The time that is all of `text`.
    pub(super) fn read(&self, text: &str) -> Option<u64> {
        let text = text.trim();
        if let Some(format) = &self.format {
            return self.formatted(format, text);
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        match self.leading(bare) {
            Some((time, end)) if end == bare.len() => Some(time),
            _ => epoch(bare).or_else(|| self.rfc2822(bare)),
        }
    }

    /// The time at the start of `line`, and where it ends.
    pub(super) fn leading(&self, line: &str) -> Option<(u64, usize)> {
        let mut scan = Scan {
            bytes: line.as_bytes(),
            at: 0,
        };
        let written = scan.written()?;
        let time = self.resolve(&written)?;
        Some((time, scan.at))
    }

    fn formatted(&self, format: &str, text: &str) -> Option<u64> {
        let time = BrokenDownTime::parse(format, text).ok()?;
        let timestamp = time.to_timestamp().ok().or_else(|| {
            let date = time.to_date().ok()?;
            let clock = time.to_time().ok().unwrap_or_default();
            self.zone.to_timestamp(date.to_datetime(clock)).ok()
        })?;
        nanoseconds(timestamp)
    }

    fn rfc2822(&self, text: &str) -> Option<u64> {
        let zoned = jiff::fmt::rfc2822::DateTimeParser::new()
            .relaxed_weekday(true)
            .parse_zoned(text)
            .ok()?;
        nanoseconds(zoned.timestamp())
    }

    fn resolve(&self, written: &Written) -> Option<u64> {
        let (hour, minute, second, nanosecond) = written.clock;
        let at = |year: i16| {
            // A leap second is read as the last second of its minute.
            DateTime::new(
                year,
                written.month,
                written.day,
                hour,
                minute,
                second.min(59),
                nanosecond,
            )
            .ok()
        };
        let stamp = |time: DateTime| match written.offset_s {
            Some(offset_s) => Offset::from_seconds(offset_s).ok()?.to_timestamp(time).ok(),
            None => self.zone.to_timestamp(time).ok(),
        };
        let timestamp = match written.year {
            Some(year) => stamp(at(year)?)?,
            None => {
                // A clock that runs a day fast is more likely than a log a year old to the day.
                let latest = self.now.checked_add(SignedDuration::from_hours(24)).ok()?;
                let year = self.now.to_zoned(self.zone.clone()).year();
                at(year)
                    .and_then(stamp)
                    .filter(|time| *time <= latest)
                    .or_else(|| at(year - 1).and_then(stamp))?
            }
        };
        nanoseconds(timestamp)
    }
}

/// Nanoseconds since 1970, when not before; 0 means unknown to OTLP and is no time.
fn nanoseconds(timestamp: Timestamp) -> Option<u64> {
    u64::try_from(timestamp.as_nanosecond()).ok().filter(|time| *time > 0)
}

/// Seconds, ms, µs or ns since 1970, told apart by magnitude; a fraction is exact to the nanosecond.
fn epoch(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 20 || !digits(whole) || !digits(fraction) {
        let seconds = text.parse::<f64>().ok().filter(|_| text.contains(['e', 'E']))?;
        return (1.0..1.8e10).contains(&seconds).then_some((seconds * 1e9) as u64);
    }
    let whole: u64 = whole.parse().ok()?;
    let unit_ns: u64 = match whole {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    let mut part_ns = 0;
    let mut place_ns = unit_ns;
    for digit in fraction.bytes() {
        place_ns /= 10;
        part_ns += u64::from(digit - b'0') * place_ns;
    }
    whole
        .checked_mul(unit_ns)?
        .checked_add(part_ns)
        .filter(|time| *time > 0)
}

/// Hour, minute, second, nanosecond.
type Clock = (i8, i8, i8, i32);

/// A time as it is written: a year and a zone may be missing.
#[derive(Debug, PartialEq)]
struct Written {
    year: Option<i16>,
    month: i8,
    day: i8,
    clock: Clock,
    offset_s: Option<i32>,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

/// Reads one written time from the front of a line.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn take(&mut self, accepted: &[u8]) -> Option<u8> {
        let byte = self.peek(0);
        (byte != 0 && accepted.contains(&byte)).then(|| {
            self.at += 1;
            byte
        })
    }

    /// A number of at least `least` and at most `most` digits, and no further one.
    fn number(&mut self, least: usize, most: usize) -> Option<i32> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .take(most + 1)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if !(least..=most).contains(&length) {
            return None;
        }
        let value = rest
            .iter()
            .take(length)
            .fold(0i32, |sum, digit| sum * 10 + i32::from(digit - b'0'));
        self.at += length;
        Some(value)
    }

    fn month_name(&mut self) -> Option<i8> {
        let name = std::str::from_utf8(self.bytes.get(self.at..self.at + 3)?).ok()?;
        let index = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))?;
        self.at += 3;
        i8::try_from(index + 1).ok()
    }

    fn weekday(&mut self) {
        let name = self.bytes.get(self.at..self.at + 3).unwrap_or_default();
        let weekday = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
            .iter()
            .any(|day| name.eq_ignore_ascii_case(day.as_bytes()));
        if weekday && matches!(self.peek(3), b' ' | b',') {
            self.at += 4;
            self.take(b" ");
        }
    }

    fn written(&mut self) -> Option<Written> {
        self.weekday();
        let start = self.at;
        let readers = [Self::year_first, Self::compact, Self::day_first, Self::month_first];
        for reader in readers {
            self.at = start;
            if let Some(written) = reader(self) {
                return Some(written);
            }
        }
        None
    }

    /// `2024-11-18`, alone or with a time of day.
    fn year_first(&mut self) -> Option<Written> {
        let year = self.number(4, 4)?;
        let separator = self.take(b"-/.")?;
        let month = self.number(1, 2)?;
        self.take(&[separator])?;
        let day = self.number(1, 2)?;
        let date_end = self.at;
        let mut written = dated(Some(year), i8::try_from(month).ok()?, day)?;
        self.take(b"Tt_ -");
        match self.clock(true) {
            Some((clock, offset_s)) => (written.clock, written.offset_s) = (clock, offset_s),
            None => self.at = date_end,
        }
        Some(written)
    }

    /// `20241118T100000Z`, `20241118-10:00:00:123`.
    fn compact(&mut self) -> Option<Written> {
        let date = self.number(8, 8)?;
        let month = i8::try_from(date / 100 % 100).ok()?;
        let mut written = dated(Some(date / 10_000), month, date % 100)?;
        self.take(b"T_- ")?;
        let clock_start = self.at;
        if let Some((clock, offset_s)) = self.clock(false) {
            (written.clock, written.offset_s) = (clock, offset_s);
            return Some(written);
        }
        self.at = clock_start;
        let clock = self.number(6, 6)?;
        let part = |divisor: i32| i8::try_from(clock / divisor % 100).ok();
        let fraction = self.fraction(b".,");
        written.clock = (part(10_000)?, part(100)?, part(1)?, fraction);
        written.offset_s = self.offset();
        Some(written)
    }

    /// `18/Nov/2024:10:00:00 +0000`, `18-Nov-2024 10:00:00.123`, `18 Nov 2024 10:00:00`.
    fn day_first(&mut self) -> Option<Written> {
        let day = self.number(1, 2)?;
        let separator = self.take(b"/- ")?;
        let month = self.month_name()?;
        self.take(&[separator])?;
        let year = self.number(4, 4)?;
        let mut written = dated(Some(year), month, day)?;
        self.take(b": ")?;
        (written.clock, written.offset_s) = self.clock(false)?;
        Some(written)
    }

    /// `Nov 18 10:00:00`, `Jul  1 10:00:00 2024`.
    fn month_first(&mut self) -> Option<Written> {
        let month = self.month_name()?;
        self.take(b" ")?;
        self.take(b" ");
        let day = self.number(1, 2)?;
        let mut written = dated(None, month, day)?;
        self.take(b" ")?;
        (written.clock, written.offset_s) = self.clock(false)?;
        let clock_end = self.at;
        // ctime writes the year at the end, perhaps behind the zone's name, which is no offset anyone could trust.
        self.take(b" ");
        match self.number(4, 4).filter(|year| (1970..2200).contains(year)) {
            Some(year) => written.year = i16::try_from(year).ok(),
            None => self.at = clock_end,
        }
        Some(written)
    }

    /// A time of day with fraction and zone; without seconds where `short`.
    fn clock(&mut self, short: bool) -> Option<(Clock, Option<i32>)> {
        let hour = i8::try_from(self.number(1, 2)?).ok()?;
        self.take(b":")?;
        let minute = i8::try_from(self.number(2, 2)?).ok()?;
        let (mut second, mut fraction) = (0, 0);
        if self.peek(0) == b':' {
            self.at += 1;
            second = i8::try_from(self.number(2, 2)?).ok()?;
            fraction = self.fraction(b".,:");
        } else if !short {
            return None;
        }
        if self.peek(0).is_ascii_digit() || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        Some(((hour, minute, second, fraction), self.offset()))
    }

    /// Nanoseconds of a fraction behind one of `marks`; none is 0. Digits beyond the ninth are dropped.
    fn fraction(&mut self, marks: &[u8]) -> i32 {
        if !(marks.contains(&self.peek(0)) && self.peek(1).is_ascii_digit()) {
            return 0;
        }
        self.at += 1;
        let (mut value, mut place) = (0, 100_000_000);
        while self.peek(0).is_ascii_digit() {
            value += i32::from(self.peek(0) - b'0') * place;
            place /= 10;
            self.at += 1;
        }
        value
    }

    /// `Z`, `UTC`, `GMT`, `+02:00`, `-0800`, `+00`, each perhaps behind a space; `None` leaves the scan where it was.
    fn offset(&mut self) -> Option<i32> {
        let start = self.at;
        self.take(b" ");
        let found = self.offset_here();
        let ended = !self.peek(0).is_ascii_alphanumeric();
        if found.is_none() || !ended {
            self.at = start;
            return None;
        }
        found
    }

    fn offset_here(&mut self) -> Option<i32> {
        if self.take(b"Zz").is_some() {
            return Some(0);
        }
        if matches!(self.bytes.get(self.at..self.at + 3), Some(b"UTC" | b"GMT")) {
            self.at += 3;
            return Some(0);
        }
        let sign = if self.take(b"+-")? == b'-' { -1 } else { 1 };
        let (hours, minutes) = match self.number(4, 4) {
            Some(both) => (both / 100, both % 100),
            None => {
                let hours = self.number(2, 2)?;
                let minutes = if self.take(b":").is_some() {
                    self.number(2, 2)?
                } else {
                    0
                };
                (hours, minutes)
            }
        };
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

/// Midnight of a date; `None` for what no calendar has, so that version numbers are no dates.
fn dated(year: Option<i32>, month: i8, day: i32) -> Option<Written> {
    let year = match year {
        Some(year) => Some(i16::try_from(year).ok().filter(|year| (1970..2263).contains(year))?),
        None => None,
    };
    let day = i8::try_from(day).ok()?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day);
    valid.then_some(Written {
        year,
        month,
        day,
        clock: (0, 0, 0, 0),
        offset_s: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use crate::engine::view::rfc3339;

    fn times(settings: Settings) -> Times {
        Times::new(&settings, "2024-03-01T12:00:00Z".parse().unwrap()).unwrap()
    }

    /// RFC 3339 of what is read, or "" for no time.
    fn read(times: &Times, text: &str) -> String {
        times.read(text).map_or(String::new(), rfc3339)
    }

    #[test]
    fn reads_what_logs_write() {
        let utc = times(Settings::default());
        let rows = [
            ("2024-11-18T10:00:00Z", "2024-11-18T10:00:00Z"),
            ("2024-11-18T10:00:00.123456789+02:00", "2024-11-18T08:00:00.123456789Z"),
            ("2024-11-18 10:00:00", "2024-11-18T10:00:00Z"),
            ("2024-11-18 10:00:00,123", "2024-11-18T10:00:00.123Z"),
            ("2024-11-18 10:00:00.123 UTC", "2024-11-18T10:00:00.123Z"),
            ("[2024/11/18 10:00:00 -0800]", "2024-11-18T18:00:00Z"),
            ("2024-11-18 10:00", "2024-11-18T10:00:00Z"),
            ("2024-11-18", "2024-11-18T00:00:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("1731924000", "2024-11-18T10:00:00Z"),
            ("1731924000.25", "2024-11-18T10:00:00.25Z"),
            ("1731924000123", "2024-11-18T10:00:00.123Z"),
            ("1731924000123456", "2024-11-18T10:00:00.123456Z"),
            ("1731924000123456789", "2024-11-18T10:00:00.123456789Z"),
            ("1.731924e9", "2024-11-18T10:00:00Z"),
            ("18/Nov/2024:10:00:00 +0100", "2024-11-18T09:00:00Z"),
            ("18 Nov 2024 10:00:00.5", "2024-11-18T10:00:00.5Z"),
            ("20241118T100000Z", "2024-11-18T10:00:00Z"),
            ("20241118-10:00:00:606", "2024-11-18T10:00:00.606Z"),
            ("Mon, 18 Nov 2024 10:00:00 GMT", "2024-11-18T10:00:00Z"),
            ("Mon Nov 18 10:00:00 2024", "2024-11-18T10:00:00Z"),
            // no year: the latest one that is not in the future
            ("Feb  1 10:00:00", "2024-02-01T10:00:00Z"),
            ("Nov 18 10:00:00", "2023-11-18T10:00:00Z"),
            // no time at all
            ("", ""),
            ("0", ""),
            ("yesterday", ""),
            ("2024-13-18 10:00:00", ""),
            ("2024-02-30", ""),
            ("2024-11-18 25:00:00", ""),
            ("99999999999999999999", ""),
            ("-5", ""),
            ("1.2.3", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(read(&utc, text), expected, "from {text:?}");
        }
    }

    /// A zone in the text wins over the settings'; daylight saving time is the zone's.
    #[test]
    fn a_time_without_zone_is_in_the_settings_zone() {
        let berlin = times(Settings {
            timezone: Some("Europe/Berlin".to_owned()),
            ..Settings::default()
        });
        assert_eq!(read(&berlin, "2024-11-18 10:00:00"), "2024-11-18T09:00:00Z");
        assert_eq!(read(&berlin, "2024-07-18 10:00:00"), "2024-07-18T08:00:00Z");
        assert_eq!(read(&berlin, "2024-07-18 10:00:00Z"), "2024-07-18T10:00:00Z");
        let nowhere = Settings {
            timezone: Some("Mars/Olympus".to_owned()),
            ..Settings::default()
        };
        assert!(
            Times::new(&nowhere, Timestamp::UNIX_EPOCH)
                .unwrap_err()
                .to_string()
                .contains("Mars/Olympus")
        );
    }

    #[test]
    fn a_given_format_is_the_only_one() {
        let format = |format: &str| Settings {
            time_format: Some(format.to_owned()),
            ..Settings::default()
        };
        let day_first = times(format("%d.%m.%Y %H:%M:%S"));
        assert_eq!(read(&day_first, "02.01.2024 10:00:00"), "2024-01-02T10:00:00Z");
        assert_eq!(read(&day_first, "2024-01-02 10:00:00"), "");
        assert_eq!(read(&times(format("%Y%m%d")), "20240102"), "2024-01-02T00:00:00Z");
        assert_eq!(read(&times(format("%s")), "1731924000"), "2024-11-18T10:00:00Z");
        assert!(matches!(
            Times::new(&format("%Y-%!"), Timestamp::UNIX_EPOCH),
            Err(FileError::TimeFormat { .. })
        ));
    }

    /// The head of a line is told from what follows it.
    #[test]
    fn the_time_at_the_start_of_a_line_ends_where_it_ends() {
        let utc = times(Settings::default());
        for (line, rest) in [
            ("2024-11-18 10:00:00.123 UTC [12] LOG:  up", " [12] LOG:  up"),
            ("2024-11-18 message", " message"),
            ("2024-11-18T10:00:00Zebra", "Zebra"),
            ("Nov 18 10:00:00 host sshd: x", " host sshd: x"),
            ("Mon Nov 18 10:00:00 2024] [error] x", "] [error] x"),
        ] {
            let (_, end) = utc.leading(line).unwrap();
            assert_eq!(&line[end..], rest);
        }
        for line in [
            "10.0.0.1 - -",
            "1731924000 x",
            "error 2024-11-18",
            "2024 things",
            "May be",
        ] {
            assert_eq!(utc.leading(line), None, "{line}");
        }
    }
}
