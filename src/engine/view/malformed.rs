//! Why bytes are not an `ExportLogsServiceRequest`, and where: what a sender needs to know to find its bug.
//!
//! Promises: every variant means that no protobuf decoder could read the bytes, so sending them again is useless
//! (gRPC INVALID_ARGUMENT, HTTP 400). Deliberately absent: what is merely odd (invalid UTF-8, deep nesting).

use super::validate::Message;

/// The bytes are not an `ExportLogsServiceRequest`: refuse the request, do not retry it.
#[derive(Copy, Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an OTLP ExportLogsServiceRequest: at byte {offset}: {defect}")]
pub struct Malformed {
    /// Offset in the request of the field, key or length that is wrong.
    pub offset: usize,
    /// What is wrong there.
    pub defect: Defect,
}

/// What a protobuf decoder cannot read.
#[derive(Copy, Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// A field announces more bytes than its message has left.
    #[error("the message ends inside a field (truncated, or a wrong length)")]
    Truncated,
    /// A varint has more than ten bytes, or more than 64 bits.
    #[error("a varint is longer than 64 bits")]
    Varint,
    /// A field's key has field number 0, a wire type that does not exist, or more than 32 bits.
    #[error("a field's key has number 0, an unknown wire type or more than 32 bits")]
    Key,
    /// The end of a group that was not opened.
    #[error("a group ends that was not opened")]
    EndGroup,
    /// Groups of unknown fields nest deeper than 100.
    #[error("groups nest deeper than 100")]
    DeepGroup,
    /// A known field comes with a wire type it cannot have.
    #[error("field {field} of {message} has wire type {found}")]
    WireType {
        /// The message's name in `opentelemetry.proto`.
        message: Message,
        /// The field's number.
        field: u32,
        /// The wire type in the field's key.
        found: u8,
    },
    /// The request is longer than 4 GiB; protobuf's own limit is 2 GiB.
    #[error("a request over 4 GiB cannot be read")]
    TooLong,
}

impl Malformed {
    #[cold]
    pub(super) fn new(offset: usize, defect: Defect) -> Self {
        Malformed { offset, defect }
    }
}
