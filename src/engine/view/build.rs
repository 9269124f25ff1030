//! Protobuf by hand, for tests that need bytes no encoder would emit.

use super::put_varint;

/// A length-delimited field: string, bytes or message.
pub(in crate::engine) fn delimited(number: usize, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(number << 3 | 2, &mut bytes);
    put_varint(payload.as_ref().len(), &mut bytes);
    bytes.extend_from_slice(payload.as_ref());
    bytes
}

/// A varint field.
pub(in crate::engine) fn varint(number: usize, value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(number << 3, &mut bytes);
    put_varint(value, &mut bytes);
    bytes
}

/// A fixed64 field.
pub(in crate::engine) fn fixed64(number: usize, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(number << 3 | 1, &mut bytes);
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes
}

/// An AnyValue that is a string.
pub(in crate::engine) fn text(text: &str) -> Vec<u8> {
    delimited(1, text)
}

/// An attribute of a LogRecord: a key and a string.
pub(in crate::engine) fn attribute(key: &str, value: &str) -> Vec<u8> {
    delimited(6, [delimited(1, key), delimited(2, text(value))].concat())
}

/// A request of one resource and one scope with these records.
pub(in crate::engine) fn request(records: &[&[u8]]) -> Vec<u8> {
    let records: Vec<u8> = records.iter().flat_map(|record| delimited(2, record)).collect();
    delimited(1, delimited(2, records))
}
