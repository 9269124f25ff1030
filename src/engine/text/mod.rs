//! Room 2: the canonical text of a record and its template, the key under which everything learned about it is kept.
//!
//! Enters: a [`Record`] of room 1. Leaves: [`Text`]: what the record says as one bounded text, that text masked
//! (numbers, addresses, ids, times and secrets replaced by placeholders, the user's own rules first), and the template's
//! key; and whether the user wants the record judged at all ([`Matching`]).
//!
//! Promises: a function of the record and the [`Settings`] alone, total on whatever senders send (any UTF-8 or none, any
//! nesting), bounded, no allocation once its buffers have grown. Severity, service and time are not part of the text.
//! Absent on purpose: anything learned from the stream.

mod canonical;
mod escapes;
mod fields;
mod ids;
mod logfmt;
mod mask;
mod prefix;
mod rules;
mod settings;
mod shape;
mod trace;

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use xxhash_rust::xxh3::xxh3_64;

use super::view::{Record, Resource, Value};
pub use ids::{ids_of_text, shared_ids};
pub use mask::{MAX_TEMPLATE_BYTES, mask};
pub use rules::{Glob, MaskingRule, Matcher, Pattern, Placeholder};
pub use settings::{ServiceSettings, Settings};
pub use shape::Shapes;

/// Identifies a template: the xxh3-64 hash of its text. Stable across runs and machines.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateKey(pub u64);

impl TemplateKey {
    /// The key of this template text.
    pub fn of(template: &str) -> Self {
        TemplateKey(xxh3_64(template.as_bytes()))
    }
}

impl fmt::Display for TemplateKey {
    /// Sixteen hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text is no key of a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not the key of a template: write its sixteen hexadecimal digits, as 9f86d081884c7d65")]
pub struct NotAKey(String);

impl FromStr for TemplateKey {
    type Err = NotAKey;

    fn from_str(written: &str) -> Result<Self, NotAKey> {
        let is_key = written.len() == 16 && written.bytes().all(|byte| byte.is_ascii_hexdigit());
        let key = is_key.then(|| u64::from_str_radix(written, 16).ok()).flatten();
        key.map(Self).ok_or_else(|| NotAKey(written.chars().take(64).collect()))
    }
}

/// What was odd about a record's text. The record is judged on what could be read; the caller counts.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Bytes that are no UTF-8 were replaced by U+FFFD.
    pub invalid_utf8: bool,
    /// The text was longer than `max_text_bytes`.
    pub truncated: bool,
    /// Values were nested too deep to be part of the text, or could not be read there.
    pub too_deep: bool,
    /// There is no text at all: an empty body, no exception, no event name.
    pub empty: bool,
}

/// The text of one record; borrows the [`Reader`]'s buffers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Text<'r> {
    /// What the record says: bounded, without terminal colours, stack traces shortened.
    pub canonical: &'r str,
    /// The masked text; the canonical text itself when masking is off.
    pub template: &'r str,
    /// The key of `template`.
    pub key: TemplateKey,
    /// What was odd.
    pub odd: Oddities,
}

/// Reads the text of one record after another into its own buffers. One per thread.
#[derive(Clone, Debug)]
pub struct Reader<'s> {
    settings: &'s Settings,
    canonical: String,
    template: String,
    shapes: Option<&'s Shapes>,
    shape: Vec<u8>,
    /// The template of the record read last, where its body's shape was known.
    recalled: Arc<str>,
}

impl<'s> Reader<'s> {
    /// A reader with empty buffers.
    pub fn new(settings: &'s Settings) -> Self {
        Reader {
            settings,
            canonical: String::new(),
            template: String::new(),
            shapes: None,
            shape: Vec::new(),
            recalled: Arc::from(""),
        }
    }

    /// One that looks templates up by the shape of bodies, and adds to what is known of them.
    pub fn with_shapes(settings: &'s Settings, shapes: &'s Shapes) -> Self {
        Self {
            shapes: Some(shapes),
            ..Self::new(settings)
        }
    }

    /// Reads by these settings from now on.
    pub fn follow(&mut self, settings: &'s Settings) {
        self.settings = settings;
    }

    /// The text of this record, until the next one is read.
    pub fn read<'r>(&'r mut self, record: &Record<'r>) -> Text<'r> {
        let body = self.shaped(record);
        if let Some((body, shapes)) = body
            && let Some(known) = shapes.recall(&self.shape)
        {
            self.recalled = known.template;
            return Text {
                canonical: body,
                template: &self.recalled,
                key: known.key,
                odd: Oddities::default(),
            };
        }
        let odd = canonical::write(record, self.settings, &mut self.canonical);
        let ruled = rules::masked(&self.settings.masking_rules, &self.canonical);
        let template: &str = if self.settings.masking {
            mask(&ruled, &mut self.template);
            &self.template
        } else if let Cow::Owned(ruled) = ruled {
            self.template = ruled;
            &self.template
        } else {
            &self.canonical
        };
        let key = TemplateKey::of(template);
        if let Some((body, shapes)) = body
            && *body == self.canonical
            && odd == Oddities::default()
        {
            shapes.remember(&self.shape, key, template);
        }
        Text {
            canonical: &self.canonical,
            template,
            key,
            odd,
        }
    }

    /// The body of a record whose template is a function of the body's shape, unless the body is not all of what the record says;
    /// the shape itself is in `self.shape`.
    fn shaped<'r>(&mut self, record: &Record<'r>) -> Option<(&'r str, &'s Shapes)> {
        let shapes = self.shapes?;
        let settings = self.settings;
        let body = body_alone(record).filter(|body| body.len() <= settings.max_text_bytes)?;
        let ruled = settings.masking && settings.masking_rules.is_empty();
        if !ruled || !shape::write(body, &mut self.shape) {
            return None;
        }
        Some((std::str::from_utf8(body).ok()?, shapes))
    }
}

/// The body of a record whose text is a function of that body alone: a string, without an exception or an event's name beside it.
pub fn body_alone<'a>(record: &Record<'a>) -> Option<&'a [u8]> {
    match record.body {
        Value::String(body) if record.event_name.is_empty() && !canonical::has_exception(record) => Some(body),
        _ => None,
    }
}

/// Which of a list of matchers meet the records of one resource.
#[derive(Clone, Copy, Debug)]
pub struct Matching<'s> {
    matchers: &'s [Matcher],
    /// A matcher meets the resource itself, and so all its records.
    all: bool,
}

impl<'s> Matching<'s> {
    /// What the matchers say of this resource.
    pub fn new(matchers: &'s [Matcher], resource: Option<&Resource<'_>>) -> Self {
        let all = resource.is_some_and(|resource| matchers.iter().any(|matcher| matcher.meets_resource(resource)));
        Matching { matchers, all }
    }

    /// Does it depend on what a record says?
    pub fn reads_text(&self) -> bool {
        !self.all && self.matchers.iter().any(Matcher::reads_text)
    }

    /// Is the record met, whatever it says?
    pub fn meets(&self, record: &Record<'_>) -> bool {
        self.all || self.matchers.iter().any(|matcher| matcher.meets_attribute(record))
    }

    /// Is the record met by what it says?
    pub fn meets_text(&self, record: &Record<'_>, text: &Text<'_>) -> bool {
        let mut matchers = self.matchers.iter();
        matchers.any(|matcher| matcher.meets_text(record, text.canonical))
    }
}
