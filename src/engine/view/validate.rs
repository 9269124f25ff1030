//! Which bytes are OTLP: the field tables of `logs.proto`, `resource.proto` and `common.proto` (opentelemetry-proto
//! 1.11), and a check of everything below a record or a resource against them.
//!
//! Enters: a cursor over a message. Leaves: nothing, or the first defect.
//!
//! Promises: what `prost` refuses to frame is refused here, so the next hop is never handed poison that we accepted;
//! what `prost` accepts is accepted. Two things that `prost` refuses are merely odd and pass: invalid UTF-8, and messages
//! nested deeper than [`MAX_DEPTH`], which are not looked into (that also bounds the recursion).
//! Deliberately absent: meaning (see `value` and `record`) and unknown fields' content.

use super::malformed::{Defect, Malformed};
use super::wire::{Cursor, Payload};

/// Messages nested deeper than this in a request are neither checked nor read; `prost`'s recursion limit.
/// A record is at depth 3, its body at 4, a body array's elements at 6.
pub const MAX_DEPTH: u32 = 100;

/// Depth of a LogRecord in a request.
pub(super) const RECORD_DEPTH: u32 = 3;

/// A message type of OTLP logs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the messages in opentelemetry.proto")]
pub enum Message {
    ExportLogsServiceRequest,
    ResourceLogs,
    Resource,
    EntityRef,
    ScopeLogs,
    InstrumentationScope,
    LogRecord,
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// How a field has to look on the wire.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Shape {
    Varint,
    Fixed64,
    Fixed32,
    /// A string or bytes.
    Bytes,
    Message(Message),
    /// Not in the table: any shape will do.
    Unknown,
}

/// The field tables.
#[inline]
fn shape(message: Message, field: u32) -> Shape {
    use Message as M;
    use Shape::{Bytes, Fixed32, Fixed64, Unknown, Varint};
    match (message, field) {
        (M::ExportLogsServiceRequest, 1) => Shape::Message(M::ResourceLogs),
        (M::ResourceLogs, 1) => Shape::Message(M::Resource),
        (M::ResourceLogs, 2) => Shape::Message(M::ScopeLogs),
        (M::ResourceLogs, 3) => Bytes,
        (M::Resource, 1) => Shape::Message(M::KeyValue),
        (M::Resource, 2) => Varint,
        (M::Resource, 3) => Shape::Message(M::EntityRef),
        (M::EntityRef, 1..=4) => Bytes,
        (M::ScopeLogs, 1) => Shape::Message(M::InstrumentationScope),
        (M::ScopeLogs, 2) => Shape::Message(M::LogRecord),
        (M::ScopeLogs, 3) => Bytes,
        (M::InstrumentationScope, 1 | 2) => Bytes,
        (M::InstrumentationScope, 3) => Shape::Message(M::KeyValue),
        (M::InstrumentationScope, 4) => Varint,
        (M::LogRecord, 1 | 11) => Fixed64,
        (M::LogRecord, 2 | 7) => Varint,
        (M::LogRecord, 3 | 9 | 10 | 12) => Bytes,
        (M::LogRecord, 5) => Shape::Message(M::AnyValue),
        (M::LogRecord, 6) => Shape::Message(M::KeyValue),
        (M::LogRecord, 8) => Fixed32,
        (M::KeyValue, 1) => Bytes,
        (M::KeyValue, 2) => Shape::Message(M::AnyValue),
        (M::KeyValue, 3) => Varint,
        (M::AnyValue, 1 | 7) => Bytes,
        (M::AnyValue, 2 | 3 | 8) => Varint,
        (M::AnyValue, 4) => Fixed64,
        (M::AnyValue, 5) => Shape::Message(M::ArrayValue),
        (M::AnyValue, 6) => Shape::Message(M::KeyValueList),
        (M::ArrayValue, 1) => Shape::Message(M::AnyValue),
        (M::KeyValueList, 1) => Shape::Message(M::KeyValue),
        _ => Unknown,
    }
}

/// Checks a message and everything in it. `depth` is the message's own; recursion ends at [`MAX_DEPTH`].
pub(super) fn check(mut cursor: Cursor<'_>, message: Message, depth: u32) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    while let Some(field) = cursor.next()? {
        if let Some((inner, kind)) = check_field(message, field.number, field.start, field.payload)? {
            check(inner, kind, depth + 1)?;
        }
    }
    Ok(())
}

/// Checks one field's wire type; a message to look into is handed back.
#[inline]
pub(super) fn check_field<'a>(
    message: Message,
    field: u32,
    start: usize,
    payload: Payload<'a>,
) -> Result<Option<(Cursor<'a>, Message)>, Malformed> {
    match (shape(message, field), payload) {
        (Shape::Message(kind), Payload::Delimited(inner)) => Ok(Some((inner, kind))),
        (Shape::Unknown, _)
        | (Shape::Bytes, Payload::Delimited(_))
        | (Shape::Varint, Payload::Varint(_))
        | (Shape::Fixed64, Payload::Fixed64(_))
        | (Shape::Fixed32, Payload::Fixed32) => Ok(None),
        (_, other) => Err(Malformed::new(
            start,
            Defect::WireType {
                message,
                field,
                found: other.wire_type(),
            },
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::build::delimited;
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use prost::Message as _;

    /// A request whose record's body is an AnyValue of `bytes` in `lists` arrays.
    fn nested(lists: usize, bytes: &[u8]) -> Vec<u8> {
        let body = (0..lists).fold(bytes.to_vec(), |value, _| delimited(5, delimited(1, value)));
        delimited(1, delimited(2, delimited(2, delimited(5, body))))
    }

    fn accepts(request: &[u8]) -> bool {
        check(Cursor::new(request), Message::ExportLogsServiceRequest, 0).is_ok()
    }

    /// Checking ends exactly where `prost`'s recursion limit is: the body is at depth 4, each list adds 2.
    #[test]
    fn looks_as_deep_as_prost() {
        let fine = delimited(1, "deep");
        let damaged = [0x0a, 9];
        for lists in 0..60 {
            let depth = 4 + 2 * lists;
            let prost = ExportLogsServiceRequest::decode(&nested(lists, &fine)[..]).is_ok();
            assert_eq!(prost, depth <= MAX_DEPTH as usize, "{lists} lists");
            assert!(accepts(&nested(lists, &fine)), "{lists} lists");
            assert_eq!(accepts(&nested(lists, &damaged)), !prost, "{lists} lists, damaged");
        }
    }

    /// Field numbers that lead from the request to a message, and the message's fields with their wire types.
    type Table = (&'static [usize], &'static [(u32, u8)]);

    /// Every known field is refused with a wire type that is not its own, by `prost` too; unknown fields have any.
    #[test]
    fn known_fields_have_their_wire_type() {
        let tables: [Table; 11] = [
            (&[], &[(1, 2)]),
            (&[1], &[(1, 2), (2, 2), (3, 2)]),
            (&[1, 1], &[(1, 2), (2, 0), (3, 2)]),
            (&[1, 1, 3], &[(1, 2), (2, 2), (3, 2), (4, 2)]),
            (&[1, 2], &[(1, 2), (2, 2), (3, 2)]),
            (&[1, 2, 1], &[(1, 2), (2, 2), (3, 2), (4, 0)]),
            (
                &[1, 2, 2],
                &[
                    (1, 1),
                    (2, 0),
                    (3, 2),
                    (5, 2),
                    (6, 2),
                    (7, 0),
                    (8, 5),
                    (9, 2),
                    (10, 2),
                    (11, 1),
                    (12, 2),
                ],
            ),
            (&[1, 2, 2, 6], &[(1, 2), (2, 2), (3, 0)]),
            (
                &[1, 2, 2, 5],
                &[(1, 2), (2, 0), (3, 0), (4, 1), (5, 2), (6, 2), (7, 2), (8, 0)],
            ),
            (&[1, 2, 2, 5, 5], &[(1, 2)]),
            (&[1, 2, 2, 5, 6], &[(1, 2)]),
        ];
        let payloads: [(u8, &[u8]); 4] = [(0, &[1]), (1, &[0; 8]), (2, &[0]), (5, &[0; 4])];
        for (path, known) in tables {
            for number in 1..=15_u32 {
                let own = known
                    .iter()
                    .find(|(field, _)| *field == number)
                    .map(|(_, wire_type)| *wire_type);
                for (wire_type, payload) in payloads {
                    let field = [&[(number << 3) as u8 | wire_type][..], payload].concat();
                    let request = path
                        .iter()
                        .rev()
                        .fold(field, |message, number| delimited(*number, message));
                    let expected = own.is_none_or(|own| own == wire_type);
                    assert_eq!(
                        accepts(&request),
                        expected,
                        "{path:?}: field {number}, wire type {wire_type}"
                    );
                    let prost = ExportLogsServiceRequest::decode(&request[..]).is_ok();
                    assert_eq!(
                        prost, expected,
                        "prost, {path:?}: field {number}, wire type {wire_type}"
                    );
                }
            }
        }
    }
}
