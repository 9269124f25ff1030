//! CSV: a header, then a record a row, quoted newlines and all.
//!
//! Enters: bytes. Leaves: rows with their cells as they were. Separator (comma, semicolon, tab) by the header.
//! Too few cells: the row is kept, the missing ones empty, and told. Too many: an unquoted comma, most likely; what is too
//! much joins the last cell, and is told. Absent: CSV without a header, which cannot be told from text.

use std::io::Read;
use std::path::Path;

use ::csv::{ByteRecord, Reader, ReaderBuilder};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

use super::columns::{Role, find};
use super::input::{Input, text_of};
use super::row::Parts;
use super::times::Times;
use super::{BadRow, FileError, Row, Settings};

/// A record over more lines than this is a quote that was never closed.
const MAX_RECORD_LINES: u64 = 10_000;

/// Rows of a CSV.
pub(super) struct Rows {
    reader: Reader<Box<dyn Read + Send>>,
    headers: Vec<String>,
    columns: [Option<usize>; 7],
    separator: char,
    times: Times,
    record: ByteRecord,
    /// Lines end in CR LF: the reader counts them when it begins the next one.
    crlf: bool,
}

impl Rows {
    pub(super) fn new(path: &Path, input: Input, settings: &Settings, times: Times) -> Result<Rows, FileError> {
        let head = input.head();
        let first = head
            .split(|byte| *byte == b'\n')
            .find(|line| !line.trim_ascii().is_empty())
            .unwrap_or_default();
        let separator = separator(&String::from_utf8_lossy(first));
        let crlf = first.ends_with(b"\r");
        // With its end, the last line is counted like the others.
        let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let bytes: Box<dyn Read + Send> = Box::new(input.into_reader().chain(end));
        let mut reader = ReaderBuilder::new()
            .delimiter(separator)
            .flexible(true)
            .has_headers(true)
            .from_reader(bytes);
        let headers = reader.byte_headers().map_err(|error| FileError::Open {
            path: path.to_owned(),
            source: error.into(),
        })?;
        let headers: Vec<String> = headers
            .iter()
            .map(|name| text_of(name.to_vec()).trim().to_owned())
            .collect();
        let mut columns = find(headers.iter().map(String::as_str));
        for role in Role::ALL {
            let Some((name, option)) = role.chosen(settings) else {
                continue;
            };
            let exact = headers.iter().position(|header| header == name);
            let index = exact.or_else(|| headers.iter().position(|header| header.eq_ignore_ascii_case(name)));
            let Some(index) = index else {
                return Err(FileError::NoSuchColumn {
                    path: path.to_owned(),
                    option,
                    name: name.to_owned(),
                    columns: headers,
                });
            };
            if let Some(column) = columns.get_mut(role.index()) {
                *column = Some(index);
            }
        }
        if columns.get(Role::Message.index()).copied().flatten().is_none() {
            return Err(FileError::NoMessageColumn {
                path: path.to_owned(),
                columns: headers,
            });
        }
        Ok(Rows {
            reader,
            headers,
            columns,
            separator: char::from(separator),
            times,
            record: ByteRecord::new(),
            crlf,
        })
    }

    pub(super) fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Indices of the columns that have a role.
    pub(super) fn read(&self) -> Vec<usize> {
        self.columns.iter().copied().flatten().collect()
    }

    fn row(&self, line: u64) -> Row {
        let expected = self.headers.len();
        let found = self.record.len();
        let mut cells: Vec<String> = self.record.iter().map(|cell| text_of(cell.to_vec())).collect();
        let mut problem = None;
        if found < expected {
            problem = Some(format!(
                "has {found} cells where the header has {expected}; the missing ones are taken as empty"
            ));
            cells.resize(expected, String::new());
        } else if found > expected {
            problem = Some(format!(
                "has {found} cells where the header has {expected}; the last ones are joined"
            ));
            let extra = cells.split_off(expected);
            if let Some(last) = cells.last_mut() {
                for cell in extra {
                    last.push(self.separator);
                    last.push_str(&cell);
                }
            }
        }
        let cell = |role: Role| {
            self.columns
                .get(role.index())
                .copied()
                .flatten()
                .and_then(|index| cells.get(index))
                .cloned()
        };
        let parts = Parts {
            time: cell(Role::Time),
            service: cell(Role::Service),
            severity: cell(Role::Severity),
            body: cell(Role::Message).map(Any::StringValue),
            trace_id: cell(Role::TraceId),
            span_id: cell(Role::SpanId),
            request_id: cell(Role::RequestId),
            ..Parts::default()
        };
        let parts = self.dated(parts, &cells);
        let mut row = parts.into_row(line, &self.times, Some(cells));
        row.problem = problem.or(row.problem);
        row
    }
}

impl Rows {
    /// A time of day whose date is in a column of its own is read with it.
    fn dated(&self, mut parts: Parts, cells: &[String]) -> Parts {
        let Some(time) = parts
            .time
            .as_deref()
            .filter(|time| !time.trim().is_empty() && self.times.read(time).is_none())
        else {
            return parts;
        };
        let date = self
            .headers
            .iter()
            .position(|header| header.eq_ignore_ascii_case("date"))
            .and_then(|index| cells.get(index));
        let both = date.map(|date| format!("{} {}", date.trim(), time.trim()));
        if let Some(both) = both.filter(|both| self.times.read(both).is_some()) {
            parts.time = Some(both);
        }
        parts
    }
}

impl Iterator for Rows {
    type Item = Result<Row, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.reader.position().line();
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => None,
            Ok(true) => {
                // Counted from the record's end: empty lines before it are none of it.
                let lines = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
                let behind = u64::from(!self.crlf);
                let line = self.reader.position().line().saturating_sub(lines + behind);
                if lines > MAX_RECORD_LINES {
                    let reason = format!("opens a quote that is not closed within {lines} lines; they were left out");
                    return Some(Err(BadRow {
                        line,
                        reason,
                        fatal: false,
                    }));
                }
                Some(Ok(self.row(line)))
            }
            Err(error) => Some(Err(BadRow {
                line: before,
                reason: format!("cannot be read: {error}"),
                fatal: true,
            })),
        }
    }
}

/// The separator that the header line has most of.
fn separator(header: &str) -> u8 {
    let count = |separator: u8| header.bytes().filter(|byte| *byte == separator).count();
    let (mut best, mut most) = (b',', count(b','));
    for candidate in [b';', b'\t'] {
        if count(candidate) > most {
            (best, most) = (candidate, count(candidate));
        }
    }
    best
}

/// Is this a header: short names between separators, one of them known to hold messages?
pub(super) fn looks_like_header(line: &str) -> bool {
    let separator = char::from(separator(line));
    let names: Vec<&str> = line
        .split(separator)
        .map(|name| name.trim().trim_matches('"'))
        .collect();
    let short = names.iter().all(|name| name.len() <= 40 && !name.contains(' '));
    let [message, time, ..] = find(names.iter().copied());
    let alone = matches!(names.as_slice(), ["message" | "msg" | "Message"]);
    short && message.is_some() && (alone || names.len() >= 2 && (time.is_some() || names.len() <= 8))
}
