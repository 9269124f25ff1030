//! A request that is too large for a destination, as two requests of about half its records each.
//!
//! Enters: the wire bytes of an `ExportLogsServiceRequest`. Leaves: two of them, whose records in order are the records of
//! the one; and how many records there are.
//!
//! Promises: every record is in exactly one half, byte for byte. A resource or scope that is cut keeps all that is not a
//! record in both halves: resource, scope, schema URL and unknown fields; so do the fields of the request itself. Nothing is
//! validated beyond what has to be framed. Deliberately absent: sizes. Half the records need not be half the bytes; whoever
//! finds a half still too large halves again.

use std::ops::Range;

use super::{
    Malformed,
    wire::{Cursor, Field, Payload, put_varint},
};

/// The field that holds the children of a request, of a ResourceLogs and of a ScopeLogs; the last are the records.
const CHILDREN: [u32; 3] = [1, 2, 2];

/// Number of records in a request, without a look into them.
///
/// # Errors
/// [`Malformed`]: the bytes cannot be framed.
pub fn record_count(request: &[u8]) -> Result<usize, Malformed> {
    count(Cursor::new(request), 0)
}

/// The two halves; `None` when there are not two records, or the bytes cannot be framed.
pub fn halve(request: &[u8]) -> Option<[Vec<u8>; 2]> {
    let records = record_count(request).ok().filter(|records| *records >= 2)?;
    let middle = records / 2;
    // What stands behind the last record goes with it.
    Some([part(request, 0..middle)?, part(request, middle..usize::MAX)?])
}

fn part(request: &[u8], kept: Range<usize>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(request.len() / 2);
    write(request, Cursor::new(request), 0, 0, &kept, &mut out).ok()?;
    Some(out)
}

/// The child message in a field, if it is one.
fn child<'a>(field: &Field<'a>, level: usize) -> Option<Cursor<'a>> {
    match field.payload {
        Payload::Delimited(inner) if CHILDREN.get(level) == Some(&field.number) => Some(inner),
        _ => None,
    }
}

/// Records below a message of this level: 0 is the request, 3 is a record.
fn count(mut message: Cursor<'_>, level: usize) -> Result<usize, Malformed> {
    if level == CHILDREN.len() {
        return Ok(1);
    }
    let mut records = 0;
    while let Some(field) = message.next()? {
        if let Some(inner) = child(&field, level) {
            records += count(inner, level + 1)?;
        }
    }
    Ok(records)
}

/// Writes a message without the records that are not `kept`; `position` is the number of its first record.
fn write(
    request: &[u8],
    mut message: Cursor<'_>,
    level: usize,
    mut position: usize,
    kept: &Range<usize>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    while let Some(field) = message.next()? {
        let whole = request.get(field.start..message.at()).unwrap_or_default();
        let Some(inner) = child(&field, level) else {
            out.extend_from_slice(whole);
            continue;
        };
        let first = position;
        position += count(inner, level + 1)?;
        let ours = first.max(kept.start)..position.min(kept.end);
        if ours == (first..position) && kept.contains(&first) {
            out.extend_from_slice(whole);
        } else if !ours.is_empty() {
            let mut content = Vec::with_capacity(whole.len());
            write(request, inner, level + 1, first, kept, &mut content)?;
            out.extend_from_slice(request.get(field.start..field.len_at).unwrap_or_default());
            put_varint(content.len(), out);
            out.extend_from_slice(&content);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::{
        super::{
            View,
            build::{delimited, text, varint},
        },
        *,
    };
    use proptest::prelude::*;

    /// The records of a request as bytes, each with what its scope and its resource say beside records.
    fn told(request: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        let children = |bytes: &[u8], level: usize| {
            let (mut children, mut beside) = (Vec::new(), Vec::new());
            let mut cursor = Cursor::new(bytes);
            while let Some(field) = cursor.next().unwrap() {
                match child(&field, level) {
                    Some(inner) => children.push(inner.rest().to_vec()),
                    None => beside.extend_from_slice(&bytes[field.start..cursor.at()]),
                }
            }
            (children, beside)
        };
        let mut told = Vec::new();
        for resource in children(request, 0).0 {
            let (scopes, of_resource) = children(&resource, 1);
            for scope in scopes {
                let (records, of_scope) = children(&scope, 2);
                told.extend(
                    records
                        .into_iter()
                        .map(|record| (record, of_scope.clone(), of_resource.clone())),
                );
            }
        }
        told
    }

    /// Anything with records in it: groups of any size, unknown fields anywhere, lengths longer than they need to be.
    fn request() -> impl Strategy<Value = Vec<u8>> {
        let record = "[a-z]{0,9}".prop_map(|body| delimited(2, delimited(5, text(&body))));
        let odd = prop_oneof![
            Just(Vec::new()),
            Just(delimited(3, "https://schema")),
            Just(delimited(1000, "unknown")),
            Just(varint(99, 300)),
            Just(delimited(1, delimited(9, "n"))),
        ];
        let scope = (proptest::collection::vec(record, 0..5), odd.clone(), odd.clone())
            .prop_map(|(records, before, after)| delimited(2, [before, records.concat(), after].concat()));
        let resource = (proptest::collection::vec(scope, 0..4), odd.clone(), odd)
            .prop_map(|(scopes, before, after)| delimited(1, [before, scopes.concat(), after].concat()));
        let unknown = prop_oneof![Just(Vec::new()), Just(delimited(77, "of the request"))];
        (proptest::collection::vec(resource, 0..4), unknown)
            .prop_map(|(resources, unknown)| [unknown, resources.concat()].concat())
    }

    proptest! {
        #[test]
        fn known_loss_the_records_of_both_halves_are_those_of_the_whole_in_order(request in request()) {
            let records = record_count(&request).unwrap();
            prop_assert_eq!(records, View::parse(&request).unwrap().len());
            let Some([first, second]) = halve(&request) else {
                prop_assert!(records < 2);
                return Ok(());
            };
            prop_assert_eq!(record_count(&first).unwrap(), records / 2);
            prop_assert_eq!([told(&first), told(&second)].concat(), told(&request));
            prop_assert!(View::parse(&first).is_ok() && View::parse(&second).is_ok());
        }

        /// Parts one after the other are a request again, as protobuf merges: what is left of a request can be kept as one.
        #[test]
        fn parts_behind_each_other_are_one_request(request in request()) {
            let Some(halves) = halve(&request) else { return Ok(()) };
            prop_assert_eq!(told(&halves.concat()), told(&request));
        }

        #[test]
        fn any_bytes_are_halved_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = halve(&bytes);
        }
    }

    #[test]
    fn what_has_no_two_records_has_no_halves() {
        let one = delimited(1, delimited(2, delimited(2, delimited(5, text("alone")))));
        assert_eq!(halve(&one), None);
        assert_eq!(halve(&[]), None);
        assert_eq!(halve(b"\x0a\xff"), None);
    }
}
