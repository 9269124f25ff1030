//! A time as people write it: so long ago, a time of the day, or a whole timestamp.
//!
//! What enters: text, and the present. What leaves: Unix nanoseconds. Promise: all times are UTC, as they are printed and as
//! they stand in the ids of incidents. Absent on purpose: the clock, which the caller reads.

use std::{str::FromStr, time::Duration};

use jiff::{SignedDuration, Timestamp, civil::Time, tz::TimeZone};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// So long ago.
    Ago(Duration),
    /// The last time that it was so late.
    TimeOfDay(Time),
    /// This very time.
    At(Timestamp),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        // A date alone is not taken: whether its morning or its evening is meant cannot be told.
        if text.contains(':')
            && let Ok(time) = text.parse()
        {
            return Ok(Self::TimeOfDay(time));
        }
        let ago = text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|ago| Duration::try_from(ago).ok());
        ago.map(Self::Ago).ok_or_else(|| {
            format!("`{text}` is no time; write how long ago (`2h`), a time of the day in UTC (`02:00`), or `2024-11-18T10:00:00Z`")
        })
    }
}

impl When {
    /// In Unix nanoseconds, at this present.
    pub fn unix_nano(self, now: Timestamp) -> u64 {
        let at = match self {
            Self::At(at) => Some(at),
            Self::Ago(ago) => now.checked_sub(ago).ok(),
            Self::TimeOfDay(time) => {
                let now_utc = now.to_zoned(TimeZone::UTC);
                let date = now_utc.date();
                let day = if time > now_utc.time() {
                    date.yesterday().ok()
                } else {
                    Some(date)
                };
                day.and_then(|day| day.to_datetime(time).to_zoned(TimeZone::UTC).ok())
                    .map(|zoned| zoned.timestamp())
            }
        };
        at.and_then(|at| u64::try_from(at.as_nanosecond()).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_read_as_people_mean_them() {
        let now: Timestamp = "2024-11-18T03:10:00Z".parse().unwrap();
        let read = |text: &str| {
            let nanos = text.parse::<When>().unwrap().unix_nano(now);
            Timestamp::from_nanosecond(i128::from(nanos)).unwrap().to_string()
        };
        assert_eq!(read("2h"), "2024-11-18T01:10:00Z");
        assert_eq!(read("1h 30m"), "2024-11-18T01:40:00Z");
        assert_eq!(read("02:00"), "2024-11-18T02:00:00Z");
        assert_eq!(read("22:30"), "2024-11-17T22:30:00Z", "the evening before");
        assert_eq!(read("2024-11-18T01:00:00+01:00"), "2024-11-18T00:00:00Z");
        for wrong in ["", "yesterday", "-2h", "2024-11-18", "7"] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
    }
}
