//! Transport: what edges share: what receivers do with a request and exporters with an answer, in whatever protocol; gRPC's
//! frames, OTLP JSON, HTTP/1 for the notifiers, TLS for all, and files of one's own for the state directory and the queues.
//!
//! What enters: bodies, headers and refusals. What leaves: message bytes, statuses and framed bodies.
//! Promise: a message body is copied at most once on its way in and not at all on its way out; every buffer has a
//! limit; no header of a peer can cause a panic.
//! Absent on purpose: prost (requests stay bytes), who is let in (`super::auth`), and tonic's own
//! `Grpc`/`Codec` types: they copy every outgoing body, compress again for each retry, panic on a next hop's
//! `grpc-status-details-bin` that is not base64, and cannot tell a broken compression from a broken server.

pub mod admission;
pub mod compression;
pub mod connections;
pub mod delivery;
pub mod entrance;
pub mod framing;
pub mod http_client;
pub mod json_value;
pub mod kafka;
pub mod listening;
pub mod metadata;
pub mod next_hop;
pub mod otlp_json;
pub mod partial_success;
pub mod parts;
pub mod private_files;
pub mod punctual;
pub mod receiver;
pub mod reception;
pub mod reloading;
pub mod retry;
pub mod retry_after;
pub mod secrets;
pub mod signals;
pub mod status;
pub mod tls;
pub mod warnings;

/// Bytes in the MiB that settings are written in.
pub const MIB: usize = 1024 * 1024;
