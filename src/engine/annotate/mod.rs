//! Room 6 of the engine: writes our attributes into the bytes of a request.
//!
//! Enters: a [`View`] and one [`Annotation`] a record. Leaves: the bytes to send on, in one buffer of exactly known size.
//!
//! Promises: our attributes stand behind a record's own fields, encoded as `prost` would; the lengths of the messages
//! around them are written anew, as short as possible; every other byte is copied, in order, known or unknown. A record
//! that gets no attribute keeps its bytes. Attributes that come in under our names are treated by [`OnConflict`].
//! Deliberately absent: decoding, and any opinion on what to write.

mod conflict;
mod encode;
mod resource;
mod settings;

pub use resource::with_resource_attributes;
pub use settings::{OnConflict, Settings};

use std::sync::Arc;

use super::view::{Envelope, RecordRange, View, put_varint, varint_len};
use conflict::{Edit, Names};
use encode::Encoder;

/// Longest string written, bytes; longer ones are cut between two characters.
pub const MAX_VALUE_BYTES: usize = 256;

/// Number of attributes we know to write.
const COUNT: usize = 8;

/// What [`OnConflict::Rename`] adds to the name of an inbound attribute.
const ORIGINAL: &str = ".original";

/// What is said about one record; what is `None` is not written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotation {
    /// The record is anomalous, or not.
    pub is_anomaly: Option<bool>,
    /// The incident that the record belongs to.
    pub incident_id: Option<Arc<str>>,
    /// Why there is no full verdict.
    pub verdict: Option<&'static str>,
    /// How unusual the record is, 0 to 1.
    pub score: Option<f64>,
    /// Share of the stream's records that are as unusual, 0 to 1.
    pub p_value: Option<f64>,
    /// What made it stand out.
    pub reason: Option<Arc<str>>,
    /// The record's template.
    pub template: Option<Arc<str>>,
    /// The model that judged.
    pub model_version: Option<Arc<str>>,
}

/// The value of one attribute of ours.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum AttributeValue<'a> {
    /// Written as `bool_value`.
    Bool(bool),
    /// Written as `string_value`, at most [`MAX_VALUE_BYTES`] long.
    String(&'a str),
    /// Written as `double_value`.
    Double(f64),
}

impl Annotation {
    /// The attributes in the order they are written in (that of the fields, and of [`Settings`]); strings are cut.
    #[inline]
    pub fn values(&self) -> [Option<AttributeValue<'_>>; COUNT] {
        [
            self.is_anomaly.map(AttributeValue::Bool),
            self.incident_id.as_deref().map(AttributeValue::text),
            self.verdict.map(AttributeValue::text),
            self.score.map(AttributeValue::Double),
            self.p_value.map(AttributeValue::Double),
            self.reason.as_deref().map(AttributeValue::text),
            self.template.as_deref().map(AttributeValue::text),
            self.model_version.as_deref().map(AttributeValue::text),
        ]
    }
}

impl<'a> AttributeValue<'a> {
    #[inline]
    fn text(text: &'a str) -> Self {
        AttributeValue::String(text.get(..text.floor_char_boundary(MAX_VALUE_BYTES)).unwrap_or(text))
    }
}

/// What leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotated {
    /// The request to send on.
    pub bytes: Vec<u8>,
    /// Inbound attributes that had one of our names.
    pub conflicts: u64,
}

/// There is not one annotation a record: a mistake of the caller, the request itself is fine.
#[derive(Copy, Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{annotations} annotations for {records} records; give one for each, in wire order")]
pub struct WrongCount {
    /// Records in the view.
    pub records: usize,
    /// Annotations given.
    pub annotations: usize,
}

/// Writes the annotations into the request; `annotations` are in the order of [`View::records`].
///
/// # Errors
/// [`WrongCount`], when there is not one annotation a record.
pub fn annotate(view: &View<'_>, annotations: &[Annotation], settings: &Settings) -> Result<Annotated, WrongCount> {
    if annotations.len() != view.len() {
        return Err(WrongCount {
            records: view.len(),
            annotations: annotations.len(),
        });
    }
    let plan = Plan::new(view, annotations, settings);
    Ok(Annotated {
        bytes: plan.write(view),
        conflicts: plan.conflicts,
    })
}

/// Everything that will differ, known before the first byte is written.
struct Plan<'s> {
    names: Names<'s>,
    encoder: Encoder,
    /// One for each of the view's ranges.
    resources: Vec<Resized>,
    scopes: Vec<Resized>,
    records: Vec<Resized>,
    /// Where each record's part of `tails` and of `edits` ends.
    record_ends: Vec<(usize, usize)>,
    /// Our attributes, encoded, one record's after the other's.
    tails: Vec<u8>,
    /// Changes to inbound attributes, in wire order.
    edits: Vec<Edit>,
    conflicts: u64,
}

/// A message's new length.
#[derive(Copy, Clone)]
struct Resized {
    len: usize,
    /// By how many bytes it grows (or shrinks), its length prefix included.
    growth: isize,
}

impl Resized {
    fn new(envelope: Envelope, growth: isize) -> Self {
        let old_len = envelope.end - envelope.start;
        let len = (old_len as usize).saturating_add_signed(growth);
        let old_prefix = envelope.start - envelope.len_at;
        Resized {
            len,
            growth: growth + varint_len(len) as isize - old_prefix as isize,
        }
    }
}

impl<'s> Plan<'s> {
    fn new(view: &View<'_>, annotations: &[Annotation], settings: &'s Settings) -> Self {
        let (resources, scopes, records) = view.ranges();
        let mut plan = Plan {
            names: Names::new(settings),
            encoder: Encoder::new(settings.names()),
            resources: Vec::with_capacity(resources.len()),
            scopes: Vec::with_capacity(scopes.len()),
            records: Vec::with_capacity(records.len()),
            record_ends: Vec::with_capacity(records.len()),
            tails: Vec::with_capacity(records.len() * 32),
            edits: Vec::new(),
            conflicts: 0,
        };
        for (record, annotation) in records.iter().zip(annotations) {
            let growth = plan.plan_record(view, record, annotation);
            plan.records.push(Resized::new(record.envelope, growth));
            plan.record_ends.push((plan.tails.len(), plan.edits.len()));
        }
        let sum = |children: &[Resized], range: std::ops::Range<usize>| -> isize {
            children
                .get(range)
                .unwrap_or_default()
                .iter()
                .map(|child| child.growth)
                .sum()
        };
        for scope in scopes {
            plan.scopes
                .push(Resized::new(scope.envelope, sum(&plan.records, scope.children())));
        }
        for resource in resources {
            plan.resources
                .push(Resized::new(resource.envelope, sum(&plan.scopes, resource.children())));
        }
        plan
    }

    /// Encodes the record's attributes, notes its edits, and returns by how many bytes it grows.
    fn plan_record(&mut self, view: &View<'_>, record: &RecordRange, annotation: &Annotation) -> isize {
        let mut values = annotation.values();
        if values.iter().all(Option::is_none) {
            return 0;
        }
        let mut growth = 0;
        if self.names.may_occur(record.key_marks) {
            let found = self
                .names
                .resolve(view.bytes(), record.envelope, &mut values, &mut self.edits);
            self.conflicts += found.conflicts;
            growth += found.growth;
        }
        let tail_start = self.tails.len();
        self.encoder.put_attributes(&values, &mut self.tails);
        growth + (self.tails.len() - tail_start) as isize
    }

    fn write(&self, view: &View<'_>) -> Vec<u8> {
        if self.tails.is_empty() && self.edits.is_empty() {
            return view.bytes().to_vec();
        }
        let growth: isize = self.resources.iter().map(|resource| resource.growth).sum();
        let total = view.bytes().len().saturating_add_signed(growth);
        let mut splice = Splice {
            input: view.bytes(),
            at: 0,
            out: Vec::with_capacity(total),
        };
        let (resources, scopes, records) = view.ranges();
        let mut scopes = scopes.iter().zip(&self.scopes);
        let mut records = records.iter().zip(&self.records).zip(&self.record_ends);
        let (mut tail, mut edit) = (0, 0);
        for (resource, resized) in resources.iter().zip(&self.resources) {
            splice.put_len(resource.envelope, resized);
            for (scope, resized) in scopes.by_ref().take(resource.children().len()) {
                splice.put_len(scope.envelope, resized);
                for ((record, resized), &(tail_end, edits_end)) in records.by_ref().take(scope.children().len()) {
                    splice.put_len(record.envelope, resized);
                    for edit in self.edits.get(edit..edits_end).unwrap_or_default() {
                        splice.put_edit(edit, &self.names);
                    }
                    splice.copy_to(record.envelope.end);
                    splice
                        .out
                        .extend_from_slice(self.tails.get(tail..tail_end).unwrap_or_default());
                    (tail, edit) = (tail_end, edits_end);
                }
            }
        }
        splice.copy_to(view.bytes().len() as u32);
        debug_assert_eq!(splice.out.len(), total, "the plan knows the length");
        splice.out
    }
}

/// Copies the request from front to back, with changes on the way.
struct Splice<'a> {
    input: &'a [u8],
    /// What comes before was copied or replaced.
    at: u32,
    out: Vec<u8>,
}

impl Splice<'_> {
    fn copy_to(&mut self, end: u32) {
        self.out
            .extend_from_slice(self.input.get(self.at as usize..end as usize).unwrap_or_default());
        self.at = end;
    }

    fn put_len(&mut self, envelope: Envelope, resized: &Resized) {
        self.copy_to(envelope.len_at);
        put_varint(resized.len, &mut self.out);
        self.at = envelope.start;
    }

    fn put_edit(&mut self, edit: &Edit, names: &Names<'_>) {
        self.copy_to(edit.start);
        names.put_patch(edit.patch, &mut self.out);
        self.at = edit.end;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::engine::view::build::{attribute, delimited, request, text, varint};

    fn spliced(records: &[&[u8]], annotations: &[Annotation], settings: &Settings) -> Annotated {
        annotate(&View::parse(&request(records)).unwrap(), annotations, settings).unwrap()
    }

    fn verdict(is_anomaly: bool) -> Annotation {
        Annotation {
            is_anomaly: Some(is_anomaly),
            ..Annotation::default()
        }
    }

    fn is_anomaly(value: usize) -> Vec<u8> {
        delimited(6, [delimited(1, "is_anomaly"), delimited(2, varint(2, value))].concat())
    }

    /// Each record gets its own annotation, behind its own fields; a record nothing is said about gets none.
    #[test]
    fn appends_to_each_record() {
        let (a, b, c) = (
            delimited(5, text("a")),
            delimited(99, "unknown"),
            attribute("is_anomaly", "theirs"),
        );
        let annotations = [verdict(true), verdict(false), Annotation::default()];
        let annotated = spliced(&[&a, &b, &c], &annotations, &Settings::default());
        let expected = request(&[&[a, is_anomaly(1)].concat(), &[b, is_anomaly(0)].concat(), &c]);
        assert_eq!(
            annotated,
            Annotated {
                bytes: expected,
                conflicts: 0
            }
        );
    }

    /// Attributes are written in the order of the names in the settings, under the names given there.
    #[test]
    fn writes_all_attributes() {
        let annotation = Annotation {
            is_anomaly: Some(true),
            incident_id: Some("20241118-100000-k7f3qa".into()),
            verdict: Some("degraded"),
            score: Some(0.5),
            p_value: Some(0.5),
            reason: Some("new".into()),
            template: Some("User <*> failed".into()),
            model_version: Some("minilm".into()),
        };
        let settings = Settings {
            incident_id: "case".into(),
            ..Settings::default()
        };
        let half = |name| {
            let value = [&[0x21][..], &0.5_f64.to_le_bytes()].concat();
            delimited(6, [delimited(1, name), delimited(2, value)].concat())
        };
        let expected = [
            is_anomaly(1),
            attribute("case", "20241118-100000-k7f3qa"),
            attribute("harbinger.verdict", "degraded"),
            half("harbinger.anomaly.score"),
            half("harbinger.anomaly.p_value"),
            attribute("harbinger.anomaly.reason", "new"),
            attribute("harbinger.template", "User <*> failed"),
            attribute("harbinger.model.version", "minilm"),
        ];
        assert_eq!(
            spliced(&[&[]], &[annotation], &settings).bytes,
            request(&[&expected.concat()])
        );
    }

    /// Lengths around the records grow by a byte where they must: a record on either side of 128 bytes.
    #[test]
    fn lengths_grow() {
        for len in 0..300 {
            let record = delimited(5, text(&"x".repeat(len)));
            let expected = request(&[&[record.clone(), is_anomaly(1)].concat()]);
            assert_eq!(
                spliced(&[&record], &[verdict(true)], &Settings::default()).bytes,
                expected
            );
        }
    }

    /// Strings are cut at 256 bytes, never inside a character.
    #[test]
    fn long_strings_are_cut() {
        for (text, bytes) in [("x", 256), ("é", 256), ("€", 255), ("🦀", 256)] {
            let annotation = Annotation {
                reason: Some(text.repeat(300).into()),
                ..Annotation::default()
            };
            let Some(AttributeValue::String(cut)) = annotation.values()[5] else {
                panic!()
            };
            assert_eq!(cut, text.repeat(bytes / text.len()));
        }
    }

    /// A caller that lost count is told so, and nothing is sent.
    #[test]
    fn counts_must_match() {
        let bytes = request(&[&[], &[]]);
        let error = annotate(&View::parse(&bytes).unwrap(), &[verdict(true)], &Settings::default()).unwrap_err();
        assert_eq!(
            error,
            WrongCount {
                records: 2,
                annotations: 1
            }
        );
    }
}
