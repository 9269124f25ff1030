//! Plain text: a record a line, with the lines that belong to it.
//!
//! Enters: lines. Leaves: rows. A time at the start of a line (or in its first brackets, as in access logs) is the row's
//! time; a leading one is no part of the message. A line without a time behind one with a time is a continuation (stack
//! traces, PostgreSQL's details); in a file without times indented lines are. CRI lines
//! (`2024-11-18T10:00:00Z stdout F message`) are unwrapped, their parts joined. syslog names the service.
//! Promise: a record is at most [`MAX_RECORD_BYTES`] long; what would go beyond starts a new one.

use std::iter::Peekable;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

use super::input::{Input, Lines};
use super::json::ObjectReader;
use super::row::Parts;
use super::times::Times;
use super::{BadRow, Row, Settings, severity};
use crate::engine::view::rfc3339;

/// Longest record made of several lines.
const MAX_RECORD_BYTES: usize = 64 << 10;
/// Most lines of one record.
const MAX_RECORD_LINES: usize = 512;

/// Rows of a text.
pub(super) struct Rows {
    lines: Peekable<Lines>,
    times: Times,
    objects: ObjectReader,
}

/// A line, taken apart.
struct Line<'l> {
    time_unix_nano: Option<u64>,
    /// The time is at the start, and `rest` begins behind it.
    leading: bool,
    rest: &'l str,
    /// CRI: this is not the end of the message.
    partial: bool,
    cri: bool,
}

impl Rows {
    pub(super) fn new(input: Input, times: Times) -> Rows {
        Rows {
            lines: input.into_lines().peekable(),
            times,
            objects: ObjectReader::new(&Settings::default()),
        }
    }
}

fn take_apart<'l>(times: &Times, line: &'l str) -> Line<'l> {
    let bare = line.strip_prefix('[').unwrap_or(line);
    if let Some((time, end)) = times.leading(bare) {
        let rest = bare.get(end..).unwrap_or_default();
        if let Some((message, partial)) = cri(rest) {
            return Line {
                time_unix_nano: Some(time),
                leading: true,
                rest: message,
                partial,
                cri: true,
            };
        }
        let rest = rest
            .strip_prefix(']')
            .unwrap_or(rest)
            .trim_start_matches([' ', '\t', '|', '-', ',', ':']);
        return Line {
            time_unix_nano: Some(time),
            leading: true,
            rest,
            partial: false,
            cri: false,
        };
    }
    Line {
        time_unix_nano: inner_time(times, line),
        leading: false,
        rest: line,
        partial: false,
        cri: false,
    }
}

/// The time in the first brackets (`10.0.0.1 - - [18/Nov/2024:10:00:00 +0000] "GET`), or behind Redis's process.
fn inner_time(times: &Times, line: &str) -> Option<u64> {
    let head = line.get(..line.floor_char_boundary(160)).unwrap_or_default();
    let bracketed = head.split_once('[').and_then(|(_, inside)| {
        let (time, end) = times.leading(inside)?;
        inside.get(end..)?.starts_with(']').then_some(time)
    });
    bracketed.or_else(|| {
        let (process, rest) = head.split_once(' ')?;
        let (number, role) = process.split_once(':')?;
        let redis = number.parse::<u32>().is_ok() && matches!(role, "M" | "S" | "C" | "X");
        redis.then(|| times.leading(rest).map(|(time, _)| time)).flatten()
    })
}

/// Does this line belong to the record before it?
fn continues(times: &Times, text: &str, timed: bool) -> bool {
    let indented = text.starts_with([' ', '\t']);
    if text.trim().is_empty() {
        return false;
    }
    let line = take_apart(times, text);
    if timed {
        line.time_unix_nano.is_none()
    } else {
        indented && !line.leading
    }
}

/// The message of a CRI line behind its time, and whether more of it follows.
fn cri(rest: &str) -> Option<(&str, bool)> {
    let rest = rest
        .strip_prefix(" stdout ")
        .or_else(|| rest.strip_prefix(" stderr "))?;
    let (tags, message) = rest.split_once(' ').unwrap_or((rest, ""));
    match tags.split(':').next() {
        Some("F") => Some((message, false)),
        Some("P") => Some((message, true)),
        _ => None,
    }
}

/// The program of a syslog line behind its time: `host program[12]: message`.
fn syslog_program(rest: &str) -> Option<&str> {
    let (_host, rest) = rest.split_once(' ')?;
    let (tag, _) = rest.split_once(": ")?;
    let program = tag.split('[').next()?;
    let named = !program.is_empty()
        && program.len() <= 48
        && program
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./()".contains(&byte));
    (named && program.bytes().any(|byte| byte.is_ascii_alphabetic())).then_some(program)
}

impl Iterator for Rows {
    type Item = Result<Row, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let (start, first) = loop {
            match self.lines.next()? {
                Ok((_, text)) if text.trim().is_empty() => continue,
                Ok(line) => break line,
                Err(bad) => return Some(Err(bad)),
            }
        };
        let line = take_apart(&self.times, &first);
        let (time_unix_nano, is_cri, mut partial) = (line.time_unix_nano, line.cri, line.partial);
        let timed = line.leading;
        let mut message = line.rest.to_owned();
        // syslog's own form of time has no year; other formats do not put a host behind theirs.
        let syslog = timed && first.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
        let mut parts = Parts {
            service: syslog.then(|| syslog_program(line.rest).map(str::to_owned)).flatten(),
            severity: severity::in_line(line.rest).map(str::to_owned),
            ..Parts::default()
        };
        let mut count = 1;
        while count < MAX_RECORD_LINES && message.len() < MAX_RECORD_BYTES {
            let Some(Ok((_, next))) = self.lines.peek() else { break };
            if is_cri {
                let next = take_apart(&self.times, next);
                if !(partial && next.cri) {
                    break;
                }
                message.push_str(next.rest);
                partial = next.partial;
            } else if continues(&self.times, next, timed) {
                message.push('\n');
                message.push_str(next);
            } else {
                break;
            }
            self.lines.next();
            count += 1;
        }
        self.objects.read_wrapped(&message, &mut parts);
        parts.body = Some(Any::StringValue(message));
        let mut row = parts.into_row(start, &self.times, None);
        row.time_unix_nano = time_unix_nano;
        row.record.time_unix_nano = time_unix_nano.unwrap_or(0);
        if let (Some(time), Some(cell)) = (time_unix_nano, row.cells.first_mut()) {
            *cell = rfc3339(time);
        }
        Some(Ok(row))
    }
}
