//! Protobuf's wire format: a cursor that yields one field after the other.
//!
//! Enters: bytes, and where in them to start. Leaves: field numbers with their payloads; a message's payload is again a
//! cursor over the same bytes, so that a defect deep inside is reported at its offset in the whole request.
//!
//! Promises: what the rules of protobuf's encoding guide (and `prost`) cannot frame is refused: truncated fields,
//! varints over 64 bits, keys over 32 bits, field number 0, the wire types 6 and 7, unpaired groups. Never a panic,
//! never a copy. Deliberately absent: any knowledge of OTLP, see `validate`.

use super::malformed::{Defect, Malformed};

/// Deepest nesting of groups (wire type 3, obsolete since 2008) that is skipped; `prost` stops at 100 as well.
const MAX_GROUP_DEPTH: u32 = 100;

/// A position in a message: `bytes` ends where the message ends, so `at` is the offset in the whole request.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(in crate::engine) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// One field of a message.
#[derive(Copy, Clone, Debug)]
pub(in crate::engine) struct Field<'a> {
    pub number: u32,
    /// Offset of the field's key.
    pub start: usize,
    /// Offset of what follows the key: the length, if there is one.
    pub len_at: usize,
    pub payload: Payload<'a>,
}

/// What a field carries, one variant a wire type.
#[derive(Copy, Clone, Debug)]
pub(in crate::engine) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    /// Its value is never needed.
    Fixed32,
    /// A string, bytes or a message, from its first byte to its last.
    Delimited(Cursor<'a>),
    /// A group, skipped as a whole.
    Group,
}

impl Payload<'_> {
    /// The number of this payload's wire type, as written in a key.
    pub fn wire_type(&self) -> u8 {
        match self {
            Payload::Varint(_) => 0,
            Payload::Fixed64(_) => 1,
            Payload::Delimited(_) => 2,
            Payload::Group => 3,
            Payload::Fixed32 => 5,
        }
    }
}

impl<'a> Cursor<'a> {
    /// A cursor over a whole message.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// A cursor over the message at `start..end` of `bytes`.
    pub fn between(bytes: &'a [u8], start: usize, end: usize) -> Self {
        Cursor {
            bytes: bytes.get(..end).unwrap_or(bytes),
            at: start,
        }
    }

    /// Offset of the next byte.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Offset of the message's end.
    #[inline]
    pub fn end(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes between the cursor and the message's end.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Moves to where `rest`, the end of [`Self::rest`], begins.
    #[inline]
    pub fn skip_to(&mut self, rest: &[u8]) {
        self.at = self.bytes.len().saturating_sub(rest.len());
    }

    /// Reads the next field; `None` at the message's end.
    #[inline(always)]
    pub fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        let start = self.at;
        if start >= self.bytes.len() {
            return Ok(None);
        }
        let (number, wire_type) = self.key()?;
        let len_at = self.at;
        let payload = match wire_type {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => Payload::Delimited(self.delimited()?),
            5 => {
                self.array::<4>()?;
                Payload::Fixed32
            }
            3 => {
                *self = self.after_group(number, MAX_GROUP_DEPTH)?;
                Payload::Group
            }
            _ => return Err(Malformed::new(start, Defect::EndGroup)),
        };
        Ok(Some(Field {
            number,
            start,
            len_at,
            payload,
        }))
    }

    /// Field number and wire type (0 to 5).
    #[inline(always)]
    fn key(&mut self) -> Result<(u32, u8), Malformed> {
        let start = self.at;
        let key = self.varint()?;
        let (Ok(number), wire_type) = (u32::try_from(key).map(|key| key >> 3), (key & 7) as u8) else {
            return Err(Malformed::new(start, Defect::Key));
        };
        if number == 0 || wire_type > 5 {
            return Err(Malformed::new(start, Defect::Key));
        }
        Ok((number, wire_type))
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => {
                let (value, len) = long_varint(self.rest());
                if len == 0 {
                    return Err(self.bad_varint());
                }
                self.at += len;
                Ok(value)
            }
        }
    }

    #[cold]
    fn bad_varint(self) -> Malformed {
        let defect = if self.rest().len() < 10 {
            Defect::Truncated
        } else {
            Defect::Varint
        };
        Malformed::new(self.at, defect)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.rest().first_chunk::<N>() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(Malformed::new(self.at, Defect::Truncated)),
        }
    }

    #[inline(always)]
    fn delimited(&mut self) -> Result<Cursor<'a>, Malformed> {
        let len_at = self.at;
        let len = self.varint()?;
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        match end.and_then(|end| self.bytes.get(..end)) {
            Some(bytes) => {
                let inner = Cursor { bytes, at: self.at };
                self.at = bytes.len();
                Ok(inner)
            }
            None => Err(Malformed::new(len_at, Defect::Truncated)),
        }
    }

    /// The cursor behind the end of the group `number`; recursion is bounded by `depth`.
    #[cold]
    fn after_group(mut self, number: u32, depth: u32) -> Result<Cursor<'a>, Malformed> {
        if depth == 0 {
            return Err(Malformed::new(self.at, Defect::DeepGroup));
        }
        loop {
            let start = self.at;
            let (inner, wire_type) = self.key()?;
            match wire_type {
                0 => drop(self.varint()?),
                1 => drop(self.array::<8>()?),
                2 => drop(self.delimited()?),
                3 => self = self.after_group(inner, depth - 1)?,
                4 if inner == number => return Ok(self),
                5 => drop(self.array::<4>()?),
                _ => return Err(Malformed::new(start, Defect::EndGroup)),
            }
        }
    }
}

/// A varint of several bytes, minimal or not, and its length; length 0 when there is none. Its tenth byte may carry one
/// bit only. By value and without a `Result`, so that the caller's cursor can stay in registers.
#[inline(never)]
fn long_varint(bytes: &[u8]) -> (u64, usize) {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return if index == 9 && byte > 1 {
                (0, 0)
            } else {
                (value, index + 1)
            };
        }
    }
    (0, 0)
}

/// Bytes of `value` as a varint, 1 to 10.
#[inline]
pub(in crate::engine) fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => (usize::BITS - value.leading_zeros()).div_ceil(7) as usize,
    }
}

/// Appends `value` as a varint, as short as possible.
#[inline]
pub(in crate::engine) fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn first(bytes: &[u8]) -> Result<(u32, u8, usize), Defect> {
        let mut cursor = Cursor::new(bytes);
        let field = cursor.next().map_err(|malformed| malformed.defect)?.unwrap();
        Ok((field.number, field.payload.wire_type(), cursor.at()))
    }

    /// Each wire type is passed to its end: (field number, wire type, offset behind it).
    #[test]
    fn passes_every_wire_type() {
        assert_eq!(first(&[0x08, 0x96, 0x01, 0xff]), Ok((1, 0, 3)));
        assert_eq!(first(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8]), Ok((1, 1, 9)));
        assert_eq!(first(&[0x12, 2, 0xff, 0xff, 0xff]), Ok((2, 2, 4)));
        assert_eq!(first(&[0x0d, 1, 2, 3, 4]), Ok((1, 5, 5)));
        assert_eq!(first(&[0x0a, 0]), Ok((1, 2, 2)));
        // A group 1 that holds a varint, a group 2 with a string, and a fixed64.
        let group = [
            0x0b, 0x08, 1, 0x13, 0x12, 1, 0xff, 0x14, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0c,
        ];
        assert_eq!(first(&group), Ok((1, 3, 18)));
    }

    /// Varints may be longer than they need to be, up to ten bytes; keys and lengths are varints too.
    #[test]
    fn superfluous_bytes_are_legal() {
        assert_eq!(first(&[0x8a, 0x80, 0x00, 0x81, 0x00, b'x']), Ok((1, 2, 6)));
        let value = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let mut cursor = Cursor::new(&value);
        assert!(matches!(
            cursor.next(),
            Ok(Some(Field {
                payload: Payload::Varint(u64::MAX),
                ..
            }))
        ));
    }

    /// What cannot be framed, and the defect it is told as.
    #[test]
    fn refuses_what_cannot_be_framed() {
        assert_eq!(first(&[0x08]), Err(Defect::Truncated), "no value");
        assert_eq!(first(&[0x08, 0x80]), Err(Defect::Truncated), "half a varint");
        assert_eq!(first(&[0x09, 1, 2, 3]), Err(Defect::Truncated), "half a fixed64");
        assert_eq!(first(&[0x0d, 1]), Err(Defect::Truncated), "half a fixed32");
        assert_eq!(first(&[0x0a, 2, b'x']), Err(Defect::Truncated), "half a string");
        assert_eq!(first(&[0x0b, 0x08, 1]), Err(Defect::Truncated), "an open group");
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(first(&huge), Err(Defect::Truncated), "a length of 2^64 - 1");
        let bits_65 = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(first(&bits_65), Err(Defect::Varint));
        assert_eq!(first(&[0x80; 11]), Err(Defect::Varint));
        assert_eq!(first(&[0x00, 1]), Err(Defect::Key), "field number 0");
        assert_eq!(first(&[0x0e, 1]), Err(Defect::Key), "wire type 6");
        assert_eq!(
            first(&[0x88, 0x80, 0x80, 0x80, 0x10, 1]),
            Err(Defect::Key),
            "a key of 33 bits"
        );
        assert_eq!(first(&[0x0c]), Err(Defect::EndGroup), "an end without a start");
        assert_eq!(first(&[0x0b, 0x14]), Err(Defect::EndGroup), "the end of another group");
    }

    /// Groups nest up to 100 deep; a hostile million costs no stack.
    #[test]
    fn groups_nest_in_bounds() {
        let nested = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        assert_eq!(first(&nested(100)), Ok((1, 3, 200)));
        assert_eq!(first(&nested(101)), Err(Defect::DeepGroup));
        assert_eq!(first(&nested(1_000_000)), Err(Defect::DeepGroup));
    }

    /// What is written is as long as foretold, as short as possible, and reads back.
    #[test]
    fn varints_written_are_minimal() {
        for shift in 0..64 {
            for value in [(1_usize << shift) - 1, 1 << shift] {
                let mut bytes = Vec::new();
                put_varint(value, &mut bytes);
                assert_eq!(bytes.len(), varint_len(value));
                assert_eq!(bytes.len(), prost::encoding::encoded_len_varint(value as u64));
                assert_eq!(Cursor::new(&bytes).varint(), Ok(value as u64));
            }
        }
    }
}
