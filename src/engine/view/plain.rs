//! The short way: checks the fields of a record as nearly every sender writes them, in a few comparisons each.
//!
//! Enters: the bytes at a field of a LogRecord. Leaves: the bytes behind the field, when it is certainly in order; `None`
//! says nothing about the field, `validate` then looks at it thoroughly (and finds the defect, if there is one). The same for
//! an attribute of one key and one string.
//!
//! Promises: never says yes where `validate` would say no. Handles one-byte keys and one- and two-byte lengths.
//! Deliberately absent: lists in values, and everything rare.

use super::{KeyMarks, value::Value};

/// Keys on the wire: field number << 3 | wire type.
mod key {
    pub const RECORD_TIME: u8 = 1 << 3 | 1;
    pub const RECORD_SEVERITY: u8 = 2 << 3;
    pub const RECORD_SEVERITY_TEXT: u8 = 3 << 3 | 2;
    pub const RECORD_BODY: u8 = 5 << 3 | 2;
    pub const RECORD_ATTRIBUTE: u8 = 6 << 3 | 2;
    pub const RECORD_DROPPED: u8 = 7 << 3;
    pub const RECORD_FLAGS: u8 = 8 << 3 | 5;
    pub const RECORD_TRACE_ID: u8 = 9 << 3 | 2;
    pub const RECORD_SPAN_ID: u8 = 10 << 3 | 2;
    pub const RECORD_OBSERVED_TIME: u8 = 11 << 3 | 1;
    pub const RECORD_EVENT_NAME: u8 = 12 << 3 | 2;

    pub const KEY_VALUE_KEY: u8 = 1 << 3 | 2;
    pub const KEY_VALUE_VALUE: u8 = 2 << 3 | 2;

    pub const VALUE_STRING: u8 = 1 << 3 | 2;
    pub const VALUE_BOOL: u8 = 2 << 3;
    pub const VALUE_INT: u8 = 3 << 3;
    pub const VALUE_DOUBLE: u8 = 4 << 3 | 1;
    pub const VALUE_BYTES: u8 = 7 << 3 | 2;
}

/// Passes one field of a LogRecord: what follows it. An attribute's key is added to `marks`.
#[inline(always)]
pub(super) fn record_field<'a>(bytes: &'a [u8], marks: &mut KeyMarks) -> Option<&'a [u8]> {
    let (&first, rest) = bytes.split_first()?;
    match first {
        key::RECORD_ATTRIBUTE => {
            let (attribute, rest) = delimited(rest)?;
            marks.add(attribute_marks(attribute)?);
            Some(rest)
        }
        key::RECORD_TIME | key::RECORD_OBSERVED_TIME => rest.get(8..),
        key::RECORD_SEVERITY | key::RECORD_DROPPED => match rest {
            [0..=0x7f, rest @ ..] => Some(rest),
            _ => None,
        },
        key::RECORD_BODY => {
            let (value, rest) = delimited(rest)?;
            is_plain_value(value).then_some(rest)
        }
        key::RECORD_SEVERITY_TEXT | key::RECORD_TRACE_ID | key::RECORD_SPAN_ID | key::RECORD_EVENT_NAME => {
            Some(delimited(rest)?.1)
        }
        key::RECORD_FLAGS => rest.get(4..),
        _ => None,
    }
}

/// Passes one attribute of a LogRecord, whatever it holds: what follows it.
#[inline(always)]
pub(super) fn skip_attribute(bytes: &[u8]) -> Option<&[u8]> {
    let [key::RECORD_ATTRIBUTE, rest @ ..] = bytes else {
        return None;
    };
    Some(delimited(rest)?.1)
}

/// A KeyValue of a key and one plain value, and nothing else.
#[inline(always)]
fn attribute_marks(attribute: &[u8]) -> Option<KeyMarks> {
    let (name, value) = key_value(attribute)?;
    is_plain_value(value).then(|| KeyMarks::of(name))
}

/// The key and the value's bytes of a KeyValue of one of each, and nothing else.
#[inline(always)]
pub(super) fn key_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [key::KEY_VALUE_KEY, rest @ ..] = bytes else {
        return None;
    };
    let (name, rest) = delimited(rest)?;
    let [key::KEY_VALUE_VALUE, rest @ ..] = rest else {
        return None;
    };
    let (value, rest) = delimited(rest)?;
    rest.is_empty().then_some((name, value))
}

/// An AnyValue of one string, and nothing else.
#[inline(always)]
pub(super) fn value(bytes: &[u8]) -> Option<Value<'_>> {
    let [key::VALUE_STRING, rest @ ..] = bytes else {
        return None;
    };
    match delimited(rest) {
        Some((text, [])) => Some(Value::String(text)),
        _ => None,
    }
}

/// An AnyValue of one scalar, and nothing else.
#[inline(always)]
fn is_plain_value(value: &[u8]) -> bool {
    match value {
        [key::VALUE_STRING | key::VALUE_BYTES, rest @ ..] => matches!(delimited(rest), Some((_, []))),
        // Up to nine bytes any varint fits 64 bits.
        [key::VALUE_INT, more @ .., last] => more.len() <= 8 && *last < 0x80 && more.iter().all(|byte| *byte >= 0x80),
        [key::VALUE_BOOL, 0..=0x7f] => true,
        [key::VALUE_DOUBLE, rest @ ..] => rest.len() == 8,
        _ => false,
    }
}

/// Splits off a length and that many bytes.
#[inline(always)]
fn delimited(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match *bytes {
        [len @ 0..=0x7f, ref rest @ ..] => rest.split_at_checked(usize::from(len)),
        [low, high @ 0..=0x7f, ref rest @ ..] => {
            rest.split_at_checked(usize::from(low & 0x7f) | usize::from(high) << 7)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::build::{attribute, delimited, fixed64, text, varint};
    use super::*;

    fn passes(field: &[u8]) -> bool {
        let bytes = [field, b"rest"].concat();
        let mut marks = KeyMarks::NONE;
        match record_field(&bytes, &mut marks) {
            Some(rest) => {
                assert_eq!(rest, b"rest");
                true
            }
            None => false,
        }
    }

    /// What nearly every sender writes is passed here, to its very end.
    #[test]
    fn passes_plain_fields() {
        let value = |value: Vec<u8>| delimited(6, [delimited(1, "key"), delimited(2, value)].concat());
        for len in [0, 1, 127, 128, 5_000] {
            let text = "x".repeat(len);
            assert!(passes(&attribute("key", &text)) && passes(&delimited(5, delimited(1, text))));
        }
        for plain in [
            varint(2, 1),
            varint(3, 0),
            varint(3, (1 << 63) - 1),
            fixed64(4, 0),
            delimited(7, "x"),
        ] {
            assert!(passes(&value(plain)));
        }
        assert!(passes(&fixed64(1, 7)) && passes(&fixed64(11, 7)) && passes(&varint(2, 9)) && passes(&varint(7, 0)));
        for number in [3, 9, 10, 12] {
            assert!(passes(&delimited(number, "x")));
        }
    }

    /// Whatever is out of the ordinary, good or bad, is left to the thorough check.
    #[test]
    fn leaves_the_rest() {
        let value = |value: &[u8]| delimited(6, [delimited(1, "key"), delimited(2, value)].concat());
        for odd in [
            value(&[]),
            value(&[0x18]),
            value(&[0x18, 0x80]),
            value(&[0x18, 0x01, 0x01]),
            value(&varint(3, usize::MAX)),
            value(&[0x10, 0x80, 0x01]),
            value(&[0x21, 1, 2]),
            value(&[0x0a, 2, b'x']),
            value(&[0x0a, 0, 0x0a, 0]),
            value(&delimited(5, "")),
            delimited(6, delimited(1, "key")),
            delimited(
                6,
                [
                    delimited(1, "key"),
                    delimited(2, text("x")),
                    delimited(1, "another key"),
                ]
                .concat(),
            ),
            delimited(
                6,
                [delimited(1, "key"), delimited(2, text("x")), vec![0x0a, 9]].concat(),
            ),
            delimited(6, [delimited(2, text("x")), delimited(1, "key")].concat()),
            delimited(99, "unknown"),
            vec![0xb2, 0x00, 0x00],
        ] {
            assert!(!passes(&odd), "{odd:?}");
        }
    }
}
