//! The mapping against the specification, rule by rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{HistogramDataPoint, metric},
};
use prost::Message as _;

use super::{REQUEST, RESPONSE, request as table, to_json, to_protobuf};
use crate::edge::Signal;

fn read(json: &str) -> Result<ExportLogsServiceRequest, String> {
    let bytes = to_protobuf(&REQUEST, json.as_bytes()).map_err(|error| error.to_string())?;
    Ok(ExportLogsServiceRequest::decode(&*bytes).unwrap())
}

fn record_of(fields: &str) -> Result<LogRecord, String> {
    let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{fields}}}]}}]}}]}}"#);
    read(&json).map(|mut request| request.resource_logs[0].scope_logs[0].log_records.remove(0))
}

fn body_of(value: &str) -> Result<Option<Value>, String> {
    let record = record_of(&format!(r#""body":{value}"#))?;
    Ok(record.body.and_then(|body| body.value))
}

fn written(record: LogRecord) -> String {
    let scope_logs = vec![ScopeLogs {
        log_records: vec![record],
        ..Default::default()
    }];
    let resource_logs = vec![ResourceLogs {
        scope_logs,
        ..Default::default()
    }];
    let request = ExportLogsServiceRequest { resource_logs };
    let json = String::from_utf8(to_json(&REQUEST, &request.encode_to_vec()).unwrap()).unwrap();
    let inner = json.strip_prefix(r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":["#);
    inner.unwrap().strip_suffix("]}]}]}").unwrap().to_owned()
}

/// `examples/logs.json` of opentelemetry-proto, in its shape.
pub(super) const EXAMPLE: &str = r#"{
  "resourceLogs": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
    "scopeLogs": [{
      "scope": {
        "name": "my.library", "version": "1.0.0",
        "attributes": [{"key": "my.scope.attribute", "value": {"stringValue": "some scope attribute"}}]
      },
      "logRecords": [{
        "timeUnixNano": "1544712660300000000",
        "observedTimeUnixNano": "1544712660300000000",
        "severityNumber": 10,
        "severityText": "Information",
        "traceId": "5B8EFFF798038103D269B633813FC60C",
        "spanId": "EEE19B7EC3C1B174",
        "body": {"stringValue": "Example log record"},
        "attributes": [
          {"key": "string.attribute", "value": {"stringValue": "some string"}},
          {"key": "boolean.attribute", "value": {"boolValue": true}},
          {"key": "int.attribute", "value": {"intValue": "10"}},
          {"key": "double.attribute", "value": {"doubleValue": 637.704}},
          {"key": "array.attribute", "value": {"arrayValue": {"values": [{"stringValue": "many"}, {"stringValue": "values"}]}}},
          {"key": "map.attribute", "value": {"kvlistValue": {"values": [{"key": "some.map.key", "value": {"stringValue": "some value"}}]}}}
        ]
      }]
    }]
  }]
}"#;

#[test]
fn item_10_the_example_of_the_specification() {
    let request = read(EXAMPLE).unwrap();
    let scope_logs = &request.resource_logs[0].scope_logs[0];
    let record = &scope_logs.log_records[0];
    assert_eq!(scope_logs.scope.as_ref().unwrap().version, "1.0.0");
    assert_eq!(
        (record.time_unix_nano, record.severity_number, record.attributes.len()),
        (1_544_712_660_300_000_000, 10, 6)
    );
    assert_eq!(record.trace_id[..3], [0x5b, 0x8e, 0xff]);
    assert_eq!(record.span_id.len(), 8);
    let Some(Value::DoubleValue(double)) = record.attributes[3]
        .value
        .as_ref()
        .and_then(|value| value.value.as_ref())
    else {
        panic!("{record:?}")
    };
    assert_eq!(*double, 637.704);
    // Another implementation reads what is written as the same request.
    let json = to_json(&REQUEST, &request.encode_to_vec()).unwrap();
    assert_eq!(
        serde_json::from_slice::<ExportLogsServiceRequest>(&json).unwrap(),
        request
    );
}

#[test]
fn item_10_integers_of_64_bits_are_read_as_strings_and_numbers_and_written_as_strings() {
    for time in ["1731924000000000001", "\"1731924000000000001\""] {
        let record = record_of(&format!(r#""timeUnixNano":{time}"#)).unwrap();
        assert_eq!(record.time_unix_nano, 1_731_924_000_000_000_001);
        assert_eq!(written(record), r#"{"timeUnixNano":"1731924000000000001"}"#);
    }
    for (json, number) in [
        (r#"{"intValue":"-9223372036854775808"}"#, i64::MIN),
        (r#"{"intValue":-5}"#, -5),
        (r#"{"intValue":"0"}"#, 0),
        (r#"{"intValue":1e3}"#, 1000),
        (r#"{"intValue":2.0}"#, 2),
    ] {
        assert_eq!(body_of(json), Ok(Some(Value::IntValue(number))), "{json}");
    }
    for json in [
        r#"{"intValue":1.5}"#,
        r#"{"intValue":"9223372036854775808"}"#,
        r#"{"intValue":"1 "}"#,
        r#"{"intValue":""}"#,
        r#"{"intValue":true}"#,
    ] {
        let error = body_of(json).unwrap_err();
        assert!(
            error.contains("intValue") && error.contains("line 1 column"),
            "{json}: {error}"
        );
    }
    assert!(record_of(r#""timeUnixNano":-1"#).unwrap_err().contains("out of range"));
}

#[test]
fn item_10_enums_are_numbers_only() {
    assert_eq!(record_of(r#""severityNumber":17"#).unwrap().severity_number, 17);
    assert_eq!(record_of(r#""severityNumber":99"#).unwrap().severity_number, 99, "open");
    for name in ["SEVERITY_NUMBER_ERROR", "17"] {
        let error = record_of(&format!(r#""severityNumber":"{name}""#)).unwrap_err();
        assert!(
            error.contains("severityNumber") && error.contains("number of the enum"),
            "{error}"
        );
    }
    let record = LogRecord {
        severity_number: 17,
        flags: 1,
        ..Default::default()
    };
    assert_eq!(written(record), r#"{"severityNumber":17,"flags":1}"#);
}

#[test]
fn item_10_names_are_lower_camel_case_and_unknown_ones_are_ignored() {
    let record = record_of(
        r#""time_unix_nano":"5","severity_number":9,"future":{"deep":[1,{"x":null}]},"severityText":"kept","TimeUnixNano":7"#,
    );
    let expected = LogRecord {
        severity_text: "kept".into(),
        ..Default::default()
    };
    assert_eq!(record, Ok(expected));
    assert_eq!(
        body_of(r#"{"futureValue":{"a":1},"stringValue":"x"}"#),
        Ok(Some(Value::StringValue("x".into())))
    );
}

#[test]
fn item_10_bytes_are_base64_of_either_alphabet() {
    for text in ["+/8=", "-_8=", "+/8", "-_8"] {
        let body = body_of(&format!(r#"{{"bytesValue":"{text}"}}"#));
        assert_eq!(body, Ok(Some(Value::BytesValue(vec![0xfb, 0xff]))), "{text}");
    }
    assert!(
        body_of(r#"{"bytesValue":"no base64!"}"#)
            .unwrap_err()
            .contains("base64")
    );
    let body = Some(AnyValue {
        value: Some(Value::BytesValue(vec![0xfb, 0xff])),
    });
    let record = LogRecord {
        body,
        ..Default::default()
    };
    assert_eq!(written(record), r#"{"body":{"bytesValue":"+/8="}}"#);
}

#[test]
fn item_10_what_no_number_of_json_is_stands_in_a_string() {
    for (text, double) in [
        ("\"Infinity\"", f64::INFINITY),
        ("\"-Infinity\"", f64::NEG_INFINITY),
        ("1.5", 1.5),
        ("\"1.5\"", 1.5),
        ("3", 3.0),
        ("-0.0", -0.0),
        ("1.7976931348623157e308", f64::MAX),
        ("5e-324", f64::from_bits(1)),
    ] {
        let Ok(Some(Value::DoubleValue(read))) = body_of(&format!(r#"{{"doubleValue":{text}}}"#)) else {
            panic!("{text}")
        };
        assert_eq!(read.to_bits(), double.to_bits(), "{text}");
    }
    assert!(matches!(body_of(r#"{"doubleValue":"NaN"}"#), Ok(Some(Value::DoubleValue(nan))) if nan.is_nan()));
    for wrong in ["\"inf\"", "\"nan\"", "1e999", "\"1e999\"", "NaN", "\"\""] {
        assert!(body_of(&format!(r#"{{"doubleValue":{wrong}}}"#)).is_err(), "{wrong}");
    }
}

#[test]
fn item_10_null_is_absent() {
    let record = record_of(
        r#""timeUnixNano":null,"severityNumber":null,"severityText":null,"body":null,"attributes":null,"traceId":null,"flags":null"#,
    );
    assert_eq!(record, Ok(LogRecord::default()));
    assert_eq!(
        body_of(r#"{"stringValue":null,"intValue":7}"#),
        Ok(Some(Value::IntValue(7)))
    );
    assert_eq!(
        read(r#"{"resourceLogs":null}"#),
        Ok(ExportLogsServiceRequest::default())
    );
}

#[test]
fn item_10_a_field_that_comes_twice_is_refused_with_its_place() {
    for fields in [
        r#""severityText":"a","severityText":"b""#,
        r#""attributes":[],"attributes":[]"#,
        r#""body":{"stringValue":"a","intValue":1}"#,
    ] {
        let error = record_of(fields).unwrap_err();
        assert!(error.contains("second") && error.contains("line 1 column"), "{error}");
    }
}

#[test]
fn item_12_ids_are_hex_of_any_case_and_what_is_no_id_counts_as_absent() {
    let id = |trace: &str| record_of(&format!(r#""severityText":"stays","traceId":"{trace}""#)).unwrap();
    for hex in ["5b8efff798038103d269b633813fc60c", "5B8EFFF798038103D269B633813FC60C"] {
        assert_eq!(id(hex).trace_id.len(), 16);
    }
    for none in [
        "",
        "0",
        "5b8efff798038103d269b633813fc60",
        "5b8efff798038103d269b633813fc60c00",
        "00000000000000000000000000000000",
        "W47/95gDgQPSabYzgT/GDA==",
        "xb8efff798038103d269b633813fc60c",
        "ä8efff798038103d269b633813fc60cö",
    ] {
        let record = id(none);
        assert_eq!((record.trace_id.len(), &*record.severity_text), (0, "stays"), "{none}");
    }
    let record = LogRecord {
        trace_id: vec![0xAB; 16],
        span_id: vec![1; 8],
        ..Default::default()
    };
    assert_eq!(
        written(record),
        format!(r#"{{"traceId":"{}","spanId":"{}"}}"#, "ab".repeat(16), "01".repeat(8))
    );
}

#[test]
fn item_13_an_empty_value_is_valid_and_stays() {
    let record = record_of(r#""body":{},"attributes":[{"key":"a","value":{}},{"key":"b"}]"#).unwrap();
    assert_eq!(record.body, Some(AnyValue::default()));
    assert_eq!(record.attributes[0].value, Some(AnyValue::default()));
    assert_eq!(record.attributes[1].value, None);
    assert_eq!(
        written(record),
        r#"{"body":{},"attributes":[{"key":"a","value":{}},{"key":"b"}]}"#
    );
}

#[test]
fn item_13_deep_nesting_is_an_error_and_no_stack_overflow() {
    let nested = |depth: usize| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth));
        format!(r#"{open}{{"intValue":1}}{close}"#)
    };
    assert!(body_of(&nested(35)).is_ok());
    for depth in [60, 100_000] {
        let error = body_of(&nested(depth)).unwrap_err();
        assert!(error.contains("recursion limit"), "{error}");
        // Under a name that is not known neither.
        _ = record_of(&format!(r#""unknown":{}"#, nested(depth)));
    }
    let mut value = AnyValue::default();
    for _ in 0..60 {
        value.value = Some(Value::ArrayValue(ArrayValue {
            values: vec![value.clone()],
        }));
    }
    let record = LogRecord {
        body: Some(value),
        ..Default::default()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![record],
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    let error = to_json(&REQUEST, &request.encode_to_vec()).unwrap_err().to_string();
    assert!(error.contains("nested deeper"), "{error}");
}

#[test]
fn item_06_what_is_no_json_is_told_with_line_and_column() {
    for (json, expected) in [
        (&b"\xef\xbb\xbf{}"[..], "byte-order mark"),
        (b"{\n \"resourceLogs\": \"\xff\"}", "line 2 column 19"),
        (b"{\"unknown\":\"\xff\"}", "not UTF-8 at line 1 column 13"),
        (b"{\n}x", "line 2 column 2"),
        (b"", "line 1 column 0"),
        (b"[]", "an object, ExportLogsServiceRequest"),
        (b"{\"resourceLogs\":{}}", "a list, `resourceLogs`"),
        (b"{\"resourceLogs\":[null]}", "an object, ResourceLogs"),
        (br#"{"resourceLogs":[{"schemaUrl":"\ud800"}]}"#, "line 1 column"),
    ] {
        let error = to_protobuf(&REQUEST, json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_long_text_in_a_wrong_place_makes_no_long_message() {
    let long = "x".repeat(100_000);
    for fields in [
        format!(r#""body":"{long}""#),
        format!(r#""attributes":"{long}""#),
        format!(r#""severityNumber":"{long}""#),
        format!(r#""body":{{"intValue":"{long}"}}"#),
        format!(r#""body":{{"boolValue":"{long}"}}"#),
    ] {
        let error = record_of(&fields).unwrap_err();
        assert!(error.len() < 300 && error.contains("line 1 column"), "{error}");
    }
}

#[test]
fn bytes_that_are_not_the_message_are_an_error() {
    for bytes in [
        &b"\xff"[..],
        b"\x0a\x05",
        b"\x08\x01",
        b"\x0a\x04\x1a\x02\xff\xfe",
        b"\x0c",
    ] {
        assert!(to_json(&REQUEST, bytes).is_err(), "{bytes:?}");
    }
    // Unknown fields are left out, groups among them.
    let json = to_json(&REQUEST, b"\x98\x06\x01\x13\x08\x01\x14\x0a\x00").unwrap();
    assert_eq!(json, br#"{"resourceLogs":[{}]}"#);
}

#[test]
fn parts_of_one_message_are_merged_and_the_last_value_counts() {
    // A response whose `partial_success` comes in two parts, the count twice.
    let bytes = b"\x0a\x04\x08\x01\x08\x02\x0a\x03\x12\x01x";
    let json = to_json(&RESPONSE, bytes).unwrap();
    assert_eq!(
        json,
        br#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"x"}}"#
    );
    assert_eq!(to_json(&RESPONSE, b"").unwrap(), b"{}");
}

/// Every field of a span, in the order of the table.
const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"scope":{"name":"lib"},"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","traceState":"a=b","parentSpanId":"eee19b7ec3c1b173","flags":257,"name":"GET /","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000000","attributes":[{"key":"k","value":{"intValue":"1"}}],"droppedAttributesCount":1,"events":[{"timeUnixNano":"1544712660500000000","name":"e","attributes":[{"key":"k","value":{}}],"droppedAttributesCount":2}],"droppedEventsCount":3,"links":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","traceState":"c","attributes":[{"key":"k"}],"droppedAttributesCount":4,"flags":5}],"droppedLinksCount":6,"status":{"message":"no","code":2}}],"schemaUrl":"s"}],"schemaUrl":"r"}]}"#;

/// Every field of every kind of metric, in the order of the table.
const METRICS: &str = r#"{"resourceMetrics":[{"resource":{},"scopeMetrics":[{"scope":{"name":"lib"},"metrics":[{"name":"g","description":"d","unit":"1","gauge":{"dataPoints":[{"attributes":[{"key":"k"}],"startTimeUnixNano":"1","timeUnixNano":"2","asDouble":0.0,"exemplars":[{"filteredAttributes":[{"key":"f"}],"timeUnixNano":"3","asInt":"-4","spanId":"eee19b7ec3c1b174","traceId":"5b8efff798038103d269b633813fc60c"}],"flags":1},{"asInt":"-9223372036854775808"}]},"metadata":[{"key":"m","value":{"boolValue":true}}]},{"name":"s","sum":{"dataPoints":[{"asInt":"0"}],"aggregationTemporality":2,"isMonotonic":true}},{"name":"h","histogram":{"dataPoints":[{"count":"3","sum":0.0,"bucketCounts":["1","0","18446744073709551615"],"explicitBounds":[0.5,"Infinity"],"flags":1,"min":-1.5,"max":2.5}],"aggregationTemporality":1}},{"name":"e","exponentialHistogram":{"dataPoints":[{"count":"3","sum":1.5,"scale":-3,"zeroCount":"4","positive":{"offset":2147483647,"bucketCounts":["1","300"]},"negative":{"offset":-2147483648},"min":0.0,"zeroThreshold":0.25}],"aggregationTemporality":2}},{"name":"q","summary":{"dataPoints":[{"count":"2","sum":3.0,"quantileValues":[{"quantile":0.5,"value":"NaN"},{"quantile":1.0,"value":2.0}]}]}}]}]}]}"#;

#[test]
fn item_10_every_field_of_traces_and_metrics_goes_both_ways() {
    for (signal, text) in [(Signal::Traces, TRACES), (Signal::Metrics, METRICS)] {
        let bytes = to_protobuf(table(signal), text.as_bytes()).unwrap();
        let back = to_json(table(signal), &bytes).unwrap();
        assert_eq!(String::from_utf8(back).unwrap(), text);
    }
    // Another implementation understands the same by it.
    let bytes = to_protobuf(table(Signal::Traces), TRACES.as_bytes()).unwrap();
    let theirs: ExportTraceServiceRequest = serde_json::from_str(TRACES).unwrap();
    assert_eq!(ExportTraceServiceRequest::decode(&*bytes).unwrap(), theirs);
    let bytes = to_protobuf(table(Signal::Metrics), METRICS.as_bytes()).unwrap();
    let ours = ExportMetricsServiceRequest::decode(&*bytes).unwrap();
    let metrics = &ours.resource_metrics[0].scope_metrics[0].metrics;
    let Some(metric::Data::ExponentialHistogram(histogram)) = &metrics[3].data else {
        panic!("{metrics:?}")
    };
    let point = &histogram.data_points[0];
    let (positive, negative) = (point.positive.as_ref().unwrap(), point.negative.as_ref().unwrap());
    assert_eq!(
        (point.scale, positive.offset, negative.offset),
        (-3, i32::MAX, i32::MIN)
    );
    assert_eq!(
        (point.min, point.max, &positive.bucket_counts[..]),
        (Some(0.0), None, &[1, 300][..])
    );
}

#[test]
fn item_10_one_value_of_several_and_lists_of_numbers_are_read_strictly() {
    let of_point = |fields: &str| {
        let json = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{{fields}}}]}}}}]}}]}}]}}"#
        );
        to_protobuf(table(Signal::Metrics), json.as_bytes()).map_err(|error| error.to_string())
    };
    for (fields, says) in [
        (r#""bucketCounts":["1","x"]"#, "`bucketCounts`"),
        (r#""bucketCounts":[-1]"#, "out of range"),
        (r#""bucketCounts":7"#, "a list, `bucketCounts`"),
        (r#""explicitBounds":[null]"#, "`explicitBounds`"),
        (r#""sum":1,"sum":2"#, "second time"),
    ] {
        let error = of_point(fields).unwrap_err();
        assert!(
            error.contains(says) && error.contains("line 1 column"),
            "{fields}: {error}"
        );
    }
    assert_eq!(of_point(r#""bucketCounts":[],"explicitBounds":null"#), of_point(""));
    let two = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{},"sum":{}}]}]}]}"#;
    let error = to_protobuf(table(Signal::Metrics), two).unwrap_err().to_string();
    assert!(error.contains("a second value in one Metric"), "{error}");
    let enums = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"SPAN_KIND_SERVER"}]}]}]}"#;
    let error = to_protobuf(table(Signal::Traces), enums).unwrap_err().to_string();
    assert!(
        error.contains("`kind`") && error.contains("number of the enum"),
        "{error}"
    );
}

#[test]
fn numbers_are_read_packed_or_one_by_one() {
    let point = HistogramDataPoint {
        bucket_counts: vec![1, 2],
        ..HistogramDataPoint::default()
    };
    // The same field once more, as one number that is not packed.
    let point = [point.encode_to_vec(), [&[0x31][..], &3_u64.to_le_bytes()].concat()].concat();
    let wrap = |number: u8, inner: &[u8]| [&[number << 3 | 2, inner.len() as u8], inner].concat();
    let request = [2, 2, 1]
        .iter()
        .fold(wrap(9, &wrap(1, &point)), |inner, number| wrap(*number, &inner));
    let json = String::from_utf8(to_json(table(Signal::Metrics), &request).unwrap()).unwrap();
    assert!(json.contains(r#""bucketCounts":["1","2","3"]"#), "{json}");
    let cut = wrap(6, &[0; 7]);
    let cut = [2, 2, 1]
        .iter()
        .fold(wrap(9, &wrap(1, &cut)), |inner, number| wrap(*number, &inner));
    let error = to_json(table(Signal::Metrics), &cut).unwrap_err().to_string();
    assert!(error.contains("cut short"), "{error}");
}
