//! OTLP JSON lines: one request a line, as the Collector's file exporter writes them.
//!
//! Enters: lines. Leaves: a row a record, with resource and scope, so that what is sent again is what was received.
//! A line that is no OTLP JSON is kept as a text row and told.

use std::collections::VecDeque;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use prost::Message;

use super::input::{Input, Lines};
use super::row::described;
use super::{BadRow, Origin, Row};
use crate::edge::{Signal, transport::otlp_json};

/// Rows of OTLP JSON lines.
pub(super) struct Rows {
    lines: Lines,
    ready: VecDeque<Row>,
}

impl Rows {
    pub(super) fn new(input: Input) -> Rows {
        Rows {
            lines: input.into_lines(),
            ready: VecDeque::new(),
        }
    }

    fn unpack(&mut self, line: u64, mut logs: ResourceLogs) {
        let scopes = std::mem::take(&mut logs.scope_logs);
        let resource = logs.resource.unwrap_or_default();
        let name = resource
            .attributes
            .iter()
            .find(|attribute| attribute.key == "service.name");
        let service = name.and_then(|name| match name.value.as_ref()?.value.as_ref()? {
            Any::StringValue(name) if !name.is_empty() => Some(name.clone()),
            _ => None,
        });
        for scope in scopes {
            let origin = Arc::new(Origin {
                resource: resource.clone(),
                resource_schema_url: logs.schema_url.clone(),
                scope: scope.scope,
                scope_schema_url: scope.schema_url,
            });
            self.ready.extend(
                scope
                    .log_records
                    .into_iter()
                    .map(|record| row(line, service.clone(), record, &origin)),
            );
        }
    }
}

fn request(json: &str) -> Result<ExportLogsServiceRequest, String> {
    let bytes =
        otlp_json::to_protobuf(otlp_json::request(Signal::Logs), json.as_bytes()).map_err(|error| error.to_string())?;
    ExportLogsServiceRequest::decode(&*bytes).map_err(|error| error.to_string())
}

fn row(line: u64, service: Option<String>, record: LogRecord, origin: &Arc<Origin>) -> Row {
    let time_unix_nano = [record.time_unix_nano, record.observed_time_unix_nano]
        .into_iter()
        .find(|time| *time > 0);
    let cells = described(time_unix_nano, None, service.as_deref(), &record);
    Row {
        line,
        time_unix_nano,
        service,
        record,
        origin: Some(Arc::clone(origin)),
        cells,
        ..Row::default()
    }
}

impl Iterator for Rows {
    type Item = Result<Row, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Some(Ok(row));
            }
            let (line, text) = match self.lines.next()? {
                Ok(line) => line,
                Err(bad) => return Some(Err(bad)),
            };
            if text.trim().is_empty() {
                continue;
            }
            match request(&text) {
                Ok(request) => request
                    .resource_logs
                    .into_iter()
                    .for_each(|logs| self.unpack(line, logs)),
                Err(error) => {
                    let problem = format!("is no OTLP JSON ({error}); it is kept as text");
                    return Some(Ok(super::json::text_row(line, text, problem)));
                }
            }
        }
    }
}
