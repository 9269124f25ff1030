//! From a tree with places to the types of the rooms, by serde.
//!
//! What enters: a [`Node`] and the key it stands at. What leaves: any `Deserialize` type, or findings. Promises: every
//! finding has the place and the whole key; all unknown keys are found, not only the first; messages say what to write
//! instead; values of secret keys are not shown. An empty section (`harbinger:`) is a section of defaults, and a key
//! without a value keeps its default. Absent on purpose: what the values mean together, see [`super::resolve`].

use std::{cell::RefCell, fmt};

use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};

use super::{
    advice,
    document::{Content, Entry, Meaning, Node},
    finding::Finding,
    read_error::{DURATION, ReadError, wanted},
};

/// Where findings are gathered that do not end the reading.
pub type Findings = RefCell<Vec<Finding>>;

/// Reads `node`, which stands at `key`, as a `T`.
///
/// # Errors
/// The finding that ended the reading; unknown keys are put in `findings` on the way.
pub fn read<T: DeserializeOwned>(node: &Node, key: &str, findings: &Findings) -> Result<T, Finding> {
    let reader = Reader {
        node,
        key: key.to_owned(),
        findings,
    };
    T::deserialize(reader.clone()).map_err(|error| error.at(&reader).finding)
}

/// The keys that the section type `T` knows.
pub fn known_keys<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Probe<'a>(&'a mut &'static [&'static str]);
    impl<'de> de::Deserializer<'de> for Probe<'_> {
        type Error = ReadError;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ReadError> {
            Err(de::Error::custom("not a section"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, ReadError> {
            *self.0 = fields;
            Err(de::Error::custom("probed"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut keys: &'static [&'static str] = &[];
    let _ = T::deserialize(Probe(&mut keys));
    keys
}

/// Puts a finding in `findings` for every entry of `node` whose key is not in `known`.
pub fn refuse_unknown(node: &Node, key: &str, known: &[&str], findings: &Findings) {
    for entry in node
        .entries()
        .iter()
        .filter(|entry| !known.contains(&entry.key.as_str()))
    {
        let message = advice::unknown_key(key, &entry.key, known);
        findings
            .borrow_mut()
            .push(Finding::new(Some(entry.place.clone()), join(key, &entry.key), message));
    }
}

/// `key.below`.
pub fn join(key: &str, below: &str) -> String {
    if key.is_empty() {
        below.to_owned()
    } else {
        format!("{key}.{below}")
    }
}

impl ReadError {
    /// Fills in where `reader` stands, unless a reader below has.
    fn at(mut self, reader: &Reader<'_>) -> Self {
        if !self.placed {
            self.finding.place = Some(reader.node.place.clone());
            self.finding.key.clone_from(&reader.key);
            if let Some(expanded) = &reader.node.expanded {
                let reference = &expanded.reference;
                self.finding.message.push_str(&if reader.node.is_null() {
                    format!(" (`{reference}` is empty)")
                } else {
                    format!(" (from `{reference}`)")
                });
            }
            self.placed = true;
        }
        self
    }
}

#[derive(Clone)]
struct Reader<'a> {
    node: &'a Node,
    key: String,
    findings: &'a Findings,
}

/// What a visitor says it expects.
pub fn expectation<'de, V: Visitor<'de>>(visitor: &V) -> String {
    Expecting(visitor).to_string()
}

struct Expecting<'a, V>(&'a V);

impl<'de, V: Visitor<'de>> fmt::Display for Expecting<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}

impl<'a> Reader<'a> {
    fn below(&self, node: &'a Node, key: String) -> Self {
        Self {
            node,
            key,
            findings: self.findings,
        }
    }

    fn secret(&self) -> bool {
        advice::is_secret(&self.key)
    }

    /// Gives the scalar to `visitor` as what it means.
    fn scalar<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, ReadError> {
        let wanted = if self.secret() {
            wanted(&expectation(&visitor))
        } else {
            String::new()
        };
        let outcome = match (self.node.meaning(), &self.node.content) {
            (Some(Meaning::Null), _) => visitor.visit_unit(),
            (Some(Meaning::Bool(value)), _) => visitor.visit_bool(value),
            (Some(Meaning::Unsigned(value)), _) => visitor.visit_u64(value),
            (Some(Meaning::Signed(value)), _) => visitor.visit_i64(value),
            (Some(Meaning::Float(value)), _) => visitor.visit_f64(value),
            (_, Content::Scalar { text, .. }) => visitor.visit_str(text),
            (_, Content::Sequence(_)) => Err(de::Error::invalid_type(de::Unexpected::Seq, &visitor)),
            (_, Content::Mapping(_)) => Err(de::Error::invalid_type(de::Unexpected::Map, &visitor)),
        };
        outcome.map_err(|error: ReadError| match &self.node.content {
            Content::Scalar { text, .. }
                if self.secret() && !error.placed && error.finding.message.contains(text.as_str()) =>
            {
                de::Error::custom(format!("expected {wanted}"))
            }
            _ => error,
        })
    }

    /// Gives the text to `visitor`. Numbers and booleans are not strings, except out of an environment variable.
    fn text<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, ReadError> {
        if let Some(expanded) = &self.node.expanded {
            let expected = expectation(&visitor);
            return if expected.contains("duration string") {
                duration(&expanded.text, visitor)
            } else {
                visitor.visit_str(&expanded.text)
            };
        }
        let expected = expectation(&visitor);
        match (self.node.meaning(), &self.node.content) {
            (Some(_), Content::Scalar { text, .. }) if expected.contains("duration string") && !self.node.is_null() => {
                duration(text, visitor)
            }
            (
                Some(Meaning::Bool(_) | Meaning::Unsigned(_) | Meaning::Signed(_) | Meaning::Float(_)),
                Content::Scalar { text, .. },
            ) => {
                let kind = if text.starts_with(|first: char| first.is_ascii_alphabetic()) {
                    ""
                } else {
                    "the number "
                };
                let wanted = wanted(&expected);
                Err(de::Error::custom(if self.secret() {
                    format!("expected {wanted}; put the value in quotes")
                } else {
                    let shown = if kind.is_empty() {
                        format!("`{text}`")
                    } else {
                        format!("{kind}{text}")
                    };
                    format!("expected {wanted}, found {shown}; put it in quotes: \"{text}\"")
                }))
            }
            (Some(Meaning::Null), _) => Err(de::Error::custom(format!(
                "expected {}, found nothing; write \"\" for an empty one",
                wanted(&expected)
            ))),
            _ => self.scalar(visitor),
        }
    }

    fn section<'de, V: Visitor<'de>>(&self, visitor: V, skip_empty: bool) -> Result<V::Value, ReadError> {
        match &self.node.content {
            Content::Mapping(entries) => visitor.visit_map(Entries {
                reader: self,
                rest: entries.iter(),
                value: None,
                skip_empty,
            }),
            _ if self.node.is_null() => visitor.visit_map(Entries {
                reader: self,
                rest: [].iter(),
                value: None,
                skip_empty,
            }),
            _ => self.scalar(visitor),
        }
    }
}

fn duration<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, ReadError> {
    // The Collector takes a bare 0 too.
    let zero = matches!(Meaning::of(text), Meaning::Unsigned(0));
    visitor
        .visit_str(if zero { "0s" } else { text })
        .map_err(|_: ReadError| {
            de::Error::custom(match Meaning::of(text) {
                Meaning::Unsigned(_) => format!("{text} has no unit; write `{text}s` for seconds (or `ms`, `m`, `h`)"),
                _ => format!("expected {DURATION}, found `{text}`"),
            })
        })
}

macro_rules! by_scalar {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.scalar(visitor).map_err(|error| error.at(&self))
        }
    )*};
}

macro_rules! by_text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.text(visitor).map_err(|error| error.at(&self))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    by_scalar! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_bytes deserialize_byte_buf deserialize_unit
    }
    by_text! { deserialize_char deserialize_str deserialize_string deserialize_identifier }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match (&self.node.content, &self.node.expanded) {
            // Whoever takes anything takes a string, and only that is what the variable holds to the letter.
            (Content::Scalar { .. }, Some(expanded)) if !self.node.is_null() => visitor
                .visit_str(&expanded.text)
                .map_err(|error: ReadError| error.at(&self)),
            (Content::Scalar { .. }, _) => self.scalar(visitor).map_err(|error| error.at(&self)),
            (Content::Sequence(_), _) => self.deserialize_seq(visitor),
            (Content::Mapping(_), _) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.node.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.content {
            Content::Sequence(nodes) => visitor.visit_seq(Items {
                reader: &self,
                rest: nodes.iter().enumerate(),
            }),
            _ => self.scalar(visitor),
        }
        .map_err(|error| error.at(&self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.section(visitor, false).map_err(|error| error.at(&self))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        refuse_unknown(self.node, &self.key, fields, self.findings);
        let known: Vec<Entry> = self
            .node
            .entries()
            .iter()
            .filter(|entry| fields.contains(&entry.key.as_str()))
            .cloned()
            .collect();
        let unknown = known.len() < self.node.entries().len();
        if !unknown {
            return self.section(visitor, true).map_err(|error| error.at(&self));
        }
        // The findings already end the start; reading on finds what else is wrong.
        let node = Node {
            content: Content::Mapping(known),
            ..self.node.clone()
        };
        let reader = Reader {
            node: &node,
            key: self.key,
            findings: self.findings,
        };
        reader.section(visitor, true).map_err(|error| error.at(&reader))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let outcome = match (&self.node.content, self.node.entries()) {
            (Content::Scalar { text, .. }, _) if !self.node.is_null() => {
                visitor.visit_enum(text.as_str().into_deserializer())
            }
            (Content::Mapping(_), [entry]) => visitor.visit_enum(Variant { reader: &self, entry }),
            _ => self.scalar(visitor),
        };
        outcome.map_err(|error: ReadError| error.at(&self))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }
}

struct Entries<'r, 'a> {
    reader: &'r Reader<'a>,
    rest: std::slice::Iter<'a, Entry>,
    value: Option<&'a Entry>,
    skip_empty: bool,
}

impl<'de> de::MapAccess<'de> for Entries<'_, '_> {
    type Error = ReadError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let skip = self.skip_empty;
        let Some(entry) = self
            .rest
            .find(|entry| !(skip && entry.value.is_null() && entry.value.expanded.is_none()))
        else {
            return Ok(None);
        };
        self.value = Some(entry);
        seed.deserialize(entry.key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let entry = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("a value without its key"))?;
        let reader = self.reader.below(&entry.value, join(&self.reader.key, &entry.key));
        seed.deserialize(reader.clone())
            .map_err(|error: ReadError| error.at(&reader))
    }
}

struct Items<'r, 'a> {
    reader: &'r Reader<'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_> {
    type Error = ReadError;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some((index, node)) = self.rest.next() else {
            return Ok(None);
        };
        let reader = self.reader.below(node, format!("{}[{index}]", self.reader.key));
        seed.deserialize(reader.clone())
            .map(Some)
            .map_err(|error: ReadError| error.at(&reader))
    }
}

/// A variant with its content, as `prometheus: {port: 8888}`.
struct Variant<'r, 'a> {
    reader: &'r Reader<'a>,
    entry: &'a Entry,
}

impl<'r, 'de, 'a> de::EnumAccess<'de> for Variant<'r, 'a> {
    type Error = ReadError;
    type Variant = Reader<'a>;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Reader<'a>), ReadError> {
        let variant = seed.deserialize(self.entry.key.as_str().into_deserializer())?;
        Ok((
            variant,
            self.reader
                .below(&self.entry.value, join(&self.reader.key, &self.entry.key)),
        ))
    }
}

impl<'de> de::VariantAccess<'de> for Reader<'_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        let error: ReadError = de::Error::custom("nothing belongs below this word");
        if self.node.is_null() {
            Ok(())
        } else {
            Err(error.at(&self))
        }
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        de::Deserializer::deserialize_seq(self, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        de::Deserializer::deserialize_struct(self, "variant", fields, visitor)
    }
}
