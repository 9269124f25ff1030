//! A change as an OTLP log record, like any other log for whoever stores it.
//!
//! In: reports with the time they are sent. Out: the bytes of one `ExportLogsServiceRequest` with a resource and a scope of
//! our own. Promises: attributes are flat, numbers, texts or lists of one of them, which every store can hold; the scope and
//! an attribute tell every Harbinger on the way not to judge it. Absent on purpose: sending.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message;

use crate::engine::tell::{EVENT, KeyRecordReport, Report, SCOPE};

/// Who sends events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The version that runs.
    pub version: String,
    /// Attributes of the resource beside `service.name` and `service.version`.
    pub resource: Vec<(String, String)>,
    /// The name that the incident's id has on records.
    pub incident_id: String,
}

/// The bytes of the request that tells these reports, each with the time it was made (Unix nanoseconds).
pub fn event(sender: &Sender, reports: &[(Report, u64)]) -> Vec<u8> {
    let own = [("service.name", "harbinger"), ("service.version", &*sender.version)];
    let others = sender.resource.iter().map(|(key, value)| (&**key, &**value));
    let others = others.filter(|(key, _)| own.iter().all(|(known, _)| known != key));
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: own
                    .into_iter()
                    .chain(others)
                    .map(|(key, value)| text(key, value))
                    .collect(),
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs {
                scope: Some(InstrumentationScope {
                    name: SCOPE.to_owned(),
                    version: sender.version.clone(),
                    ..InstrumentationScope::default()
                }),
                log_records: reports
                    .iter()
                    .map(|(report, now)| record(sender, report, *now))
                    .collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    request.encode_to_vec()
}

fn record(sender: &Sender, report: &Report, now_unix_nano: u64) -> LogRecord {
    LogRecord {
        time_unix_nano: report.time_unix_nano,
        observed_time_unix_nano: now_unix_nano,
        severity_number: report.severity_number,
        severity_text: report.severity_text.to_owned(),
        body: Some(any(Value::StringValue(report.summary.clone()))),
        attributes: attributes(sender, report),
        event_name: report.event.to_owned(),
        ..LogRecord::default()
    }
}

fn attributes(sender: &Sender, report: &Report) -> Vec<KeyValue> {
    let mut all = vec![
        text(EVENT, report.event),
        text(&sender.incident_id, &report.incident_id),
        text("harbinger.incident.status", report.status),
        number("harbinger.incident.records", report.records),
        number("harbinger.incident.anomalous_records", report.anomalous_records),
        text("harbinger.incident.first_time", &report.first_time),
        number("harbinger.incident.first_time_unix_nano", report.first_time_unix_nano),
        text("harbinger.incident.last_time", &report.last_time),
        number("harbinger.incident.last_time_unix_nano", report.last_time_unix_nano),
        list(
            "harbinger.incident.services",
            report.services.iter().map(|service| string(service)),
        ),
        // Two lists in one order: stores that flatten attributes cannot hold a list of pairs.
        list(
            "harbinger.incident.templates",
            report.templates.iter().map(|template| string(&template.text)),
        ),
        list(
            "harbinger.incident.template_records",
            report.templates.iter().map(|template| integer(template.records)),
        ),
        text("harbinger.incident.logql", &report.logql),
    ];
    key_record("harbinger.incident.leading_edge", &report.leading_edge, &mut all);
    key_record("harbinger.incident.worst", &report.worst, &mut all);
    let stated = [
        ("tenant", report.tenant.as_deref()),
        ("harbinger.incident.merged_into", report.merged_into.as_deref()),
        ("harbinger.incident.closed_by", report.closed_by),
        ("harbinger.incident.parent_id", report.parent_id.as_deref()),
    ];
    all.extend(stated.into_iter().filter_map(|(key, value)| Some(text(key, value?))));
    if !report.aliases.is_empty() {
        all.push(list(
            "harbinger.incident.aliases",
            report.aliases.iter().map(|alias| string(alias)),
        ));
    }
    let counts = [
        ("harbinger.incident.other_aliases", report.other_aliases as u64),
        (
            "harbinger.incident.records_of_other_services",
            report.records_of_other_services,
        ),
        (
            "harbinger.incident.records_of_other_templates",
            report.records_of_other_templates,
        ),
    ];
    all.extend(
        counts
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(key, count)| number(key, count)),
    );
    let ties = report.ties.iter();
    all.extend(ties.map(|(tie, episodes)| number(&format!("harbinger.incident.ties.{tie}"), *episodes)));
    all
}

fn key_record(prefix: &str, record: &KeyRecordReport, all: &mut Vec<KeyValue>) {
    let mut put = |name: &str, value: Value| all.push(pair(&format!("{prefix}.{name}"), value));
    put("time", string(&record.time));
    put("service", string(&record.service));
    put("severity_number", Value::IntValue(record.severity_number.into()));
    if !record.severity_text.is_empty() {
        put("severity_text", string(record.severity_text));
    }
    if !record.text.is_empty() {
        put("text", string(&record.text));
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, string(value))
}

fn number(key: &str, value: u64) -> KeyValue {
    pair(key, integer(value))
}

fn list(key: &str, values: impl Iterator<Item = Value>) -> KeyValue {
    pair(
        key,
        Value::ArrayValue(ArrayValue {
            values: values.map(any).collect(),
        }),
    )
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn string(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn integer(number: u64) -> Value {
    Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX))
}
