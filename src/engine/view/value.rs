//! AnyValue, read lazily: what a body or an attribute says.
//!
//! Enters: bytes that may hold an AnyValue in several pieces. Leaves: [`Value`], whose lists are read as they are iterated.
//!
//! Promises: protobuf's merge rules, exactly: of several variants of the oneof the last wins, pieces of one list are
//! concatenated. This needs no allocation, because the elements of a repeated field are always contiguous: only the value
//! itself (repeated `body` or `KeyValue.value`) and the list directly in it can be in pieces.
//! Constant stack: a list inside a list is only read when its owner asks for it. Deliberately absent: UTF-8 (the reader's
//! business) and a bound on depth: who recurses into lists must count, see `MAX_DEPTH`.

use super::plain;
use super::wire::{Cursor, Payload};

/// An AnyValue. Strings are bytes: OTLP wants UTF-8, senders do not always comply.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Absent, set to nothing, or a string of the profiles' string table, which logs do not have.
    Empty,
    /// Text, perhaps not UTF-8.
    String(&'a [u8]),
    /// True or false.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A 64-bit float; may be infinite or NaN.
    Double(f64),
    /// Values in order.
    Array(ValueList<'a>),
    /// Keys with values, in order; keys may repeat.
    Map(KeyValueList<'a>),
    /// Bytes that are not text.
    Bytes(&'a [u8]),
    /// Not readable: only at depths beyond `MAX_DEPTH`, where nothing was checked.
    Malformed,
}

/// The elements of an array, read while iterating.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct ValueList<'a>(Pieces<'a>);

/// The entries of a map, read while iterating.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct KeyValueList<'a>(Pieces<'a>);

impl<'a> ValueList<'a> {
    /// The elements, in order. An unreadable rest is one [`Value::Malformed`].
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        Elements::new(self.0).map(|element| match element {
            Some(bytes) => Value::read(Source {
                container: bytes,
                via: None,
            }),
            None => Value::Malformed,
        })
    }
}

impl<'a> KeyValueList<'a> {
    /// The entries, in order, as (key, value). An unreadable rest is one entry with [`Value::Malformed`].
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        Elements::new(self.0).map(|element| match element {
            Some(bytes) => read_key_value(bytes),
            None => (&[][..], Value::Malformed),
        })
    }

    /// The value of the first entry with this key.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.iter()
            .find(|(name, _)| *name == key.as_bytes())
            .map(|(_, value)| value)
    }
}

/// Reads a KeyValue: the last `key` wins, the pieces of `value` merge.
pub(in crate::engine) fn read_key_value(bytes: &[u8]) -> (&[u8], Value<'_>) {
    if let Some((key, value)) = plain::key_value(bytes)
        && let Some(value) = plain::value(value)
    {
        return (key, value);
    }
    (
        last_key(bytes),
        Value::read(Source {
            container: bytes,
            via: Some(KEY_VALUE_VALUE),
        }),
    )
}

/// The key of a KeyValue; empty when it has none.
pub(in crate::engine) fn last_key(bytes: &[u8]) -> &[u8] {
    if let Some((key, _)) = plain::key_value(bytes) {
        return key;
    }
    let mut cursor = Cursor::new(bytes);
    let mut key = &[][..];
    while let Ok(Some(field)) = cursor.next() {
        if let (1, Payload::Delimited(inner)) = (field.number, field.payload) {
            key = inner.rest();
        }
    }
    key
}

/// Field number of `KeyValue.value`.
const KEY_VALUE_VALUE: u32 = 2;
/// Field numbers of the lists in AnyValue.
const ARRAY: u32 = 5;
const MAP: u32 = 6;

/// Where an AnyValue is: `container` itself, or all occurrences of field `via` in it, merged.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) struct Source<'a> {
    pub container: &'a [u8],
    pub via: Option<u32>,
}

impl<'a> Value<'a> {
    /// Reads the AnyValue at `source`.
    pub(super) fn read(source: Source<'a>) -> Value<'a> {
        if source.via.is_none()
            && let Some(value) = plain::value(source.container)
        {
            return value;
        }
        Self::merged(source)
    }

    /// By protobuf's rules, whatever the pieces.
    fn merged(source: Source<'a>) -> Value<'a> {
        let mut variants = Variants::new(source);
        let mut value = Value::Empty;
        // Of the variants seen, how many came before the list that `value` is, and how many pieces that list has.
        let (mut seen, mut before, mut pieces) = (0_u32, 0_u32, 0_u32);
        let mut last = 0;
        loop {
            let (number, payload) = match variants.next() {
                Ok(Some(variant)) => variant,
                Ok(None) => break,
                Err(Unreadable) => return Value::Malformed,
            };
            if number != last {
                (last, before, pieces) = (number, seen, 0);
            }
            seen += 1;
            pieces += 1;
            value = match (number, payload) {
                (1, Payload::Delimited(inner)) => Value::String(inner.rest()),
                (2, Payload::Varint(bits)) => Value::Bool(bits != 0),
                (3, Payload::Varint(bits)) => Value::Int(bits as i64),
                (4, Payload::Fixed64(bits)) => Value::Double(f64::from_bits(bits)),
                (ARRAY, Payload::Delimited(inner)) => Value::Array(ValueList(Pieces::One(inner.rest()))),
                (MAP, Payload::Delimited(inner)) => Value::Map(KeyValueList(Pieces::One(inner.rest()))),
                (7, Payload::Delimited(inner)) => Value::Bytes(inner.rest()),
                (8, Payload::Varint(_)) => Value::Empty,
                _ => return Value::Malformed,
            };
        }
        match value {
            Value::Array(_) if pieces > 1 => Value::Array(ValueList(Pieces::Many { source, skip: before })),
            Value::Map(_) if pieces > 1 => Value::Map(KeyValueList(Pieces::Many { source, skip: before })),
            value => value,
        }
    }
}

/// Bytes that were too deep to be checked turned out not to be protobuf.
struct Unreadable;

/// Walks the oneof's fields of an AnyValue, across its pieces.
struct Variants<'a> {
    container: Cursor<'a>,
    via: Option<u32>,
    piece: Cursor<'a>,
}

impl<'a> Variants<'a> {
    fn new(source: Source<'a>) -> Self {
        let (whole, none) = (Cursor::new(source.container), Cursor::new(&[]));
        let (container, piece) = if source.via.is_some() {
            (whole, none)
        } else {
            (none, whole)
        };
        Variants {
            container,
            via: source.via,
            piece,
        }
    }

    fn next(&mut self) -> Result<Option<(u32, Payload<'a>)>, Unreadable> {
        loop {
            while let Some(field) = self.piece.next().map_err(|_| Unreadable)? {
                if (1..=8).contains(&field.number) {
                    return Ok(Some((field.number, field.payload)));
                }
            }
            let Some(field) = self.container.next().map_err(|_| Unreadable)? else {
                return Ok(None);
            };
            if Some(field.number) == self.via {
                let Payload::Delimited(piece) = field.payload else {
                    return Err(Unreadable);
                };
                self.piece = piece;
            }
        }
    }
}

/// The bytes of an ArrayValue or KeyValueList.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Pieces<'a> {
    /// In one piece: all but always.
    One(&'a [u8]),
    /// All list variants of the value at `source` but for its first `skip` variants, which were of another kind.
    Many { source: Source<'a>, skip: u32 },
}

/// Walks the elements (field 1) of a list, across its pieces; `None` stands for an unreadable rest.
struct Elements<'a> {
    piece: Cursor<'a>,
    more: Variants<'a>,
}

impl<'a> Elements<'a> {
    fn new(pieces: Pieces<'a>) -> Self {
        let empty = Source {
            container: &[],
            via: None,
        };
        match pieces {
            Pieces::One(list) => Elements {
                piece: Cursor::new(list),
                more: Variants::new(empty),
            },
            Pieces::Many { source, skip } => {
                let mut more = Variants::new(source);
                for _ in 0..skip {
                    // Read before, when the value was; an error would show again in `next`.
                    let _ = more.next();
                }
                Elements {
                    piece: Cursor::new(&[]),
                    more,
                }
            }
        }
    }

    fn fail(&mut self) -> Option<Option<&'a [u8]>> {
        *self = Elements::new(Pieces::One(&[]));
        Some(None)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.piece.next() {
                Ok(Some(field)) => match (field.number, field.payload) {
                    (1, Payload::Delimited(element)) => return Some(Some(element.rest())),
                    (1, _) => return self.fail(),
                    _ => continue,
                },
                Ok(None) => {}
                Err(_) => return self.fail(),
            }
            match self.more.next() {
                Ok(Some((_, Payload::Delimited(piece)))) => self.piece = piece,
                Ok(None) => return None,
                _ => return self.fail(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::build::{delimited, fixed64, text, varint};
    use super::*;

    fn read(bytes: &[u8]) -> Value<'_> {
        Value::read(Source {
            container: bytes,
            via: None,
        })
    }

    fn strings<'a>(values: impl Iterator<Item = Value<'a>>) -> Vec<&'a str> {
        let string = |value| match value {
            Value::String(text) => std::str::from_utf8(text).unwrap(),
            other => panic!("{other:?}"),
        };
        values.map(string).collect()
    }

    /// An AnyValue's array of strings.
    fn array(elements: &[&str]) -> Vec<u8> {
        delimited(
            5,
            elements
                .iter()
                .flat_map(|element| delimited(1, text(element)))
                .collect::<Vec<u8>>(),
        )
    }

    /// Each variant reads as itself; empty and unknown ones as nothing.
    #[test]
    fn reads_scalars() {
        assert_eq!(read(&text("x")), Value::String(b"x"));
        assert_eq!(read(&text("")), Value::String(b""));
        assert_eq!(read(&varint(2, 1)), Value::Bool(true));
        assert_eq!(read(&varint(3, usize::MAX)), Value::Int(-1));
        assert_eq!(read(&fixed64(4, 1.5_f64.to_bits())), Value::Double(1.5));
        assert_eq!(read(&delimited(7, [0])), Value::Bytes(&[0]));
        assert_eq!(read(&[]), Value::Empty);
        assert_eq!(
            read(&varint(8, 3)),
            Value::Empty,
            "an index into a string table that logs do not have"
        );
        assert_eq!(read(&varint(99, 3)), Value::Empty);
    }

    /// Of several variants the last wins; pieces of the same list are one list.
    #[test]
    fn merges_variants() {
        assert_eq!(read(&[text("x"), varint(3, 7)].concat()), Value::Int(7));
        assert_eq!(
            read(&[varint(3, 7), text("x"), varint(99, 1)].concat()),
            Value::String(b"x")
        );
        let pieces = [
            text("x"),
            array(&["gone"]),
            varint(2, 1),
            array(&["a", "b"]),
            varint(99, 1),
            array(&["c"]),
        ];
        let bytes = pieces.concat();
        let Value::Array(list) = read(&bytes) else { panic!() };
        assert_eq!(strings(list.iter()), ["a", "b", "c"]);
    }

    /// A KeyValue's last key counts, and the pieces of its value are one value.
    #[test]
    fn merges_key_values() {
        let value = |value: Vec<u8>| delimited(2, value);
        let pieces = [
            delimited(1, "old"),
            value(array(&["a"])),
            delimited(1, "new"),
            value(vec![]),
            value(array(&["b"])),
        ];
        let entry = pieces.concat();
        let (key, Value::Array(list)) = read_key_value(&entry) else {
            panic!()
        };
        assert_eq!((key, strings(list.iter())), (&b"new"[..], vec!["a", "b"]));
        assert_eq!(read_key_value(&[]), (&[][..], Value::Empty));
    }

    /// Maps give their entries in order, and the first of equal keys when asked for one.
    #[test]
    fn reads_maps() {
        let entry = |key: &str, value: &str| delimited(1, [delimited(1, key), delimited(2, text(value))].concat());
        let bytes = delimited(6, [entry("a", "1"), entry("b", "2"), entry("a", "3")].concat());
        let Value::Map(map) = read(&bytes) else { panic!() };
        assert_eq!(map.iter().map(|(key, _)| key).collect::<Vec<_>>(), [b"a", b"b", b"a"]);
        assert_eq!(strings(map.iter().map(|(_, value)| value)), ["1", "2", "3"]);
        assert_eq!(map.get("a"), Some(Value::String(b"1")));
        assert_eq!(map.get("c"), None);
    }

    /// Beyond the depth that is checked there may be anything: it reads as one `Malformed`, and ends.
    #[test]
    fn unreadable_rest() {
        assert_eq!(read(&[0x0a, 9]), Value::Malformed);
        assert_eq!(read(&varint(1, 1)), Value::Malformed, "a string that is a number");
        let bytes = delimited(5, [delimited(1, text("x")), vec![0x0a, 9]].concat());
        let Value::Array(list) = read(&bytes) else { panic!() };
        assert_eq!(list.iter().collect::<Vec<_>>(), [Value::String(b"x"), Value::Malformed]);
        let bytes = delimited(6, varint(1, 1));
        let Value::Map(map) = read(&bytes) else { panic!() };
        assert_eq!(map.iter().collect::<Vec<_>>(), [(&[][..], Value::Malformed)]);
    }
}
