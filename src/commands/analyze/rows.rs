//! A stretch of rows as it is put aside: the cells of annotated.csv, ready to be written, and what incidents need of a row.
//!
//! What enters: rows in input order. What leaves: the same rows as [`PutAside`]. Promises: a message that stands in its
//! line as it is, is not kept twice. Absent on purpose: the records; those go another way, see `batches`.

use anyhow::Result;
use prost::Message;

use super::super::input::message;
use crate::{edge::files::Row, engine::front::UNKNOWN_SERVICE};

/// Many rows in one message of protobuf, column by column.
#[derive(Clone, PartialEq, Message)]
pub struct Rows {
    /// Lines of CSV, each with an empty cell at its end and a line break.
    #[prost(bytes = "vec", tag = "1")]
    lines: Vec<u8>,
    #[prost(uint64, repeated, tag = "2")]
    line_bytes: Vec<u64>,
    /// Nanoseconds since the Unix epoch and one; 0 is none.
    #[prost(fixed64, repeated, tag = "3")]
    times: Vec<u64>,
    #[prost(string, repeated, tag = "4")]
    service_names: Vec<String>,
    #[prost(uint32, repeated, tag = "5")]
    services: Vec<u32>,
    #[prost(sint32, repeated, tag = "6")]
    severity_numbers: Vec<i32>,
    /// Where the message begins in its line, and one; 0 is in `messages`, behind those before it.
    #[prost(uint64, repeated, tag = "7")]
    message_starts: Vec<u64>,
    #[prost(uint64, repeated, tag = "8")]
    message_bytes: Vec<u64>,
    #[prost(bytes = "vec", tag = "9")]
    messages: Vec<u8>,
}

/// A row as it was put aside.
#[derive(Clone, Copy, Debug)]
pub struct PutAside<'a> {
    /// Its cells as CSV up to the comma before what is added.
    pub line: &'a [u8],
    /// When it happened, if it says so legibly.
    pub time_unix_nano: Option<u64>,
    /// What emitted it.
    pub service: &'a str,
    /// OTLP severity number.
    pub severity_number: i32,
    message: &'a [u8],
}

impl PutAside<'_> {
    /// What it says, in one text.
    pub fn message(&self) -> &str {
        // It was a text when it was put aside.
        std::str::from_utf8(self.message).unwrap_or_default()
    }
}

impl Rows {
    /// Puts rows aside. `columns` is how many annotated.csv has; `places` says for each source where its cells go.
    ///
    /// # Errors
    /// None that memory does not give.
    pub fn of(rows: &[Row], columns: usize, places: &[Vec<usize>]) -> Result<Self> {
        let mut all = Self::default();
        let mut csv = csv::Writer::from_writer(Vec::new());
        let mut start = 0;
        for row in rows {
            let mut cells = vec![""; columns + 1];
            let places = places.get(row.source).map(Vec::as_slice).unwrap_or_default();
            for (cell, place) in row.cells.iter().zip(places) {
                if let Some(slot) = cells.get_mut(*place) {
                    *slot = cell;
                }
            }
            csv.write_record(cells)?;
            csv.flush()?;
            let line = csv.get_ref().get(start..).unwrap_or_default();
            start += line.len();
            all.add(row, line);
        }
        all.lines = csv.into_inner().map_err(csv::IntoInnerError::into_error)?;
        Ok(all)
    }

    fn add(&mut self, row: &Row, line: &[u8]) {
        self.line_bytes.push(line.len() as u64);
        self.times
            .push(row.time_unix_nano.map_or(0, |time| time.saturating_add(1)));
        self.severity_numbers.push(row.record.severity_number);
        let service = row.service.as_deref().unwrap_or(UNKNOWN_SERVICE);
        let known = self.service_names.iter().position(|name| name == service);
        self.services.push(known.unwrap_or_else(|| {
            self.service_names.push(service.to_owned());
            self.service_names.len() - 1
        }) as u32);
        let message = message(row).as_bytes();
        let start = memchr::memmem::find(line, message);
        self.message_starts.push(start.map_or(0, |start| start as u64 + 1));
        self.message_bytes.push(message.len() as u64);
        if start.is_none() {
            self.messages.extend(message);
        }
    }

    /// The rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = PutAside<'_>> {
        let (mut lines, mut messages) = (self.lines.as_slice(), self.messages.as_slice());
        let described = self.times.iter().zip(&self.services).zip(&self.severity_numbers);
        let said = self.message_starts.iter().zip(&self.message_bytes);
        self.line_bytes.iter().zip(described).zip(said).map(
            move |((line_bytes, ((time, service), severity_number)), (start, bytes))| {
                let line = take(&mut lines, *line_bytes);
                let message = match start.checked_sub(1) {
                    Some(start) => take(&mut line.get(start as usize..).unwrap_or_default(), *bytes),
                    None => take(&mut messages, *bytes),
                };
                PutAside {
                    line: line.strip_suffix(b"\n").unwrap_or(line),
                    time_unix_nano: time.checked_sub(1),
                    service: self.service_names.get(*service as usize).map_or("", String::as_str),
                    severity_number: *severity_number,
                    message,
                }
            },
        )
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: u64) -> &'a [u8] {
    let (taken, rest) = bytes.split_at_checked(count as usize).unwrap_or((bytes, &[]));
    *bytes = rest;
    taken
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};

    use super::*;

    /// A row whose first cell is its message.
    fn row(source: usize, cells: &[&str], time_unix_nano: Option<u64>) -> Row {
        let mut row = Row {
            source,
            time_unix_nano,
            cells: cells.iter().map(|cell| (*cell).to_owned()).collect(),
            ..Row::default()
        };
        let message = Value::StringValue(cells.first().unwrap().to_string());
        row.record.body = Some(AnyValue { value: Some(message) });
        row
    }

    /// Cells with quotes, commas and line breaks, columns of another source, and a single empty cell come back as they were.
    #[test]
    fn rows_come_back_as_they_were() {
        let rows = [
            row(0, &["plain", "x"], Some(0)),
            row(0, &["says \"no\", twice\nand more", ""], None),
            row(1, &["späť"], Some(7)),
        ];
        let places = [vec![0, 1], vec![1]];
        let kept = Rows::decode(&*Rows::of(&rows, 2, &places).unwrap().encode_to_vec()).unwrap();
        let told: Vec<_> = kept
            .iter()
            .map(|row| {
                (
                    String::from_utf8_lossy(row.line).into_owned(),
                    row.message().to_owned(),
                    row.time_unix_nano,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("plain,x,".to_owned(), "plain".to_owned(), Some(0)),
                (
                    "\"says \"\"no\"\", twice\nand more\",,".to_owned(),
                    "says \"no\", twice\nand more".to_owned(),
                    None
                ),
                (",späť,".to_owned(), "späť".to_owned(), Some(7)),
            ]
        );
        let one = Rows::of(&[row(0, &[""], None)], 1, &[vec![0]]).unwrap();
        assert_eq!(one.iter().map(|row| row.line.to_vec()).collect::<Vec<_>>(), [b","]);
    }
}
