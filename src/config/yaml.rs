//! YAML text to a tree with places.
//!
//! What enters: the text of one file or value. What leaves: a [`Node`], or one finding with line and column. Promises:
//! nesting, size and aliases are bounded; duplicate keys, tabs, further documents and unknown tags are refused with
//! their place; anchors, aliases and `<<` work. Absent on purpose: what scalars mean, see [`super::document::Meaning`].

use std::{collections::BTreeMap, mem, sync::Arc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{
    document::{Content, Entry, Node},
    finding::{Finding, Place},
};

/// Sections and lists inside one another.
const MAX_DEPTH: usize = 64;
/// Values in one source, aliases counted as what they stand for.
const MAX_NODES: usize = 100_000;

/// Reads `text`; `None` when there is nothing in it but space and comments.
///
/// # Errors
/// The first thing in `text` that is not YAML, or not within the bounds.
pub fn parse(source: &str, text: &str) -> Result<Option<Node>, Finding> {
    let mut builder = Builder {
        source: Arc::from(source),
        text,
        ..Builder::default()
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| builder.syntax(&error))?;
        builder.take(event, span)?;
    }
    Ok(builder.root)
}

#[derive(Default)]
struct Builder<'t> {
    source: Arc<str>,
    text: &'t str,
    documents: usize,
    nodes: usize,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
}

/// A section or list whose end has not come.
struct Open {
    anchor: usize,
    place: Place,
    parts: Parts,
}

enum Parts {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        key: Option<(String, Place)>,
        merged: Vec<Entry>,
    },
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Finding> {
        let place = self.place(span.start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a second document begins here; one file is one configuration: remove the `---`, \
                                   or give the rest as a file of its own with another --config";
                    return Err(Finding::new(Some(place), "", message));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = self.quoted(tag.as_deref(), style, &place)?;
                let content = Content::Scalar {
                    text: text.into_owned(),
                    quoted,
                };
                self.count(1, &place)?;
                self.close(
                    anchor,
                    Node {
                        content,
                        place,
                        expanded: None,
                    },
                )?;
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    let message = "an alias may not stand for the section it is in";
                    return Err(Finding::new(Some(place), self.key(), message));
                };
                self.count(size(&node), &place)?;
                self.close(0, node)?;
            }
            Event::SequenceStart(anchor, _) => self.open(anchor, place, Parts::Sequence(Vec::new()))?,
            Event::MappingStart(anchor, _) => {
                let parts = Parts::Mapping {
                    entries: Vec::new(),
                    key: None,
                    merged: Vec::new(),
                };
                self.open(anchor, place, parts)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { anchor, place, parts }) = self.open.pop() {
                    let content = match parts {
                        Parts::Sequence(nodes) => Content::Sequence(nodes),
                        Parts::Mapping {
                            mut entries, merged, ..
                        } => {
                            for entry in merged {
                                if !entries.iter().any(|known| known.key == entry.key) {
                                    entries.push(entry);
                                }
                            }
                            Content::Mapping(entries)
                        }
                    };
                    self.close(
                        anchor,
                        Node {
                            content,
                            place,
                            expanded: None,
                        },
                    )?;
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, anchor: usize, place: Place, parts: Parts) -> Result<(), Finding> {
        self.count(1, &place)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(place));
        }
        if let Some(Open {
            parts: Parts::Mapping { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err(Finding::new(
                Some(place),
                self.key(),
                "a key must be a word, not a section or a list",
            ));
        }
        self.open.push(Open { anchor, place, parts });
        Ok(())
    }

    /// Puts a finished value where it belongs: a key, a value, an item or the whole.
    fn close(&mut self, anchor: usize, mut node: Node) -> Result<(), Finding> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let path = self.key();
        match self.open.last_mut().map(|open| &mut open.parts) {
            None => {
                if !(node.is_null() && self.root.is_none()) {
                    self.root = Some(node);
                }
            }
            Some(Parts::Sequence(nodes)) => nodes.push(node),
            Some(Parts::Mapping { entries, key, merged }) => match key.take() {
                None => {
                    let Content::Scalar { text, .. } = node.content else {
                        return Err(Finding::new(
                            Some(node.place),
                            path,
                            "a key must be a word, not a section or a list",
                        ));
                    };
                    if let Some(first) = entries.iter().find(|entry| entry.key == text) {
                        let line = first.place.position.map_or(0, |(line, _)| line);
                        let message = format!(
                            "this key stands here a second time, first in line {line}; keep one, with the values of both"
                        );
                        return Err(Finding::new(Some(node.place), join(&path, &text), message));
                    }
                    *key = Some((text, node.place));
                }
                Some((text, place)) if text == "<<" => merged.extend(merge_source(node, &place, &path)?),
                Some((key, place)) => {
                    // Sections, lists and nothing are told of at their key; for scalars their own place is exact.
                    if node.is_null() || !matches!(node.content, Content::Scalar { .. }) {
                        node.place = place.clone();
                    }
                    entries.push(Entry {
                        key,
                        place,
                        value: node,
                    });
                }
            },
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, place: &Place) -> Result<(), Finding> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values (aliases count as what they stand for)");
            return Err(Finding::new(Some(place.clone()), "", message));
        }
        Ok(())
    }

    /// Whether a scalar is a string whatever it looks like.
    fn quoted(&self, tag: Option<&Tag>, style: ScalarStyle, place: &Place) -> Result<bool, Finding> {
        match tag {
            None => Ok(style != ScalarStyle::Plain),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(true),
            Some(tag) if tag.is_yaml_core_schema() => Ok(false),
            Some(tag) => {
                let message =
                    format!("unknown tag `{tag}`; remove it, or put the value in quotes if it begins with `!`");
                Err(Finding::new(Some(place.clone()), self.key(), message))
            }
        }
    }

    /// Path of the value that is being read.
    fn key(&self) -> String {
        self.open.iter().fold(String::new(), |path, open| match &open.parts {
            Parts::Sequence(nodes) => format!("{path}[{}]", nodes.len()),
            Parts::Mapping {
                key: Some((key, _)), ..
            } => join(&path, key),
            Parts::Mapping { key: None, .. } => path,
        })
    }

    fn place(&self, marker: Marker) -> Place {
        Place {
            source: Arc::clone(&self.source),
            position: Some((marker.line(), marker.col() + 1)),
        }
    }

    /// Says in the user's terms what the scanner stumbled over.
    fn syntax(&mut self, error: &ScanError) -> Finding {
        let mut place = self.place(*error.marker());
        let path = mem::take(&mut self.open)
            .into_iter()
            .fold(String::new(), |path, open| match open.parts {
                Parts::Mapping {
                    key: Some((key, _)), ..
                } => join(&path, &key),
                _ => path,
            });
        if error.info().contains("recursion limit") {
            return too_deep(place);
        }
        // The scanner tells of some tabs only a line later.
        let line = error.marker().line();
        for (number, text) in self.text.lines().enumerate().skip(line.saturating_sub(2)).take(2) {
            let indentation = text.len() - text.trim_start().len();
            let tab = text.get(..indentation).and_then(|space| space.find('\t'));
            if let Some(column) = tab.filter(|_| number < line) {
                place.position = Some((number + 1, column + 1));
                let message = "a tab in the indentation; YAML takes spaces only: replace the tab by spaces";
                return Finding::new(Some(place), "", message);
            }
        }
        let text = self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let info = error.info();
        let message = if text.contains("${") {
            format!("{info}; put a `${{…}}` inside [ ] or {{ }} in quotes")
        } else if info.contains("mapping values") {
            "`:` is not expected here; check the indentation, and put a value that contains `: ` in quotes".to_owned()
        } else if info.contains("expected key") || info.contains("simple key") {
            "expected a key; check that the keys of a section stand in the same column and end in `:`".to_owned()
        } else if info.contains("expected ','") {
            "a list [ ] or section { } is not closed; check its commas and its end".to_owned()
        } else if info.contains("unknown anchor") {
            "an alias (`*…`) without its anchor (`&…`) above it".to_owned()
        } else {
            info.to_owned()
        };
        Finding::new(Some(place), path, format!("this is not YAML: {message}"))
    }
}

/// What `<<` brings in: the entries of a section, or of a list of sections, the first of which wins.
fn merge_source(node: Node, place: &Place, path: &str) -> Result<Vec<Entry>, Finding> {
    match node.content {
        Content::Mapping(entries) => Ok(entries),
        Content::Sequence(nodes) => {
            let mut all: Vec<Entry> = Vec::new();
            for node in nodes {
                for entry in merge_source(node, place, path)? {
                    if !all.iter().any(|known| known.key == entry.key) {
                        all.push(entry);
                    }
                }
            }
            Ok(all)
        }
        Content::Scalar { .. } => {
            let message = "`<<` merges a section into this one; write `<<: *anchor`";
            Err(Finding::new(Some(place.clone()), join(path, "<<"), message))
        }
    }
}

fn too_deep(place: Place) -> Finding {
    Finding::new(
        Some(place),
        "",
        format!("more than {MAX_DEPTH} sections or lists inside one another"),
    )
}

fn size(node: &Node) -> usize {
    match &node.content {
        Content::Scalar { .. } => 1,
        Content::Sequence(nodes) => nodes.iter().map(size).sum::<usize>() + 1,
        Content::Mapping(entries) => entries.iter().map(|entry| size(&entry.value)).sum::<usize>() + 1,
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    fn problem(text: &str) -> String {
        parse("c.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn places_of_keys_and_scalars_are_those_of_the_text() {
        let root = parse("c.yaml", "a:\n  b: 5\n  c:\nd: [x, y]\n").unwrap().unwrap();
        let a = root.entry("a").unwrap();
        assert_eq!(a.place.to_string(), "c.yaml:1:1");
        assert_eq!(
            a.value.place.to_string(),
            "c.yaml:1:1",
            "a section is told of at its key"
        );
        assert_eq!(a.value.entry("b").unwrap().value.place.to_string(), "c.yaml:2:6");
        assert_eq!(
            a.value.entry("c").unwrap().value.place.to_string(),
            "c.yaml:3:3",
            "nothing is told of at its key"
        );
        let Content::Sequence(items) = &root.entry("d").unwrap().value.content else {
            panic!()
        };
        assert_eq!(items[1].place.to_string(), "c.yaml:4:8");
    }

    #[test]
    fn aliases_and_merge_keys_work_and_explicit_keys_win() {
        let text = "base: &b {x: 1, y: 2}\nover:\n  y: 3\n  <<: *b\nsame: *b\n";
        let root = parse("c.yaml", text).unwrap().unwrap();
        let over = &root.entry("over").unwrap().value;
        assert_eq!(
            over.entry("x").unwrap().value.meaning(),
            Some(super::super::document::Meaning::Unsigned(1))
        );
        assert_eq!(
            over.entry("y").unwrap().value.meaning(),
            Some(super::super::document::Meaning::Unsigned(3))
        );
        assert_eq!(root.entry("same").unwrap().value.entries().len(), 2);
    }

    #[test]
    fn aliases_that_multiply_are_bounded() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let refs = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
        }
        assert!(problem(&text).contains("more than 100000 values"));
    }

    #[test]
    fn nesting_is_bounded() {
        for depth in [65, 1000, 100_000] {
            assert!(problem(&"[".repeat(depth)).contains("more than 64 sections"));
        }
    }

    proptest! {
        /// No text makes the reader panic or run away.
        #[test]
        fn any_text_gives_a_tree_or_a_finding(text in "[ \\ta-c0-9:\\-\\[\\]{},&*!|>'\"%@#?<\\n\\r.$~\\\\]{0,80}") {
            let _ = parse("c.yaml", &text);
        }
    }
}
