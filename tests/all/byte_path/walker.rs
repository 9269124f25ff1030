//! A second reader of the wire format, slow and plain, that shares nothing with the crate.
//!
//! Splits a request into its records' fields, and writes it again with the lengths of ResourceLogs, ScopeLogs and
//! LogRecords as short as possible and every other byte as it was. Two requests that differ in nothing but those lengths
//! are then equal.

use super::arbitrary::varint;

/// One field: key and payload are kept as they were written.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub number: u64,
    /// The whole field.
    pub raw: Vec<u8>,
    /// Key's bytes, without the payload's length.
    key: Vec<u8>,
    /// What a length-delimited field holds.
    pub content: Option<Vec<u8>>,
}

/// The fields of a message, in order.
pub fn fields(mut bytes: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (field, rest) = field(bytes);
        fields.push(field);
        bytes = rest;
    }
    fields
}

fn field(bytes: &[u8]) -> (Field, &[u8]) {
    let (key, after_key) = read_varint(bytes);
    let (content, rest) = match key & 7 {
        0 => (None, read_varint(after_key).1),
        1 => (None, &after_key[8..]),
        2 => {
            let (len, after_len) = read_varint(after_key);
            (Some(after_len[..len as usize].to_vec()), &after_len[len as usize..])
        }
        3 => (None, after_group(after_key)),
        5 => (None, &after_key[4..]),
        other => panic!("wire type {other}"),
    };
    let raw = bytes[..bytes.len() - rest.len()].to_vec();
    let key_bytes = bytes[..bytes.len() - after_key.len()].to_vec();
    (
        Field {
            number: key >> 3,
            raw,
            key: key_bytes,
            content,
        },
        rest,
    )
}

fn after_group(mut bytes: &[u8]) -> &[u8] {
    loop {
        let (key, rest) = read_varint(bytes);
        if key & 7 == 4 {
            return rest;
        }
        bytes = field(bytes).1;
    }
}

fn read_varint(bytes: &[u8]) -> (u64, &[u8]) {
    let len = bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1;
    let value = bytes[..len]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    (value, &bytes[len..])
}

/// The request with the lengths around the records written anew, and every record as `edit` leaves its fields.
pub fn rewrite(request: &[u8], edit: &mut dyn FnMut(Vec<Field>) -> Vec<Field>) -> Vec<u8> {
    rewrite_level(request, &[1, 2, 2], edit)
}

/// `path`: field numbers that lead to the records.
fn rewrite_level(message: &[u8], path: &[u64], edit: &mut dyn FnMut(Vec<Field>) -> Vec<Field>) -> Vec<u8> {
    let Some((step, path)) = path.split_first() else {
        return edit(fields(message)).into_iter().flat_map(|field| field.raw).collect();
    };
    let mut out = Vec::new();
    for field in fields(message) {
        match field.content {
            Some(content) if field.number == *step => {
                let inner = rewrite_level(&content, path, edit);
                out.extend([field.key, varint(inner.len() as u64, 0), inner].concat());
            }
            _ => out.extend(field.raw),
        }
    }
    out
}

/// The key of a KeyValue that is the field's content.
pub fn attribute_key(field: &Field) -> Option<Vec<u8>> {
    let content = field.content.as_ref().filter(|_| field.number == 6)?;
    fields(content)
        .into_iter()
        .rev()
        .find(|field| field.number == 1)?
        .content
}
