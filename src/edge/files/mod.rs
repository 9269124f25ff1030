//! Reads log files: CSV, JSON lines, plain text and OTLP JSON lines, gzipped or not, or standard input.
//!
//! Enters: a path (`-` is standard input) and [`Settings`]. Leaves: a [`Source`] of [`Row`]s, in file order, each an OTLP
//! record with where it came from; [`to_requests`] makes OTLP requests of them.
//!
//! Promises: nothing is dropped in silence. A line that gives no row is a [`BadRow`] with its line number; a row that is not
//! all it should be (no readable time, cells missing) is yielded and says so in [`Row::problem`]. Format, compression,
//! columns, levels and times are found by looking at the content unless given. Memory is bounded by the longest record.
//! Absent on purpose: following a growing file, other compressions than gzip, and writing.

mod batch;
mod columns;
mod csv;
mod input;
mod json;
mod otlp;
mod row;
mod severity;
mod text;
mod times;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde::{Deserialize, Serialize};

pub use batch::{Batcher, MAX_REQUEST_BYTES, to_requests};
pub use severity::number_of as severity_number_of;

/// How a file's lines are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-, semicolon- or tab-separated values with a header.
    Csv,
    /// One JSON object a line: `journalctl -o json`, Docker, Kubernetes, any structured logger.
    Json,
    /// One OTLP JSON request a line, as the Collector's file exporter writes them.
    Otlp,
    /// Plain text, a time and a level at its start if it has them; CRI lines; stack traces stay with their line.
    Text,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Format, String> {
        match name.to_ascii_lowercase().as_str() {
            "csv" | "tsv" => Ok(Format::Csv),
            "json" | "jsonl" | "ndjson" | "journal" | "docker" => Ok(Format::Json),
            "otlp" => Ok(Format::Otlp),
            "text" | "txt" | "cri" | "syslog" => Ok(Format::Text),
            _ => Err(format!("no format is named {name}; there are csv, json, otlp and text")),
        }
    }
}

/// What the user said about a file; what is not said is found out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The format.
    pub format: Option<Format>,
    /// Name of the column or JSON field (`a.b` for nested ones) that holds the message.
    pub message_column: Option<String>,
    /// The same for the time.
    pub time_column: Option<String>,
    /// The time's strftime format.
    pub time_format: Option<String>,
    /// The same for the service.
    pub service_column: Option<String>,
    /// The same for the severity.
    pub severity_column: Option<String>,
    /// IANA name of the zone of times that have none; UTC unless given.
    pub timezone: Option<String>,
}

/// Where an OTLP record was: what its resource and its scope said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// The resource.
    pub resource: Resource,
    /// Schema URL of the ResourceLogs.
    pub resource_schema_url: String,
    /// The scope, if there was one.
    pub scope: Option<InstrumentationScope>,
    /// Schema URL of the ScopeLogs.
    pub scope_schema_url: String,
}

/// One record of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Line of its file where the record starts, from 1.
    pub line: u64,
    /// Index of the input, as given to [`Source::numbered`].
    pub source: usize,
    /// When it happened; none when the input does not say, or says it illegibly.
    pub time_unix_nano: Option<u64>,
    /// What emitted it.
    pub service: Option<String>,
    /// The record; its time is `time_unix_nano`, 0 when there is none.
    pub record: LogRecord,
    /// What an OTLP input said about resource and scope.
    pub origin: Option<Arc<Origin>>,
    /// CSV: the cells as they were, one for each header. Other formats: time, service, severity and message.
    pub cells: Vec<String>,
    /// What is wrong with the row although it can be used; to be counted and reported like a [`BadRow`].
    pub problem: Option<String>,
}

impl Row {
    /// The resource of an OTLP input.
    pub fn resource(&self) -> Option<&Resource> {
        self.origin.as_deref().map(|origin| &origin.resource)
    }
}

/// A line that gives no row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadRow {
    /// Line of the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
    /// Nothing behind it can be read (a corrupt gzip stream, a disk error): the source ends here.
    pub fatal: bool,
}

/// Why a file cannot be read at all. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened or its first bytes not read.
    #[error("{path}: {source}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not a byte in it.
    #[error("{path} is empty: there is nothing to read", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Compressed with something else than gzip.
    #[error("{path} is compressed with {kind}, and only gzip is read: decompress it first, or pipe it in as `-`", path = path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The compression.
        kind: &'static str,
    },
    /// UTF-16.
    #[error("{path} is UTF-16: convert it first (iconv -f UTF-16 -t UTF-8)", path = path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
    },
    /// No column of the CSV is known to hold messages.
    #[error("{path} has no column that is known to hold the message; its columns are {}: name one with --message-column", columns.join(", "), path = path.display())]
    NoMessageColumn {
        /// The file.
        path: PathBuf,
        /// The columns there are.
        columns: Vec<String>,
    },
    /// A column that was asked for does not exist.
    #[error("{path} has no column {name}; its columns are {}: name one of them with --{option}", columns.join(", "), path = path.display())]
    NoSuchColumn {
        /// The file.
        path: PathBuf,
        /// The option that named it.
        option: &'static str,
        /// The name.
        name: String,
        /// The columns there are.
        columns: Vec<String>,
    },
    /// The zone is unknown.
    #[error("no time zone is named {name}: write an IANA name such as Europe/Berlin, or UTC")]
    TimeZone {
        /// The name.
        name: String,
    },
    /// The strftime format is wrong.
    #[error("--time-format {format} is no strftime format: {reason}")]
    TimeFormat {
        /// The format.
        format: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The rows of one input, in order.
pub struct Source {
    headers: Vec<String>,
    /// Indices of the headers whose cells become part of the record.
    read: Vec<usize>,
    format: Format,
    index: usize,
    rows: Box<dyn Iterator<Item = Result<Row, BadRow>> + Send>,
    ended: bool,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Source")
            .field("format", &self.format)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Names of the cells of each row.
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Whether the cells under the header of this index become part of the record; always for formats without cells.
    pub fn reads(&self, header: usize) -> bool {
        self.format != Format::Csv || self.read.contains(&header)
    }

    /// The format the input is read as.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The same source, its rows marked with `index`.
    #[must_use]
    pub fn numbered(mut self, index: usize) -> Source {
        self.index = index;
        self
    }
}

impl Iterator for Source {
    type Item = Result<Row, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut row = self.rows.next();
        match &mut row {
            Some(Ok(row)) => row.source = self.index,
            Some(Err(bad)) => self.ended = bad.fatal,
            None => self.ended = true,
        }
        row
    }
}

/// Opens a file, or standard input for `-`, and finds out what it is.
///
/// # Errors
/// [`FileError`]: the file cannot be read, or not with these settings.
pub fn open(path: &Path, settings: &Settings) -> Result<Source, FileError> {
    let input = input::Input::open(path)?;
    read(path, input, settings)
}

/// The source of an opened input.
fn read(path: &Path, input: input::Input, settings: &Settings) -> Result<Source, FileError> {
    let times = times::Times::new(settings, jiff::Timestamp::now())?;
    let format = settings.format.unwrap_or_else(|| detect(path, input.head(), settings));
    let headers = ["timestamp", "service", "severity", "message"]
        .map(String::from)
        .to_vec();
    let mut read = Vec::new();
    let (headers, rows): (_, Box<dyn Iterator<Item = Result<Row, BadRow>> + Send>) = match format {
        Format::Csv => {
            let rows = csv::Rows::new(path, input, settings, times)?;
            read = rows.read();
            (rows.headers().to_vec(), Box::new(rows))
        }
        Format::Json => (headers, Box::new(json::Rows::new(input, settings, times))),
        Format::Otlp => (headers, Box::new(otlp::Rows::new(input))),
        Format::Text => (headers, Box::new(text::Rows::new(input, times))),
    };
    Ok(Source {
        headers,
        read,
        format,
        index: 0,
        rows,
        ended: false,
    })
}

/// What the first bytes look like.
fn detect(path: &Path, head: &[u8], settings: &Settings) -> Format {
    let line = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.trim_ascii())
        .find(|line| !line.is_empty());
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    if line.starts_with('{') {
        let otlp = ["\"resourceLogs\"", "\"resource_logs\""]
            .iter()
            .any(|key| line.get(..64).unwrap_or(&line).contains(key));
        return if otlp { Format::Otlp } else { Format::Json };
    }
    let name = path.to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let named = name.ends_with(".csv") || name.ends_with(".tsv");
    if named || settings.message_column.is_some() || csv::looks_like_header(&line) {
        Format::Csv
    } else {
        Format::Text
    }
}

#[cfg(test)]
mod tests;
