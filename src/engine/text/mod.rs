//! Room 2: the canonical text of a record and its template, the key under which everything learned about it is kept.
//!
//! Enters: a [`Record`] of room 1. Leaves: [`Text`]: what the record says as one bounded text, that text masked
//! (numbers, addresses, ids and times replaced by placeholders), and the template's key.
//!
//! Promises: a function of the record and the [`Settings`] alone, total on whatever senders send (any UTF-8 or none, any
//! nesting), bounded, no allocation once its buffers have grown. Severity, service and time are not part of the text.
//! Absent on purpose: anything learned from the stream.

mod canonical;
mod escapes;
mod mask;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::view::Record;
pub use mask::{MAX_TEMPLATE_BYTES, mask};

/// What of a record is its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Replace what varies (numbers, ids, addresses, times) by placeholders. Off: the template is the text as it stands.
    pub masking: bool,
    /// Fields of a map body, or of a string body that is a JSON object, that hold the message: the first one that is
    /// there and not empty. Case is ignored. Without any of them the text is the whole body as JSON with sorted keys.
    pub body_fields: Vec<String>,
    /// Longest text in bytes; what is longer is cut at a character.
    pub max_text_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let fields = ["message", "msg", "body", "log", "MESSAGE", "event"];
        Settings {
            masking: true,
            body_fields: fields.map(String::from).to_vec(),
            max_text_bytes: 2048,
        }
    }
}

impl Settings {
    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// A sentence that names the key, what is wrong, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if !(64..=65_536).contains(&self.max_text_bytes) {
            let given = self.max_text_bytes;
            return Err(format!(
                "max_text_bytes is {given}; write a number of bytes from 64 to 65536 (2048 is usual)"
            ));
        }
        if self.body_fields.iter().any(String::is_empty) {
            return Err("body_fields holds an empty name; remove it".to_owned());
        }
        Ok(())
    }
}

/// Identifies a template: the xxh3-64 hash of its text. Stable across runs and machines.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateKey(pub u64);

impl TemplateKey {
    /// The key of this template text.
    pub fn of(template: &str) -> Self {
        TemplateKey(xxh3_64(template.as_bytes()))
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
pub struct Reader {
    settings: Settings,
    canonical: String,
    template: String,
}

impl Reader {
    /// A reader with empty buffers.
    pub fn new(settings: &Settings) -> Self {
        Reader {
            settings: settings.clone(),
            canonical: String::new(),
            template: String::new(),
        }
    }

    /// The text of this record, until the next one is read.
    pub fn read(&mut self, record: &Record<'_>) -> Text<'_> {
        let odd = canonical::write(record, &self.settings, &mut self.canonical);
        let template = if self.settings.masking {
            mask(&self.canonical, &mut self.template);
            &self.template
        } else {
            &self.canonical
        };
        Text {
            canonical: &self.canonical,
            template,
            key: TemplateKey::of(template),
            odd,
        }
    }
}
