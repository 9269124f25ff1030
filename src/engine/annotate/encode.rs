//! Encodes one attribute: field 6 of a LogRecord, a KeyValue.
//!
//! Promises: byte for byte what `prost` emits for the same KeyValue. Deliberately absent: values we never write.

use super::{AttributeValue, COUNT, MAX_VALUE_BYTES};
use crate::engine::view::{put_varint, varint_len};

/// Keys on the wire: field number << 3 | wire type.
const RECORD_ATTRIBUTES: u8 = 6 << 3 | 2;
const KEY_VALUE_KEY: u8 = 1 << 3 | 2;
const KEY_VALUE_VALUE: u8 = 2 << 3 | 2;
const ANY_VALUE_STRING: u8 = 1 << 3 | 2;
const ANY_VALUE_BOOL: u8 = 2 << 3;
const ANY_VALUE_DOUBLE: u8 = 4 << 3 | 1;

/// Encodes attributes under names that are encoded once.
pub(super) struct Encoder {
    /// For each name the field `key` of a KeyValue.
    keys: [Vec<u8>; COUNT],
    /// The first name with false and with true: the one attribute that every record gets.
    bools: [Vec<u8>; 2],
}

impl Encoder {
    pub fn new(names: [&str; COUNT]) -> Self {
        let keys = names.map(|name| {
            let mut key = Vec::with_capacity(delimited_len(name.len()));
            put_delimited(KEY_VALUE_KEY, name, &mut key);
            key
        });
        let bools = [false, true].map(|value| {
            let mut attribute = Vec::with_capacity(MAX_VALUE_BYTES);
            put_attribute(
                keys.first().map_or(&[], Vec::as_slice),
                AttributeValue::Bool(value),
                &mut attribute,
            );
            attribute
        });
        Encoder { keys, bools }
    }

    /// Appends the attributes to `out`, each with the name at its place.
    #[inline]
    pub fn put_attributes(&self, values: &[Option<AttributeValue<'_>>; COUNT], out: &mut Vec<u8>) {
        let [no, yes] = &self.bools;
        for (index, (key, value)) in self.keys.iter().zip(values).enumerate() {
            match value {
                None => {}
                Some(AttributeValue::Bool(value)) if index == 0 => out.extend_from_slice(if *value { yes } else { no }),
                Some(value) => put_attribute(key, *value, out),
            }
        }
    }
}

/// Appends an attribute to `out`; `key` is the field `key` of its KeyValue.
fn put_attribute(key: &[u8], value: AttributeValue<'_>, out: &mut Vec<u8>) {
    let value_len = match value {
        AttributeValue::Bool(_) => 2,
        AttributeValue::Double(_) => 9,
        AttributeValue::String(text) => delimited_len(text.len()),
    };
    out.push(RECORD_ATTRIBUTES);
    put_varint(key.len() + delimited_len(value_len), out);
    out.extend_from_slice(key);
    out.push(KEY_VALUE_VALUE);
    put_varint(value_len, out);
    match value {
        AttributeValue::Bool(value) => out.extend_from_slice(&[ANY_VALUE_BOOL, u8::from(value)]),
        AttributeValue::Double(value) => {
            out.push(ANY_VALUE_DOUBLE);
            out.extend_from_slice(&value.to_le_bytes());
        }
        AttributeValue::String(text) => put_delimited(ANY_VALUE_STRING, text, out),
    }
}

/// Bytes of a field with a one-byte key, its length and `len` bytes.
#[inline]
fn delimited_len(len: usize) -> usize {
    1 + varint_len(len) + len
}

#[inline]
fn put_delimited(key: u8, text: &str, out: &mut Vec<u8>) {
    out.push(key);
    put_varint(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use prost::Message;

    use super::*;

    /// Every kind of value, at lengths on both sides of where a length prefix grows, is encoded as `prost` does.
    #[test]
    fn encodes_as_prost() {
        let texts: Vec<String> = [0, 1, 100, 123, 124, 125, 126, 127, 128, 256]
            .map(|len| "é".repeat(len / 2))
            .into();
        let strings = texts
            .iter()
            .map(|text| (AttributeValue::String(text), Value::StringValue(text.clone())));
        let bools = [false, true].map(|value| (AttributeValue::Bool(value), Value::BoolValue(value)));
        let doubles =
            [0.0, 0.97, f64::INFINITY].map(|value| (AttributeValue::Double(value), Value::DoubleValue(value)));
        for (ours, theirs) in strings.chain(bools).chain(doubles) {
            for (place, name) in ["x", "harbinger.anomaly.reason", &"long".repeat(50)]
                .into_iter()
                .enumerate()
            {
                let value = Some(AnyValue {
                    value: Some(theirs.clone()),
                });
                let attribute = KeyValue {
                    key: name.into(),
                    value,
                    key_strindex: 0,
                };
                let expected = LogRecord {
                    attributes: vec![attribute],
                    ..LogRecord::default()
                }
                .encode_to_vec();
                let mut out = Vec::new();
                let mut values = [None; COUNT];
                values[place] = Some(ours);
                Encoder::new([name; COUNT]).put_attributes(&values, &mut out);
                assert_eq!(out, expected, "{name}: {ours:?}");
            }
        }
    }
}
