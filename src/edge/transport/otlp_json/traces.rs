//! The messages of traces, for the table: `trace.proto` and `trace_service.proto` of opentelemetry-proto 1.11.
//!
//! What enters: nothing. What leaves: messages. Promise: every field of the schema, under its name in JSON. Absent on purpose: how
//! they are read and written.

use super::{
    Kind::{self, Enum, Fixed32, Fixed64, Id, Int64, Text, Uint32},
    Message, RESOURCE, SCOPE, many, one,
};

pub static RESPONSE: Message = Message {
    name: "ExportTraceServiceResponse",
    fields: &[one(1, "partialSuccess", Kind::Message(&PARTIAL_SUCCESS))],
};

static PARTIAL_SUCCESS: Message = Message {
    name: "ExportTracePartialSuccess",
    fields: &[one(1, "rejectedSpans", Int64), one(2, "errorMessage", Text)],
};

pub static REQUEST: Message = Message {
    name: "ExportTraceServiceRequest",
    fields: &[many(1, "resourceSpans", Kind::Message(&RESOURCE_SPANS))],
};

static RESOURCE_SPANS: Message = Message {
    name: "ResourceSpans",
    fields: &[
        one(1, "resource", Kind::Message(&RESOURCE)),
        many(2, "scopeSpans", Kind::Message(&SCOPE_SPANS)),
        one(3, "schemaUrl", Text),
    ],
};

static SCOPE_SPANS: Message = Message {
    name: "ScopeSpans",
    fields: &[
        one(1, "scope", Kind::Message(&SCOPE)),
        many(2, "spans", Kind::Message(&SPAN)),
        one(3, "schemaUrl", Text),
    ],
};

static SPAN: Message = Message {
    name: "Span",
    fields: &[
        one(1, "traceId", Id(16)),
        one(2, "spanId", Id(8)),
        one(3, "traceState", Text),
        one(4, "parentSpanId", Id(8)),
        one(16, "flags", Fixed32),
        one(5, "name", Text),
        one(6, "kind", Enum),
        one(7, "startTimeUnixNano", Fixed64),
        one(8, "endTimeUnixNano", Fixed64),
        many(9, "attributes", Kind::Message(&super::KEY_VALUE)),
        one(10, "droppedAttributesCount", Uint32),
        many(11, "events", Kind::Message(&EVENT)),
        one(12, "droppedEventsCount", Uint32),
        many(13, "links", Kind::Message(&LINK)),
        one(14, "droppedLinksCount", Uint32),
        one(15, "status", Kind::Message(&STATUS)),
    ],
};

static EVENT: Message = Message {
    name: "Event",
    fields: &[
        one(1, "timeUnixNano", Fixed64),
        one(2, "name", Text),
        many(3, "attributes", Kind::Message(&super::KEY_VALUE)),
        one(4, "droppedAttributesCount", Uint32),
    ],
};

static LINK: Message = Message {
    name: "Link",
    fields: &[
        one(1, "traceId", Id(16)),
        one(2, "spanId", Id(8)),
        one(3, "traceState", Text),
        many(4, "attributes", Kind::Message(&super::KEY_VALUE)),
        one(5, "droppedAttributesCount", Uint32),
        one(6, "flags", Fixed32),
    ],
};

static STATUS: Message = Message {
    name: "Status",
    fields: &[one(2, "message", Text), one(3, "code", Enum)],
};
