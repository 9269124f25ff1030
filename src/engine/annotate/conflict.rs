//! Attributes that come in under one of our names.
//!
//! Enters: a record's bytes. Leaves: what to change in them, as edits in wire order, and which of ours not to write.
//!
//! Promises: a record without such an attribute is told from the marks of its keys alone, all but always. What is in a
//! renamed KeyValue beside its key stays, unknown fields too. A name is never doubled by us.
//! Deliberately absent: the values. A key is a key whatever it holds.

use super::settings::{OnConflict, Settings};
use super::{AttributeValue, COUNT, ORIGINAL};
use crate::engine::view::{ATTRIBUTES, Cursor, Envelope, KeyMarks, Payload, last_key, put_varint, varint_len};

/// Our names, made ready to be looked for.
pub(super) struct Names<'s> {
    names: [&'s str; COUNT],
    marks: [KeyMarks; COUNT],
    on_conflict: OnConflict,
}

/// A change to an inbound attribute: the bytes `start..end` of the request become `patch`.
#[derive(Copy, Clone, Debug)]
pub(super) struct Edit {
    pub start: u32,
    pub end: u32,
    pub patch: Patch,
}

/// What stands in an edited place.
#[derive(Copy, Clone, Debug)]
pub(super) enum Patch {
    /// Nothing: the attribute is removed.
    Nothing,
    /// A length prefix.
    Len(usize),
    /// `<name>.original` with its length; the name's index.
    OriginalKey(usize),
}

/// What was found in one record.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Found {
    pub conflicts: u64,
    /// By how many bytes the edits make the record longer.
    pub growth: isize,
}

impl<'s> Names<'s> {
    pub fn new(settings: &'s Settings) -> Self {
        let names = settings.names();
        let marks = names.map(|name| KeyMarks::of(name.as_bytes()));
        Names {
            names,
            marks,
            on_conflict: settings.on_conflict,
        }
    }

    /// False when a record with these marks has no attribute of our names.
    pub fn may_occur(&self, key_marks: KeyMarks) -> bool {
        self.marks.iter().any(|name| key_marks.may_contain(*name))
    }

    /// Finds the attributes with our names in a record, and settles them: appends to `edits`, and takes out of `values`
    /// what is not to be written.
    pub fn resolve(
        &self,
        request: &[u8],
        record: Envelope,
        values: &mut [Option<AttributeValue<'_>>; COUNT],
        edits: &mut Vec<Edit>,
    ) -> Found {
        let mut found = Found::default();
        // For each name whether `<name>.original` is there, once that was looked up.
        let mut original = [None; COUNT];
        let mut cursor = record.cursor(request);
        while let Ok(Some(field)) = cursor.next() {
            let (ATTRIBUTES, Payload::Delimited(attribute)) = (field.number, field.payload) else {
                continue;
            };
            let key = last_key(attribute.rest());
            let Some(index) = self.names.iter().position(|name| name.as_bytes() == key) else {
                continue;
            };
            found.conflicts += 1;
            let (Some(value), Some(original)) = (values.get_mut(index), original.get_mut(index)) else {
                continue;
            };
            match self.on_conflict {
                OnConflict::Keep => *value = None,
                OnConflict::Rename if !*original.get_or_insert_with(|| has_original(request, record, key)) => {
                    *original = Some(true);
                    found.growth += rename(index, key.len() + ORIGINAL.len(), field.len_at, attribute, edits);
                }
                OnConflict::Replace | OnConflict::Rename => {
                    let (start, end) = (field.start as u32, attribute.end() as u32);
                    edits.push(Edit {
                        start,
                        end,
                        patch: Patch::Nothing,
                    });
                    found.growth -= (end - start) as isize;
                }
            }
        }
        found
    }

    pub fn put_patch(&self, patch: Patch, out: &mut Vec<u8>) {
        match patch {
            Patch::Nothing => {}
            Patch::Len(len) => put_varint(len, out),
            Patch::OriginalKey(index) => {
                let name = self.names.get(index).copied().unwrap_or_default();
                put_varint(name.len() + ORIGINAL.len(), out);
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(ORIGINAL.as_bytes());
            }
        }
    }
}

/// True when the record has `<name>.original` already.
fn has_original(request: &[u8], record: Envelope, name: &[u8]) -> bool {
    let mut cursor = record.cursor(request);
    while let Ok(Some(field)) = cursor.next() {
        if let (ATTRIBUTES, Payload::Delimited(attribute)) = (field.number, field.payload)
            && last_key(attribute.rest()).strip_suffix(ORIGINAL.as_bytes()) == Some(name)
        {
            return true;
        }
    }
    false
}

/// Edits an attribute's length and its last key, the one that counts; returns by how many bytes the record grows.
fn rename(index: usize, key_len: usize, len_at: usize, attribute: Cursor<'_>, edits: &mut Vec<Edit>) -> isize {
    let (start, end) = (attribute.at(), attribute.end());
    let (mut key_at, mut key_end) = (start, start);
    let mut cursor = attribute;
    while let Ok(Some(field)) = cursor.next() {
        if let (1, Payload::Delimited(key)) = (field.number, field.payload) {
            (key_at, key_end) = (field.len_at, key.end());
        }
    }
    let growth = (varint_len(key_len) + key_len) as isize - (key_end - key_at) as isize;
    let len = (end - start).saturating_add_signed(growth);
    edits.push(Edit {
        start: len_at as u32,
        end: start as u32,
        patch: Patch::Len(len),
    });
    edits.push(Edit {
        start: key_at as u32,
        end: key_end as u32,
        patch: Patch::OriginalKey(index),
    });
    growth + varint_len(len) as isize - (start - len_at) as isize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::{Annotation, annotate};
    use super::*;
    use crate::engine::view::View;
    use crate::engine::view::build::{attribute, delimited, request, text, varint};

    /// What becomes of a record's fields when `incident_id` is written, and the number of conflicts.
    fn settle(on_conflict: OnConflict, record: &[Vec<u8>]) -> (Vec<u8>, u64) {
        let settings = Settings {
            on_conflict,
            ..Settings::default()
        };
        let bytes = request(&[&record.concat()]);
        let annotation = Annotation {
            incident_id: Some("ours".into()),
            ..Annotation::default()
        };
        let annotated = annotate(&View::parse(&bytes).unwrap(), &[annotation], &settings).unwrap();
        let view = View::parse(&annotated.bytes).unwrap();
        (view.record(0).unwrap().bytes.to_vec(), annotated.conflicts)
    }

    fn body() -> Vec<u8> {
        delimited(5, text("body"))
    }

    /// The inbound attribute goes, wherever it stands and how often, also under a name that is not written this time.
    #[test]
    fn item_11_replace() {
        let record = [
            attribute("incident_id", "a"),
            body(),
            attribute("incident_id", "b"),
            attribute("is_anomaly", "c"),
        ];
        let expected = [body(), attribute("incident_id", "ours")].concat();
        assert_eq!(settle(OnConflict::Replace, &record), (expected, 3));
    }

    /// The inbound attribute stays, and ours is not written.
    #[test]
    fn item_11_keep() {
        let record = [attribute("incident_id", "theirs"), body()];
        assert_eq!(settle(OnConflict::Keep, &record), (record.concat(), 1));
        let other = [attribute("is_anomaly", "theirs"), body()];
        let expected = [other.concat(), attribute("incident_id", "ours")].concat();
        assert_eq!(settle(OnConflict::Keep, &other), (expected, 1));
    }

    /// The inbound attribute stays in its place under another name.
    #[test]
    fn item_11_rename() {
        let record = [attribute("incident_id", "theirs"), body()];
        let expected = [
            attribute("incident_id.original", "theirs"),
            body(),
            attribute("incident_id", "ours"),
        ];
        assert_eq!(settle(OnConflict::Rename, &record), (expected.concat(), 1));
    }

    /// Nothing is ever renamed to a name that the record has: the oldest original stays, others go.
    #[test]
    fn rename_once() {
        let original = attribute("incident_id.original", "oldest");
        let inbound = |value| attribute("incident_id", value);
        let expected = [original.clone(), inbound("ours")].concat();
        for record in [
            [inbound("a"), original, inbound("b")],
            [inbound("oldest"), inbound("a"), inbound("b")],
        ] {
            assert_eq!(settle(OnConflict::Rename, &record).0, expected);
        }
    }

    /// Of a renamed attribute only the key that counts and the length change: unknown fields, earlier keys and superfluous
    /// bytes stay, also when the length needs another byte.
    #[test]
    fn rename_keeps_the_rest() {
        for filler in 0..200 {
            let around = |key: &str| {
                let before = [
                    varint(99, 7),
                    delimited(1, "earlier key"),
                    delimited(2, text(&"x".repeat(filler))),
                ];
                let after = [delimited(2, vec![]), vec![0x9b, 0x06, 0x9c, 0x06]];
                delimited(6, [before.concat(), delimited(1, key), after.concat()].concat())
            };
            let expected = [around("incident_id.original"), attribute("incident_id", "ours")].concat();
            assert_eq!(settle(OnConflict::Rename, &[around("incident_id")]), (expected, 1));
        }
    }

    /// Many inbound attributes of one name cost no more than one walk each: a hostile record does not take quadratic time.
    #[test]
    fn many_conflicts_are_settled_in_linear_time() {
        let mut record = vec![attribute("incident_id", "x"); 100_000];
        record.push(attribute("incident_id.original", "oldest"));
        let expected = [
            attribute("incident_id.original", "oldest"),
            attribute("incident_id", "ours"),
        ]
        .concat();
        assert_eq!(settle(OnConflict::Rename, &record), (expected, 100_000));
    }
}
