//! The recording's records as requests of any size.
//!
//! In: `recording.jsonl.gz`. Out: OTLP bytes, one resource a service, as an agent on a node sends them. Promise: every record has
//! [`ATTRIBUTES`] attributes: its own and such as collectors add. Absent on purpose: made-up texts.

use std::{ops::Range, path::Path};

use anyhow::Result;
use harbinger::edge::files;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message;

/// Attributes of every record.
pub const ATTRIBUTES: usize = 8;

/// What a collector adds to a record.
const ADDED: [(&str, &str); ATTRIBUTES] = [
    ("k8s.namespace.name", "shop"),
    ("k8s.pod.name", "shop-7d9f8c6b5d-x2x7k"),
    ("k8s.container.name", "main"),
    ("k8s.node.name", "ip-10-20-0-12.internal"),
    ("log.iostream", "stderr"),
    ("log.file.path", "/var/log/pods/shop_shop-7d9f8c6b5d-x2x7k/main/0.log"),
    ("deployment.environment.name", "production"),
    ("cloud.region", "eu-central-1"),
];

/// See the module.
pub struct Recording {
    resources: Vec<Resource>,
    /// With the index of its resource, in the order they were written.
    records: Vec<(usize, LogRecord)>,
}

impl Recording {
    /// Reads it.
    pub fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration/recording/recording.jsonl.gz");
        let mut resources: Vec<Resource> = Vec::new();
        let mut records = Vec::new();
        for row in files::open(&path, &files::Settings::default())? {
            let row = row?;
            let resource = row.resource().cloned().unwrap_or_default();
            let known = resources.iter().position(|known| *known == resource);
            let at = known.unwrap_or_else(|| {
                resources.push(resource);
                resources.len() - 1
            });
            records.push((at, extended(row.record)));
        }
        Ok(Self { resources, records })
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The bodies of the records, in the order they were written.
    pub fn texts(&self) -> Vec<String> {
        let body = |(_, record): &(usize, LogRecord)| match record.body.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            _ => None,
        };
        self.records.iter().filter_map(body).collect()
    }

    /// The records as requests of at most `size`, all of them `later_nano` later than they were.
    pub fn requests(&self, records: Range<usize>, size: usize, later_nano: u64) -> Vec<Vec<u8>> {
        let records = self.records.get(records).unwrap_or_default();
        records
            .chunks(size)
            .map(|records| self.request(records, later_nano))
            .collect()
    }

    fn request(&self, records: &[(usize, LogRecord)], later_nano: u64) -> Vec<u8> {
        let of_resource = self.resources.iter().enumerate().filter_map(|(at, resource)| {
            let of_it = records.iter().filter(|(of, _)| *of == at);
            let log_records: Vec<LogRecord> = of_it
                .map(|(_, record)| LogRecord {
                    time_unix_nano: record.time_unix_nano + later_nano,
                    observed_time_unix_nano: record.observed_time_unix_nano + later_nano,
                    ..record.clone()
                })
                .collect();
            let scope = ScopeLogs {
                log_records,
                ..ScopeLogs::default()
            };
            (!scope.log_records.is_empty()).then(|| ResourceLogs {
                resource: Some(resource.clone()),
                scope_logs: vec![scope],
                ..ResourceLogs::default()
            })
        });
        ExportLogsServiceRequest {
            resource_logs: of_resource.collect(),
        }
        .encode_to_vec()
    }
}

/// The record with [`ATTRIBUTES`] attributes.
fn extended(mut record: LogRecord) -> LogRecord {
    let added = ADDED.iter().skip(record.attributes.len());
    record.attributes.extend(added.map(|(key, value)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue((*value).to_owned())),
        }),
        ..KeyValue::default()
    }));
    record
}
