//! Any JSON as the value of a record's body or attribute.
//!
//! What enters: JSON that has been parsed. What leaves: OTLP's `AnyValue`. Promises: objects keep their order; whole numbers that fit are
//! integers, others are doubles. Absent on purpose: OTLP JSON, which is the protocol itself (`otlp_json`).

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any};
use serde_json::Value;

/// JSON as an OTLP value; serde_json has bounded its depth.
pub fn any(value: Value) -> Option<Any> {
    let wrapped = |value| AnyValue { value: any(value) };
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => Any::BoolValue(flag),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Any::IntValue(integer),
            None => Any::DoubleValue(number.as_f64().unwrap_or(0.0)),
        },
        Value::String(text) => Any::StringValue(text),
        Value::Array(list) => Any::ArrayValue(ArrayValue {
            values: list.into_iter().map(wrapped).collect(),
        }),
        Value::Object(object) => {
            let entry = |(key, value)| KeyValue {
                key,
                value: Some(wrapped(value)),
                ..KeyValue::default()
            };
            Any::KvlistValue(KeyValueList {
                values: object.into_iter().map(entry).collect(),
            })
        }
    })
}
