//! Recognises dates and times of day as logs print them within their text.
//!
//! Enters: the bytes of a text and a position. Leaves: where the time ends (and begins), or `None`.
//! Absent on purpose: any notion of a *correct* date: the 31st of February is one to a reader of logs. What a time means
//! is read at the edge.

use super::shapes::{at, digits, is_compound, run_within};

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
const WEEKDAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

fn month(bytes: &[u8], start: usize) -> bool {
    bytes
        .get(start..start + 3)
        .is_some_and(|name| MONTHS.iter().any(|month| *month == name))
}

/// A year from 1900 to 2199: enough for logs, and `1234-10-10` stays a part number.
fn year(bytes: &[u8], start: usize) -> bool {
    let century = (at(bytes, start), at(bytes, start + 1));
    digits(bytes, start, 4) && matches!(century, (b'1', b'9') | (b'2', b'0' | b'1'))
}

/// `HH:MM:SS`, a fraction after `.`, `,` or `:`, and a zone; `HH:MM` will do where `short`.
fn clock(bytes: &[u8], start: usize, short: bool) -> Option<usize> {
    let hour = run_within(bytes, start, 3, |byte| byte.is_ascii_digit());
    if !(1..=2).contains(&(hour - start)) || at(bytes, hour) != b':' || !digits(bytes, hour + 1, 2) {
        return None;
    }
    let mut end = hour + 3;
    if at(bytes, end) == b':' && digits(bytes, end + 1, 2) {
        end += 3;
        if matches!(at(bytes, end), b'.' | b',' | b':') {
            let fraction = run_within(bytes, end + 1, 9, |byte| byte.is_ascii_digit());
            end = if fraction > end + 1 { fraction } else { end };
        }
    } else if !short {
        return None;
    }
    if at(bytes, end).is_ascii_digit() {
        return None;
    }
    Some(zone(bytes, end))
}

/// The end of `Z`, `+02:00`, `-0800`, ` UTC`, ` GMT` or ` +0000` at `position`, or `position`.
fn zone(bytes: &[u8], position: usize) -> usize {
    if matches!(at(bytes, position), b'Z' | b'z') && !at(bytes, position + 1).is_ascii_alphanumeric() {
        return position + 1;
    }
    let start = if at(bytes, position) == b' ' {
        position + 1
    } else {
        position
    };
    if matches!(bytes.get(start..start + 3), Some(b"UTC" | b"GMT")) && !is_compound(at(bytes, start + 3)) {
        return start + 3;
    }
    if matches!(at(bytes, start), b'+' | b'-') {
        if digits(bytes, start + 1, 4) {
            return start + 5;
        }
        if digits(bytes, start + 1, 2) && at(bytes, start + 3) == b':' && digits(bytes, start + 4, 2) {
            return start + 6;
        }
        if start == position && digits(bytes, start + 1, 2) && !at(bytes, start + 3).is_ascii_alphanumeric() {
            return start + 3; // PostgreSQL's `+00`
        }
    }
    position
}

/// A date, a time of day or both, starting with a digit.
pub(in crate::engine::text) fn numeric_time(bytes: &[u8], start: usize) -> Option<usize> {
    if year(bytes, start) {
        let separator = at(bytes, start + 4);
        let dated = matches!(separator, b'-' | b'/' | b'.')
            && digits(bytes, start + 5, 2)
            && at(bytes, start + 7) == separator
            && digits(bytes, start + 8, 2)
            && matches!(at(bytes, start + 5), b'0' | b'1')
            && at(bytes, start + 8) < b'4';
        if dated {
            return Some(clock_after(bytes, start + 10));
        }
    }
    if digits(bytes, start, 8) && matches!((at(bytes, start), at(bytes, start + 1)), (b'1', b'9') | (b'2', b'0')) {
        return compact_time(bytes, start);
    }
    let day = run_within(bytes, start, 3, |byte| byte.is_ascii_digit());
    if day - start <= 2 && matches!(at(bytes, day), b'/' | b'-' | b' ') && month(bytes, day + 1) {
        let separator = at(bytes, day);
        if at(bytes, day + 4) == separator && year(bytes, day + 5) {
            return Some(clock_after(bytes, day + 9));
        }
    }
    clock(bytes, start, false)
}

/// `20240131T101500Z`, `20240131-10:15:00:123`, `20240131_101500`.
fn compact_time(bytes: &[u8], start: usize) -> Option<usize> {
    let separator = at(bytes, start + 8);
    if !matches!(separator, b'T' | b'-' | b'_' | b' ') {
        return None;
    }
    if let Some(end) = clock(bytes, start + 9, false) {
        return Some(end);
    }
    if separator == b' ' || !digits(bytes, start + 9, 6) {
        return None;
    }
    let mut end = start + 15;
    if matches!(at(bytes, end), b'.' | b',') {
        let fraction = run_within(bytes, end + 1, 9, |byte| byte.is_ascii_digit());
        end = if fraction > end + 1 { fraction } else { end };
    }
    let end = zone(bytes, end);
    (!at(bytes, end).is_ascii_alphanumeric()).then_some(end)
}

/// The end of a time of day that follows a date, or of the date when none does.
fn clock_after(bytes: &[u8], date_end: usize) -> usize {
    let joined = match at(bytes, date_end) {
        b'T' | b't' | b'_' | b'-' | b':' => date_end + 1,
        b',' if at(bytes, date_end + 1) == b' ' => date_end + 2,
        b' ' if at(bytes, date_end + 1) == b' ' => date_end + 2,
        b' ' => date_end + 1,
        _ => return date_end,
    };
    clock(bytes, joined, true).unwrap_or(date_end)
}

/// Where a date begins whose number is at `start`: with the weekday before it, if there is one after `earliest`.
pub(super) fn dated_from(bytes: &[u8], start: usize, earliest: usize) -> usize {
    let named = |from: usize| {
        from >= earliest
            && bytes
                .get(from..from + 3)
                .is_some_and(|name| WEEKDAYS.iter().any(|weekday| *weekday == name))
    };
    match bytes.get(..start) {
        Some([.., b',', b' ']) if start >= 5 && named(start - 5) => start - 5,
        Some([.., b' ']) if start >= 4 && named(start - 4) => start - 4,
        _ => start,
    }
}

/// A date whose day of the month is at `day`: `Sep 28 10:00:00`, `Fri Jul  1 10:00:00 PDT 2005`; its start and end.
pub(in crate::engine::text) fn worded_time(bytes: &[u8], day: usize, earliest: usize) -> Option<(usize, usize)> {
    let blank = match bytes.get(..day) {
        Some([.., b' ', b' ']) => 2,
        Some([.., b' ']) => 1,
        _ => return None,
    };
    let name = day.checked_sub(blank + 3).filter(|name| *name >= earliest)?;
    if !month(bytes, name) {
        return None;
    }
    let day_end = run_within(bytes, day, 2, |byte| byte.is_ascii_digit());
    let mut end = clock(bytes, day_end + 1, false)?;
    let abbreviation = run_within(bytes, end + 1, 5, |byte| byte.is_ascii_uppercase());
    if at(bytes, end) == b' ' && (3..=4).contains(&(abbreviation - end - 1)) && year(bytes, abbreviation + 1) {
        end = abbreviation + 5;
    } else if at(bytes, end) == b' ' && year(bytes, end + 1) {
        end += 5;
    }
    Some((dated_from(bytes, name, earliest), end))
}
