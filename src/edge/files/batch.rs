//! Rows as OTLP requests.
//!
//! Enters: rows, in order. Leaves: requests of at most so many records and [`MAX_REQUEST_BYTES`]. Promises: the order of the records is kept; records
//! that follow each other and have the same service (or, from OTLP, the same resource and scope) share one ResourceLogs.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;

use prost::Message;

use super::row::string_attribute;
use super::{Origin, Row};

/// Requests are kept under this, the limit of most receivers, unless one record alone is larger.
pub const MAX_REQUEST_BYTES: usize = 3 << 20;

/// What the records of one ResourceLogs have in common.
#[derive(Clone, Debug)]
struct Group {
    service: Option<String>,
    origin: Option<Arc<Origin>>,
}

impl Group {
    fn is(&self, other: &Group) -> bool {
        match (&self.origin, &other.origin) {
            (Some(one), Some(another)) => Arc::ptr_eq(one, another) || one == another,
            (None, None) => self.service == other.service,
            _ => false,
        }
    }
}

/// Collects rows until there are enough for a request.
#[derive(Debug)]
pub struct Batcher {
    size: usize,
    records: usize,
    bytes: usize,
    groups: Vec<(Group, Vec<LogRecord>)>,
}

impl Batcher {
    /// Requests of `size` records; at least one.
    pub fn new(size: usize) -> Batcher {
        Batcher {
            size: size.max(1),
            records: 0,
            bytes: 0,
            groups: Vec::new(),
        }
    }

    /// Adds a row. Returns a request once it is full: with this row, or without it when it would make it too large.
    pub fn push(&mut self, row: Row) -> Option<ExportLogsServiceRequest> {
        let bytes = row.record.encoded_len();
        let too_large = self.bytes + bytes > MAX_REQUEST_BYTES;
        let full = if too_large { self.finish() } else { None };
        let group = Group {
            service: row.service,
            origin: row.origin,
        };
        match self.groups.last_mut() {
            Some((last, records)) if last.is(&group) => records.push(row.record),
            _ => self.groups.push((group, vec![row.record])),
        }
        self.records += 1;
        self.bytes += bytes;
        full.or_else(|| if self.records >= self.size { self.finish() } else { None })
    }

    /// Records waiting for a full request.
    pub fn len(&self) -> usize {
        self.records
    }

    /// True when no record is waiting.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The request of the rows that are left, if there are any.
    pub fn finish(&mut self) -> Option<ExportLogsServiceRequest> {
        if self.is_empty() {
            return None;
        }
        self.records = 0;
        self.bytes = 0;
        let resource_logs = std::mem::take(&mut self.groups)
            .into_iter()
            .map(|(group, records)| resource_logs(group, records))
            .collect();
        Some(ExportLogsServiceRequest { resource_logs })
    }
}

fn resource_logs(group: Group, log_records: Vec<LogRecord>) -> ResourceLogs {
    match group.origin {
        Some(origin) => ResourceLogs {
            resource: Some(origin.resource.clone()),
            scope_logs: vec![ScopeLogs {
                scope: origin.scope.clone(),
                log_records,
                schema_url: origin.scope_schema_url.clone(),
            }],
            schema_url: origin.resource_schema_url.clone(),
        },
        None => ResourceLogs {
            resource: group.service.map(|name| Resource {
                attributes: vec![string_attribute("service.name", name)],
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs {
                log_records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        },
    }
}

/// The rows as requests of `size` records, the last one perhaps smaller.
pub fn to_requests(rows: impl IntoIterator<Item = Row>, size: usize) -> impl Iterator<Item = ExportLogsServiceRequest> {
    let mut batcher = Batcher::new(size);
    let mut rows = rows.into_iter();
    std::iter::from_fn(move || {
        for row in rows.by_ref() {
            let request = batcher.push(row);
            if request.is_some() {
                return request;
            }
        }
        batcher.finish()
    })
}
