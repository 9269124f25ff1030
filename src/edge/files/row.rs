//! Makes a row of what a line was found to say.
//!
//! Enters: [`Parts`]. Leaves: a [`Row`] with its OTLP record. Promises: an illegible time leaves the row without one and
//! is told in its problem; ids that are no ids stay attributes.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use super::times::Times;
use super::{Row, severity};
use crate::engine::view::rfc3339;

/// What a line says, as text.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    pub time: Option<String>,
    pub service: Option<String>,
    pub severity: Option<String>,
    /// Known when the source has numbers of its own (journald); otherwise it is read from the text.
    pub severity_number: i32,
    pub body: Option<Any>,
    pub trace_id: Option<String>,
    pub span_id: Option<String>,
    pub request_id: Option<String>,
    pub exception: [Option<String>; 2],
}

pub(super) fn string_attribute(key: &str, value: String) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(value)),
        }),
        ..KeyValue::default()
    }
}

/// `digits` hexadecimal digits (with or without hyphens) as bytes; all zeros are no id.
fn id(text: &str, digits: usize) -> Option<Vec<u8>> {
    let hex: Vec<u8> = text
        .trim()
        .bytes()
        .filter(|byte| *byte != b'-')
        .map(|byte| char::from(byte).to_digit(16))
        .map(|digit| digit.map_or(0xff, |digit| digit as u8))
        .collect();
    let valid = hex.len() == digits && hex.iter().all(|digit| *digit < 16) && hex.iter().any(|digit| *digit > 0);
    valid.then(|| {
        hex.chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect()
    })
}

impl Parts {
    /// The row that starts at `line`; `cells` is filled from the parts when `None`.
    pub(super) fn into_row(self, line: u64, times: &Times, cells: Option<Vec<String>>) -> Row {
        let written = self.time.as_deref().map(str::trim).filter(|time| !time.is_empty());
        let time_unix_nano = written.and_then(|time| times.read(time));
        let problem = match (written, time_unix_nano) {
            (Some(written), None) => Some(format!(
                "the time {written:?} cannot be read; the row is kept without one"
            )),
            _ => None,
        };
        let severity = self.severity.unwrap_or_default().trim().to_owned();
        let service = self
            .service
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        let mut record = LogRecord {
            time_unix_nano: time_unix_nano.unwrap_or(0),
            severity_number: if self.severity_number > 0 {
                self.severity_number
            } else {
                severity::number_of(&severity)
            },
            severity_text: severity,
            body: self.body.map(|body| AnyValue { value: Some(body) }),
            ..LogRecord::default()
        };
        for (text, digits, name) in [(self.trace_id, 32, "trace_id"), (self.span_id, 16, "span_id")] {
            let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
                continue;
            };
            match id(&text, digits) {
                Some(bytes) if digits == 32 => record.trace_id = bytes,
                Some(bytes) => record.span_id = bytes,
                None => record.attributes.push(string_attribute(name, text)),
            }
        }
        let [kind, message] = self.exception;
        for (name, text) in [
            ("request_id", self.request_id),
            ("exception.type", kind),
            ("exception.message", message),
        ] {
            if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
                record.attributes.push(string_attribute(name, text));
            }
        }
        let cells = cells.unwrap_or_else(|| described(time_unix_nano, written, service.as_deref(), &record));
        Row {
            line,
            time_unix_nano,
            service,
            record,
            cells,
            problem,
            ..Row::default()
        }
    }
}

/// The cells of a format that has none: time, service, severity, message.
pub(super) fn described(
    time_unix_nano: Option<u64>,
    written: Option<&str>,
    service: Option<&str>,
    record: &LogRecord,
) -> Vec<String> {
    let time = time_unix_nano.map_or_else(|| written.unwrap_or_default().to_owned(), rfc3339);
    let message = match record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(other) => serde_json::to_string(&plain(other)).unwrap_or_default(),
        None => String::new(),
    };
    vec![
        time,
        service.unwrap_or_default().to_owned(),
        record.severity_text.clone(),
        message,
    ]
}

/// An OTLP value as the JSON a reader expects, without OTLP's type names.
fn plain(value: &Any) -> serde_json::Value {
    let inner = |value: &Option<AnyValue>| {
        value
            .as_ref()
            .and_then(|value| value.value.as_ref())
            .map_or(serde_json::Value::Null, plain)
    };
    match value {
        Any::StringValue(text) => text.as_str().into(),
        Any::BoolValue(flag) => (*flag).into(),
        Any::IntValue(number) => (*number).into(),
        Any::DoubleValue(number) => (*number).into(),
        Any::BytesValue(bytes) => bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            .into(),
        Any::ArrayValue(list) => list
            .values
            .iter()
            .map(|value| value.value.as_ref().map_or(serde_json::Value::Null, plain))
            .collect(),
        Any::KvlistValue(map) => map
            .values
            .iter()
            .map(|entry| (entry.key.clone(), inner(&entry.value)))
            .collect(),
        _ => serde_json::Value::Null,
    }
}
