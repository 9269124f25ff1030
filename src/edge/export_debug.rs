//! The debug exporter: what passes by, readable on standard output.
//!
//! What enters: [`Request`]s. What leaves: one line per request (`basic`) or per record (`detailed`); traces and metrics are only
//! counted.
//! Promise: never fails a request and never holds one for long; what could not be printed (output closed, or slower
//! than the stream) is counted. Nothing in a record can move the cursor or break a line.
//! Absent on purpose: a format to parse. That is the file exporter's.

use std::{
    fmt::Write as _,
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{BoxFuture, Exporter, Refusal, Request, Signal};
use crate::engine::view::{Record, Value, View, is_obeyed, item_count, severity_name};

/// Requests that may wait for a slow output before others are left out.
const MAX_WAITING: usize = 16;
/// Longest body shown, in bytes.
const MAX_BODY_BYTES: usize = 160;
/// Longest service name, severity or attribute value shown, in bytes.
const MAX_WORD_BYTES: usize = 80;
/// Lists inside lists are shown to this depth.
const MAX_DEPTH: usize = 4;

/// An exporter of type `debug`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A line per request, or per record.
    pub verbosity: Verbosity,
    /// Attributes shown where a record has them.
    pub attributes: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            verbosity: Verbosity::default(),
            attributes: ["is_anomaly", "incident_id"].map(String::from).to_vec(),
        }
    }
}

/// How much is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    /// One line per request.
    #[default]
    Basic,
    /// One line per record; the Collector's `normal` is the same here.
    #[serde(alias = "normal")]
    Detailed,
}

/// What became of requests since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests printed.
    pub printed_requests: AtomicU64,
    /// Requests that passed unprinted: the output was closed or too slow.
    pub unprinted_requests: AtomicU64,
}

/// Standard output, as a destination.
pub struct DebugExporter {
    output: Arc<Mutex<Box<dyn Write + Send>>>,
    settings: Arc<Settings>,
    waiting: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl DebugExporter {
    /// Prints to standard output.
    pub fn new(settings: Settings) -> Self {
        Self::to(Box::new(std::io::stdout()), settings)
    }

    /// Prints to `output`.
    pub fn to(output: Box<dyn Write + Send>, settings: Settings) -> Self {
        Self {
            output: Arc::new(Mutex::new(output)),
            settings: Arc::new(settings),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            counters: Arc::default(),
        }
    }

    /// The counters, kept up to date.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    async fn print(&self, request: Request) {
        let printed = match self.waiting.clone().try_acquire_owned() {
            Err(_) => false,
            Ok(place) => {
                let (output, settings) = (self.output.clone(), self.settings.clone());
                let printing = spawn_blocking(move || {
                    let _place = place;
                    let lines = match request.signal {
                        Signal::Logs => describe(&request.body, &settings),
                        signal => count(signal, &request.body),
                    };
                    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
                    output.write_all(lines.as_bytes()).and_then(|()| output.flush()).is_ok()
                });
                matches!(tokio::time::timeout_at(request.deadline, printing).await, Ok(Ok(true)))
            }
        };
        let counter = if printed {
            &self.counters.printed_requests
        } else {
            &self.counters.unprinted_requests
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Exporter for DebugExporter {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(async {
            self.print(request).await;
            Ok(Bytes::new())
        })
    }
}

fn count(signal: Signal, body: &[u8]) -> String {
    let bytes = body.len();
    match item_count(signal, body) {
        Ok(items) => format!("{items} {}, {bytes} bytes\n", signal.items()),
        Err(error) => format!("a request of {bytes} bytes that cannot be read: {error}\n"),
    }
}

fn describe(body: &[u8], settings: &Settings) -> String {
    let view = match View::parse(body) {
        Ok(view) => view,
        Err(error) => return format!("a request of {} bytes that cannot be read: {error}\n", body.len()),
    };
    let mut out = String::new();
    match settings.verbosity {
        Verbosity::Basic => {
            _ = write!(
                out,
                "{} records, {} resources, {} bytes",
                view.len(),
                view.resource_count(),
                body.len()
            );
            for name in &settings.attributes {
                let marked = |record: &Record<'_>| !matches!(record.attribute(name), None | Some(Value::Bool(false)));
                _ = write!(out, ", {} {name}", view.records().filter(marked).count());
            }
            out.push('\n');
        }
        Verbosity::Detailed => {
            for record in view.records() {
                line(&view, &record, settings, &mut out);
            }
        }
    }
    out
}

/// `time severity service [name=value …] body`; `-` stands for what a record does not say.
fn line(view: &View<'_>, record: &Record<'_>, settings: &Settings, out: &mut String) {
    let time_unix_nano = match record.time_unix_nano {
        0 => record.observed_time_unix_nano,
        time => time,
    };
    match jiff::Timestamp::from_nanosecond(i128::from(time_unix_nano)) {
        Ok(time) if time_unix_nano > 0 => _ = write!(out, "{time:.3} "),
        _ => out.push_str("- "),
    }
    match record.severity_text {
        [] => out.push_str(severity_name(record.severity_number).unwrap_or("-")),
        text => words(text, out, MAX_WORD_BYTES),
    }
    out.push(' ');
    match view
        .resource(record.resource_index)
        .and_then(|resource| resource.service_name())
    {
        Some(name) if !name.is_empty() => words(name.as_bytes(), out, MAX_WORD_BYTES),
        _ => out.push('-'),
    }
    for name in &settings.attributes {
        if let Some(value) = record.attribute(name) {
            _ = write!(out, " {name}=");
            show(value, out, out.len() + MAX_WORD_BYTES, 0);
        }
    }
    out.push(' ');
    show(record.body, out, out.len() + MAX_BODY_BYTES, 0);
    out.push('\n');
}

/// Writes `value` until `out` has about `end` bytes.
fn show(value: Value<'_>, out: &mut String, end: usize, depth: usize) {
    match value {
        Value::Empty => {}
        Value::String(text) => words(text, out, end.saturating_sub(out.len())),
        Value::Bool(value) => _ = write!(out, "{value}"),
        Value::Int(value) => _ = write!(out, "{value}"),
        Value::Double(value) => _ = write!(out, "{value}"),
        Value::Bytes(bytes) => _ = write!(out, "({} bytes)", bytes.len()),
        Value::Malformed => out.push('?'),
        Value::Array(_) | Value::Map(_) if depth == MAX_DEPTH => out.push('…'),
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if !next(index, out, end) {
                    break;
                }
                show(value, out, end, depth + 1);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if !next(index, out, end) {
                    break;
                }
                words(key, out, MAX_WORD_BYTES);
                out.push('=');
                show(value, out, end, depth + 1);
            }
            out.push('}');
        }
    }
}

/// Separates elements; `false` when there is no more room.
fn next(index: usize, out: &mut String, end: usize) -> bool {
    if out.len() >= end {
        out.push('…');
        return false;
    }
    if index > 0 {
        out.push_str(", ");
    }
    true
}

/// Text on one line, at most about `max` bytes, with control characters escaped.
fn words(text: &[u8], out: &mut String, max: usize) {
    let head = text.get(..max).unwrap_or(text);
    let start = out.len();
    for character in String::from_utf8_lossy(head).chars() {
        if out.len() - start >= max {
            break;
        }
        if is_obeyed(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    if head.len() < text.len() {
        out.push('…');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::{io, time::Duration};

    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        common::v1::{AnyValue, KeyValue, KeyValueList, any_value::Value as Any},
        logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
        resource::v1::Resource,
    };
    use prost::Message;
    use tokio::time::Instant;

    use super::*;
    use crate::edge::Metadata;

    fn pair(key: &str, value: Any) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..Default::default()
        }
    }

    fn text(text: &str) -> Any {
        Any::StringValue(text.into())
    }

    fn encoded(log_records: Vec<LogRecord>) -> Vec<u8> {
        let resource = Some(Resource {
            attributes: vec![pair("service.name", text("shop"))],
            ..Default::default()
        });
        let scope_logs = vec![ScopeLogs {
            log_records,
            ..Default::default()
        }];
        let resource_logs = vec![ResourceLogs {
            resource,
            scope_logs,
            ..Default::default()
        }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    }

    fn record(body: Any, attributes: Vec<KeyValue>) -> LogRecord {
        LogRecord {
            time_unix_nano: 1_731_924_000_250_000_000,
            severity_number: 17,
            body: Some(AnyValue { value: Some(body) }),
            attributes,
            ..Default::default()
        }
    }

    fn detailed() -> Settings {
        Settings {
            verbosity: Verbosity::Detailed,
            ..Settings::default()
        }
    }

    #[test]
    fn detailed_is_one_line_per_record() {
        let marked = vec![
            pair("is_anomaly", Any::BoolValue(true)),
            pair("incident_id", text("i-1")),
        ];
        let map = Any::KvlistValue(KeyValueList {
            values: vec![pair("a", Any::IntValue(1)), pair("b", text("c"))],
        });
        let body = encoded(vec![
            record(text("down\n\x1b[31mred"), marked),
            record(map, vec![]),
            LogRecord {
                severity_text: "Notice".into(),
                ..Default::default()
            },
        ]);
        assert_eq!(
            describe(&body, &detailed()),
            "2024-11-18T10:00:00.250Z ERROR shop is_anomaly=true incident_id=i-1 down\\n\\u{1b}[31mred\n\
             2024-11-18T10:00:00.250Z ERROR shop {a=1, b=c}\n\
             - Notice shop \n"
        );
    }

    #[test]
    fn basic_is_one_line_per_request() {
        let anomaly = |value| vec![pair("is_anomaly", Any::BoolValue(value))];
        let body = encoded(vec![
            record(text("x"), anomaly(true)),
            record(text("y"), anomaly(false)),
        ]);
        let expected = format!(
            "2 records, 1 resources, {} bytes, 1 is_anomaly, 0 incident_id\n",
            body.len()
        );
        assert_eq!(describe(&body, &Settings::default()), expected);
    }

    #[test]
    fn huge_deep_and_broken_bodies_stay_one_short_line() {
        let deep = (0..30).fold(text("x"), |inner, _| {
            Any::KvlistValue(KeyValueList {
                values: vec![pair("k", inner)],
            })
        });
        let wide = Any::KvlistValue(KeyValueList {
            values: vec![pair("key", text(&"ä".repeat(99))); 999],
        });
        for body in [text(&"ä".repeat(9999)), deep, wide, text(&"\x07".repeat(9999))] {
            let lines = describe(&encoded(vec![record(body, vec![])]), &detailed());
            assert!(lines.len() < 500 && lines.lines().count() == 1, "{lines}");
        }
        assert!(describe(&[0xff], &detailed()).contains("1 bytes"));
    }

    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_closed_output_is_counted_and_fails_no_request() {
        let exporter = DebugExporter::to(Box::new(Closed), Settings::default());
        let deadline = Instant::now() + Duration::from_secs(60);
        let request = Request {
            signal: Signal::Logs,
            body: Bytes::new(),
            metadata: Metadata::default(),
            deadline,
        };
        assert_eq!(exporter.export(request).await, Ok(Bytes::new()));
        assert_eq!(exporter.counters().unprinted_requests.load(Ordering::Relaxed), 1);
    }
}
