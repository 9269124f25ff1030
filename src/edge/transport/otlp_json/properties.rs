//! The mapping for any request: both ways are the same, and nothing makes it panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, Link},
    },
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;

use super::{REQUEST, request as table, tests::EXAMPLE, to_json, to_protobuf};
use crate::edge::Signal;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), any::<String>()]
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        text().prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|bool| Some(Value::BoolValue(bool))),
        any::<i64>().prop_map(|integer| Some(Value::IntValue(integer))),
        any::<f64>().prop_map(|double| Some(Value::DoubleValue(double))),
        vec(any::<u8>(), 0..9).prop_map(|bytes| Some(Value::BytesValue(bytes))),
        any::<i32>().prop_map(|index| Some(Value::StringValueStrindex(index))),
        Just(None),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(5, 24, 4, |inner| {
        let list = vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values }));
        let map = vec(key_value(inner), 0..4).prop_map(|values| Value::KvlistValue(KeyValueList { values }));
        prop_oneof![list, map].prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn key_value(value: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = KeyValue> {
    (text(), option::of(value), prop_oneof![Just(0), any::<i32>()]).prop_map(|(key, value, key_strindex)| KeyValue {
        key,
        value,
        key_strindex,
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(key_value(value()), 0..3)
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), vec(1_u8.., length)]
}

fn record() -> impl Strategy<Value = LogRecord> {
    let numbers = (any::<u64>(), any::<u64>(), any::<i32>(), any::<u32>(), any::<u32>());
    let parts = (text(), option::of(value()), attributes(), id(16), id(8), text());
    (numbers, parts).prop_map(
        |(numbers, (severity_text, body, attributes, trace_id, span_id, event_name))| LogRecord {
            time_unix_nano: numbers.0,
            observed_time_unix_nano: numbers.1,
            severity_number: numbers.2,
            dropped_attributes_count: numbers.3,
            flags: numbers.4,
            severity_text,
            body,
            attributes,
            trace_id,
            span_id,
            event_name,
        },
    )
}

fn scope() -> impl Strategy<Value = InstrumentationScope> {
    (text(), text(), attributes(), any::<u32>()).prop_map(|(name, version, attributes, dropped_attributes_count)| {
        InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        }
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    (attributes(), any::<u32>(), vec(entity, 0..2)).prop_map(|(attributes, dropped_attributes_count, entity_refs)| {
        Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        }
    })
}

fn request() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope_logs =
        (option::of(scope()), vec(record(), 0..3), text()).prop_map(|(scope, log_records, schema_url)| ScopeLogs {
            scope,
            log_records,
            schema_url,
        });
    let resource_logs =
        (option::of(resource()), vec(scope_logs, 0..3), text()).prop_map(|(resource, scope_logs, schema_url)| {
            ResourceLogs {
                resource,
                scope_logs,
                schema_url,
            }
        });
    vec(resource_logs, 0..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

fn span() -> impl Strategy<Value = Span> {
    let event = (any::<u64>(), text(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    );
    let link = (id(16), id(8), text(), attributes(), any::<u32>(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    );
    let status = (text(), any::<i32>()).prop_map(|(message, code)| Status { message, code });
    let ids = (id(16), id(8), id(8), text(), text());
    let numbers = (any::<i32>(), any::<[u64; 2]>(), any::<[u32; 4]>());
    (
        ids,
        numbers,
        attributes(),
        vec(event, 0..3),
        vec(link, 0..3),
        option::of(status),
    )
        .prop_map(|(ids, (kind, times, counts), attributes, events, links, status)| Span {
            trace_id: ids.0,
            span_id: ids.1,
            parent_span_id: ids.2,
            trace_state: ids.3,
            name: ids.4,
            kind,
            start_time_unix_nano: times[0],
            end_time_unix_nano: times[1],
            flags: counts[0],
            dropped_attributes_count: counts[1],
            dropped_events_count: counts[2],
            dropped_links_count: counts[3],
            attributes,
            events,
            links,
            status,
        })
}

fn traces() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope_spans =
        (option::of(scope()), vec(span(), 0..3), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
            scope,
            spans,
            schema_url,
        });
    let resource_spans =
        (option::of(resource()), vec(scope_spans, 0..3), text()).prop_map(|(resource, scope_spans, schema_url)| {
            ResourceSpans {
                resource,
                scope_spans,
                schema_url,
            }
        });
    vec(resource_spans, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

fn exemplars() -> impl Strategy<Value = Vec<Exemplar>> {
    let value = prop_oneof![
        Just(None),
        any::<f64>().prop_map(|double| Some(exemplar::Value::AsDouble(double))),
        any::<i64>().prop_map(|integer| Some(exemplar::Value::AsInt(integer))),
        Just(Some(exemplar::Value::AsInt(0))),
    ];
    let exemplar = (attributes(), any::<u64>(), id(8), id(16), value).prop_map(
        |(filtered_attributes, time_unix_nano, span_id, trace_id, value)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            span_id,
            trace_id,
            value,
        },
    );
    vec(exemplar, 0..3)
}

/// What may be there and be the default.
fn optional_double() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![Just(Some(0.0)), option::of(any::<f64>())]
}

fn data() -> impl Strategy<Value = Data> {
    let value = prop_oneof![
        Just(None),
        Just(Some(number_data_point::Value::AsDouble(0.0))),
        any::<f64>().prop_map(|double| Some(number_data_point::Value::AsDouble(double))),
        any::<i64>().prop_map(|integer| Some(number_data_point::Value::AsInt(integer))),
    ];
    let number = (attributes(), any::<[u64; 2]>(), exemplars(), any::<u32>(), value).prop_map(
        |(attributes, times, exemplars, flags, value)| NumberDataPoint {
            attributes,
            start_time_unix_nano: times[0],
            time_unix_nano: times[1],
            exemplars,
            flags,
            value,
        },
    );
    let numbers = vec(number, 0..3).boxed();
    let optionals = || (optional_double(), optional_double(), optional_double());
    let histogram = (
        attributes(),
        any::<[u64; 3]>(),
        optionals(),
        vec(any::<u64>(), 0..4),
        vec(any::<f64>(), 0..4),
        exemplars(),
        any::<u32>(),
    )
        .prop_map(
            |(attributes, numbers, (sum, min, max), bucket_counts, explicit_bounds, exemplars, flags)| {
                HistogramDataPoint {
                    attributes,
                    start_time_unix_nano: numbers[0],
                    time_unix_nano: numbers[1],
                    count: numbers[2],
                    sum,
                    bucket_counts,
                    explicit_bounds,
                    exemplars,
                    flags,
                    min,
                    max,
                }
            },
        );
    let buckets =
        (any::<i32>(), vec(any::<u64>(), 0..4)).prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts });
    let buckets = option::of(buckets).boxed();
    let exponential = (
        attributes(),
        any::<[u64; 4]>(),
        optionals(),
        (any::<i32>(), any::<f64>(), any::<u32>()),
        (buckets.clone(), buckets),
        exemplars(),
    )
        .prop_map(
            |(
                attributes,
                numbers,
                (sum, min, max),
                (scale, zero_threshold, flags),
                (positive, negative),
                exemplars,
            )| {
                ExponentialHistogramDataPoint {
                    attributes,
                    start_time_unix_nano: numbers[0],
                    time_unix_nano: numbers[1],
                    count: numbers[2],
                    zero_count: numbers[3],
                    sum,
                    scale,
                    positive,
                    negative,
                    flags,
                    exemplars,
                    min,
                    max,
                    zero_threshold,
                }
            },
        );
    let quantile = any::<[f64; 2]>().prop_map(|[quantile, value]| ValueAtQuantile { quantile, value });
    let summary = (
        attributes(),
        any::<[u64; 3]>(),
        any::<f64>(),
        vec(quantile, 0..3),
        any::<u32>(),
    )
        .prop_map(|(attributes, numbers, sum, quantile_values, flags)| SummaryDataPoint {
            attributes,
            start_time_unix_nano: numbers[0],
            time_unix_nano: numbers[1],
            count: numbers[2],
            sum,
            quantile_values,
            flags,
        });
    prop_oneof![
        numbers
            .clone()
            .prop_map(|data_points| Data::Gauge(Gauge { data_points })),
        (numbers, any::<i32>(), any::<bool>()).prop_map(|(data_points, aggregation_temporality, is_monotonic)| {
            Data::Sum(Sum {
                data_points,
                aggregation_temporality,
                is_monotonic,
            })
        }),
        (vec(histogram, 0..3), any::<i32>()).prop_map(|(data_points, aggregation_temporality)| {
            Data::Histogram(Histogram {
                data_points,
                aggregation_temporality,
            })
        }),
        (vec(exponential, 0..3), any::<i32>()).prop_map(|(data_points, aggregation_temporality)| {
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points,
                aggregation_temporality,
            })
        }),
        vec(summary, 0..3).prop_map(|data_points| Data::Summary(Summary { data_points })),
    ]
}

fn metrics() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let metric = (text(), text(), text(), attributes(), option::of(data())).prop_map(
        |(name, description, unit, metadata, data)| Metric {
            name,
            description,
            unit,
            metadata,
            data,
        },
    );
    let scope_metrics =
        (option::of(scope()), vec(metric, 0..3), text()).prop_map(|(scope, metrics, schema_url)| ScopeMetrics {
            scope,
            metrics,
            schema_url,
        });
    let resource_metrics =
        (option::of(resource()), vec(scope_metrics, 0..3), text()).prop_map(|(resource, scope_metrics, schema_url)| {
            ResourceMetrics {
                resource,
                scope_metrics,
                schema_url,
            }
        });
    vec(resource_metrics, 0..2).prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    /// Prost compares NaN by its text, so by what it prints.
    #[test]
    fn item_10_protobuf_to_json_and_back_is_the_same(request in request()) {
        let json = to_json(&REQUEST, &request.encode_to_vec()).unwrap();
        let back = to_protobuf(&REQUEST, &json).unwrap();
        let back = ExportLogsServiceRequest::decode(&*back).unwrap();
        prop_assert_eq!(format!("{:?}", back), format!("{:?}", request));
    }

    #[test]
    fn item_10_traces_to_json_and_back_are_the_same(request in traces()) {
        let json = to_json(table(Signal::Traces), &request.encode_to_vec()).unwrap();
        let back = to_protobuf(table(Signal::Traces), &json).unwrap();
        let back = ExportTraceServiceRequest::decode(&*back).unwrap();
        prop_assert_eq!(format!("{:?}", back), format!("{:?}", request));
    }

    #[test]
    fn item_10_metrics_to_json_and_back_are_the_same(request in metrics()) {
        // As prost writes it: −0 without presence is nothing to it.
        let bytes = request.encode_to_vec();
        let request = ExportMetricsServiceRequest::decode(&*bytes).unwrap();
        let json = to_json(table(Signal::Metrics), &bytes).unwrap();
        let back = to_protobuf(table(Signal::Metrics), &json).unwrap();
        let back = ExportMetricsServiceRequest::decode(&*back).unwrap();
        prop_assert_eq!(format!("{:?}", back), format!("{:?}", request));
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        for signal in Signal::ALL {
            _ = to_json(table(signal), &bytes);
            _ = to_protobuf(table(signal), &bytes);
        }
    }

    /// Cut or altered JSON is read or refused, and what is read is protobuf.
    #[test]
    fn no_json_causes_a_panic(at in 0..EXAMPLE.len(), with in "[{}\\[\\]\",:0-9a-z]{0,4}") {
        let mut text = EXAMPLE.to_owned();
        text.replace_range(at..=at, &with);
        if let Ok(bytes) = to_protobuf(&REQUEST, text.as_bytes()) {
            prop_assert!(ExportLogsServiceRequest::decode(&*bytes).is_ok());
        }
    }
}
