//! OTLP JSON: one table of fields, read in both directions, between JSON text and protobuf bytes.
//!
//! What enters: JSON of a message in the table, or its protobuf bytes. What leaves: the other.
//! Promise: the mapping of the OTLP specification ("JSON Protobuf Encoding"; items 10, 12 and 13 of CONFORMANCE.md), which
//! is not protobuf's own: ids are hex and enums numbers. JSON becomes bytes as it is read, never structs, so that what a
//! caller can make us hold is bounded by what it sends; nesting is bounded; no text is changed. A field of the schema
//! survives both ways.
//! Absent on purpose: fields that are not in the table. JSON cannot hold them: they are ignored when read, left out when
//! written. Nor opentelemetry-proto's own serde: it refuses ids of odd length, `null`, unknown fields of a value and
//! infinities, and a record of `{}` costs it a hundred times its text.

mod metrics;
#[cfg(test)]
mod properties;
mod read;
#[cfg(test)]
mod tests;
mod traces;
mod write;

use Kind::{Base64, Bool, Double, Enum, Fixed32, Fixed64, Id, Int32, Int64, Text, Uint32};
use Label::{Choice, Many, One, Optional, Packed};

use crate::edge::Signal;

pub use read::{JsonError, to_protobuf};
pub use write::{UnwritableError, to_json};

/// The export request of a signal.
pub fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Logs => &REQUEST,
        Signal::Traces => &traces::REQUEST,
        Signal::Metrics => &metrics::REQUEST,
    }
}

/// The response to it.
pub fn response(signal: Signal) -> &'static Message {
    match signal {
        Signal::Logs => &RESPONSE,
        Signal::Traces => &traces::RESPONSE,
        Signal::Metrics => &metrics::RESPONSE,
    }
}

/// A message of the schema; those of logs, and of all signals, are here.
#[derive(Debug)]
pub struct Message {
    name: &'static str,
    fields: &'static [Field],
}

#[derive(Debug)]
struct Field {
    number: u32,
    name: &'static str,
    kind: Kind,
    label: Label,
}

/// How often a field is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    /// Once; its default is as good as nothing.
    One,
    /// Once or not at all: its default says something.
    Optional,
    /// Like that, and only one of those of its message (`oneof`; no message has two).
    Choice,
    /// Often.
    Many,
    /// Often: numbers, in one field of the wire.
    Packed,
}

/// The type of a field, as far as JSON tells it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Bool,
    Enum,
    Int32,
    Uint32,
    Sint32,
    Fixed32,
    Int64,
    Uint64,
    Fixed64,
    Sfixed64,
    Double,
    Base64,
    /// Hex of so many bytes.
    Id(usize),
    Message(&'static Message),
}

const fn field(number: u32, name: &'static str, kind: Kind, label: Label) -> Field {
    Field {
        number,
        name,
        kind,
        label,
    }
}

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    field(number, name, kind, One)
}

const fn optional(number: u32, name: &'static str, kind: Kind) -> Field {
    field(number, name, kind, Optional)
}

const fn choice(number: u32, name: &'static str, kind: Kind) -> Field {
    field(number, name, kind, Choice)
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    field(number, name, kind, Many)
}

const fn packed(number: u32, name: &'static str, kind: Kind) -> Field {
    field(number, name, kind, Packed)
}

/// `google.rpc.Status`, without details.
pub static STATUS: Message = Message {
    name: "Status",
    fields: &[one(1, "code", Int32), one(2, "message", Text)],
};

static RESPONSE: Message = Message {
    name: "ExportLogsServiceResponse",
    fields: &[one(1, "partialSuccess", Kind::Message(&PARTIAL_SUCCESS))],
};

static PARTIAL_SUCCESS: Message = Message {
    name: "ExportLogsPartialSuccess",
    fields: &[one(1, "rejectedLogRecords", Int64), one(2, "errorMessage", Text)],
};

static REQUEST: Message = Message {
    name: "ExportLogsServiceRequest",
    fields: &[many(1, "resourceLogs", Kind::Message(&RESOURCE_LOGS))],
};

static RESOURCE_LOGS: Message = Message {
    name: "ResourceLogs",
    fields: &[
        one(1, "resource", Kind::Message(&RESOURCE)),
        many(2, "scopeLogs", Kind::Message(&SCOPE_LOGS)),
        one(3, "schemaUrl", Text),
    ],
};

static RESOURCE: Message = Message {
    name: "Resource",
    fields: &[
        many(1, "attributes", Kind::Message(&KEY_VALUE)),
        one(2, "droppedAttributesCount", Uint32),
        many(3, "entityRefs", Kind::Message(&ENTITY_REF)),
    ],
};

static ENTITY_REF: Message = Message {
    name: "EntityRef",
    fields: &[
        one(1, "schemaUrl", Text),
        one(2, "type", Text),
        many(3, "idKeys", Text),
        many(4, "descriptionKeys", Text),
    ],
};

static SCOPE_LOGS: Message = Message {
    name: "ScopeLogs",
    fields: &[
        one(1, "scope", Kind::Message(&SCOPE)),
        many(2, "logRecords", Kind::Message(&LOG_RECORD)),
        one(3, "schemaUrl", Text),
    ],
};

static SCOPE: Message = Message {
    name: "InstrumentationScope",
    fields: &[
        one(1, "name", Text),
        one(2, "version", Text),
        many(3, "attributes", Kind::Message(&KEY_VALUE)),
        one(4, "droppedAttributesCount", Uint32),
    ],
};

static LOG_RECORD: Message = Message {
    name: "LogRecord",
    fields: &[
        one(1, "timeUnixNano", Fixed64),
        one(11, "observedTimeUnixNano", Fixed64),
        one(2, "severityNumber", Enum),
        one(3, "severityText", Text),
        one(5, "body", Kind::Message(&ANY_VALUE)),
        many(6, "attributes", Kind::Message(&KEY_VALUE)),
        one(7, "droppedAttributesCount", Uint32),
        one(8, "flags", Fixed32),
        one(9, "traceId", Id(16)),
        one(10, "spanId", Id(8)),
        one(12, "eventName", Text),
    ],
};

static KEY_VALUE: Message = Message {
    name: "KeyValue",
    fields: &[
        one(1, "key", Text),
        one(2, "value", Kind::Message(&ANY_VALUE)),
        one(3, "keyStrindex", Int32),
    ],
};

static ANY_VALUE: Message = Message {
    name: "AnyValue",
    fields: &[
        choice(1, "stringValue", Text),
        choice(2, "boolValue", Bool),
        choice(3, "intValue", Int64),
        choice(4, "doubleValue", Double),
        choice(5, "arrayValue", Kind::Message(&ARRAY_VALUE)),
        choice(6, "kvlistValue", Kind::Message(&KEY_VALUE_LIST)),
        choice(7, "bytesValue", Base64),
        choice(8, "stringValueStrindex", Int32),
    ],
};

static ARRAY_VALUE: Message = Message {
    name: "ArrayValue",
    fields: &[many(1, "values", Kind::Message(&ANY_VALUE))],
};

static KEY_VALUE_LIST: Message = Message {
    name: "KeyValueList",
    fields: &[many(1, "values", Kind::Message(&KEY_VALUE))],
};
