//! `harbinger replay`: sends log files to an OTLP endpoint, as fast as they happened, faster, or at once.
//!
//! What enters: log files of any format the readers know. What leaves: OTLP gRPC requests, and a line that sums up.
//! Promises: several files are one stream in order of time, each file in its own order; every row is sent once and
//! acknowledged, or counted as refused and told; pacing follows the records' own times; with `--now` no record is sent
//! before it happened. Absent on purpose: sorting within a file (it is sent as it stands), and more than one request at a
//! time (the next hop sees the order of the files).

use std::{
    io::{self, IsTerminal, Write},
    iter::Peekable,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use prost::Message;
use tokio::time::Instant;

use super::{bad_rows::BadRows, input::InputArgs};
use crate::edge::{
    Exporter, Metadata, Refusal, Request, Signal,
    export_otlp::{self, OtlpExporter},
    files::{self, Batcher, Row, Source},
    now_unix_nano,
};

/// How long one request may take, retries included; an endpoint that is away for longer ends the replay.
const PATIENCE: Duration = Duration::from_secs(60);
/// Records due within this time go together: a request for each would be slower than the log was.
const TICK: Duration = Duration::from_millis(20);

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Log files: CSV, JSON lines, plain text, OTLP JSON lines; also .gz; `-` reads standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Where to send: an OTLP gRPC endpoint such as http://localhost:4317
    #[arg(long, value_name = "ENDPOINT")]
    to: String,
    /// How fast: 1x as it happened, 10x ten times as fast, max without waiting
    #[arg(long, default_value = "max")]
    speed: Speed,
    /// Records in a request
    #[arg(long, default_value_t = 1000, value_name = "RECORDS")]
    batch: usize,
    /// Shift all times to now: the first record is now, or (sent faster than it happened) the last one will be
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    reading: InputArgs,
}

/// How many times as fast as it happened; `None` waits for nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Speed(Option<f64>);

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self(None));
        }
        match text.strip_suffix('x').unwrap_or(text).parse::<f64>() {
            Ok(factor) if factor > 0.0 && factor.is_finite() => Ok(Self(Some(factor))),
            _ => Err(format!("`{text}` is no speed; write 1x, 10x, 0.5x or max")),
        }
    }
}

impl Speed {
    /// How long it takes to send what happened within `recorded`.
    fn scaled(self, recorded: Duration) -> Duration {
        // A quotient no duration can hold is for ever.
        self.0.map_or(Duration::ZERO, |factor| {
            Duration::try_from_secs_f64(recorded.as_secs_f64() / factor).unwrap_or(Duration::MAX)
        })
    }

    fn is_faster_than_life(self) -> bool {
        self.0.is_none_or(|factor| factor > 1.0)
    }
}

/// Sends the files.
///
/// # Errors
/// A file that cannot be read, or an endpoint that cannot be used at all.
pub fn run(args: Args) -> Result<ExitCode> {
    // Without a scheme the exporter speaks TLS, as the Collector's; who types a host and a port means the agent beside him.
    let endpoint = match args.to.contains("://") {
        true => args.to.clone(),
        false => format!("http://{}", args.to),
    };
    let settings = export_otlp::Settings {
        endpoint,
        retry_on_failure: export_otlp::RetrySettings {
            initial_interval: Duration::from_millis(200),
            max_interval: Duration::from_secs(2),
            ..Default::default()
        },
        ..Default::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let exporter = OtlpExporter::new(&settings, fastrand::u64(..))
            .map_err(anyhow::Error::msg)
            .context("--to")?;
        let sent = replay(&args, &exporter, now_unix_nano(), &mut io::stderr().lock()).await?;
        sent.report(&mut io::stdout().lock())
    })
}

/// What came of the records.
#[derive(Debug, Default, PartialEq)]
struct Sent {
    /// Records the endpoint has taken.
    accepted: u64,
    /// Records it refused for good.
    refused: u64,
    /// Lines that gave no record.
    unreadable: u64,
    /// Why records were refused, the first time.
    refusal: Option<String>,
    /// The endpoint was away for longer than [`PATIENCE`]; nothing more was sent.
    gave_up: Option<String>,
    took: Duration,
}

impl Sent {
    fn report(&self, out: &mut impl Write) -> Result<ExitCode> {
        let Sent {
            accepted,
            refused,
            unreadable,
            ..
        } = self;
        let seconds = self.took.as_secs_f64();
        write!(
            out,
            "{accepted} records sent and acknowledged in {seconds:.1} s, {refused} refused"
        )?;
        if *unreadable > 0 {
            write!(out, ", {unreadable} lines unreadable and not sent")?;
        }
        writeln!(out)?;
        if let Some(refusal) = &self.refusal {
            writeln!(out, "refused, the first time: {refusal}")?;
        }
        if let Some(reason) = &self.gave_up {
            let patience = PATIENCE.as_secs();
            writeln!(
                out,
                "gave up after {patience} s of trying: {reason}; the rest was not sent"
            )?;
        }
        let whole = self.refusal.is_none() && self.gave_up.is_none();
        Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Several inputs as one stream: always the input whose next row is the earliest; rows without a time do not wait.
struct Merged {
    inputs: Vec<(PathBuf, Peekable<Source>, BadRows)>,
}

impl Merged {
    fn open(args: &Args) -> Result<Merged> {
        let settings = args.reading.settings();
        let open = |(index, path): (usize, &PathBuf)| {
            let source = files::open(path, &settings)?.numbered(index);
            Ok((path.clone(), source.peekable(), BadRows::default()))
        };
        let inputs = args.inputs.iter().enumerate().map(open).collect::<Result<_>>()?;
        Ok(Merged { inputs })
    }

    /// Tells what was wrong with the inputs; how many lines gave no row.
    fn report(&self, stderr: &mut impl Write) -> io::Result<u64> {
        for (path, _, bad) in &self.inputs {
            bad.report(path, stderr)?;
        }
        Ok(self.inputs.iter().map(|(_, _, bad)| bad.lost()).sum())
    }
}

impl Iterator for Merged {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        loop {
            let waiting = self
                .inputs
                .iter_mut()
                .enumerate()
                .filter_map(|(index, (_, source, _))| {
                    let time_unix_nano = source.peek()?.as_ref().ok().and_then(|row| row.time_unix_nano);
                    Some((time_unix_nano, index))
                });
            let (_, index) = waiting.min()?;
            let (_, source, bad) = self.inputs.get_mut(index)?;
            match source.next()? {
                Ok(row) => {
                    bad.note_problem(&row);
                    return Some(row);
                }
                Err(row) => bad.note(&row),
            }
        }
    }
}

/// First and last time of the inputs, and how many rows they have.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    first_unix_nano: u64,
    last_unix_nano: u64,
    rows: u64,
}

fn span(args: &Args) -> Result<Option<Span>> {
    let mut span = None;
    let mut rows = 0;
    for row in Merged::open(args)? {
        rows += 1;
        let Some(time) = row.time_unix_nano else { continue };
        let Span {
            first_unix_nano,
            last_unix_nano,
            ..
        } = span.unwrap_or(Span {
            first_unix_nano: time,
            last_unix_nano: time,
            rows,
        });
        span = Some(Span {
            first_unix_nano,
            last_unix_nano: last_unix_nano.max(time),
            rows,
        });
    }
    Ok(span.map(|span| Span { rows, ..span }))
}

/// Nanoseconds to add to all times for `--now`, when sending begins at `wall_unix_nano`.
///
/// At 1x or slower the first record is now. Faster, records would overtake the clock: the last one is now when it is sent.
fn shift_ns(span: Span, speed: Speed, wall_unix_nano: u64) -> i128 {
    let length = Duration::from_nanos(span.last_unix_nano.saturating_sub(span.first_unix_nano));
    let ahead = length.as_nanos().saturating_sub(speed.scaled(length).as_nanos()) as i128;
    i128::from(wall_unix_nano) - i128::from(span.first_unix_nano) - if speed.is_faster_than_life() { ahead } else { 0 }
}

fn shift(row: &mut Row, shift_ns: i128) {
    let shifted = |time: u64| u64::try_from(i128::from(time) + shift_ns).unwrap_or(time);
    row.time_unix_nano = row.time_unix_nano.map(shifted);
    for time in [&mut row.record.time_unix_nano, &mut row.record.observed_time_unix_nano] {
        *time = if *time > 0 { shifted(*time) } else { 0 };
    }
}

async fn replay(args: &Args, exporter: &dyn Exporter, wall_unix_nano: u64, stderr: &mut impl Write) -> Result<Sent> {
    let mut progress = progress(None);
    let mut shifted_by = None;
    if args.now {
        if args.inputs.iter().any(|path| path == Path::new("-")) {
            bail!("--now needs the times of the whole input before it sends any: write standard input to a file first");
        }
        if let Some(span) = span(args)? {
            shifted_by = Some(shift_ns(span, args.speed, wall_unix_nano));
            progress = self::progress(Some(span.rows));
        }
    }
    let started = Instant::now();
    let mut sender = Sender {
        exporter,
        progress,
        sent: Sent::default(),
    };
    let mut batcher = Batcher::new(args.batch);
    let mut first_unix_nano = None;
    let mut rows = Merged::open(args)?;
    for mut row in rows.by_ref() {
        if let (Some(time), Speed(Some(_))) = (row.time_unix_nano, args.speed) {
            let first = *first_unix_nano.get_or_insert(time);
            let due = started + args.speed.scaled(Duration::from_nanos(time.saturating_sub(first)));
            // What has happened by now is sent before waiting for what has not.
            if due > Instant::now() + TICK {
                if let Some(request) = batcher.finish() {
                    sender.send(request).await;
                }
                tokio::time::sleep_until(due).await;
            }
        }
        if let Some(shifted_by) = shifted_by {
            shift(&mut row, shifted_by);
        }
        if let Some(request) = batcher.push(row) {
            sender.send(request).await;
        }
        if sender.sent.gave_up.is_some() {
            break;
        }
    }
    if let Some(request) = batcher.finish().filter(|_| sender.sent.gave_up.is_none()) {
        sender.send(request).await;
    }
    sender.progress.finish_and_clear();
    let unreadable = rows.report(stderr)?;
    Ok(Sent {
        unreadable,
        took: started.elapsed(),
        ..sender.sent
    })
}

/// Requests as they are sent, and what came of them.
struct Sender<'a> {
    exporter: &'a dyn Exporter,
    progress: ProgressBar,
    sent: Sent,
}

impl Sender<'_> {
    async fn send(&mut self, request: ExportLogsServiceRequest) {
        let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        let records = scopes.map(|scope| scope.log_records.len() as u64).sum::<u64>();
        let body = Bytes::from(request.encode_to_vec());
        let deadline = Instant::now() + PATIENCE;
        match self
            .exporter
            .export(Request {
                signal: Signal::Logs,
                body,
                metadata: Metadata::default(),
                deadline,
            })
            .await
        {
            Ok(response) => {
                let partial = ExportLogsServiceResponse::decode(response)
                    .ok()
                    .and_then(|response| response.partial_success);
                let partial = partial.unwrap_or_default();
                let refused = u64::try_from(partial.rejected_log_records).unwrap_or(0).min(records);
                self.sent.accepted += records - refused;
                if refused > 0 {
                    self.refused(refused, partial.error_message);
                }
            }
            Err(Refusal::Unavailable { message, .. }) => self.sent.gave_up = Some(message),
            Err(refusal) => self.refused(records, refusal.to_string()),
        }
        self.progress.inc(records);
    }

    fn refused(&mut self, records: u64, reason: String) {
        self.sent.refused += records;
        self.sent.refusal.get_or_insert(reason);
    }
}

fn progress(rows: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match rows {
        Some(rows) => (
            ProgressBar::new(rows),
            "{bar:30} {pos}/{len} records, {per_sec}, {eta} left",
        ),
        None => (ProgressBar::no_length(), "{spinner} {pos} records, {per_sec}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use std::{fs, sync::Mutex};

    use clap::Parser;
    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsPartialSuccess, common::v1::any_value::Value, logs::v1::LogRecord,
    };
    use tempfile::TempDir;

    use super::*;
    use crate::edge::BoxFuture;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// Keeps what is sent and when, and answers as it is told to.
    struct Recorder {
        started: Instant,
        answer: fn(usize) -> Result<Bytes, Refusal>,
        requests: Mutex<Vec<(Duration, Vec<LogRecord>)>>,
    }

    impl Recorder {
        fn new(answer: fn(usize) -> Result<Bytes, Refusal>) -> Recorder {
            Recorder {
                started: Instant::now(),
                answer,
                requests: Mutex::default(),
            }
        }

        fn messages(&self) -> Vec<(Duration, String)> {
            let requests = self.requests.lock().unwrap();
            let message = |record: &LogRecord| match record.body.as_ref().unwrap().value.as_ref().unwrap() {
                Value::StringValue(text) => text.clone(),
                other => panic!("{other:?}"),
            };
            requests
                .iter()
                .flat_map(|(at, records)| records.iter().map(|record| (*at, message(record))))
                .collect()
        }
    }

    impl Exporter for Recorder {
        fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
            let request = ExportLogsServiceRequest::decode(request.body).unwrap();
            let scopes = request
                .resource_logs
                .into_iter()
                .flat_map(|resource| resource.scope_logs);
            let records = scopes.flat_map(|scope| scope.log_records).collect();
            let mut requests = self.requests.lock().unwrap();
            requests.push((self.started.elapsed(), records));
            let answer = (self.answer)(requests.len());
            Box::pin(async { answer })
        }
    }

    fn accepting(_: usize) -> Result<Bytes, Refusal> {
        Ok(Bytes::new())
    }

    /// Replays files of these contents; what came of it and what was written to standard error.
    async fn replayed(contents: &[&str], options: &[&str], recorder: &Recorder) -> (Sent, String) {
        let folder = TempDir::new().unwrap();
        let mut line = vec!["replay".to_owned(), "--to=http://localhost:1".to_owned()];
        line.extend(options.iter().map(|option| (*option).to_owned()));
        for (index, content) in contents.iter().enumerate() {
            let path = folder.path().join(index.to_string());
            fs::write(&path, content).unwrap();
            line.push(path.display().to_string());
        }
        let mut stderr = Vec::new();
        let args = Line::parse_from(line).args;
        let sent = replay(&args, recorder, 5_000_000_000_000_000_000, &mut stderr)
            .await
            .unwrap();
        (sent, String::from_utf8(stderr).unwrap())
    }

    const WEB: &str = "time,message\n2024-11-18 10:00:00,w0\n,none\n2024-11-18 10:00:20,w20\n";
    const DB: &str = "{\"time\":\"2024-11-18T10:00:10Z\",\"msg\":\"d10\"}\n{\"time\":\"2024-11-18T10:00:20.005Z\",\"msg\":\"d20\"}\n";

    /// Several files are one stream, and each record is sent when it is due.
    #[tokio::test(start_paused = true)]
    async fn records_are_sent_when_they_are_due() {
        let recorder = Recorder::new(accepting);
        let (sent, _) = replayed(&[WEB, DB], &["--speed=10x"], &recorder).await;
        assert_eq!((sent.accepted, sent.refused, sent.took.as_millis()), (5, 0, 2000));
        let seconds = |at: &Duration| at.as_millis() / 100;
        let told: Vec<_> = recorder
            .messages()
            .iter()
            .map(|(at, message)| (seconds(at), message.clone()))
            .collect();
        let expected = [(0, "w0"), (0, "none"), (10, "d10"), (20, "w20"), (20, "d20")];
        assert_eq!(told, expected.map(|(at, message)| (at, message.to_owned())));
        assert_eq!(recorder.requests.lock().unwrap().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn at_full_speed_requests_are_full() {
        let recorder = Recorder::new(accepting);
        let (sent, _) = replayed(&[WEB, DB], &["--batch=2"], &recorder).await;
        assert_eq!((sent.accepted, sent.took.as_millis()), (5, 0));
        let sizes: Vec<_> = recorder
            .requests
            .lock()
            .unwrap()
            .iter()
            .map(|(_, records)| records.len())
            .collect();
        assert_eq!(sizes, [2, 2, 1]);
    }

    /// With `--now` no record is sent before it happened: at 1x the first one is now, faster the last one will be.
    #[tokio::test(start_paused = true)]
    async fn now_is_never_the_future() {
        for (speed, first_s, last_s) in [
            ("1x", 0.0, 20.0),
            ("0.5x", 0.0, 20.0),
            ("10x", -18.0, 2.0),
            ("max", -20.0, 0.0),
        ] {
            let recorder = Recorder::new(accepting);
            replayed(&[WEB], &["--now", "--speed", speed], &recorder).await;
            let requests = recorder.requests.lock().unwrap();
            let times: Vec<f64> = requests
                .iter()
                .flat_map(|(at, records)| records.iter().map(move |record| (at, record.time_unix_nano)))
                .filter(|(_, time)| *time > 0)
                .map(|(at, time)| {
                    let seconds = (i128::from(time) - 5_000_000_000_000_000_000) as f64 / 1e9;
                    assert!(
                        seconds <= at.as_secs_f64() + 0.001,
                        "{speed}: {seconds} s is sent at {at:?}"
                    );
                    seconds
                })
                .collect();
            assert_eq!(times, [first_s, last_s], "{speed}");
        }
    }

    /// What was refused is counted and told; an endpoint that stays away ends the replay.
    #[tokio::test(start_paused = true)]
    async fn refusals_are_told() {
        let recorder = Recorder::new(|request| match request {
            1 => Err(Refusal::Malformed("no".to_owned())),
            2 => {
                let partial = ExportLogsPartialSuccess {
                    rejected_log_records: 1,
                    error_message: "too old".to_owned(),
                };
                Ok(Bytes::from(
                    ExportLogsServiceResponse {
                        partial_success: Some(partial),
                    }
                    .encode_to_vec(),
                ))
            }
            _ => Err(Refusal::Unavailable {
                message: "connection refused".to_owned(),
                retry_after: None,
            }),
        });
        let content = "a\nb\nc\nd\ne\nf\ng\nh\n";
        let (sent, _) = replayed(&[content], &["--batch=2"], &recorder).await;
        assert_eq!((sent.accepted, sent.refused), (1, 3));
        assert_eq!(recorder.requests.lock().unwrap().len(), 3);
        let mut out = Vec::new();
        assert_eq!(
            format!("{:?}", sent.report(&mut out).unwrap()),
            format!("{:?}", ExitCode::FAILURE)
        );
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.contains("1 records sent") && out.contains("3 refused") && out.contains("connection refused"),
            "{out}"
        );
    }

    /// Rows that are not as they should be are sent all the same, and told with their lines.
    #[tokio::test(start_paused = true)]
    async fn odd_rows_are_told() {
        let recorder = Recorder::new(accepting);
        let (sent, stderr) = replayed(&["{\"msg\":\"a\"}\n{broken\n"], &[], &recorder).await;
        assert_eq!((sent.accepted, sent.unreadable), (2, 0));
        assert!(stderr.contains("line 2: is no JSON object"), "{stderr}");
    }

    #[test]
    fn speeds_are_factors_or_max() {
        assert_eq!("1x".parse(), Ok(Speed(Some(1.0))));
        assert_eq!("60x".parse(), Ok(Speed(Some(60.0))));
        assert_eq!("max".parse(), Ok(Speed(None)));
        assert!("0x".parse::<Speed>().is_err() && "fast".parse::<Speed>().is_err());
    }
}
