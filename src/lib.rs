//! Harbinger: an agent in an OpenTelemetry log pipeline that marks anomalous records and groups incidents.
//!
//! The path of a record, room by room:
//!
//! ```text
//! edge::receive_grpc ─ bytes ─▶ pipeline ─▶ engine::view ─▶ engine::text ─▶ engine::embed
//!   or receive_http                                                             │
//! edge::export_otlp ◀─ bytes ─ engine::annotate ◀─ engine::correlate ◀─ engine::score
//!   or export_http, …
//! ```
//!
//! Traces and metrics come and leave by the same edges, past the engine (`pipeline::pass_through`).
//!
//! Floors, lowest first; a floor imports only what is below it (`tests/floors.rs` enforces it):
//! `engine` (pure) < `edge` (all input and output) < `pipeline` (threads, deadlines, queues)
//! < `config` (what users write) < `app` and `commands` (wire it together) < `cli`.
//!
//! Promises: lossless to the byte; the model never stops a log; an acknowledgement means the next hop has it, or the disk;
//! the engine is pure and deterministic; everything is bounded.

pub mod app;
pub mod cli;
pub mod commands;
pub mod config;
pub mod edge;
pub mod engine;
pub mod pipeline;
pub mod telemetry;
