//! Recognises UUIDs, MAC, IPv4 and IPv6 addresses.
//!
//! Enters: the bytes of a text and a position where one may start. Leaves: the position behind it, or `None`.
//! Promise: no allocation, bounded look-ahead. Absent on purpose: which addresses are in use, reserved or routable.

use super::shapes::{at, run_within};

/// 8-4-4-4-12 hexadecimal digits, letters only in any group (or in all) included.
pub(super) fn uuid(bytes: &[u8], start: usize) -> Option<usize> {
    let mut position = start;
    for (group, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if group > 0 {
            if at(bytes, position) != b'-' {
                return None;
            }
            position += 1;
        }
        if run_within(bytes, position, length, |byte| byte.is_ascii_hexdigit()) != position + length {
            return None;
        }
        position += length;
    }
    Some(position)
}

/// Six groups or more (EUI-64, InfiniBand, a key's fingerprint) of two hexadecimal digits between equal colons or hyphens.
pub(super) fn mac(bytes: &[u8], start: usize) -> Option<usize> {
    let separator = at(bytes, start + 2);
    if separator != b':' && separator != b'-' {
        return None;
    }
    let mut position = start;
    for group in 1..=32 {
        if run_within(bytes, position, 3, |byte| byte.is_ascii_hexdigit()) != position + 2 {
            return None;
        }
        position += 2;
        let more = at(bytes, position) == separator && at(bytes, position + 1).is_ascii_hexdigit();
        if !more {
            // A separator that goes on with something else: no address.
            let next = at(bytes, position);
            let longer =
                next.is_ascii_alphanumeric() || next == b'<' || next == separator && at(bytes, position + 1) > b' ';
            return (group >= 6 && !longer).then_some(position);
        }
        position += 1;
    }
    None
}

/// Four decimal parts up to 255, with a port if there is one.
pub(super) fn ipv4(bytes: &[u8], start: usize) -> Option<usize> {
    let mut position = start;
    for part in 0..4 {
        if part > 0 {
            if at(bytes, position) != b'.' {
                return None;
            }
            position += 1;
        }
        let end = run_within(bytes, position, 4, |byte| byte.is_ascii_digit());
        let text = bytes.get(position..end)?;
        let value = text.iter().fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        if text.is_empty() || text.len() > 3 || value > 255 {
            return None;
        }
        position = end;
    }
    let next = at(bytes, position);
    if next.is_ascii_alphanumeric() || (next == b'.' && at(bytes, position + 1).is_ascii_digit()) {
        return None;
    }
    Some(port(bytes, position))
}

/// The end of `:port` at `position`, or `position` when there is none.
fn port(bytes: &[u8], position: usize) -> usize {
    let end = run_within(bytes, position + 1, 6, |byte| byte.is_ascii_digit());
    let length = end.saturating_sub(position + 1);
    let whole = at(bytes, position) == b':' && (1..=5).contains(&length) && !at(bytes, end).is_ascii_alphanumeric();
    if whole { end } else { position }
}

/// Eight groups, or fewer around one `::`; an IPv4 tail, a zone (`%eth0`) and a port after eight groups belong to it.
///
/// `dead::beef` is a path of C++ or Rust: without `::` at the start, the first group must hold a digit.
pub(super) fn ipv6(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut position, mut groups, mut doubled, mut digit) = (start, 0usize, false, false);
    if at(bytes, start) == b':' {
        if at(bytes, start + 1) != b':' {
            return None;
        }
        doubled = true;
        position += 2;
    }
    loop {
        if doubled
            && groups > 0
            && let Some(end) = ipv4(bytes, position)
        {
            return Some(end);
        }
        let end = run_within(bytes, position, 5, |byte| byte.is_ascii_hexdigit());
        if end == position {
            break;
        }
        if end - position > 4 || at(bytes, end).is_ascii_alphanumeric() || at(bytes, end) == b'_' {
            return None;
        }
        digit |= (position..end).any(|index| at(bytes, index).is_ascii_digit());
        if groups == 0 && !digit && !doubled {
            return None;
        }
        groups += 1;
        position = end;
        if groups == 8 || at(bytes, position) != b':' {
            break;
        }
        if at(bytes, position + 1) == b':' {
            if doubled {
                break;
            }
            doubled = true;
            position += 2;
        } else if at(bytes, position + 1).is_ascii_hexdigit() {
            position += 1;
        } else {
            break;
        }
    }
    if !digit || !(groups == 8 && !doubled || doubled && (1..8).contains(&groups)) {
        return None;
    }
    if at(bytes, position) == b'%' {
        position = run_within(bytes, position + 1, 16, |byte| byte.is_ascii_alphanumeric());
    }
    Some(if groups == 8 { port(bytes, position) } else { position })
}
