//! The file exporter: requests to a file, in the two formats of the Collector's `file` exporter.
//!
//! What enters: [`Request`]s. What leaves: one line of OTLP JSON each, or each request's bytes behind their length
//! (four bytes, big endian).
//! Requests of every signal go into the one file, as they come; a line says by its first name what it tells of.
//! Promise: a request is acknowledged when the system has its bytes; a write that failed leaves nothing of itself
//! behind; `format: proto` is lossless, byte for byte.
//! Absent on purpose: rotation, compression, and waiting for the disk (what the system holds survives the end of
//! Harbinger, not of the machine). `format: json` cannot hold fields that are not in the OTLP schema of this version,
//! nor text that is not UTF-8: the former are left out, the latter is refused.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::{task::spawn_blocking, time::timeout_at};

use super::{
    BoxFuture, Exporter, Refusal, Request, Signal,
    transport::otlp_json::{self, to_json},
};

/// An exporter of type `file`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The file; its directory must exist.
    pub path: PathBuf,
    /// How requests are written.
    pub format: Format,
    /// `true`: write behind what is there. `false`, as in the Collector: begin an empty file.
    pub append: bool,
}

/// How requests are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One line of OTLP JSON per request.
    #[default]
    Json,
    /// Four bytes of length (big endian), then the bytes of the request.
    Proto,
}

impl Settings {
    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if self.path.as_os_str().is_empty() {
            return Err("`path` is missing: write the file that records go to, like ./records.jsonl".into());
        }
        Ok(())
    }

    /// Says what to write so that requests of several signals can be told apart.
    pub fn tells_apart(&self) -> Result<(), String> {
        match self.format {
            Format::Json => Ok(()),
            Format::Proto => Err("`format: proto` does not say what a request tells of; write `format: json`, or an exporter of its own \
                                  for each pipeline"
                .into()),
        }
    }
}

/// The file cannot be written; says what to change.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Write a path.
    #[error("{0}")]
    Settings(String),
    /// Create the directory.
    #[error("the directory {} does not exist: create it (mkdir -p), or change `path`", directory.display())]
    NoDirectory {
        /// The missing directory.
        directory: PathBuf,
    },
    /// Change the path or its permissions.
    #[error("cannot write {} ({source}): change `path` or its permissions", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What became of requests since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests written.
    pub sent_requests: AtomicU64,
    /// Requests that cannot be written in this format.
    pub send_failed_requests: AtomicU64,
    /// Requests given back because the write failed.
    pub unavailable_requests: AtomicU64,
    /// Bytes of the written requests, as they came.
    pub sent_bytes: AtomicU64,
}

/// An open file.
#[derive(Debug)]
pub struct FileExporter {
    output: Arc<Mutex<Output>>,
    format: Format,
    path: PathBuf,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Output {
    file: File,
    length: u64,
}

impl FileExporter {
    /// Opens the file. Blocks: call it at start-up.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        settings.validate().map_err(OpenError::Settings)?;
        let path = settings.path.clone();
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
            return Err(OpenError::NoDirectory {
                directory: directory.to_owned(),
            });
        }
        let output = open(&path, settings).map_err(|source| OpenError::Unwritable {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            output: Arc::new(Mutex::new(output)),
            format: settings.format,
            path,
            counters: Arc::default(),
        })
    }

    /// The counters, kept up to date.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    async fn write(&self, request: Request) -> Result<Bytes, Refusal> {
        let bytes = request.body.len() as u64;
        if bytes == 0 {
            return Ok(Bytes::new()); // an empty request succeeds and leaves no empty envelope
        }
        let (output, format) = (self.output.clone(), self.format);
        let writing = spawn_blocking(move || {
            let encoded = encode(request.signal, &request.body, format)?;
            output
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&encoded)
                .map_err(WriteError::Write)
        });
        let result = match timeout_at(request.deadline, writing).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(WriteError::Write(io::Error::other(error))),
            Err(_) => Err(WriteError::Write(io::ErrorKind::TimedOut.into())),
        };
        match result {
            Ok(()) => {
                self.counters.sent_requests.fetch_add(1, Ordering::Relaxed);
                self.counters.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(Bytes::new())
            }
            Err(WriteError::Encode(message)) => {
                self.counters.send_failed_requests.fetch_add(1, Ordering::Relaxed);
                Err(Refusal::Malformed(message))
            }
            Err(WriteError::Write(error)) => {
                self.counters.unavailable_requests.fetch_add(1, Ordering::Relaxed);
                let message = format!("cannot write {}: {error}", self.path.display());
                Err(Refusal::Unavailable {
                    message,
                    retry_after: None,
                })
            }
        }
    }
}

impl Exporter for FileExporter {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.write(request))
    }
}

enum WriteError {
    Encode(String),
    Write(io::Error),
}

fn open(path: &Path, settings: &Settings) -> io::Result<Output> {
    let mut options = OpenOptions::new();
    options.create(true).read(true);
    // Logs are for their owner: as in the Collector, nobody else reads them.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = if settings.append {
        options.append(true)
    } else {
        options.write(true).truncate(true)
    }
    .open(path)?;
    let length = file.metadata()?.len();
    let mut output = Output { file, length };
    if length > 0 && settings.format == Format::Json && !output.ends_a_line()? {
        output.append(b"\n")?; // a line cut by a crash stays alone on its line
    }
    Ok(output)
}

fn encode(signal: Signal, body: &[u8], format: Format) -> Result<Vec<u8>, WriteError> {
    match format {
        Format::Proto => {
            let length = u32::try_from(body.len()).map_err(|error| WriteError::Encode(error.to_string()))?;
            Ok([&length.to_be_bytes()[..], body].concat())
        }
        Format::Json => {
            let mut line = to_json(otlp_json::request(signal), body).map_err(|error| {
                WriteError::Encode(format!(
                    "not writable as JSON ({error}); `format: proto` takes any request"
                ))
            })?;
            line.push(b'\n');
            Ok(line)
        }
    }
}

impl Output {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes).and_then(|()| self.file.flush()) {
            // Half a request would spoil the next one. What is no regular file cannot be shortened.
            if self.file.set_len(self.length).is_ok() {
                self.file.seek(SeekFrom::Start(self.length))?;
            }
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn ends_a_line(&mut self) -> io::Result<bool> {
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        Ok(last == *b"\n")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::time::Duration;

    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        common::v1::{AnyValue, any_value::Value},
        logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    };
    use prost::Message;
    use tokio::time::Instant;

    use super::*;
    use crate::edge::Metadata;

    fn request(body: Vec<u8>) -> Request {
        Request {
            signal: Signal::Logs,
            body: body.into(),
            metadata: Metadata::default(),
            deadline: Instant::now() + Duration::from_secs(60),
        }
    }

    fn logs(text: &str) -> ExportLogsServiceRequest {
        let body = Some(AnyValue {
            value: Some(Value::StringValue(text.into())),
        });
        let record = LogRecord {
            time_unix_nano: u64::MAX,
            trace_id: vec![0xab; 16],
            body,
            ..Default::default()
        };
        let scope_logs = vec![ScopeLogs {
            log_records: vec![record],
            ..Default::default()
        }];
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                scope_logs,
                ..Default::default()
            }],
        }
    }

    fn settings(directory: &tempfile::TempDir, format: Format, append: bool) -> Settings {
        Settings {
            path: directory.path().join("records"),
            format,
            append,
        }
    }

    async fn write(settings: &Settings, bodies: &[Vec<u8>]) -> Vec<u8> {
        let exporter = FileExporter::open(settings).unwrap();
        for body in bodies {
            assert_eq!(exporter.export(request(body.clone())).await, Ok(Bytes::new()));
        }
        std::fs::read(&settings.path).unwrap()
    }

    #[tokio::test]
    async fn json_is_one_line_of_otlp_json_per_request() {
        let directory = tempfile::tempdir().unwrap();
        let bodies = ["one", "two"].map(|text| logs(text).encode_to_vec());
        let written = write(&settings(&directory, Format::Json, false), &bodies).await;
        let lines: Vec<&[u8]> = written.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 2);
        let value: serde_json::Value = serde_json::from_slice(lines[0]).unwrap();
        let record = &value["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["timeUnixNano"], u64::MAX.to_string());
        assert_eq!(record["traceId"], "ab".repeat(16));
        assert_eq!(record["body"]["stringValue"], "one");
        assert_eq!(
            serde_json::from_slice::<ExportLogsServiceRequest>(lines[1]).unwrap(),
            logs("two")
        );
    }

    #[tokio::test]
    async fn proto_is_the_bytes_behind_their_length() {
        let directory = tempfile::tempdir().unwrap();
        let written = write(
            &settings(&directory, Format::Proto, false),
            &[vec![1, 2, 3], vec![], vec![0xff]],
        )
        .await;
        assert_eq!(written, [0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 1, 0xff]);
    }

    #[tokio::test]
    async fn records_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(&directory, Format::Json, false);
        write(&settings, &[logs("x").encode_to_vec()]).await;
        let mode = std::fs::metadata(&settings.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn append_keeps_what_is_there_and_a_new_file_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let bodies = [logs("x").encode_to_vec()];
        let line = write(&settings(&directory, Format::Json, false), &bodies).await;
        let path = directory.path().join("records");
        std::fs::write(&path, b"{\"cut").unwrap();
        let appended = write(&settings(&directory, Format::Json, true), &bodies).await;
        assert_eq!(appended, [&b"{\"cut\n"[..], &line].concat());
        assert_eq!(write(&settings(&directory, Format::Json, false), &bodies).await, line);
    }

    #[tokio::test]
    async fn a_request_that_json_cannot_hold_is_refused_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let exporter = FileExporter::open(&settings(&directory, Format::Json, false)).unwrap();
        let refusal = exporter.export(request(vec![0xff])).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Malformed(message) if message.contains("format: proto")));
        assert_eq!(exporter.counters().send_failed_requests.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_full_disk_refuses_for_now() {
        let settings = Settings {
            path: "/dev/full".into(),
            format: Format::Proto,
            append: true,
        };
        let exporter = FileExporter::open(&settings).unwrap();
        let refusal = exporter.export(request(vec![1])).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Unavailable { message, .. } if message.contains("/dev/full")));
    }

    #[test]
    fn a_missing_directory_says_so() {
        let settings = Settings {
            path: "/nowhere/at/all/records.jsonl".into(),
            ..Settings::default()
        };
        let error = FileExporter::open(&settings).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all") && error.contains("mkdir"), "{error}");
        assert!(
            FileExporter::open(&Settings::default())
                .unwrap_err()
                .to_string()
                .contains("`path`")
        );
    }

    #[test]
    fn a_failed_write_leaves_nothing_of_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        std::fs::write(&path, b"whole\npart").unwrap();
        let file = OpenOptions::new().read(true).open(&path).unwrap(); // cannot be written
        let mut output = Output { file, length: 6 };
        assert!(output.append(b"more").is_err());
        output.file = OpenOptions::new().append(true).open(&path).unwrap();
        output.file.set_len(output.length).unwrap();
        output.append(b"more\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole\nmore\n");
    }
}
