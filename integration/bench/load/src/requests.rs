//! Requests made of recorded logs, so that sending one costs a copy and a few stamps.
//!
//! Enters: the recording (OTLP JSON lines, gzip). Leaves: a pool of encoded requests, each with the places where something changes
//! from one time to the next, and stamped copies of them. Promises: stamped copies differ in every record (times, numbers in the
//! text, a sequence number), and share templates with the recording but for the records that are to be new, whose text gets a word
//! that nobody has said. Absent on purpose: anything random that is not seeded.

use std::{fs::File, io::BufRead, ops::Range, path::Path};

use anyhow::Context;
use flate2::bufread::GzDecoder;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message;

/// Letters of made words: none that a hexadecimal number has.
const LETTERS: &[u8; 20] = b"ghijklmnopqrstuvwxyz";
/// Long enough for 20^10 words.
const WORD: &str = "newnewnewn";
const SEQUENCE: &str = "000000000000";

/// How requests are made.
#[derive(Clone, Debug, clap::Args)]
pub struct Shape {
    /// Recorded logs: OTLP JSON lines, gzip.
    #[arg(long)]
    pub recording: std::path::PathBuf,
    /// Records of a request.
    #[arg(long, default_value_t = 1000)]
    pub records: usize,
    /// Requests that are made ahead; each is sent many times, stamped anew.
    #[arg(long, default_value_t = 64)]
    pub pool: usize,
    /// Share of the records whose text nobody has sent before.
    #[arg(long, default_value_t = 0.0)]
    pub new_share: f64,
}

/// One encoded request, and where it is stamped.
#[derive(Debug, Default)]
pub struct Made {
    pub bytes: Vec<u8>,
    pub records: usize,
    times: Vec<Range<usize>>,
    numbers: Vec<Range<usize>>,
    sequences: Vec<Range<usize>>,
    words: Vec<Range<usize>>,
}

/// What one resource has logged.
struct Recorded {
    resource: Option<Resource>,
    records: Vec<LogRecord>,
}

/// From this many records on a request tells of several resources, as a batch of a Collector does.
const SEVERAL_RESOURCES_FROM: usize = 100;

/// A pool of requests of consecutive recorded records.
pub fn make(shape: &Shape) -> anyhow::Result<Vec<Made>> {
    let recorded = read(&shape.recording).with_context(|| shape.recording.display().to_string())?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut sources: Vec<_> = recorded
        .iter()
        .map(|source| (source, source.records.iter().cycle()))
        .collect();
    let mut made: Vec<Made> = (0..shape.pool).map(|_| Made::default()).collect();
    let count = sources.len();
    for (index, request) in made.iter_mut().enumerate() {
        let resources = if shape.records < SEVERAL_RESOURCES_FROM {
            1
        } else {
            count
        };
        for number in 0..resources {
            let share = shape.records * (number + 1) / resources - shape.records * number / resources;
            let (source, records) = sources.get_mut((index + number) % count).context("no resource")?;
            let records = records.take(share).cloned().collect();
            request.push(source.resource.clone(), records, shape.new_share, &mut random);
        }
    }
    Ok(made)
}

fn read(recording: &Path) -> anyhow::Result<Vec<Recorded>> {
    let file = std::io::BufReader::new(File::open(recording)?);
    let mut recorded: Vec<Recorded> = Vec::new();
    for line in std::io::BufReader::new(GzDecoder::new(file)).lines() {
        let request: ExportLogsServiceRequest = serde_json::from_str(&line?)?;
        for logs in request.resource_logs {
            let records = logs.scope_logs.into_iter().flat_map(|scope| scope.log_records);
            match recorded.iter_mut().find(|known| known.resource == logs.resource) {
                Some(known) => known.records.extend(records),
                None => recorded.push(Recorded {
                    resource: logs.resource,
                    records: records.collect(),
                }),
            }
        }
    }
    anyhow::ensure!(!recorded.is_empty(), "no log record in it");
    Ok(recorded)
}

impl Made {
    /// Appends records of one resource, noting where they are stamped.
    fn push(
        &mut self,
        resource: Option<Resource>,
        records: Vec<LogRecord>,
        new_share: f64,
        random: &mut fastrand::Rng,
    ) {
        let encoded: Vec<Made> = records
            .into_iter()
            .map(|record| Self::of_record(record, random.f64() < new_share))
            .collect();
        // The message around the records, without them; then they are put into it by hand, so that their places are known.
        let scope_bytes = encoded
            .iter()
            .map(|record| framed_len(record.bytes.len()))
            .sum::<usize>();
        let scope = ScopeLogs::default().encode_to_vec();
        let around = ResourceLogs {
            resource,
            scope_logs: Vec::new(),
            schema_url: String::new(),
        }
        .encode_to_vec();
        let scope_len = scope.len() + scope_bytes;
        self.frame(1, around.len() + framed_len(scope_len));
        self.bytes.extend_from_slice(&around);
        self.frame(2, scope_len);
        self.bytes.extend_from_slice(&scope);
        for record in encoded {
            self.frame(2, record.bytes.len());
            let at = self.bytes.len();
            let moved =
                |ranges: Vec<Range<usize>>| ranges.into_iter().map(move |range| range.start + at..range.end + at);
            self.times.extend(moved(record.times));
            self.numbers.extend(moved(record.numbers));
            self.sequences.extend(moved(record.sequences));
            self.words.extend(moved(record.words));
            self.bytes.extend_from_slice(&record.bytes);
            self.records += 1;
        }
    }

    /// One record with eight attributes and, where it is to be new, a word to be made up.
    fn of_record(mut record: LogRecord, is_new: bool) -> Self {
        let text = match record.body.take().and_then(|body| body.value) {
            Some(Value::StringValue(text)) => text,
            _ => String::new(),
        };
        let text = if is_new { format!("{text} {WORD}") } else { text };
        record.body = Some(AnyValue {
            value: Some(Value::StringValue(text.clone())),
        });
        record.time_unix_nano = 1;
        record.observed_time_unix_nano = 1;
        record.attributes = vec![
            string("log.file.name", "server.log"),
            string("log.iostream", "stderr"),
            string("k8s.namespace.name", "production"),
            string("k8s.pod.name", "server-6d9c7b5f44-2xkqv"),
            string("code.function.name", "handle_request"),
            string("log.record.uid", SEQUENCE),
            KeyValue {
                key: "thread.id".into(),
                value: Some(AnyValue {
                    value: Some(Value::IntValue(4711)),
                }),
                ..KeyValue::default()
            },
            KeyValue {
                key: "log.sampled".into(),
                value: Some(AnyValue {
                    value: Some(Value::BoolValue(true)),
                }),
                ..KeyValue::default()
            },
        ];
        let bytes = record.encode_to_vec();
        let find = |wanted: &[u8]| memchr::memmem::find(&bytes, wanted).map(|start| start..start + wanted.len());
        let body = find(text.as_bytes()).unwrap_or(0..0);
        let mut made = Self {
            // Both times are fixed64, the first field and the last.
            times: vec![1..9, bytes.len() - 8..bytes.len()],
            numbers: numbers(&text)
                .map(|range| range.start + body.start..range.end + body.start)
                .collect(),
            sequences: find(SEQUENCE.as_bytes()).into_iter().collect(),
            words: if is_new {
                find(WORD.as_bytes()).into_iter().collect()
            } else {
                Vec::new()
            },
            ..Self::default()
        };
        made.bytes = bytes;
        made
    }

    fn frame(&mut self, field: u32, len: usize) {
        prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, &mut self.bytes);
        prost::encoding::encode_varint(len as u64, &mut self.bytes);
    }

    /// A copy behind `ahead` bytes of something else: at this time, with numbers and words that no other copy has.
    pub fn stamped(&self, ahead: &[u8], now_unix_nano: u64, stamps: &mut Stamps) -> Vec<u8> {
        let mut copy = Vec::with_capacity(ahead.len() + self.bytes.len());
        copy.extend_from_slice(ahead);
        copy.extend_from_slice(&self.bytes);
        let message = copy.split_at_mut(ahead.len()).1;
        let mut fill = |ranges: &[Range<usize>], with: &mut dyn FnMut(&mut [u8])| {
            for range in ranges {
                if let Some(place) = message.get_mut(range.clone()) {
                    with(place);
                }
            }
        };
        fill(&self.times, &mut |place| {
            place.copy_from_slice(&now_unix_nano.to_le_bytes())
        });
        fill(&self.numbers, &mut |place| {
            let mut digits = stamps.random.u64(..);
            for digit in place {
                *digit = b'1' + (digits % 9) as u8;
                digits /= 9;
            }
        });
        fill(&self.sequences, &mut |place| {
            stamps.sequence += 1;
            written(stamps.sequence, b"0123456789", place);
        });
        fill(&self.words, &mut |place| {
            stamps.word += 1;
            written(stamps.word, LETTERS, place);
        });
        copy
    }
}

/// What makes each stamped copy another one.
#[derive(Debug)]
pub struct Stamps {
    random: fastrand::Rng,
    sequence: u64,
    word: u64,
}

impl Stamps {
    /// Of the sender with this number: two senders, and two runs, make up different words.
    pub fn of(sender: u64) -> Self {
        let began = now_unix_nano() / 1_000_000_000;
        Self {
            random: fastrand::Rng::with_seed(sender),
            sequence: sender << 32,
            word: (began % 100_000) * 64_000_000 + sender * 1_000_000,
        }
    }
}

/// The time of the machine.
pub fn now_unix_nano() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

fn written(mut number: u64, letters: &[u8], place: &mut [u8]) {
    let base = letters.len() as u64;
    for letter in place.iter_mut().rev() {
        *letter = letters.get((number % base) as usize).copied().unwrap_or(b'z');
        number /= base;
    }
}

fn string(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.into())),
        }),
        ..KeyValue::default()
    }
}

fn framed_len(len: usize) -> usize {
    1 + prost::encoding::encoded_len_varint(len as u64) + len
}

/// Numbers of four digits and more that stand alone: other digits there leave the template as it is. Shorter ones may be a status,
/// and what touches a sign a part of a date or an address.
fn numbers(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let bytes = text.as_bytes();
    let is_end = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_none_or(|byte| b" =,()\"'".contains(byte))
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            if at == start {
                at += 1;
            } else if at - start >= 4 && is_end(start.checked_sub(1)) && is_end(Some(at)) {
                return Some(start..at);
            }
        }
        None
    })
}
