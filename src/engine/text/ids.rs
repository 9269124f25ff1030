//! Ids that a record shares with others of one request, trace or thing: found by key, or by their look.
//!
//! In: a record, and its text. Out: hashes of its ids, at most [`MAX_IDS`], the more telling first: trace, span, attributes
//! named as ids of requests, then UUIDs and long hexadecimal words of the text. Promises: an id is the same whether
//! written with dashes or without, in whichever case, in a field, an attribute or a text. Absent on purpose: whether an id
//! tells anything; one that is in everything (a tenant's, a host's) does not, and only the stream shows which are.

use xxhash_rust::xxh3::xxh3_64;

use crate::engine::view::{Record, Value};

/// Ids taken of a record.
pub const MAX_IDS: usize = 8;
/// Bytes of a text that are looked at.
const LOOKED_AT: usize = 4096;
/// Hexadecimal digits from which on a word is an id.
const DIGITS: usize = 16;
/// Longer words are content.
const MAX_DIGITS: usize = 64;

/// Longest value of an attribute that is an id.
const MAX_ID_BYTES: usize = 128;

/// Endings of attribute names that hold ids, lower case, without `-`, `_` and `.`.
const NAMES: [&str; 8] = [
    "traceid",
    "spanid",
    "requestid",
    "reqid",
    "correlationid",
    "transactionid",
    "operationid",
    "jobid",
];

/// Adds the ids of a record, whose text has these, to `ids`; how many.
pub fn shared_ids(record: &Record<'_>, of_text: &[u64], ids: &mut Vec<u64>) -> usize {
    let before = ids.len();
    let mut found = |id| add(id, before, ids);
    for bytes in [record.trace_id, record.span_id] {
        if matches!(bytes.len(), 8 | 16) && bytes.iter().any(|byte| *byte != 0) {
            found(of_bytes(bytes));
        }
    }
    for (name, value) in record.attributes_like_ids() {
        if is_id_name(name)
            && let Value::String(value) = value
            && !value.is_empty()
            && value.len() <= MAX_ID_BYTES
        {
            found(of_written(value));
        }
    }
    of_text.iter().copied().for_each(found);
    ids.len() - before
}

/// Adds the ids of a text to `ids`; how many. They are a function of the text alone.
pub fn ids_of_text(text: &str, ids: &mut Vec<u64>) -> usize {
    let before = ids.len();
    let end = text.floor_char_boundary(LOOKED_AT);
    let looked_at = text.get(..end).unwrap_or_default();
    in_text(looked_at.as_bytes(), &mut |id| add(id, before, ids));
    ids.len() - before
}

/// Adds an id to those from `start` on, unless it is among them or they are enough.
fn add(id: u64, start: usize, ids: &mut Vec<u64>) {
    let known = ids.get(start..).unwrap_or_default();
    if known.len() < MAX_IDS && !known.contains(&id) {
        ids.push(id);
    }
}

fn is_id_name(name: &[u8]) -> bool {
    if name.len() < 5 || !name.ends_with(b"d") && !name.ends_with(b"D") {
        return false;
    }
    let mut letters = [0u8; 32];
    let mut length = 0;
    let all = name.iter().rev().filter(|byte| !matches!(byte, b'-' | b'_' | b'.'));
    for (slot, byte) in letters.iter_mut().rev().zip(all) {
        *slot = byte.to_ascii_lowercase();
        length += 1;
    }
    let letters = letters.get(letters.len() - length..).unwrap_or_default();
    NAMES.iter().any(|name| letters.ends_with(name.as_bytes()))
}

/// UUIDs and long words of hexadecimal digits.
fn in_text(text: &[u8], found: &mut impl FnMut(u64)) {
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    let mut start = 0;
    // Looked at from its end, a window without a word is passed in a few steps.
    while let Some(window) = text.get(start..start + DIGITS) {
        if let Some(last) = window.iter().rposition(|byte| !is_part(byte)) {
            start += last + 1;
            continue;
        }
        let rest = text.get(start..).unwrap_or_default();
        let word = rest.get(..rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len()));
        let word = word.unwrap_or_default();
        start += word.len() + 1;
        // Dashes may also join an id to its surroundings: `req-8f14e45f-…`.
        let is_uuid = |word: &[u8]| {
            let groups = word.split(|byte| *byte == b'-').map(<[u8]>::len);
            groups.eq([8, 4, 4, 4, 12])
        };
        let tail = word.get(word.len().saturating_sub(36)..).unwrap_or_default();
        if is_uuid(tail) {
            found(of_written(tail));
            continue;
        }
        for word in word.split(|byte| *byte == b'-') {
            let (digits, letters) = (
                word.iter().any(u8::is_ascii_digit),
                word.iter().any(u8::is_ascii_alphabetic),
            );
            if (DIGITS..=MAX_DIGITS).contains(&word.len()) && digits && letters {
                found(of_written(word));
            }
        }
    }
}

fn of_bytes(bytes: &[u8]) -> u64 {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    hash(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]))
}

/// An id as it is written, behind `req-` and the like.
fn of_written(id: &[u8]) -> u64 {
    let id = id.strip_prefix(b"req-").unwrap_or(id);
    let written = id.iter().filter(|byte| **byte != b'-');
    hash(written.map(u8::to_ascii_lowercase))
}

/// Of at most [`MAX_ID_BYTES`] letters.
fn hash(letters: impl Iterator<Item = u8>) -> u64 {
    let mut whole = [0; MAX_ID_BYTES];
    let mut length = 0;
    for (place, letter) in whole.iter_mut().zip(letters) {
        *place = letter;
        length += 1;
    }
    xxh3_64(whole.get(..length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        common::v1::{AnyValue, KeyValue, any_value},
        logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    };
    use prost::Message;

    use super::*;
    use crate::engine::view::View;

    fn ids_in(text: &str) -> Vec<u64> {
        let mut ids = Vec::new();
        in_text(text.as_bytes(), &mut |id| ids.push(id));
        ids
    }

    #[test]
    fn an_id_is_the_same_however_it_is_written() {
        let written = ids_in("[req-8F14E45F-ceea-467f-a8ab-0123456789ab] failed");
        assert_eq!(written, ids_in("for 8f14e45fceea467fa8ab0123456789ab:"));
        assert_eq!(written, [of_written(b"8f14e45f-ceea-467f-a8ab-0123456789ab")]);
        let bytes = [
            0x8f, 0x14, 0xe4, 0x5f, 0xce, 0xea, 0x46, 0x7f, 0xa8, 0xab, 1, 0x23, 0x45, 0x67, 0x89, 0xab,
        ];
        assert_eq!(written, [of_bytes(&bytes)]);
    }

    #[test]
    fn words_dates_and_numbers_are_no_ids() {
        for text in [
            "the deadbeefs are feedable",
            "at 2026-11-22-10-00-00-000 it was 1234567890123456789",
            "decade-facade-accede-defaced",
            "commit 8f14e45",
        ] {
            assert!(ids_in(text).is_empty(), "{text}");
        }
    }

    /// Which attributes are looked at at all is decided when a request is checked.
    #[test]
    fn attributes_named_as_ids_are_found_in_any_spelling() {
        for name in [
            "X-Request-Id",
            "traceId",
            "com.acme.job.id",
            "SPAN__ID",
            "req-id",
            "operation.ID",
        ] {
            let attribute = KeyValue {
                key: name.to_owned(),
                value: Some(AnyValue {
                    value: Some(any_value::Value::StringValue("8f14e45f".to_owned())),
                }),
                ..KeyValue::default()
            };
            let record = LogRecord {
                attributes: vec![attribute],
                ..LogRecord::default()
            };
            let scope_logs = vec![ScopeLogs {
                log_records: vec![record],
                ..ScopeLogs::default()
            }];
            let resource_logs = vec![ResourceLogs {
                scope_logs,
                ..ResourceLogs::default()
            }];
            let bytes = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
            let mut ids = Vec::new();
            shared_ids(&View::parse(&bytes).unwrap().record(0).unwrap(), &[], &mut ids);
            assert_eq!(ids, [of_written(b"8f14e45f")], "{name}");
        }
    }

    #[test]
    fn names_of_ids_are_known_in_any_spelling() {
        for name in [
            "request_id",
            "X-Request-Id",
            "http.request.header.x-correlation-id",
            "traceId",
            "com.acme.job.id",
        ] {
            assert!(is_id_name(name.as_bytes()), "{name}");
        }
        for name in ["id", "user_id", "grid", "bid", "request", "valid"] {
            assert!(!is_id_name(name.as_bytes()), "{name}");
        }
    }
}
