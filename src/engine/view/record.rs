//! What a record and its resource say, read from their bytes when asked.
//!
//! Enters: the checked bytes of a LogRecord or of a ResourceLogs. Leaves: scalars, slices of the request, [`Value`]s.
//!
//! Promises: protobuf's rules for repeated fields: of a scalar the last wins, messages merge (`resource`, `body`).
//! Copies nothing. Deliberately absent: UTF-8 checks and any default for what is missing.

use super::plain;
use super::value::{Source, Value, last_key, read_key_value};
use super::wire::{Cursor, Payload};
use super::{KeyMarks, may_name_an_id};
use xxhash_rust::xxh3::xxh3_128;

/// Field numbers of LogRecord.
const BODY: u32 = 5;
pub(in crate::engine) const ATTRIBUTES: u32 = 6;

/// One log record. Strings are bytes as they came, empty when absent.
#[derive(Copy, Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Record<'a> {
    /// When it happened, ns since 1970; 0 when unknown.
    pub time_unix_nano: u64,
    /// When it was first seen, ns since 1970; 0 when unknown.
    pub observed_time_unix_nano: u64,
    /// 1 (TRACE) to 24 (FATAL4); 0 when unknown, anything else when the sender is odd.
    pub severity_number: i32,
    /// The severity's name at the source.
    pub severity_text: &'a [u8],
    /// The message.
    pub body: Value<'a>,
    /// 16 bytes, or empty, or odd.
    pub trace_id: &'a [u8],
    /// 8 bytes, or empty, or odd.
    pub span_id: &'a [u8],
    /// Name of the event, if the record is one.
    pub event_name: &'a [u8],
    /// Index of the record's resource for `View::resource`.
    pub resource_index: usize,
    /// The LogRecord's bytes.
    pub bytes: &'a [u8],
    key_marks: KeyMarks,
}

impl<'a> Record<'a> {
    /// Reads a LogRecord that was checked.
    #[inline]
    pub(super) fn read(bytes: &'a [u8], resource_index: usize, key_marks: KeyMarks) -> Record<'a> {
        let mut record = Record {
            time_unix_nano: 0,
            observed_time_unix_nano: 0,
            severity_number: 0,
            severity_text: &[],
            body: Value::Empty,
            trace_id: &[],
            span_id: &[],
            event_name: &[],
            resource_index,
            bytes,
            key_marks,
        };
        let (mut body, mut bodies) = (&[][..], 0);
        let mut cursor = Cursor::new(bytes);
        loop {
            // Most fields are attributes, and none of them is wanted here.
            while let Some(rest) = plain::skip_attribute(cursor.rest()) {
                cursor.skip_to(rest);
            }
            let Ok(Some(field)) = cursor.next() else { break };
            match (field.number, field.payload) {
                (1, Payload::Fixed64(time)) => record.time_unix_nano = time,
                (2, Payload::Varint(severity)) => record.severity_number = severity as i32,
                (3, Payload::Delimited(text)) => record.severity_text = text.rest(),
                (BODY, Payload::Delimited(piece)) => (body, bodies) = (piece.rest(), bodies + 1),
                (9, Payload::Delimited(id)) => record.trace_id = id.rest(),
                (10, Payload::Delimited(id)) => record.span_id = id.rest(),
                (11, Payload::Fixed64(time)) => record.observed_time_unix_nano = time,
                (12, Payload::Delimited(name)) => record.event_name = name.rest(),
                _ => {}
            }
        }
        record.body = match bodies {
            0 => Value::Empty,
            1 => Value::read(Source {
                container: body,
                via: None,
            }),
            _ => Value::read(Source {
                container: bytes,
                via: Some(BODY),
            }),
        };
        record
    }

    /// The record's attributes in wire order, as (key, value); keys may repeat when the sender is odd.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        Messages::new(Cursor::new(self.bytes), ATTRIBUTES).map(|attribute| read_key_value(attribute.rest()))
    }

    /// The value of the first attribute with this key; quick where there is none.
    #[inline]
    pub fn attribute(&self, key: &str) -> Option<Value<'a>> {
        let marks = KeyMarks::of(key.as_bytes());
        if !self.key_marks.may_contain(marks) {
            return None;
        }
        self.attributes_whose(|name| name == key.as_bytes())
            .next()
            .map(|(_, value)| value)
    }

    /// The string of the last attribute with this key that is one; quick where there is none.
    #[inline]
    pub fn last_text(&self, key: &str) -> Option<&'a [u8]> {
        let marks = KeyMarks::of(key.as_bytes());
        if !self.key_marks.may_contain(marks) {
            return None;
        }
        let all = self.attributes_whose(|name| name == key.as_bytes());
        let texts = all.filter_map(|(_, value)| match value {
            Value::String(text) => Some(text),
            _ => None,
        });
        texts.last()
    }

    /// The attributes whose key may be the name of an id; quick where there are none.
    pub fn attributes_like_ids(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        let all = self.key_marks.may_name_an_id();
        let all = all.then(|| self.attributes_whose(may_name_an_id));
        all.into_iter().flatten()
    }

    /// The attributes whose key is wanted; the values of others are not read.
    fn attributes_whose<F>(&self, wanted: F) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a, F>
    where
        F: Fn(&[u8]) -> bool,
    {
        Messages::new(Cursor::new(self.bytes), ATTRIBUTES)
            .filter(move |attribute| wanted(last_key(attribute.rest())))
            .map(|attribute| read_key_value(attribute.rest()))
    }
}

/// What emitted the records: the `resource` of a ResourceLogs.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Resource<'a> {
    /// The whole ResourceLogs: its `resource` may come after its records, and in pieces.
    resource_logs: &'a [u8],
}

impl<'a> Resource<'a> {
    pub(super) fn new(resource_logs: &'a [u8]) -> Self {
        Resource { resource_logs }
    }

    /// The resource's attributes in wire order, as (key, value).
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        Messages::new(Cursor::new(self.resource_logs), 1)
            .flat_map(|resource| Messages::new(resource, 1))
            .map(|attribute| read_key_value(attribute.rest()))
    }

    /// The value of the first attribute with this key.
    pub fn attribute(&self, key: &str) -> Option<Value<'a>> {
        self.attributes()
            .find(|(name, _)| *name == key.as_bytes())
            .map(|(_, value)| value)
    }

    /// The same for the same attributes in whatever order, and another for others (XXH3, 128 bits).
    pub fn fingerprint(&self) -> u128 {
        let attributes =
            Messages::new(Cursor::new(self.resource_logs), 1).flat_map(|resource| Messages::new(resource, 1));
        let mut hashes: Vec<u128> = attributes.map(|attribute| xxh3_128(attribute.rest())).collect();
        hashes.sort_unstable();
        let bytes: Vec<u8> = hashes.into_iter().flat_map(u128::to_le_bytes).collect();
        xxh3_128(&bytes)
    }

    /// `service.name`, when it is a UTF-8 string.
    pub fn service_name(&self) -> Option<&'a str> {
        match self.attribute("service.name")? {
            Value::String(name) => std::str::from_utf8(name).ok(),
            _ => None,
        }
    }
}

/// The messages in field `number` of a checked message.
struct Messages<'a> {
    cursor: Cursor<'a>,
    number: u32,
}

impl<'a> Messages<'a> {
    fn new(cursor: Cursor<'a>, number: u32) -> Self {
        Messages { cursor, number }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Cursor<'a>;

    fn next(&mut self) -> Option<Cursor<'a>> {
        while let Ok(Some(field)) = self.cursor.next() {
            if let (true, Payload::Delimited(message)) = (field.number == self.number, field.payload) {
                return Some(message);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::build::{attribute, delimited, fixed64, text, varint};
    use super::*;

    fn read(bytes: &[u8], resource_index: usize) -> Record<'_> {
        Record::read(
            bytes,
            resource_index,
            super::super::check_record(Cursor::new(bytes)).unwrap(),
        )
    }

    /// All fields, in an order no encoder would choose, with unknown ones between.
    #[test]
    fn reads_every_field() {
        let bytes = [
            delimited(12, "event"),
            attribute("k", "first"),
            varint(4, 1),
            fixed64(11, 12),
            delimited(10, [8; 8]),
            delimited(9, [16; 16]),
            attribute("k", "second"),
            delimited(5, text("body")),
            delimited(3, "WARN"),
            varint(2, 13),
            fixed64(1, 11),
            delimited(99, "unknown"),
        ]
        .concat();
        let record = read(&bytes, 3);
        assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (11, 12));
        assert_eq!((record.severity_number, record.severity_text), (13, &b"WARN"[..]));
        assert_eq!(
            (record.body, record.event_name),
            (Value::String(b"body"), &b"event"[..])
        );
        assert_eq!((record.trace_id, record.span_id), (&[16; 16][..], &[8; 8][..]));
        assert_eq!((record.resource_index, record.bytes), (3, &bytes[..]));
        let values: Vec<_> = record.attributes().collect();
        assert_eq!(
            values,
            [(&b"k"[..], Value::String(b"first")), (b"k", Value::String(b"second"))]
        );
        assert_eq!(record.attribute("k"), Some(Value::String(b"first")));
        assert_eq!(record.attribute("K"), None);
    }

    /// Negative severities, as some senders write them, take ten bytes.
    #[test]
    fn reads_negative_severity() {
        assert_eq!(read(&varint(2, usize::MAX), 0).severity_number, -1);
    }

    /// Two bodies merge: the last variant wins, pieces of a list are one list.
    #[test]
    fn merges_bodies() {
        let (one, two) = (delimited(5, text("one")), delimited(5, text("two")));
        assert_eq!(read(&[one, two].concat(), 0).body, Value::String(b"two"));

        let entry = |key: &str| delimited(5, delimited(6, delimited(1, delimited(1, key))));
        let bytes = [entry("a"), entry("b")].concat();
        let Value::Map(map) = read(&bytes, 0).body else {
            panic!()
        };
        assert_eq!(map.iter().map(|(key, _)| key).collect::<Vec<_>>(), [b"a", b"b"]);
    }

    /// A resource in two pieces is one; a service name that is no text is none.
    #[test]
    fn merges_resources() {
        let piece =
            |key: &str, value: Vec<u8>| delimited(1, delimited(1, [delimited(1, key), delimited(2, value)].concat()));
        let bytes = [
            piece("host.name", text("a")),
            delimited(2, ""),
            piece("service.name", text("cart")),
        ]
        .concat();
        let resource = Resource::new(&bytes);
        assert_eq!(resource.attributes().count(), 2);
        assert_eq!(resource.attribute("host.name"), Some(Value::String(b"a")));
        assert_eq!(resource.service_name(), Some("cart"));

        let odd = piece("service.name", delimited(1, [0xff]));
        assert_eq!(Resource::new(&odd).service_name(), None);
        assert_eq!(Resource::new(&piece("service.name", varint(3, 1))).service_name(), None);
        assert_eq!(Resource::new(&[]).service_name(), None);
    }
}
