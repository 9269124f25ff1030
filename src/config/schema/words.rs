//! What is said of keys, and their defaults: the comments and values of `config-examples/reference.yaml`.
//!
//! What enters: that file, and beside it `unwritten.yaml` with what has no place there (sections that are left out by
//! default). What leaves: for a key, its words and its default. Promise: an editor says what the reference says; a test
//! holds the reference to the types. Absent on purpose: types.

use serde_json::{Number, Value};

use super::super::{
    document::{Content, Entry, Meaning, Node},
    finding::Finding,
    yaml,
};

const REFERENCE: &str = include_str!("../../../config-examples/reference.yaml");
const UNWRITTEN: &str = include_str!("unwritten.yaml");
/// What the reference says of a key whose value there is an example.
const NO_DEFAULT: &str = "No default";

/// One commented document.
struct Source {
    lines: Vec<&'static str>,
    root: Node,
}

/// The documents.
pub struct Words {
    reference: Source,
    unwritten: Source,
}

impl Words {
    /// Reads the documents.
    ///
    /// # Errors
    /// They are not YAML, which a test has seen to.
    pub fn read() -> Result<Self, Finding> {
        let source = |name: &str, text: &'static str| -> Result<Source, Finding> {
            let root = yaml::parse(name, text)?.ok_or_else(|| Finding::new(None, "", "empty"))?;
            let lines = text.lines().collect();
            Ok(Source { lines, root })
        };
        Ok(Self {
            reference: source("reference.yaml", REFERENCE)?,
            unwritten: source("unwritten.yaml", UNWRITTEN)?,
        })
    }

    /// The whole of both.
    pub fn root(&self) -> At<'_> {
        let spot = |source| Spot {
            source,
            node: &source.root,
            siblings: &[],
            place: 0,
        };
        At {
            reference: Some(spot(&self.reference)),
            unwritten: Some(spot(&self.unwritten)),
        }
    }
}

/// A place in both documents, as far as they have it.
#[derive(Clone, Copy)]
pub struct At<'w> {
    reference: Option<Spot<'w>>,
    unwritten: Option<Spot<'w>>,
}

#[derive(Clone, Copy)]
struct Spot<'w> {
    source: &'w Source,
    node: &'w Node,
    /// The entries of the section it is in, and which it is.
    siblings: &'w [Entry],
    place: usize,
}

impl<'w> At<'w> {
    /// The key `name` of the section here.
    pub fn key(self, name: &str) -> Self {
        self.each(|spot| spot.key(name))
    }

    /// What is in the list or map here, as far as it says anything: the first.
    pub fn within(self) -> Self {
        self.each(|spot| match &spot.node.content {
            Content::Sequence(nodes) => nodes.first().map(|node| Spot {
                node,
                siblings: &[],
                ..spot
            }),
            Content::Mapping(entries) => entries.first().and_then(|entry| spot.key(&entry.key)),
            Content::Scalar { .. } => None,
        })
    }

    fn each(self, step: impl Fn(Spot<'w>) -> Option<Spot<'w>>) -> Self {
        Self {
            reference: self.reference.and_then(&step),
            unwritten: self.unwritten.and_then(&step),
        }
    }

    /// What is said of the key.
    pub fn description(self) -> Option<String> {
        self.reference
            .and_then(Spot::description)
            .or_else(|| self.unwritten.and_then(Spot::description))
    }

    /// Its value when it is left out; nothing where that is nothing.
    pub fn default(self) -> Option<Value> {
        let spot = self.reference?;
        let is_example = self.description().is_some_and(|words| words.contains(NO_DEFAULT));
        let value = value(spot.node);
        Some(value).filter(|value| !is_example && !value.is_null())
    }
}

impl<'w> Spot<'w> {
    fn key(self, name: &str) -> Option<Self> {
        let siblings = self.node.entries();
        let place = siblings.iter().position(|entry| entry.key == name)?;
        let node = &siblings.get(place)?.value;
        Some(Self {
            source: self.source,
            node,
            siblings,
            place,
        })
    }

    /// The comment above the key, or above those that it shares it with: on the lines right above.
    fn description(self) -> Option<String> {
        let mut place = self.place;
        loop {
            let line = self.line(place)?;
            if let Some(comment) = comment(&self.source.lines, line) {
                return Some(comment);
            }
            let above = place.checked_sub(1)?;
            if self.line(above)? + 1 != line {
                return None;
            }
            place = above;
        }
    }

    /// The line that a key begins, counted from 1; `None` where another begins it.
    fn line(self, place: usize) -> Option<usize> {
        let (line, column) = self.siblings.get(place)?.place.position?;
        let text = self.source.lines.get(line.checked_sub(1)?)?;
        let begins = text.find(|first: char| !matches!(first, ' ' | '-')) == column.checked_sub(1);
        begins.then_some(line)
    }
}

/// The comment that ends right above a line.
fn comment(lines: &[&str], line: usize) -> Option<String> {
    let above = lines.get(..line.checked_sub(1)?)?;
    let is_comment = |line: &&&str| line.trim_start().starts_with('#');
    let count = above.iter().rev().take_while(is_comment).count();
    let mut text = String::new();
    for line in above.get(above.len() - count..)? {
        let words = line.trim_start().trim_start_matches('#');
        let words = words.strip_prefix(' ').unwrap_or(words);
        if !text.is_empty() {
            text.push(if words.starts_with(' ') { '\n' } else { ' ' });
        }
        text.push_str(words.trim());
    }
    Some(text).filter(|text| !text.is_empty())
}

/// A node as JSON.
fn value(node: &Node) -> Value {
    match (&node.content, node.meaning()) {
        (Content::Sequence(nodes), _) => nodes.iter().map(value).collect(),
        (Content::Mapping(entries), _) => {
            let entries = entries.iter().map(|entry| (entry.key.clone(), value(&entry.value)));
            Value::Object(entries.collect())
        }
        (Content::Scalar { text, .. }, meaning) => match meaning {
            None | Some(Meaning::Null) => Value::Null,
            Some(Meaning::Bool(value)) => value.into(),
            Some(Meaning::Unsigned(value)) => value.into(),
            Some(Meaning::Signed(value)) => value.into(),
            Some(Meaning::Float(value)) => Number::from_f64(value).map_or(Value::Null, Value::Number),
            Some(Meaning::String) => text.as_str().into(),
        },
    }
}
