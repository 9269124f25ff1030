//! Masks what is nobody's business: passwords, tokens and keys, by the word that announces them or by an issuer's mark.
//!
//! Enters: a [`Masker`] at a separator, a space or the end of a long word. Leaves: the masker behind the secret.
//!
//! Known: values of keys like `password`, `token`, `api_key` in any notation (`k=v`, `k: v`, JSON, quoted), credentials behind
//! `Bearer` and `Authorization`, user and password of a URL, PEM blocks, web tokens, and keys with the marks of AWS, GitHub,
//! GitLab, OpenAI, Stripe, Slack, Google, Hugging Face, npm and PyPI. Card and account numbers are numbers, and masked as such.
//! Promise: no part of such a value is written. Absent on purpose: secrets that neither a word nor a mark nor their
//! shape gives away; `masking_rules` are for those.

use memchr::memchr;

use super::shapes::{at, before, is_compound, run, run_within};
use super::{MAX_TOKEN_BYTES, Masker};

/// Words before the credentials in a header.
const SCHEMES: [&str; 7] = ["Bearer", "Basic", "Digest", "Token", "ApiKey", "Negotiate", "NTLM"];

/// How keys begin that carry their issuer's mark.
const MARKS: [&str; 22] = [
    "eyJ",
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxs-",
    "AIza",
    "hf_",
    "npm_",
    "pypi-",
];

/// Shortest key with an issuer's mark.
const MIN_KEY_BYTES: usize = 16;

/// Values that are none.
const NOTHING: [&str; 7] = ["null", "none", "nil", "true", "false", "undefined", "empty"];

/// Is the space behind the word `Bearer`?
#[inline]
pub(super) fn announces(bytes: &[u8], space: usize) -> bool {
    before(bytes, space) | 0x20 == b'r' && ends_with(bytes.get(..space).unwrap_or_default(), "bearer")
}

/// The end of the token from `start` that goes on at least to `end`, if a part of it bears an issuer's mark.
pub(super) fn issued(bytes: &[u8], start: usize, end: usize) -> Option<usize> {
    let token = bytes.get(start..end)?;
    if token.len() < MIN_KEY_BYTES || !(0..=token.len() - MIN_KEY_BYTES).any(|index| is_marked(token, index)) {
        return None;
    }
    let more = |byte: u8| is_compound(byte) || matches!(byte, b'+' | b'/' | b'=' | b'.' | b'~');
    let mut after = run(bytes, end, more);
    // A full stop that ends a sentence is not the token's.
    while after > end && before(bytes, after) == b'.' {
        after -= 1;
    }
    Some(after)
}

/// Does a key with its issuer's mark begin at `index`, and is it none of the names that begin alike (`npm_config_cache`)?
fn is_marked(token: &[u8], index: usize) -> bool {
    let part = token.get(index..).unwrap_or_default();
    let first = INITIAL.get(usize::from(at(token, index))).copied().unwrap_or(false);
    if !first || before(token, index).is_ascii_alphabetic() {
        return false;
    }
    let Some(mark) = MARKS.into_iter().find(|mark| part.starts_with(mark.as_bytes())) else {
        return false;
    };
    let key = part.get(mark.len()..).unwrap_or_default();
    let unbroken = key.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let drawn = key
        .iter()
        .any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    drawn && (unbroken >= 16 || !mark.ends_with('_') && !mark.starts_with('A'))
}

/// First letters of marks.
#[allow(clippy::indexing_slicing)] // evaluated by the compiler, which would refuse an index out of bounds
const INITIAL: [bool; 256] = {
    let mut initial = [false; 256];
    let mut index = 0;
    while index < MARKS.len() {
        initial[MARKS[index].as_bytes()[0] as usize] = true;
        index += 1;
    }
    initial
};

fn ends_with(bytes: &[u8], word: &str) -> bool {
    let tail = bytes.len().checked_sub(word.len()).and_then(|from| bytes.get(from..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(word.as_bytes()))
}

fn blank(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

/// The bytes without the quotes and spaces that stand between a key and its separator.
#[inline]
fn key(bytes: &[u8]) -> &[u8] {
    let length = bytes
        .iter()
        .rposition(|byte| !blank(*byte) && !matches!(byte, b'"' | b'\'' | b'\\'));
    bytes.get(..length.map_or(0, |last| last + 1)).unwrap_or_default()
}

/// How a key announces a secret, if it does.
#[inline]
fn announcing(key: &[u8]) -> Option<Announced> {
    // Of most keys the last two letters say that they announce none.
    let last = key.last_chunk::<2>()?.map(|byte| byte | 0x20);
    let (announced, words): (_, &[&str]) = match &last {
        b"rd" => (Announced::Surely, &["password"]),
        b"wd" => (Announced::Surely, &["passwd", "pwd"]),
        b"se" => (Announced::Surely, &["passphrase"]),
        b"de" => (Announced::Surely, &["passcode"]),
        b"ey" => (Announced::Surely, &KEYS),
        b"en" => (Announced::Perhaps, &["token"]),
        b"et" => (Announced::Perhaps, &["secret"]),
        b"on" => (Announced::Perhaps, &["authorization"]),
        b"er" => (Announced::Perhaps, &["bearer"]),
        b"al" => (Announced::Perhaps, &["credential"]),
        b"ls" => (Announced::Perhaps, &["credentials"]),
        b"ie" => (Announced::Header, &["cookie"]),
        _ => return None,
    };
    words.iter().any(|word| ends_with(key, word)).then_some(announced)
}

/// Keys that are secret; most are not.
const KEYS: [&str; 10] = [
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "accesskey",
    "access-key",
    "secret_key",
    "secretkey",
    "private_key",
    "accountkey",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Announced {
    Surely,
    /// Unless prose follows a colon, as in `unexpected token: end of file`: a plain word stays.
    Perhaps,
    /// The same, and only before a colon.
    Header,
}

/// A value in a text.
struct Extent {
    start: usize,
    end: usize,
    quoted: bool,
}

impl Masker<'_, '_> {
    /// Finds the next `=` behind a key that announces a secret; there are many more that do not.
    pub(super) fn next_assignment(&mut self) {
        let mut from = self.position;
        self.assignment = self.bytes.len();
        while let Some(index) = memchr(b'=', self.bytes.get(from..).unwrap_or_default()) {
            let sign = from + index;
            let announced = announcing(key(self.bytes.get(..sign).unwrap_or_default()));
            if announced.is_some_and(|announced| announced != Announced::Header) {
                self.assignment = sign;
                return;
            }
            from = sign + 1;
        }
    }

    /// At `=` or `:` behind a key that announces a secret: masks the value.
    pub(super) fn announced_secret(&mut self) -> bool {
        let bytes = self.bytes;
        let separator = self.position;
        if announcing(key(bytes.get(..separator).unwrap_or_default())).is_none() {
            return false;
        }
        // What was written decides: the key itself may have been part of a value.
        self.flush();
        let Some(announced) = announcing(key(self.out.as_bytes())) else {
            return false;
        };
        let colon = at(bytes, separator) == b':';
        let arrow = usize::from(matches!(at(bytes, separator + 1), b'=' | b'>'));
        let behind = separator + 1 + arrow;
        let spaced = blank(at(bytes, behind));
        let Some(value) = self.value(behind) else { return false };
        let prose = announced != Announced::Surely && colon && spaced && !value.quoted;
        if prose && self.is_word(&value) {
            return false;
        }
        self.position = behind;
        self.mask_value(&value)
    }

    /// At the space behind `Bearer`: masks what follows, unless it is a word.
    pub(super) fn credential(&mut self) -> bool {
        self.flush();
        if !ends_with(self.out.as_bytes(), "bearer") {
            return false;
        }
        match self.value(self.position) {
            Some(value) if !self.is_word(&value) => self.mask_value(&value),
            _ => false,
        }
    }

    /// Writes what stands before the value, folded, and the placeholder.
    fn mask_value(&mut self, value: &Extent) -> bool {
        if blank(at(self.bytes, self.position)) {
            self.flush();
            self.space();
        }
        // A scheme (`Basic`, `Bearer`) and the spaces behind it stay.
        let mut start = self.position;
        while start < value.start {
            if blank(at(self.bytes, start)) {
                self.position = start;
                self.space();
                start = self.position;
            } else {
                start += 1;
            }
        }
        if !self.full {
            self.position = value.start;
            self.emit("<secret>", value.end);
        }
        self.local = self.out.len();
        true
    }

    /// The value from `start` on, if there is one to mask.
    fn value(&self, start: usize) -> Option<Extent> {
        let bytes = self.bytes;
        let mut start = run(bytes, start, blank);
        if matches!(at(bytes, start), b'[' | b'(') {
            start += 1;
        }
        let escaped = usize::from(at(bytes, start) == b'\\' && matches!(at(bytes, start + 1), b'"' | b'\''));
        let quote = at(bytes, start + escaped);
        let quoted = matches!(quote, b'"' | b'\'');
        let end = if quoted {
            start += escaped + 1;
            closing(bytes, start, quote, escaped == 1)
        } else {
            let end = self.unquoted_end(start);
            let word = bytes.get(start..end).unwrap_or_default();
            let scheme = SCHEMES
                .into_iter()
                .any(|scheme| word.eq_ignore_ascii_case(scheme.as_bytes()));
            let next = run(bytes, end, blank);
            let further = self.unquoted_end(next);
            if scheme && placeholder(bytes, next).is_some() {
                return None;
            }
            if scheme && next > end && further > next {
                start = next;
                further
            } else {
                end
            }
        };
        let value = bytes.get(start..end)?;
        let nothing = NOTHING
            .into_iter()
            .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
            || value.iter().all(|byte| *byte == b'*')
            || matches!(value, [b'{', ..]) && !quoted
            || placeholder(bytes, start).is_some();
        (!nothing).then_some(Extent { start, end, quoted })
    }

    /// The end of a value without quotes: at a space, a quote, a placeholder, or punctuation that ends it.
    fn unquoted_end(&self, start: usize) -> usize {
        let bytes = self.bytes;
        let mut end = start;
        loop {
            match at(bytes, end) {
                0..=b' ' | 0x7f | b'"' | b'\'' | b'&' | b';' => break,
                b'<' if placeholder(bytes, end).is_some() => break,
                b',' | b')' | b']' | b'}'
                    if matches!(
                        at(bytes, end + 1),
                        0..=b' ' | 0x7f | b'"' | b'\'' | b',' | b';' | b')' | b']' | b'}'
                    ) =>
                {
                    break;
                }
                b',' if at(bytes, run(bytes, end + 1, is_compound)) == b'=' => break,
                _ => end += 1,
            }
        }
        end
    }

    /// Is the value a word of prose: letters, small but for the first, and what ends a sentence?
    fn is_word(&self, value: &Extent) -> bool {
        let word = self.bytes.get(value.start..value.end).unwrap_or_default();
        let word = word
            .strip_suffix(b".")
            .or_else(|| word.strip_suffix(b":"))
            .unwrap_or(word);
        let (first, rest) = word.split_first().unwrap_or((&b' ', b""));
        first.is_ascii_alphabetic() && rest.iter().all(u8::is_ascii_lowercase)
    }

    /// At the colon of `scheme://user:password@host`: masks user and password.
    pub(super) fn user_info(&mut self) -> bool {
        let bytes = self.bytes;
        let start = self.position + 3;
        if bytes.get(self.position..start) != Some(b"://") {
            return false;
        }
        let end = run_within(bytes, start, MAX_TOKEN_BYTES, |byte| {
            !blank(byte) && !matches!(byte, b'"' | b'\'' | b'<' | b'>')
        });
        let url = bytes.get(start..end).unwrap_or_default();
        let Some(sign) = url.iter().rposition(|byte| *byte == b'@') else {
            return false;
        };
        let user_info = url.get(..sign).unwrap_or_default();
        // A slash should not be in a password, but is; behind a port it begins a path.
        let slash = run(user_info, 0, |byte| !matches!(byte, b'/' | b'?' | b'#'));
        let host = user_info.get(..slash).unwrap_or_default();
        let Some(colon) = host.iter().position(|byte| *byte == b':') else {
            return false;
        };
        let port = host.get(colon + 1..).unwrap_or_default();
        if !port.is_empty() && port.iter().all(u8::is_ascii_digit) && slash < user_info.len() {
            return false;
        }
        self.replace("<secret>", start, start + sign);
        self.local = self.out.len();
        true
    }

    /// At the first hyphen of a PEM block: masks it to its end, or, cut off, to the end of the text.
    pub(super) fn key_block(&mut self) -> bool {
        const BEGIN: &[u8] = b"-----BEGIN ";
        const END: &[u8] = b"-----END ";
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        if !rest.starts_with(BEGIN) {
            return false;
        }
        let end = rest
            .windows(END.len())
            .position(|window| window == END)
            .map_or(rest.len(), |end| {
                let name = run(rest, end + END.len(), |byte| byte != b'-');
                run(rest, name, |byte| byte == b'-')
            });
        self.emit("<secret>", self.position + end);
        true
    }
}

/// Looks for a key of AWS in a long word without a digit: it is of capitals, and one in thirty has no digit.
///
/// Keys of the other issuers have so many characters that they all have one, and are found by it.
#[inline]
pub(super) fn capital_key(bytes: &[u8], word: usize, end: usize) -> Option<(usize, usize)> {
    // Twenty capitals in a row: of every ten bytes one is among them.
    let capital = |index| at(bytes, index).is_ascii_uppercase();
    let sample = (word + 9..end)
        .step_by(10)
        .find(|sample| (sample - 2..sample + 3).all(capital))?;
    let mut start = sample;
    while start > word && capital(start - 1) {
        start -= 1;
    }
    let after = run(bytes, start, |byte| byte.is_ascii_uppercase());
    let token = bytes.get(start..after)?;
    let marked = token.len() == 20 && matches!(token, [b'A', b'K' | b'S', b'I', b'A', ..]);
    let alone = !is_compound(before(bytes, start)) && !is_compound(at(bytes, after));
    (marked && alone).then_some((start, after))
}

/// The end of the string from `start`: its closing quote, or the end of the text.
pub(super) fn closing(bytes: &[u8], start: usize, quote: u8, escaped: bool) -> usize {
    let mut end = start;
    while end < bytes.len() {
        match at(bytes, end) {
            b'\\' if escaped && at(bytes, end + 1) == quote => break,
            b'\\' if escaped => end += 3, // an escaped backslash escapes what follows, itself escaped
            b'\\' => end += 1,
            byte if byte == quote => break,
            _ => {}
        }
        end += 1;
    }
    end.min(bytes.len())
}

/// The end of the placeholder that begins at `start`, if one does.
pub(super) fn placeholder(bytes: &[u8], start: usize) -> Option<usize> {
    if at(bytes, start) != b'<' {
        return None;
    }
    let end = run_within(bytes, start + 1, 31, |byte| byte.is_ascii_lowercase() || byte == b'_');
    (end > start + 1 && at(bytes, end) == b'>').then_some(end + 1)
}
