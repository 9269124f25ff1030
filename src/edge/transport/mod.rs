//! Transport: what edges share: gRPC for the receiver and the OTLP exporter, HTTP/1 for the notifiers, files of one's own for
//! the state directory and the queues.
//!
//! What enters: HTTP/2 bodies, headers and refusals. What leaves: message bytes, statuses and framed bodies.
//! Promise: a message body is copied at most once on its way in and not at all on its way out; every buffer has a
//! limit; no header of a peer can cause a panic.
//! Absent on purpose: prost (requests stay bytes), TLS and authentication (a later version), and tonic's own
//! `Grpc`/`Codec` types: they copy every outgoing body, compress again for each retry, panic on a next hop's
//! `grpc-status-details-bin` that is not base64, and cannot tell a broken compression from a broken server.

pub mod admission;
pub mod compression;
pub mod connections;
pub mod framing;
pub mod http_client;
pub mod listening;
pub mod metadata;
pub mod partial_success;
pub mod parts;
pub mod private_files;
pub mod retry;
pub mod status;
pub mod warnings;

/// The one method Harbinger serves and calls.
pub const EXPORT_PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Bytes in the MiB that settings are written in.
pub const MIB: usize = 1024 * 1024;
