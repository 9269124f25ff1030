//! JSON lines: journald, Docker, Kubernetes and whatever structured loggers write.
//!
//! Enters: lines. Leaves: a row a line: the message field is the body (without one the whole object is), the usual fields
//! become time, service, severity and ids, an error field becomes the exception. A line that is no JSON object is kept as a
//! text row and told. Absent: pretty-printed JSON over several lines.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value as Any};
use serde_json::{Map, Value};

use super::columns::Role;
use super::input::{Input, Lines, text_of};
use super::row::Parts;
use super::times::Times;
use super::{BadRow, Row, Settings, severity};
use crate::edge::transport::json_value;

/// Distinct field names whose role is remembered; a stream that makes them up costs time, not memory.
const MAX_NAMES: usize = 4096;

/// Rows of JSON lines.
pub(super) struct Rows {
    lines: Lines,
    reader: ObjectReader,
    times: Times,
}

impl Rows {
    pub(super) fn new(input: Input, settings: &Settings, times: Times) -> Rows {
        Rows {
            lines: input.into_lines(),
            reader: ObjectReader::new(settings),
            times,
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (line, text) = match self.lines.next()? {
                Ok(line) => line,
                Err(bad) => return Some(Err(bad)),
            };
            if text.trim().is_empty() {
                continue;
            }
            return Some(Ok(match serde_json::from_str::<Map<String, Value>>(&text) {
                Ok(object) => {
                    let (parts, problem) = self.reader.read(object);
                    let mut row = parts.into_row(line, &self.times, None);
                    row.problem = problem.or(row.problem);
                    row
                }
                Err(error) => text_row(line, text, format!("is no JSON object ({error}); it is kept as text")),
            }));
        }
    }
}

/// A line that is not what its file holds, kept as it is.
pub(super) fn text_row(line: u64, text: String, problem: String) -> Row {
    let mut row = Row {
        line,
        problem: Some(problem),
        ..Row::default()
    };
    row.record.body = Some(AnyValue {
        value: Some(Any::StringValue(text)),
    });
    row.cells = super::row::described(None, None, None, &row.record);
    row
}

/// Finds the roles of an object's fields.
pub(super) struct ObjectReader {
    settings: Settings,
    /// Role and preference of each name seen.
    roles: BTreeMap<String, Option<(Role, usize)>>,
}

impl ObjectReader {
    pub(super) fn new(settings: &Settings) -> ObjectReader {
        ObjectReader {
            settings: settings.clone(),
            roles: BTreeMap::new(),
        }
    }

    fn role(&mut self, name: &str) -> Option<(Role, usize)> {
        if let Some(known) = self.roles.get(name) {
            return *known;
        }
        let role = Role::ALL
            .into_iter()
            .find_map(|role| Some((role, role.preference(name)?)));
        if self.roles.len() < MAX_NAMES {
            self.roles.insert(name.to_owned(), role);
        }
        role
    }

    /// The field for each role: the user's, else the best by name.
    fn fields(&mut self, object: &Map<String, Value>) -> [Option<String>; 7] {
        let mut best: [Option<(usize, &String)>; 7] = [None; 7];
        for (name, value) in object {
            let Some((role, preference)) = self.role(name) else {
                continue;
            };
            if value.is_null() {
                continue;
            }
            if let Some(slot) = best.get_mut(role.index())
                && slot.is_none_or(|(other, _)| preference < other)
            {
                *slot = Some((preference, name));
            }
        }
        best.map(|found| found.map(|(_, name)| name.clone()))
    }

    /// What the object says, and what is wrong with it.
    pub(super) fn read(&mut self, mut object: Map<String, Value>) -> (Parts, Option<String>) {
        let fields = self.fields(&object);
        let mut problem = None;
        let mut value_of = |role: Role| -> Option<Value> {
            if let Some((name, option)) = role.chosen(&self.settings) {
                let value = object.get(name).or_else(|| nested(&object, name)).cloned();
                if value.is_none() && role == Role::Message {
                    problem = Some(format!(
                        "has no field {name} (--{option}); the whole object is taken as the message"
                    ));
                }
                return value;
            }
            fields
                .get(role.index())
                .and_then(Option::as_ref)
                .and_then(|name| object.get(name))
                .cloned()
        };
        let message = value_of(Role::Message);
        let mut parts = Parts {
            time: value_of(Role::Time).and_then(scalar),
            service: value_of(Role::Service).and_then(|value| named(value, "name")),
            severity: value_of(Role::Severity).and_then(|value| named(value, "name")),
            trace_id: value_of(Role::TraceId).and_then(scalar),
            span_id: value_of(Role::SpanId).and_then(scalar),
            request_id: value_of(Role::RequestId).and_then(scalar),
            ..Parts::default()
        };
        let path = |path: &str| nested(&object, path).cloned().and_then(scalar);
        parts.severity = parts.severity.or_else(|| path("log.level"));
        parts.service = parts
            .service
            .or_else(|| path("kubernetes.container_name"))
            .or_else(|| path("kubernetes.container.name"));
        parts.trace_id = parts.trace_id.or_else(|| path("trace.id"));
        parts.exception = exception(&object);
        let numbered = fields
            .get(Role::Severity.index())
            .and_then(Option::as_ref)
            .is_some_and(|name| name.to_ascii_lowercase().contains("number"));
        let number = parts
            .severity
            .as_deref()
            .and_then(|text| text.trim().parse::<u64>().ok());
        parts.severity_number = match number {
            Some(number @ 1..=24) if numbered => number as i32,
            Some(priority @ 0..=7) => severity::of_syslog_priority(priority),
            _ => 0,
        };
        if let Some(Value::String(text)) = &message {
            self.read_wrapped(text, &mut parts);
        }
        parts.body = match message {
            Some(Value::String(mut text)) => {
                let kept = text.trim_end_matches(['\n', '\r']).len();
                text.truncate(kept);
                Some(Any::StringValue(text))
            }
            Some(value) => json_value::any(bytes_as_text(value)),
            None => {
                object.retain(|_, value| !value.is_null());
                json_value::any(Value::Object(object))
            }
        };
        (parts, problem)
    }

    /// A message that is itself a JSON object (a container's line in a driver's envelope) may name level, service and ids.
    pub(super) fn read_wrapped(&mut self, message: &str, parts: &mut Parts) {
        let text = message.trim();
        if !(text.starts_with('{') && text.ends_with('}')) {
            return;
        }
        let Ok(object) = serde_json::from_str::<Map<String, Value>>(text) else {
            return;
        };
        let plain = ObjectReader {
            settings: Settings::default(),
            roles: std::mem::take(&mut self.roles),
        };
        let mut reader = plain;
        // One envelope in another is read; further ones are the message's own affair.
        let fields = reader.fields(&object);
        self.roles = reader.roles;
        let take = |role: Role| {
            fields
                .get(role.index())
                .and_then(Option::as_ref)
                .and_then(|name| object.get(name))
                .cloned()
                .and_then(|value| named(value, "name"))
        };
        parts.severity = parts.severity.take().or_else(|| take(Role::Severity));
        parts.service = parts.service.take().or_else(|| take(Role::Service));
        parts.trace_id = parts.trace_id.take().or_else(|| take(Role::TraceId));
        parts.span_id = parts.span_id.take().or_else(|| take(Role::SpanId));
        parts.request_id = parts.request_id.take().or_else(|| take(Role::RequestId));
        if parts.exception == [None, None] {
            parts.exception = exception(&object);
        }
    }
}

/// The value at `a.b.c`.
fn nested<'o>(object: &'o Map<String, Value>, path: &str) -> Option<&'o Value> {
    let (first, rest) = path.split_once('.')?;
    let inner = object.get(first)?.as_object()?;
    inner.get(rest).or_else(|| nested(inner, rest))
}

/// A string, number or bool as text.
fn scalar(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A scalar, or the field `name` of an object (`"service": {"name": "x"}`).
fn named(value: Value, name: &str) -> Option<String> {
    match value {
        Value::Object(mut object) => object.remove(name).and_then(scalar),
        value => scalar(value),
    }
}

/// Type and message of the error an object tells of.
fn exception(object: &Map<String, Value>) -> [Option<String>; 2] {
    for name in ["exception", "error", "err"] {
        let flat = |field: &str| object.get(&format!("{name}.{field}")).cloned().and_then(scalar);
        let (kind, message) = (flat("type"), flat("message"));
        if kind.is_some() || message.is_some() {
            return [kind, message];
        }
        match object.get(name) {
            Some(Value::Object(error)) => {
                let field = |names: [&str; 3]| names.iter().find_map(|name| error.get(*name)).cloned().and_then(scalar);
                return [field(["type", "name", "class"]), field(["message", "msg", "reason"])];
            }
            Some(Value::String(text)) => return [None, Some(text.clone())],
            _ => {}
        }
    }
    [None, None]
}

/// journald writes a message that is no UTF-8 as an array of its bytes.
fn bytes_as_text(value: Value) -> Value {
    let Value::Array(list) = &value else { return value };
    let bytes: Option<Vec<u8>> = list
        .iter()
        .map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()))
        .collect();
    match bytes {
        Some(bytes) if bytes.len() >= 4 => Value::String(text_of(bytes)),
        _ => value,
    }
}
