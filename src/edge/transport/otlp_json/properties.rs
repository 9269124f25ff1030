//! The mapping for any request: both ways are the same, and nothing makes it panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use super::{REQUEST, tests::EXAMPLE, to_json, to_protobuf};

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
    (text(), proptest::option::of(value), prop_oneof![Just(0), any::<i32>()]).prop_map(|(key, value, key_strindex)| {
        KeyValue {
            key,
            value,
            key_strindex,
        }
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
    let parts = (
        text(),
        proptest::option::of(value()),
        attributes(),
        id(16),
        id(8),
        text(),
    );
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

fn request() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope = (text(), text(), attributes(), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    let scope_logs =
        (proptest::option::of(scope), vec(record(), 0..3), text()).prop_map(|(scope, log_records, schema_url)| {
            ScopeLogs {
                scope,
                log_records,
                schema_url,
            }
        });
    let entity = (text(), text(), vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    let resource = (attributes(), any::<u32>(), vec(entity, 0..2)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    );
    let resource_logs = (proptest::option::of(resource), vec(scope_logs, 0..3), text()).prop_map(
        |(resource, scope_logs, schema_url)| ResourceLogs {
            resource,
            scope_logs,
            schema_url,
        },
    );
    vec(resource_logs, 0..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
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
    fn no_bytes_cause_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        _ = to_json(&REQUEST, &bytes);
        _ = to_protobuf(&REQUEST, &bytes);
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
