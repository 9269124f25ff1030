//! Severities, times and characters as people read them.
//!
//! In: OTLP's numbers; characters of logs. Out: words; whether a character is only to be read. Promise: every time a record can
//! have can be written. Absent on purpose: reading them back.

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

/// Whether a terminal or an editor would do something at this character instead of showing it: control characters, and those
/// that turn the direction of the text around them or hide in it.
pub fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
        )
}
