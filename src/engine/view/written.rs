//! Severities and times as people read them.
//!
//! In: OTLP's numbers. Out: words. Promise: every time a record can have can be written. Absent on purpose: reading them.

use jiff::Timestamp;

/// The name of the range of a severity number; nothing for what OTLP does not know.
pub fn severity_name(severity_number: i32) -> Option<&'static str> {
    Some(match severity_number {
        1..=4 => "TRACE",
        5..=8 => "DEBUG",
        9..=12 => "INFO",
        13..=16 => "WARN",
        17..=20 => "ERROR",
        21..=24 => "FATAL",
        _ => return None,
    })
}

/// RFC 3339 in UTC, with as many digits of fraction as there are.
pub fn rfc3339(time_unix_nano: u64) -> String {
    // Every u64 is a time before the year 2555, which jiff knows.
    Timestamp::from_nanosecond(i128::from(time_unix_nano)).map_or_else(|_| String::new(), |time| time.to_string())
}
