//! Masks what begins with a digit: numbers, hashes, opaque tokens, names with numbers in them; and decides what survives.
//!
//! Enters: a [`Masker`] at the first digit of a run. Leaves: the masker behind it. The order of the questions is the rule:
//! time, address, surviving status, opaque token, hash, quantity, name.

use super::addresses::{ipv4, ipv6, mac};
use super::dates::{dated_from, numeric_time, worded_time};
use super::secrets::issued;
use super::shapes::{Mixture, at, before, continued, decimal_end, is_compound, quantity, run, run_within};
use super::{MAX_TOKEN_BYTES, Masker};

impl Masker<'_, '_> {
    /// At the first digit of a token of letters, digits, `_` and `-`: is all of it random text (base64url, JWT)?
    /// If so, it is written as `<id>`.
    pub(super) fn opaque_compound(&mut self, digit: usize) -> bool {
        if digit < self.examined {
            return false;
        }
        let earliest = self.copied.max(digit.saturating_sub(MAX_TOKEN_BYTES));
        let mut start = digit;
        while start > earliest && is_compound(before(self.bytes, start)) {
            start -= 1;
        }
        let end = run_within(self.bytes, digit, MAX_TOKEN_BYTES, is_compound);
        self.examined = end;
        let token = self.bytes.get(start..end).unwrap_or_default();
        if let Some(after) = issued(self.bytes, start, end) {
            self.replace("<secret>", self.web_token_start(start, earliest), after);
            return true;
        }
        let opaque = token.len() >= 12 && Mixture::of(token).is_opaque_compound();
        if let Some((from, after)) = self.blob(start, end, earliest) {
            self.replace("<id>", from, after);
        } else if opaque {
            self.replace("<id>", start, run(self.bytes, end, in_blob));
        }
        self.copied >= end
    }

    /// Where a web token begins whose second part is at `start`: its first part may have no digit.
    fn web_token_start(&self, start: usize, earliest: usize) -> usize {
        let mut from = start.saturating_sub(1);
        if at(self.bytes, from) != b'.' {
            return start;
        }
        while from > earliest && is_compound(before(self.bytes, from)) {
            from -= 1;
        }
        let header = self.bytes.get(from..start).unwrap_or_default();
        if header.starts_with(b"eyJ") { from } else { start }
    }

    /// The base64 that a token is part of: its slashes and plus signs are no separators, if all of it looks random.
    fn blob(&mut self, start: usize, end: usize, earliest: usize) -> Option<(usize, usize)> {
        let bytes = self.bytes;
        let joined = matches!(before(bytes, start), b'+' | b'/') || matches!(at(bytes, end), b'+' | b'/' | b'=');
        // Most parts of paths have no capital.
        let capital = |token: &[u8]| token.iter().any(u8::is_ascii_uppercase);
        if !joined || end <= self.blobs || !bytes.get(start..end).is_some_and(capital) {
            return None;
        }
        let mut from = start;
        while from > earliest && in_blob(before(bytes, from)) {
            from -= 1;
        }
        let after = run_within(bytes, end, MAX_TOKEN_BYTES, in_blob);
        self.blobs = after;
        let whole = bytes.get(from..after).unwrap_or_default();
        let random = whole.len() >= 32 && !whole.starts_with(b"/") && Mixture::of(whole).is_opaque_compound();
        random.then(|| (from, run(bytes, after, in_blob)))
    }

    /// A run that starts with a digit (its sign was left out already).
    pub(super) fn number(&mut self) {
        let start = self.position;
        let bytes = self.bytes;
        let end = run(bytes, start + 1, |byte| byte.is_ascii_digit());
        let (next, length) = (at(bytes, end), end - start);
        let previous = before(bytes, start);
        let free = !previous.is_ascii_alphanumeric() && previous < 0x80;
        if free {
            let timely = match (length, next) {
                (4, b'-' | b'/' | b'.') | (8, b'T' | b'-' | b'_' | b' ') | (1 | 2, b':') => true,
                (1 | 2, b'/' | b'-' | b' ') => at(bytes, end + 1).is_ascii_uppercase(),
                _ => false,
            };
            if timely && let Some(after) = numeric_time(bytes, start) {
                return self.replace("<ts>", dated_from(bytes, start, self.copied), after);
            }
            if length <= 2
                && next == b' '
                && let Some((from, after)) = worded_time(bytes, start, self.copied)
            {
                return self.replace("<ts>", from, after);
            }
            if next == b'.'
                && length <= 3
                && at(bytes, end + 1).is_ascii_digit()
                && previous != b'.'
                && let Some(after) = ipv4(bytes, start)
            {
                return self.emit("<ip>", after);
            }
            if next == b':' && length <= 4 && self.address(start) {
                return;
            }
            if length <= 3 && self.survives(start, end) {
                self.position = end;
                return;
            }
        }
        if (is_compound(next) || behind_token(bytes, start)) && self.opaque_compound(start) {
            return;
        }
        if next.is_ascii_alphabetic() || next == b'-' {
            let hex = run_within(bytes, end, MAX_TOKEN_BYTES, |byte| byte.is_ascii_hexdigit());
            let group = match at(bytes, hex) {
                b':' => hex - start <= 4,
                b'-' if hex - start == 2 => mac(bytes, start).is_some(),
                after => hex - start >= 8 && !after.is_ascii_alphanumeric(),
            };
            if group {
                return self.mixed();
            }
        }
        if free && matches!(length, 8 | 16) && at(bytes, start) == b'0' && !is_compound(next) && next != b'.' {
            return self.emit("<hex>", end); // an address whose digits happen to be decimal
        }
        match quantity(bytes, start) {
            Some(after) => self.emit("<n>", after),
            None if decimal_end(bytes, start) > end => self.emit("<n>", decimal_end(bytes, start)),
            None => self.mixed(),
        }
    }

    /// Writes the MAC or IPv6 address that starts here, if one does.
    fn address(&mut self, start: usize) -> bool {
        if let Some(after) = mac(self.bytes, start) {
            self.replace("<mac>", start, after);
            return true;
        }
        if before(self.bytes, start) != b':'
            && let Some(after) = ipv6(self.bytes, start)
        {
            self.replace("<ip>", start, after);
            return true;
        }
        false
    }

    /// Is the small integer a status that says more than the words around it?
    fn survives(&mut self, start: usize, end: usize) -> bool {
        let next = at(self.bytes, end);
        let ended = match next {
            0..=b' ' | b'"' | b'\'' | b')' | b']' | b'}' | b',' | b';' => true,
            b'.' | b':' => matches!(at(self.bytes, end + 1), 0..=b' '),
            _ => false,
        };
        if !ended {
            return false;
        }
        if !matches!(
            before(self.bytes, start),
            b' ' | b'"' | b'\'' | b':' | b'=' | b'(' | b'[' | b'-'
        ) {
            return false; // `HTTP404`: part of a name
        }
        let digits = self.bytes.get(start..end).unwrap_or_default();
        let value = digits
            .iter()
            .fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        if !matches!(value, 0..256 | 400..600) {
            return false;
        }
        self.flush();
        let written = self.out.as_bytes();
        let joint = |byte: &u8| matches!(byte, b' ' | b'"' | b'\'' | b':' | b'=' | b'(' | b'[');
        let last = written.iter().rposition(|byte| !joint(byte)).map_or(0, |last| last + 1);
        let led = written.get(..last).unwrap_or_default();
        if led.len() == written.len() {
            return false; // `HTTP404`, `status-1`: part of a name
        }
        if !led
            .last()
            .is_some_and(|last| matches!(last | 0x20, b'>' | b's' | b'e' | b'p' | b'r' | b'l' | b'o'))
        {
            return false; // no word below ends like this: most numbers are done here
        }
        let follows = |word: &str| {
            let tail = led.len().checked_sub(word.len()).and_then(|from| led.get(from..));
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(word.as_bytes()))
        };
        if (400..600).contains(&value) {
            return HTTP_STATUS.into_iter().any(follows);
        }
        value < 256 && (digits.len() == 1 || !digits.starts_with(b"0")) && PROCESS_STATUS.into_iter().any(follows)
    }

    /// A run of letters and digits with at least one digit: a hash, a token, or a name with a number in it.
    pub(super) fn mixed(&mut self) {
        let start = self.position;
        let bytes = self.bytes;
        let end = run_within(bytes, start, MAX_TOKEN_BYTES, |byte| byte.is_ascii_alphanumeric());
        let word = bytes.get(start..end).unwrap_or_default();
        let hex_tail = word.iter().rev().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let whole_hex = hex_tail == word.len();
        let next = at(bytes, end);
        let free = !is_compound(before(bytes, start)) && before(bytes, start) < 0x80;
        if free && whole_hex && matches!(next, b':' | b'-') && self.address(start) {
            return;
        }
        let prefixed = word.strip_prefix(b"0x").or_else(|| word.strip_prefix(b"0X"));
        if prefixed.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit)) {
            return self.emit("<hex>", end);
        }
        let tail = Mixture::of(word.get(word.len() - hex_tail..).unwrap_or_default());
        if tail.is_hash(whole_hex) {
            self.name(end - hex_tail);
            return self.emit("<hex>", continued(bytes, end));
        }
        if Mixture::of(word).is_opaque_run() {
            return self.emit("<id>", continued(bytes, end));
        }
        self.name(end);
    }

    /// A name with numbers in it, up to `end`: its letters stay.
    pub(super) fn name(&mut self, end: usize) {
        while self.position < end && !self.full {
            let digits = run_within(self.bytes, self.position, end - self.position, |byte| {
                byte.is_ascii_digit()
            });
            if digits == self.position {
                self.position = run_within(self.bytes, digits, end - digits, |byte| byte.is_ascii_alphabetic());
            } else if digits == end {
                self.emit("<n>", decimal_end(self.bytes, self.position));
            } else {
                self.emit("<n>", digits);
            }
        }
    }
}

/// What an HTTP status follows.
const HTTP_STATUS: [&str; 8] = [
    "http/<n>",
    "status",
    "status_code",
    "statuscode",
    "status code",
    "http",
    "http error",
    "response code",
];

/// What an exit code, a signal or an error number follows.
const PROCESS_STATUS: [&str; 8] = [
    "exit code",
    "exit status",
    "exitcode",
    "exit_code",
    "exited with code",
    "exited with status",
    "signal",
    "errno",
];

/// May the byte be part of base64, either kind, or of what pads it?
fn in_blob(byte: u8) -> bool {
    is_compound(byte) || matches!(byte, b'+' | b'/' | b'=')
}

/// Is what stands before `start` long enough to be a token that goes on there?
pub(super) fn behind_token(bytes: &[u8], start: usize) -> bool {
    let lead = bytes.get(start.saturating_sub(12)..start).unwrap_or_default();
    lead.len() == 12 && lead.iter().rev().all(|byte| is_compound(*byte))
}
