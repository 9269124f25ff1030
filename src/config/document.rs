//! A configuration as it was written: a tree of sections, lists and scalars, each with its place.
//!
//! What enters: the parsed text of files and `--set` flags. What leaves: one merged tree. Promises: every node keeps the
//! place it was written at through merging and expansion; a scalar keeps its text, so that `0123` given where a string is
//! wanted stays `0123`. Absent on purpose: what keys mean.

use super::finding::Place;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What was written.
    pub content: Content,
    /// Where.
    pub place: Place,
    /// Set on a value that came from a `${…}`.
    pub expanded: Option<Expanded>,
}

/// The shapes of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text; when not quoted it may stand for a number, a boolean or nothing.
    Scalar {
        /// The text without quotes.
        text: String,
        /// Whether it was in quotes, so that it is a string whatever it looks like.
        quoted: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A section, in the order it was written, without duplicate keys.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// What it is set to.
    pub value: Node,
}

/// Where an expanded value came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Expanded {
    /// The reference, as `${env:PORT}`.
    pub reference: String,
    /// The text it stood for, used where a string is wanted.
    pub text: String,
}

/// What a scalar stands for, by YAML's core schema (with `_` in integers and `0b`, as the Collector reads them).
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// Nothing: the default applies.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that is not negative.
    Unsigned(u64),
    /// A negative whole number.
    Signed(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    String,
}

impl Meaning {
    /// What the unquoted text `text` stands for.
    pub fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            ".nan" | ".NaN" | ".NAN" => return Self::Float(f64::NAN),
            _ => {}
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if matches!(digits, ".inf" | ".Inf" | ".INF") {
            return Self::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        integer(negative, digits)
            .or_else(|| float(text, digits))
            .unwrap_or(Self::String)
    }
}

fn integer(negative: bool, digits: &str) -> Option<Meaning> {
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        _ => (10, digits),
    };
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(&digits.replace('_', ""), radix).ok()?;
    if !negative || magnitude == 0 {
        return Some(Meaning::Unsigned(magnitude));
    }
    0_i64.checked_sub_unsigned(magnitude).map(Meaning::Signed)
}

fn float(text: &str, digits: &str) -> Option<Meaning> {
    // Rust also reads `inf`, `nan` and `infinity`, which are text in YAML.
    let numeric = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && digits
            .chars()
            .all(|part| part.is_ascii_digit() || matches!(part, '.' | 'e' | 'E' | '+' | '-'));
    numeric.then(|| text.parse().ok().map(Meaning::Float))?
}

impl Node {
    /// An empty section.
    pub fn empty(place: Place) -> Self {
        Self {
            content: Content::Mapping(Vec::new()),
            place,
            expanded: None,
        }
    }

    /// What the node stands for when it is a scalar.
    pub fn meaning(&self) -> Option<Meaning> {
        match &self.content {
            Content::Scalar { quoted: true, .. } => Some(Meaning::String),
            Content::Scalar { text, .. } => Some(Meaning::of(text)),
            Content::Sequence(_) | Content::Mapping(_) => None,
        }
    }

    /// Whether nothing was written, as in `harbinger:`.
    pub fn is_null(&self) -> bool {
        self.meaning() == Some(Meaning::Null)
    }

    /// The entries of a section; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The entry `key` of a section.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Lays `over` over this node: sections are merged key by key, anything else is replaced.
    pub fn merge(&mut self, over: Node) {
        match (&mut self.content, over.content) {
            (Content::Mapping(base), Content::Mapping(entries)) => {
                for entry in entries {
                    match base.iter_mut().find(|candidate| candidate.key == entry.key) {
                        Some(known) => known.value.merge(entry.value),
                        None => base.push(entry),
                    }
                }
            }
            (content, replacement) => {
                *content = replacement;
                self.place = over.place;
                self.expanded = over.expanded;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_means_what_yaml_and_the_collector_say() {
        for (text, meaning) in [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("true", Meaning::Bool(true)),
            ("off", Meaning::String),
            ("yes", Meaning::String),
            ("4317", Meaning::Unsigned(4317)),
            ("10_000", Meaning::Unsigned(10_000)),
            ("0x10", Meaning::Unsigned(16)),
            ("0o17", Meaning::Unsigned(15)),
            ("-3", Meaning::Signed(-3)),
            ("-9223372036854775808", Meaning::Signed(i64::MIN)),
            ("18446744073709551616", Meaning::Float(18_446_744_073_709_551_616.0)),
            ("99.9", Meaning::Float(99.9)),
            ("1e3", Meaning::Float(1000.0)),
            (".5", Meaning::Float(0.5)),
            (".", Meaning::String),
            ("-", Meaning::String),
            ("nan", Meaning::String),
            ("inf", Meaning::String),
            ("_1", Meaning::String),
            ("0x", Meaning::String),
            ("5m", Meaning::String),
            ("1.2.3", Meaning::String),
            ("localhost:4317", Meaning::String),
        ] {
            assert_eq!(Meaning::of(text), meaning, "{text:?}");
        }
    }
}
