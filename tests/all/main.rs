//! The tests that see the crate from outside, in one binary: a module a purpose.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

/// What `harbinger analyze` makes of files.
mod analyzing;
/// The API as its clients meet it.
mod api;
/// Bytes stay bytes: decoding, splicing and unknown fields.
mod byte_path;
/// What agents come to that fold one log, by simulation.
mod cluster;
/// What agents share through Kafka.
#[cfg(feature = "kafka")]
mod cluster_kafka;
/// Agents that share their incidents.
mod clustering;
/// The program as the shell sees it.
mod command_line;
/// What users write is read as they meant it, or refused with what to write instead.
mod config;
/// The streaming graph equals the brute-force one, however the stream comes.
mod correlation;
/// A model, a disk or a clock that fails never stops a log.
mod degrading;
/// What the documents show is so.
mod documents;
/// Records in, marked records out, in one process.
mod end_to_end;
/// What `harbinger evaluate` makes of labelled logs.
mod evaluating;
/// What `mode: evidence` makes one incident, in any order, over restarts, through noise and storms.
mod evidence;
/// What `harbinger explain` says of a line.
mod explaining;
/// What people say of verdicts decides, and is kept; what was learned can be taken back.
mod feedback;
/// The floors of the house hold.
mod floors;
/// What fuzzing keeps and has found.
mod fuzzed;
/// What is read from Kafka and written to it.
#[cfg(feature = "kafka")]
mod kafka;
/// The sentence model.
mod model;
/// Other programs, as Harbinger meets them: OTLP clients and next hops made of tonic.
mod otlp;
/// What the agent says of itself: metrics and their page, pushed or fetched, and traces of its own.
mod own_telemetry;
/// What `harbinger analyze` writes to be looked at: the report and the graph.
mod picturing;
/// What a sending queue keeps, whatever happens.
mod queueing;
/// What an OTLP client gets from the gRPC receiver (CONFORMANCE items 1–9).
mod receiving;
/// What an OTLP client gets from the HTTP receiver (CONFORMANCE items 1–10, 12, 13), down to the bytes on the socket.
mod receiving_http;
/// What changes without a restart, and what is told instead.
mod reloading;
/// Recorded logs through the readers, the text room and over gRPC.
mod replaying;
/// Every configuration that is shipped runs.
mod running;
/// Verdicts over any stream: episodes, budgets, restarts.
mod scoring;
/// Who gets in, and what hostile callers can do.
mod securing;
/// What a next hop gets from the OTLP exporter (CONFORMANCE items 15–21), alone and behind the receiver.
mod sending;
/// What a next hop gets from the HTTP exporter (CONFORMANCE items 10, 15–22).
mod sending_http;
/// What agents that share what they know make of their parts of a stream.
mod sharing;
/// Traces and metrics pass unjudged, as safely as logs do.
mod signals;
/// Who is told of incidents, and that no log waits for it.
mod telling;
/// What one tenant says is nobody else's.
mod tenants;
/// What an earlier version has left on the disk.
mod upgrading;
/// A stand-in for the sentence model.
mod words;
