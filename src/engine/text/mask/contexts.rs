//! Masks what a sign announces: e-mail addresses, object hashes, query strings, SQL literals, IPv6 addresses.
//!
//! Enters: a [`Masker`] at the sign. Leaves: the masker behind the sign, or behind all that it announces.

use super::Masker;
use super::addresses::ipv6;
use super::shapes::{at, before, is_compound, run, run_within};

impl Masker<'_, '_> {
    /// `someone@example.org`, `user@host`, or Java's `Object@1b2c3d`.
    pub(super) fn at_sign(&mut self) {
        let start = self.position;
        let bytes = self.bytes;
        let host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        let mut end = run_within(bytes, start + 1, 254, host);
        // Where a name goes on with a placeholder it was no address when its digits were still there.
        let whole = at(bytes, end) != b'<';
        while end > start + 1 && !before(bytes, end).is_ascii_alphanumeric() {
            end -= 1;
        }
        let domain = bytes.get(start + 1..end).unwrap_or_default();
        let top = domain.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
        let address = whole && top.len() >= 2 && top.len() < domain.len() && top.iter().all(u8::is_ascii_alphabetic);
        self.flush();
        if address && self.out.len() > self.local {
            self.out.truncate(self.local);
            return self.emit("<email>", end);
        }
        self.position = start + 1;
        let hash = run_within(bytes, start + 1, 17, |byte| byte.is_ascii_hexdigit());
        let digit = (start + 1..hash).any(|index| at(bytes, index).is_ascii_digit());
        let ended = !is_compound(at(bytes, hash)) && at(bytes, hash) != b'.';
        if (4..=16).contains(&(hash - start - 1)) && digit && ended {
            self.emit("<hex>", hash);
        }
    }

    /// `?key=value&key=value` behind a path: the keys stay, the values go; a key that is repeated is told once.
    pub(super) fn query(&mut self) {
        let bytes = self.bytes;
        let name = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']');
        let value = |byte: u8| {
            !matches!(
                byte,
                0..=b' ' | 0x7f | b'&' | b'"' | b'\'' | b'<' | b'>' | b'`' | b')' | b',' | b'|'
            )
        };
        self.flush();
        let mut start = self.position;
        let mut previous: &[u8] = b"";
        self.position += 1;
        if !matches!(self.out.as_bytes().last(), None | Some(b' ')) {
            loop {
                let equals = run_within(bytes, start + 1, 64, name);
                let key = bytes.get(start + 1..equals).unwrap_or_default();
                // More hyphens are those of a UUID or a MAC address.
                let named = key.iter().filter(|byte| **byte == b'-').count() <= 3;
                if key.is_empty() || !named || at(bytes, equals) != b'=' {
                    break;
                }
                let end = run(bytes, equals + 1, value);
                if end > equals + 1 && key == previous {
                    self.skip_to(end);
                } else {
                    self.position = equals + 1;
                    if end > equals + 1 {
                        self.emit("<s>", end);
                    }
                    previous = key;
                }
                start = end;
                if at(bytes, start) != b'&' {
                    break;
                }
            }
        }
    }

    /// Behind an SQL verb a string literal is a value, whatever it says. Elsewhere quoted words stay.
    pub(super) fn apostrophe(&mut self) {
        self.flush();
        if !self.sql {
            let unread = self.out.as_bytes().get(self.sql_read..).unwrap_or_default();
            self.sql = unread
                .windows(6)
                .any(|word| matches!(word, b"SELECT" | b"INSERT" | b"UPDATE" | b"DELETE" | b"VALUES"));
            self.sql_read = self.out.len().saturating_sub(5);
        }
        self.position += 1;
        if !self.sql {
            return;
        }
        let start = self.position;
        let close = run(self.bytes, start, |byte| byte != b'\'');
        if at(self.bytes, close) == b'\'' && close > start {
            self.emit("<s>", close);
            self.position = close + usize::from(!self.full);
        }
    }

    pub(super) fn double_colon(&mut self) {
        let start = self.position;
        let previous = before(self.bytes, start);
        if !previous.is_ascii_alphanumeric()
            && previous != b':'
            && previous < 0x80
            && let Some(end) = ipv6(self.bytes, start)
        {
            return self.emit("<ip>", end);
        }
        self.position = start + 2;
    }
}
