//! Room 1 of the engine: a borrowed view over the bytes of an OTLP request.
//!
//! Enters: the wire bytes of an `ExportLogsServiceRequest` (opentelemetry-proto 1.11). Leaves: a [`View`], which knows
//! where each record is and reads what it is asked for; or [`Malformed`].
//!
//! Promises: one walk, no copy, no allocation per record, nothing lost: what the view does not know stays in the bytes.
//! Accepts whatever `prost` accepts, and refuses what `prost` cannot frame, at any depth (see `validate` for the two odd
//! things that pass). Never panics, whatever the bytes. Deliberately absent: JSON (converted at the edge), and any change
//! to the bytes (see `annotate`).

#[cfg(test)]
pub(super) mod build;
mod halve;
mod malformed;
mod plain;
mod record;
mod resources;
mod signal;
mod validate;
mod value;
mod wire;
mod written;

pub use halve::{halve, item_count};
pub use malformed::{Defect, Malformed};
pub use record::{Record, Resource};
pub use resources::{OfResource, resources};
pub use signal::Signal;
pub use validate::{MAX_DEPTH, Message};
pub use value::{KeyValueList, Value, ValueList};
pub use written::{is_obeyed, rfc3339, severity_name};

pub(super) use record::ATTRIBUTES;
pub(super) use value::last_key;
pub(super) use wire::{Cursor, Payload, put_varint, varint_len};

use std::ops::Range;

use validate::{RECORD_DEPTH, check, check_field};
use wire::Field;

/// One walk over the wire; holds ranges, copies nothing.
#[derive(Clone, Debug)]
pub struct View<'a> {
    bytes: &'a [u8],
    resources: Vec<Parent>,
    scopes: Vec<Parent>,
    /// Their names, empty where there is none.
    scope_names: Vec<&'a [u8]>,
    records: Vec<RecordRange>,
}

/// Where a message is in the request: its length prefix, then its first and behind its last byte.
#[derive(Copy, Clone, Debug)]
pub(super) struct Envelope {
    pub len_at: u32,
    pub start: u32,
    pub end: u32,
}

/// A ResourceLogs with its scopes, or a ScopeLogs with its records.
#[derive(Copy, Clone, Debug)]
pub(super) struct Parent {
    pub envelope: Envelope,
    pub children_start: u32,
    pub children_end: u32,
}

impl Parent {
    /// Indices of its children.
    pub fn children(&self) -> Range<usize> {
        self.children_start as usize..self.children_end as usize
    }
}

/// A LogRecord.
#[derive(Copy, Clone, Debug)]
pub(super) struct RecordRange {
    pub envelope: Envelope,
    pub resource: u32,
    /// Its attributes' keys.
    pub key_marks: KeyMarks,
}

impl<'a> View<'a> {
    /// Walks the request once and checks it.
    ///
    /// # Errors
    /// [`Malformed`]: no protobuf decoder could read the bytes; refuse the request.
    pub fn parse(bytes: &'a [u8]) -> Result<View<'a>, Malformed> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Malformed::new(0, Defect::TooLong));
        }
        let mut view = View {
            bytes,
            resources: Vec::new(),
            scopes: Vec::new(),
            scope_names: Vec::new(),
            records: Vec::new(),
        };
        let mut request = Cursor::new(bytes);
        while let Some(field) = request.next()? {
            match known(Message::ExportLogsServiceRequest, &field)? {
                Some((resource_logs, Message::ResourceLogs)) => view.walk_resource(&field, resource_logs)?,
                Some((other, message)) => check(other, message, 1)?,
                None => {}
            }
        }
        Ok(view)
    }

    fn walk_resource(&mut self, field: &Field<'a>, mut cursor: Cursor<'a>) -> Result<(), Malformed> {
        let envelope = Envelope::new(field, &cursor);
        let children_start = self.scopes.len() as u32;
        while let Some(field) = cursor.next()? {
            match known(Message::ResourceLogs, &field)? {
                Some((scope_logs, Message::ScopeLogs)) => self.walk_scope(&field, scope_logs)?,
                Some((other, message)) => check(other, message, 2)?,
                None => {}
            }
        }
        self.resources.push(Parent {
            envelope,
            children_start,
            children_end: self.scopes.len() as u32,
        });
        Ok(())
    }

    fn walk_scope(&mut self, field: &Field<'a>, mut cursor: Cursor<'a>) -> Result<(), Malformed> {
        let envelope = Envelope::new(field, &cursor);
        let children_start = self.records.len() as u32;
        let mut name: &[u8] = &[];
        while let Some(field) = cursor.next()? {
            match known(Message::ScopeLogs, &field)? {
                Some((record, Message::LogRecord)) => {
                    let key_marks = check_record(record)?;
                    let resource = self.resources.len() as u32;
                    self.records.push(RecordRange {
                        envelope: Envelope::new(&field, &record),
                        resource,
                        key_marks,
                    });
                }
                Some((other, message)) => {
                    check(other, message, RECORD_DEPTH)?;
                    if message == Message::InstrumentationScope {
                        name = scope_name(other).unwrap_or(name);
                    }
                }
                None => {}
            }
        }
        self.scope_names.push(name);
        self.scopes.push(Parent {
            envelope,
            children_start,
            children_end: self.records.len() as u32,
        });
        Ok(())
    }

    /// The request.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True when the request holds no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records, in wire order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'a>> + '_ {
        self.records.iter().map(|record| self.read(record))
    }

    /// The record at `index` of the wire order.
    pub fn record(&self, index: usize) -> Option<Record<'a>> {
        self.records.get(index).map(|record| self.read(record))
    }

    fn read(&self, record: &RecordRange) -> Record<'a> {
        let index = record.resource as usize;
        Record::read(record.envelope.of(self.bytes), index, record.key_marks)
    }

    /// The name of each scope, empty where there is none, and the indices of its records; in wire order.
    pub fn scopes(&self) -> impl Iterator<Item = (&'a [u8], Range<usize>)> + '_ {
        let records = self.scopes.iter().map(Parent::children);
        self.scope_names.iter().copied().zip(records)
    }

    /// How many records each resource has, in wire order.
    pub fn record_counts(&self) -> impl Iterator<Item = usize> + '_ {
        self.resources.iter().map(|resource| {
            let scopes = self.scopes.get(resource.children()).unwrap_or_default();
            scopes.iter().map(|scope| scope.children().len()).sum()
        })
    }

    /// Number of resources.
    pub fn resource_count(&self) -> usize {
        self.resources.len()
    }

    /// The resource at `index` of the wire order.
    pub fn resource(&self, index: usize) -> Option<Resource<'a>> {
        self.resources
            .get(index)
            .map(|resource| Resource::new(resource.envelope.of(self.bytes)))
    }

    /// Ranges of the resources, of the scopes and of the records, each in wire order.
    pub(super) fn ranges(&self) -> (&[Parent], &[Parent], &[RecordRange]) {
        (&self.resources, &self.scopes, &self.records)
    }
}

impl Envelope {
    /// Offsets fit: the request's length was checked.
    #[inline]
    fn new(field: &Field<'_>, message: &Cursor<'_>) -> Self {
        Envelope {
            len_at: field.len_at as u32,
            start: message.at() as u32,
            end: message.end() as u32,
        }
    }

    /// A cursor over the message, with offsets in the request.
    pub(super) fn cursor<'a>(&self, request: &'a [u8]) -> Cursor<'a> {
        Cursor::between(request, self.start as usize, self.end as usize)
    }

    /// The message's bytes in the request.
    #[inline]
    pub(super) fn of<'a>(&self, request: &'a [u8]) -> &'a [u8] {
        request.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

#[inline]
fn known<'a>(message: Message, field: &Field<'a>) -> Result<Option<(Cursor<'a>, Message)>, Malformed> {
    check_field(message, field.number, field.start, field.payload)
}

/// The name in a piece of a scope that was checked; of several the last, as in protobuf.
fn scope_name(mut scope: Cursor<'_>) -> Option<&[u8]> {
    let mut name = None;
    while let Ok(Some(field)) = scope.next() {
        if let (1, Payload::Delimited(text)) = (field.number, field.payload) {
            name = Some(text.rest());
        }
    }
    name
}

/// Checks a LogRecord; returns the marks of its attributes' keys.
fn check_record(mut cursor: Cursor<'_>) -> Result<KeyMarks, Malformed> {
    let mut key_marks = KeyMarks::NONE;
    loop {
        while let Some(rest) = plain::record_field(cursor.rest(), &mut key_marks) {
            cursor.skip_to(rest);
        }
        let Some(field) = cursor.next()? else { break };
        if let Some((inner, message)) = known(Message::LogRecord, &field)? {
            check(inner, message, RECORD_DEPTH + 1)?;
            if message == Message::KeyValue {
                key_marks.add(KeyMarks::of(last_key(inner.rest())));
            }
        }
    }
    Ok(key_marks)
}

/// The keys of a record's attributes as a Bloom filter, one bit in each half for each; the highest bit says that one ends with an
/// `id` that stands alone, or behind a letter as in `traceid`, `spanid`, `requestid`, `reqid` and `jobid`.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) struct KeyMarks(u64, u64);

/// The bit of a key that may be an id's name.
const LIKE_AN_ID: u64 = 1 << 63;

impl KeyMarks {
    /// No key.
    pub const NONE: KeyMarks = KeyMarks(0, 0);

    #[inline]
    pub fn of(key: &[u8]) -> Self {
        let (first, last) = (key.first().copied().unwrap_or(0), key.last().copied().unwrap_or(0));
        let mix = (key.len() as u64) << 16 | u64::from(first) << 8 | u64::from(last);
        let hash = mix.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let like_an_id = if may_name_an_id(key) { LIKE_AN_ID } else { 0 };
        KeyMarks(1 << ((hash >> 58) % 63) | like_an_id, 1 << (hash >> 52 & 63))
    }

    #[inline]
    pub fn add(&mut self, other: KeyMarks) {
        self.0 |= other.0;
        self.1 |= other.1;
    }

    /// False when a key with the marks `other` is not among these; true almost always means that it is.
    #[inline]
    pub fn may_contain(self, other: KeyMarks) -> bool {
        self.0 & other.0 == other.0 && self.1 & other.1 == other.1
    }

    /// False when no key may be the name of an id.
    #[inline]
    pub fn may_name_an_id(self) -> bool {
        self.0 & LIKE_AN_ID != 0
    }
}

/// False when the key is certainly not the name of an id of a request, trace, job or the like: `pid` and `uid` are none.
#[inline]
pub(super) fn may_name_an_id(key: &[u8]) -> bool {
    let mut letters = key.iter().rev().filter(|byte| !matches!(byte, b'-' | b'_' | b'.'));
    let mut is = |wanted: &[u8]| letters.next().is_some_and(|letter| wanted.contains(&(letter | 0x20)));
    is(b"d") && is(b"i") && is(b"entqb")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::build::{attribute, delimited, fixed64, request, text, varint};
    use super::*;

    fn bodies<'a>(view: &View<'a>) -> Vec<Value<'a>> {
        view.records().map(|record| record.body).collect()
    }

    /// No bytes are a request without resources; so says protobuf, and senders do send it.
    #[test]
    fn nothing_is_a_request() {
        let view = View::parse(&[]).unwrap();
        assert!(view.is_empty());
        assert_eq!((view.len(), view.resource_count(), view.bytes()), (0, 0, &[][..]));
        assert!(view.record(0).is_none() && view.resource(0).is_none());
    }

    /// Records come in wire order, each with its resource, also when the `resource` field comes last.
    #[test]
    fn records_know_their_resource() {
        let resource = |name: &str| {
            let attribute = [delimited(1, "service.name"), delimited(2, text(name))].concat();
            delimited(1, delimited(1, attribute))
        };
        let scope = |body: &str| delimited(2, delimited(2, delimited(5, text(body))));
        let first = delimited(1, [resource("cart"), scope("a"), scope("b")].concat());
        let second = delimited(1, [scope("c"), resource("auth")].concat());
        let bytes = [first, second].concat();

        let view = View::parse(&bytes).unwrap();
        let found: Vec<_> = view
            .records()
            .map(|record| {
                (
                    record.body,
                    view.resource(record.resource_index).unwrap().service_name().unwrap(),
                )
            })
            .collect();
        let expected = [("a", "cart"), ("b", "cart"), ("c", "auth")];
        assert_eq!(
            found,
            expected.map(|(body, service)| (Value::String(body.as_bytes()), service))
        );
    }

    /// Of a repeated scalar the last wins, whatever the order of fields.
    #[test]
    fn repeated_scalars() {
        let record = [
            delimited(12, "old"),
            fixed64(1, 7),
            varint(2, 9),
            delimited(12, "new"),
            varint(2, 17),
            fixed64(1, 8),
        ];
        let bytes = request(&[&record.concat()]);
        let record = View::parse(&bytes).unwrap().record(0).unwrap();
        assert_eq!(
            (record.time_unix_nano, record.severity_number, record.event_name),
            (8, 17, &b"new"[..])
        );
    }

    /// Invalid UTF-8 is odd, not malformed: neighbours and the odd text itself are read.
    #[test]
    fn invalid_utf8_passes() {
        let odd = delimited(5, delimited(1, [0xff, 0xfe]));
        let bytes = request(&[&odd, &delimited(5, text("fine"))]);
        let view = View::parse(&bytes).unwrap();
        assert_eq!(bodies(&view), [Value::String(&[0xff, 0xfe]), Value::String(b"fine")]);
    }

    /// A defect is told with its offset in the request, however deep it is, and with what is wrong there.
    #[test]
    fn tells_where_it_is_malformed() {
        let good = delimited(5, text("fine"));
        // The second record's attribute has a value whose string claims 100 bytes.
        let bad = delimited(6, [delimited(1, "k"), delimited(2, [0x0a, 100, b'x'])].concat());
        let bytes = request(&[&good, &bad]);
        let malformed = View::parse(&bytes).unwrap_err();
        assert_eq!(
            malformed,
            Malformed {
                offset: bytes.len() - 2,
                defect: Defect::Truncated
            }
        );

        let bytes = request(&[&good, &varint(5, 1)]);
        let malformed = View::parse(&bytes).unwrap_err();
        assert_eq!(
            malformed.to_string(),
            "not an OTLP ExportLogsServiceRequest: at byte 16: field 5 of LogRecord has wire type 0"
        );
    }

    /// A request that ends too early is refused, wherever that is.
    #[test]
    fn truncated_anywhere() {
        let record = [
            fixed64(1, 7),
            varint(2, 300),
            delimited(5, text("body")),
            attribute("k", "v"),
        ]
        .concat();
        let bytes = request(&[&record]);
        for end in 1..bytes.len() {
            assert!(View::parse(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    /// A mark never misses a key; that it seldom takes another key for it is what it is for.
    #[test]
    fn key_marks_tell_keys_apart() {
        let ours = KeyMarks::of(b"is_anomaly");
        let mut marks = KeyMarks::NONE;
        for key in ["thread.id", "http.request.method", "code.function", "log.file.name"] {
            marks.add(KeyMarks::of(key.as_bytes()));
        }
        assert!(!marks.may_contain(ours));
        marks.add(ours);
        assert!(marks.may_contain(ours));
    }
}
