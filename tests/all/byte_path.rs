//! The byte path: `engine::view` and `engine::annotate` against `prost`, on arbitrary requests, whole and damaged.
//!
//! `prost` with the types of `opentelemetry-proto` is the reference for what a request says, and a plain walker of our
//! own for what it holds beyond that. Cases are the same in every run.

/// Generators of requests and annotations.
mod arbitrary;
/// What the user excludes, ignores and keeps to himself.
mod rules;
/// An independent reader of the wire format.
mod walker;

use harbinger::engine::annotate::{Annotation, AttributeValue, OnConflict, Settings, annotate};
use harbinger::engine::view::{Record, Value, View};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use prost::Message;

use arbitrary::names;

/// The same cases in every run; a failure is reported with its smallest input, nothing is written to disk.
pub fn config() -> Config {
    Config {
        cases: 256,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(12),
        ..Config::default()
    }
}

fn settings(on_conflict: OnConflict) -> Settings {
    Settings {
        on_conflict,
        ..Settings::default()
    }
}

/// As many annotations as records.
fn cycle(annotations: &[Annotation], records: usize) -> Vec<Annotation> {
    annotations.iter().cycle().take(records).cloned().collect()
}

proptest! {
    #![proptest_config(config())]

    /// decode(output) = decode(input) plus our attributes, whatever is done about conflicts; and conflicts are counted.
    #[test]
    fn output_says_what_input_said_and_our_attributes(
        request in arbitrary::request(),
        annotations in arbitrary::annotations(),
        on_conflict in prop_oneof![Just(OnConflict::Replace), Just(OnConflict::Keep), Just(OnConflict::Rename)],
    ) {
        let settings = settings(on_conflict);
        let view = View::parse(&request).unwrap();
        let annotations = cycle(&annotations, view.len());
        let annotated = annotate(&view, &annotations, &settings).unwrap();

        let mut expected = ExportLogsServiceRequest::decode(&request[..]).unwrap();
        let mut conflicts = 0;
        for (record, annotation) in records_mut(&mut expected).zip(&annotations) {
            conflicts += expect(record, annotation, &settings);
        }
        let decoded = ExportLogsServiceRequest::decode(&annotated.bytes[..]).unwrap();
        // Compared as bytes, for NaN.
        prop_assert_eq!(decoded.encode_to_vec(), expected.encode_to_vec());
        prop_assert_eq!(annotated.conflicts, conflicts);
    }

    /// Without our attributes, the output is the input to the byte, but for the lengths around the records.
    #[test]
    fn item_15_every_byte_is_still_there(request in arbitrary::request(), annotations in arbitrary::annotations()) {
        let view = View::parse(&request).unwrap();
        let annotations = cycle(&annotations, view.len());
        let annotated = annotate(&view, &annotations, &Settings::default()).unwrap();

        let ours = names(&Settings::default()).map(String::into_bytes);
        let is_ours = |field: &walker::Field| walker::attribute_key(field).is_some_and(|key| ours.contains(&key));
        let strip = |bytes: &[u8]| {
            let mut said = annotations.iter().map(|annotation| annotation.values().iter().any(Option::is_some));
            walker::rewrite(bytes, &mut |mut record| {
                if said.next() == Some(true) {
                    record.retain(|field| !is_ours(field));
                }
                record
            })
        };
        prop_assert_eq!(strip(&annotated.bytes), strip(&request));
    }

    /// Our attributes stand last in their record, in order, encoded as `prost` would.
    #[test]
    fn our_attributes_stand_last(request in arbitrary::request(), annotations in arbitrary::annotations()) {
        let view = View::parse(&request).unwrap();
        let annotations = cycle(&annotations, view.len());
        let annotated = annotate(&view, &annotations, &Settings::default()).unwrap();

        let mut next = annotations.iter();
        walker::rewrite(&annotated.bytes, &mut |record| {
            let attributes = our_attributes(next.next().unwrap(), &Settings::default());
            let count = attributes.len();
            let expected = LogRecord { attributes, ..LogRecord::default() }.encode_to_vec();
            let last: Vec<u8> = record[record.len() - count..].iter().flat_map(|field| field.raw.clone()).collect();
            assert_eq!(last, expected);
            record
        });
        prop_assert!(next.next().is_none());
    }

    /// The output's size is known beforehand: its buffer is never grown and never too large.
    #[test]
    fn one_buffer_of_exact_size(request in arbitrary::request(), annotations in arbitrary::annotations()) {
        let view = View::parse(&request).unwrap();
        let annotated = annotate(&view, &cycle(&annotations, view.len()), &settings(OnConflict::Rename)).unwrap();
        prop_assert_eq!(annotated.bytes.len(), annotated.bytes.capacity());
    }

    /// Annotating what was annotated changes nothing: our names are replaced once each, never doubled.
    #[test]
    fn item_11_annotating_twice_is_annotating_once(request in arbitrary::request(), annotations in arbitrary::annotations()) {
        let view = View::parse(&request).unwrap();
        let annotations = cycle(&annotations, view.len());
        let once = annotate(&view, &annotations, &Settings::default()).unwrap();
        let twice = annotate(&View::parse(&once.bytes).unwrap(), &annotations, &Settings::default()).unwrap();
        prop_assert_eq!(once.bytes, twice.bytes);
    }

    /// Where there is nothing to say, not a byte changes, not even a length that was written too long.
    #[test]
    fn silence_changes_nothing(request in arbitrary::request()) {
        let view = View::parse(&request).unwrap();
        let silent = vec![Annotation::default(); view.len()];
        prop_assert_eq!(annotate(&view, &silent, &Settings::default()).unwrap().bytes, request);
    }

    /// The view reads every record and resource as `prost` does, merged fields included.
    #[test]
    fn view_reads_as_prost(request in arbitrary::request()) {
        let view = View::parse(&request).unwrap();
        assert_reads_as(&view, &ExportLogsServiceRequest::decode(&request[..]).unwrap());
    }

    /// On damaged bytes view and `prost` agree on what cannot be framed. Two things that `prost` refuses are merely odd:
    /// invalid UTF-8 and deep nesting.
    #[test]
    fn view_refuses_what_prost_cannot_frame(
        requests in proptest::collection::vec(arbitrary::damaged_request(), 8),
        noise in proptest::collection::vec(0..40_u8, 0..30),
    ) {
        for bytes in requests.into_iter().chain([noise]) {
            match (View::parse(&bytes), ExportLogsServiceRequest::decode(&bytes[..])) {
                (Ok(view), Ok(request)) => assert_reads_as(&view, &request),
                (Ok(_), Err(error)) => {
                    let error = error.to_string();
                    prop_assert!(error.contains("UTF-8") || error.contains("recursion limit"), "view accepts: {error}");
                }
                (Err(malformed), Ok(_)) => prop_assert!(false, "view alone refuses: {malformed}"),
                (Err(malformed), Err(_)) => prop_assert!(malformed.offset <= bytes.len()),
            }
        }
    }

    /// What view accepts, however odd, can be read to the bottom and annotated; the next hop is handed what it would have
    /// been handed without us: it accepts the output if, and only if, it accepts the input.
    #[test]
    fn accepted_bytes_pass(
        requests in proptest::collection::vec(arbitrary::damaged_request(), 8),
        annotations in arbitrary::annotations(),
    ) {
        for bytes in requests {
            let Ok(view) = View::parse(&bytes) else { continue };
            view.records().for_each(|record| drop(read_fully(&record)));
            let annotated = annotate(&view, &cycle(&annotations, view.len()), &settings(OnConflict::Keep)).unwrap();
            prop_assert_eq!(View::parse(&annotated.bytes).unwrap().len(), view.len());
            let accepted = ExportLogsServiceRequest::decode(&bytes[..]).is_ok();
            prop_assert_eq!(ExportLogsServiceRequest::decode(&annotated.bytes[..]).is_ok(), accepted);
        }
    }
}

/// A body 10,000 or 1,000,000 lists deep is accepted, can be descended into, and leaves as it came; `prost` would refuse it.
#[test]
fn item_13_depth_is_no_danger() {
    for depth in [10_000, 1_000_000] {
        let request = nested_body(depth);
        let view = View::parse(&request).unwrap();
        let record = view.record(0).unwrap();
        let (mut value, mut levels) = (record.body, 0);
        while let Value::Array(list) = value {
            value = list.iter().next().unwrap();
            levels += 1;
        }
        assert_eq!((value, levels), (Value::String(b"deep"), depth));

        let annotations = [Annotation {
            is_anomaly: Some(false),
            ..Annotation::default()
        }];
        let annotated = annotate(&view, &annotations, &Settings::default()).unwrap();
        let body = walker::fields(record.bytes).remove(0);
        let mut bodies = Vec::new();
        walker::rewrite(&annotated.bytes, &mut |record| {
            bodies.push(record[0].clone());
            record
        });
        assert_eq!(bodies, [body]);
        assert!(ExportLogsServiceRequest::decode(&request[..]).is_err());
    }
}

/// A request of one record whose body is a string in `depth` arrays.
fn nested_body(depth: usize) -> Vec<u8> {
    // Written from the inside out, backwards, as each length is only known then.
    let mut backwards: Vec<u8> = arbitrary::delimited(1, 0, 0, b"deep").into_iter().rev().collect();
    let wrap = |number: u8, backwards: &mut Vec<u8>| {
        backwards.extend(arbitrary::varint(backwards.len() as u64, 0).iter().rev());
        backwards.push(number << 3 | 2);
    };
    for _ in 0..depth {
        wrap(1, &mut backwards);
        wrap(5, &mut backwards);
    }
    for number in [5, 2, 2, 1] {
        wrap(number, &mut backwards);
    }
    backwards.reverse();
    backwards
}

fn records_mut(request: &mut ExportLogsServiceRequest) -> impl Iterator<Item = &mut LogRecord> {
    let scopes = request
        .resource_logs
        .iter_mut()
        .flat_map(|resource| &mut resource.scope_logs);
    scopes.flat_map(|scope| &mut scope.log_records)
}

fn our_attributes(annotation: &Annotation, settings: &Settings) -> Vec<KeyValue> {
    let attribute = |(name, value): (String, Option<AttributeValue<'_>>)| {
        let value = match value? {
            AttributeValue::Bool(value) => any_value::Value::BoolValue(value),
            AttributeValue::String(value) => any_value::Value::StringValue(value.into()),
            AttributeValue::Double(value) => any_value::Value::DoubleValue(value),
        };
        Some(KeyValue {
            key: name,
            value: Some(AnyValue { value: Some(value) }),
            key_strindex: 0,
        })
    };
    names(settings)
        .into_iter()
        .zip(annotation.values())
        .filter_map(attribute)
        .collect()
}

/// Does to a decoded record what annotate does to its bytes; returns the number of conflicts.
fn expect(record: &mut LogRecord, annotation: &Annotation, settings: &Settings) -> u64 {
    let mut ours = our_attributes(annotation, settings);
    if ours.is_empty() {
        return 0;
    }
    let names = names(settings);
    let is_ours = |attribute: &KeyValue| names.contains(&attribute.key);
    let conflicts = record.attributes.iter().filter(|attribute| is_ours(attribute)).count() as u64;
    match settings.on_conflict {
        OnConflict::Replace => record.attributes.retain(|attribute| !is_ours(attribute)),
        OnConflict::Keep => ours.retain(|ours| record.attributes.iter().all(|theirs| theirs.key != ours.key)),
        OnConflict::Rename => {
            for name in &names {
                let original = format!("{name}.original");
                if record.attributes.iter().all(|attribute| attribute.key != original)
                    && let Some(first) = record.attributes.iter_mut().find(|attribute| attribute.key == *name)
                {
                    first.key = original;
                }
            }
            record.attributes.retain(|attribute| !is_ours(attribute));
        }
    }
    record.attributes.append(&mut ours);
    conflicts
}

/// Asserts that the view says what the decoded request says.
fn assert_reads_as(view: &View<'_>, request: &ExportLogsServiceRequest) {
    let mut records = view.records();
    assert_eq!(view.resource_count(), request.resource_logs.len());
    for (index, resource_logs) in request.resource_logs.iter().enumerate() {
        let attributes = view.resource(index).unwrap().attributes().map(owned_key_value);
        let expected = resource_logs.resource.iter().flat_map(|resource| &resource.attributes);
        assert_same(attributes, expected);
        for expected in resource_logs.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            let record = records.next().unwrap();
            assert_eq!(record.resource_index, index);
            let read = read_fully(&record);
            assert_eq!(read.time_unix_nano, expected.time_unix_nano);
            assert_eq!(read.observed_time_unix_nano, expected.observed_time_unix_nano);
            assert_eq!(read.severity_number, expected.severity_number);
            assert_eq!(read.severity_text, expected.severity_text);
            assert_eq!(read.trace_id, expected.trace_id);
            assert_eq!(read.span_id, expected.span_id);
            assert_eq!(read.event_name, expected.event_name);
            let body = |record: &LogRecord| as_attribute(record.body.clone().unwrap_or_default());
            assert_same([body(&read)], &[body(expected)]);
            assert_same(read.attributes, &expected.attributes);
        }
    }
    assert!(records.next().is_none());
}

/// Equal as encoded; what `Value` does not tell apart is made equal first.
fn assert_same<'a>(read: impl IntoIterator<Item = KeyValue>, expected: impl IntoIterator<Item = &'a KeyValue>) {
    let read: Vec<Vec<u8>> = read.into_iter().map(|attribute| attribute.encode_to_vec()).collect();
    let expected: Vec<Vec<u8>> = expected
        .into_iter()
        .map(|attribute| plain(attribute).encode_to_vec())
        .collect();
    assert_eq!(read, expected);
}

fn as_attribute(value: AnyValue) -> KeyValue {
    KeyValue {
        key: String::new(),
        value: Some(value),
        key_strindex: 0,
    }
}

/// Without indices into the string table of profiles, and with an empty value for none.
fn plain(attribute: &KeyValue) -> KeyValue {
    let value = attribute.value.as_ref().map_or_else(AnyValue::default, plain_value);
    KeyValue {
        key: attribute.key.clone(),
        value: Some(value),
        key_strindex: 0,
    }
}

fn plain_value(value: &AnyValue) -> AnyValue {
    let value = match value.value.clone() {
        Some(any_value::Value::StringValueStrindex(_)) => None,
        Some(any_value::Value::ArrayValue(list)) => Some(any_value::Value::ArrayValue(ArrayValue {
            values: list.values.iter().map(plain_value).collect(),
        })),
        Some(any_value::Value::KvlistValue(list)) => Some(any_value::Value::KvlistValue(KeyValueList {
            values: list.values.iter().map(plain).collect(),
        })),
        other => other,
    };
    AnyValue { value }
}

/// Reads everything that a record gives.
fn read_fully(record: &Record<'_>) -> LogRecord {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    LogRecord {
        time_unix_nano: record.time_unix_nano,
        observed_time_unix_nano: record.observed_time_unix_nano,
        severity_number: record.severity_number,
        severity_text: text(record.severity_text),
        body: Some(owned(record.body)),
        attributes: record.attributes().map(owned_key_value).collect(),
        trace_id: record.trace_id.to_vec(),
        span_id: record.span_id.to_vec(),
        event_name: text(record.event_name),
        ..LogRecord::default()
    }
}

fn owned_key_value((key, value): (&[u8], Value<'_>)) -> KeyValue {
    let key = String::from_utf8_lossy(key).into_owned();
    KeyValue {
        key,
        value: Some(owned(value)),
        key_strindex: 0,
    }
}

fn owned(value: Value<'_>) -> AnyValue {
    let value = match value {
        Value::Empty | Value::Malformed => None,
        Value::String(text) => Some(any_value::Value::StringValue(
            String::from_utf8_lossy(text).into_owned(),
        )),
        Value::Bool(value) => Some(any_value::Value::BoolValue(value)),
        Value::Int(value) => Some(any_value::Value::IntValue(value)),
        Value::Double(value) => Some(any_value::Value::DoubleValue(value)),
        Value::Bytes(bytes) => Some(any_value::Value::BytesValue(bytes.to_vec())),
        Value::Array(list) => Some(any_value::Value::ArrayValue(ArrayValue {
            values: list.iter().map(owned).collect(),
        })),
        Value::Map(list) => Some(any_value::Value::KvlistValue(KeyValueList {
            values: list.iter().map(owned_key_value).collect(),
        })),
    };
    AnyValue { value }
}
