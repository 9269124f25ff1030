//! What masking reads texts with: bytes, runs of bytes, numbers with units, and what random tokens are made of.
//!
//! Enters: the bytes of a text and a position. Leaves: the position behind what starts there, or its nature.
//! Promise: no allocation, never past the end, work bounded by the length of what is read.
//! Absent on purpose: what is written in a value's place.

/// The byte at `index`, or NUL past the end: NUL is in no shape, so that every look-ahead ends there.
#[inline]
pub(in crate::engine::text) fn at(bytes: &[u8], index: usize) -> u8 {
    bytes.get(index).copied().unwrap_or(0)
}

/// The byte before `index`, or NUL at the start.
#[inline]
pub(super) fn before(bytes: &[u8], index: usize) -> u8 {
    index.checked_sub(1).map_or(0, |previous| at(bytes, previous))
}

/// Bytes of an ASCII word, underscore and hyphen included (base64url, snake and kebab names).
#[allow(clippy::indexing_slicing)] // evaluated by the compiler, which would refuse an index out of bounds
const COMPOUND: [bool; 256] = {
    let mut compound = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        compound[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'_' | b'-');
        byte += 1;
    }
    compound
};

/// Is this a letter or digit of ASCII, an underscore or a hyphen?
#[inline]
pub(super) fn is_compound(byte: u8) -> bool {
    COMPOUND.get(usize::from(byte)).copied().unwrap_or(false)
}

/// End of the run of bytes from `start` on which `accept` holds.
#[inline]
pub(super) fn run(bytes: &[u8], start: usize, accept: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    start + rest.iter().position(|byte| !accept(*byte)).unwrap_or(rest.len())
}

/// The same, at most `limit` bytes long.
#[inline]
pub(in crate::engine::text) fn run_within(
    bytes: &[u8],
    start: usize,
    limit: usize,
    accept: impl Fn(u8) -> bool,
) -> usize {
    let end = bytes.len().min(start.saturating_add(limit));
    run(bytes.get(..end).unwrap_or_default(), start, accept)
}

/// Are there exactly `count` digits from `start` on, and no further one?
pub(super) fn digits(bytes: &[u8], start: usize, count: usize) -> bool {
    run_within(bytes, start, count + 1, |byte| byte.is_ascii_digit()) == start + count
}

/// The end of digits, dotted parts, and an exponent.
pub(super) fn decimal_end(bytes: &[u8], start: usize) -> usize {
    let digit = |byte: u8| byte.is_ascii_digit();
    let mut end = run(bytes, start, digit);
    while at(bytes, end) == b'.' && at(bytes, end + 1).is_ascii_digit() {
        end = run(bytes, end + 1, digit);
    }
    if matches!(at(bytes, end), b'e' | b'E') {
        let signed = end + 1 + usize::from(matches!(at(bytes, end + 1), b'-' | b'+'));
        let exponent = run_within(bytes, signed, 4, digit);
        if exponent > signed && !at(bytes, exponent).is_ascii_alphanumeric() {
            return exponent;
        }
    }
    end
}

/// The end of a number that ends a run, units and all: `12`, `1.5`, `12ms`, `1h30m`, `4.3 KB`.
pub(super) fn quantity(bytes: &[u8], start: usize) -> Option<usize> {
    let mut position = start;
    loop {
        let number = decimal_end(bytes, position);
        let after = at(bytes, number);
        if !after.is_ascii_alphabetic() && after < 0x80 && number > position {
            position = number;
            break;
        }
        if number == position {
            return None;
        }
        let unit = run_within(bytes, number, 5, |byte| byte.is_ascii_alphabetic() || byte >= 0x80);
        if !is_unit(bytes.get(number..unit).unwrap_or_default()) {
            return None;
        }
        position = unit;
        if !at(bytes, position).is_ascii_digit() {
            break;
        }
    }
    if at(bytes, position) == b' ' {
        let unit = run_within(bytes, position + 1, 5, |byte| {
            byte.is_ascii_alphabetic() || byte >= 0x80
        });
        let name = bytes.get(position + 1..unit).unwrap_or_default();
        let whole = !is_compound(at(bytes, unit)) && at(bytes, unit) < 0x80;
        if whole && (name == b"B" || name.len() >= 2 && is_unit(name)) {
            return Some(unit);
        }
    }
    Some(position)
}

/// Units of time and size that programs glue to their numbers, and that change with the magnitude.
fn is_unit(unit: &[u8]) -> bool {
    match unit {
        [] => true,
        [one] => matches!(one, b's' | b'm' | b'h' | b'd' | b'B' | b'b' | b'k' | b'K' | b'M' | b'G'),
        [b'n' | b'u' | b'm', b's'] | [b'K' | b'k' | b'M' | b'G' | b'T', b'B'] | [b'K' | b'M' | b'G', b'i', b'B'] => {
            true
        }
        [0xc2, 0xb5, b's'] | [0xce, 0xbc, b's'] => true, // µs, written with either letter
        _ => matches!(unit, b"sec" | b"secs" | b"min" | b"mins"),
    }
}

/// The end of the groups that go on behind a hash or token at `end`: `-5e`, `-x2k4z` (a pod's), but not `-server`.
pub(super) fn continued(bytes: &[u8], end: usize) -> usize {
    let mut end = end;
    while at(bytes, end) == b'-' {
        let group = run_within(bytes, end + 1, 33, |byte| byte.is_ascii_alphanumeric());
        let text = bytes.get(end + 1..group).unwrap_or_default();
        let digit = text.iter().any(u8::is_ascii_digit);
        let hex = text.iter().all(u8::is_ascii_hexdigit);
        let unspoken = !text
            .iter()
            .any(|byte| matches!(byte.to_ascii_lowercase(), b'a' | b'e' | b'i' | b'o' | b'u' | b'y'));
        if text.is_empty() || text.len() > 32 || !(digit || hex || unspoken) {
            break;
        }
        end = group;
    }
    end
}

/// What the bytes of a word or token are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mixture {
    /// Bytes in all.
    pub length: usize,
    /// Digits seen.
    pub digits: usize,
    /// Maximal runs of digits.
    pub digit_groups: usize,
    /// Changes between neighbours of different class, `Aa` (a capitalised word) not counted.
    pub changes: usize,
    /// An upper-case letter was seen.
    pub upper: bool,
    /// A lower-case letter was seen.
    pub lower: bool,
}

impl Mixture {
    /// Of the bytes from `start` to `end`; hyphens and underscores separate, they are no class of their own.
    pub(super) fn of(bytes: &[u8]) -> Mixture {
        let mut mixture = Mixture {
            length: bytes.len(),
            ..Mixture::default()
        };
        let mut previous = 0u8;
        for byte in bytes {
            let class = match byte {
                b'0'..=b'9' => {
                    mixture.digits += 1;
                    mixture.digit_groups += usize::from(previous != b'0');
                    b'0'
                }
                b'A'..=b'Z' => {
                    mixture.upper = true;
                    b'A'
                }
                b'a'..=b'z' => {
                    mixture.lower = true;
                    b'a'
                }
                _ => 0,
            };
            let changed = class != previous && class != 0 && previous != 0;
            mixture.changes += usize::from(changed && !(previous == b'A' && class == b'a'));
            previous = class;
        }
        mixture
    }

    /// Does an unbroken run of letters and digits look drawn at random rather than named by a person?
    ///
    /// Names change class at word starts (one byte in six) and carry one number; random text changes class at every
    /// second or third byte.
    pub(super) fn is_opaque_run(&self) -> bool {
        match self.length {
            0..8 => false,
            8..16 => self.digit_groups >= 2 && self.changes * 3 >= self.length,
            _ => self.digit_groups >= 2 && self.changes * 4 >= self.length,
        }
    }

    /// Are these hexadecimal digits a hash or an address? Behind other letters (not `whole`) the bar is higher:
    /// a name that ends in hexadecimal letters and a number (`interface12345678`) changes class once only.
    pub(super) fn is_hash(&self, whole: bool) -> bool {
        let both = self.digits > 0 && self.digits < self.length;
        let (long, broken) = (self.length >= 8, self.changes >= 2);
        both && (if whole {
            long || self.length >= 4 && broken
        } else {
            long && broken
        })
    }

    /// The same for a token with hyphens and underscores in it (base64url): all three classes must be there.
    pub(super) fn is_opaque_compound(&self) -> bool {
        self.length >= 16 && self.upper && self.lower && self.digits > 0 && self.changes * 4 >= self.length
    }
}
