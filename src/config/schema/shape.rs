//! What the settings of the rooms take, asked of the `Deserialize` that the reader asks too.
//!
//! What enters: a type. What leaves: its [`Shape`]. Promise: a key, word or type that the reader knows is known here without
//! a line of code, for nothing is said twice. How: a deserializer follows a path into the type (one field at a time, as a
//! value is needed for nothing else), notes what is asked for at its end, and stops there. Absent on purpose: what a value
//! may be beyond its type (`validate` of each room), and words for people, see [`super::words`].

use std::cell::RefCell;

use serde::{
    de::{self, DeserializeOwned, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

use super::super::read::expectation;

/// What may stand at a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// The least.
        minimum: Option<u64>,
        /// The most.
        maximum: Option<u64>,
    },
    /// Any number.
    Number,
    /// Any text.
    Text,
    /// A number with its unit.
    Duration,
    /// One of these.
    Word(Vec<&'static str>),
    /// One of these, each with what it takes.
    Choice(Vec<(&'static str, Shape)>),
    /// Whatever the type takes within itself.
    Anything,
    /// A header's value, or whose header it is: the one shape that its type does not tell.
    Header,
    /// Any number of them.
    List(Box<Shape>),
    /// Keys that users choose.
    Map(Box<Shape>),
    /// Keys that users choose, of these kinds: `kind` or `kind/name`, the kind by any of its names.
    Kinds(Vec<(Vec<&'static str>, Shape)>),
    /// Keys that are known.
    Section(Vec<(&'static str, Shape)>),
}

impl Shape {
    /// The shape of `T`.
    pub fn of<T: DeserializeOwned>() -> Self {
        at::<T>(&mut Vec::new())
    }

    /// The keys of a section.
    pub fn fields(self) -> Vec<(&'static str, Self)> {
        match self {
            Self::Section(fields) => fields,
            _ => Vec::new(),
        }
    }
}

/// One step into a type.
#[derive(Clone, Copy)]
enum Step {
    /// What is optional, in a list or in a map.
    Within,
    Field(&'static str),
    /// One of an enumeration: its name, and which.
    Variant(&'static str, &'static str),
}

/// What was asked for at the end of a path.
enum Found {
    Leaf(Shape),
    Optional,
    List,
    Map,
    Section(&'static [&'static str]),
    Choice(&'static str, &'static [&'static str]),
    /// An enumeration's word that takes nothing.
    Bare,
}

fn at<T: DeserializeOwned>(path: &mut Vec<Step>) -> Shape {
    let found = RefCell::new(None);
    // Always an error, as nothing is ever read.
    let _ = T::deserialize(Probe {
        path: path.as_slice(),
        found: &found,
    });
    // A type within itself is shown twice.
    let depth = |name| {
        path.iter()
            .filter(|step| matches!(step, Step::Variant(of, _) if *of == name))
            .count()
    };
    if let Some(Found::Choice(name, _)) = &*found.borrow()
        && depth(*name) > 1
    {
        return Shape::Anything;
    }
    let mut below = |step: Step| {
        path.push(step);
        let shape = at::<T>(path);
        path.pop();
        shape
    };
    match found.into_inner() {
        Some(Found::Leaf(shape)) => shape,
        Some(Found::Optional) => below(Step::Within),
        Some(Found::List) => Shape::List(Box::new(below(Step::Within))),
        Some(Found::Map) => Shape::Map(Box::new(below(Step::Within))),
        Some(Found::Section(fields)) => {
            let shapes = fields.iter().map(|field| (*field, below(Step::Field(field))));
            Shape::Section(shapes.collect())
        }
        Some(Found::Choice(name, variants)) => {
            let nothing = Shape::Section(Vec::new());
            let choices = variants
                .iter()
                .map(|variant| (*variant, below(Step::Variant(name, variant))));
            let choices: Vec<_> = choices.collect();
            match choices.iter().all(|(_, shape)| *shape == nothing) {
                true => Shape::Word(variants.to_vec()),
                false => Shape::Choice(choices),
            }
        }
        // A type that asks for nothing takes nothing.
        Some(Found::Bare) | None => Shape::Section(Vec::new()),
    }
}

#[derive(Clone, Copy)]
struct Probe<'p> {
    path: &'p [Step],
    found: &'p RefCell<Option<Found>>,
}

/// Ends a probe: it never reads anything.
#[derive(Debug, thiserror::Error)]
#[error("a probe reads nothing")]
struct Stop;

impl de::Error for Stop {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

impl Probe<'_> {
    fn stop<T>(self, found: Found) -> Result<T, Stop> {
        *self.found.borrow_mut() = Some(found);
        Err(Stop)
    }

    fn whole<T>(self, expected: &str, maximum: Option<u64>) -> Result<T, Stop> {
        let minimum = match expected.split_once(' ') {
            Some(("a", rest)) if rest.starts_with("nonzero") => Some(1),
            _ => Some(0).filter(|_| expected.starts_with(['u'])),
        };
        self.stop(Found::Leaf(Shape::Integer { minimum, maximum }))
    }

    fn text<T>(self, expected: &str) -> Result<T, Stop> {
        self.stop(Found::Leaf(if expected.contains("duration string") {
            Shape::Duration
        } else {
            Shape::Text
        }))
    }

    /// One step further in, if the path goes on; else notes what is here.
    fn enter<T>(self, here: Found, further: impl FnOnce(Step, Self) -> Result<T, Stop>) -> Result<T, Stop> {
        match self.path.split_first() {
            None => self.stop(here),
            Some((step, path)) => further(*step, Self { path, ..self }),
        }
    }
}

macro_rules! whole {
    ($($method:ident: $maximum:expr,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.whole(&expectation(&visitor), $maximum)
        }
    )*};
}

macro_rules! text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.text(&expectation(&visitor))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    whole! {
        deserialize_u8: Some(u8::MAX.into()),
        deserialize_u16: Some(u16::MAX.into()),
        deserialize_u32: Some(u32::MAX.into()),
        deserialize_u64: None,
        deserialize_i8: None,
        deserialize_i16: None,
        deserialize_i32: None,
        deserialize_i64: None,
    }
    text! { deserialize_char deserialize_str deserialize_string }

    /// Only what tries several shapes asks for anything, and that is a header.
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.stop(Found::Leaf(Shape::Header))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.stop(Found::Leaf(Shape::Bool))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.stop(Found::Leaf(Shape::Number))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.stop(Found::Leaf(Shape::Number))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.enter(Found::Optional, |_, probe| visitor.visit_some(probe))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.enter(Found::List, |_, probe| visitor.visit_seq(One { key: None, probe }))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let key = Some("any");
        self.enter(Found::Map, |_, probe| visitor.visit_map(One { key, probe }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.enter(Found::Section(fields), |step, probe| match step {
            Step::Field(field) => visitor.visit_map(One {
                key: Some(field),
                probe,
            }),
            Step::Within | Step::Variant(..) => Err(Stop),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.enter(Found::Choice(name, variants), |step, probe| match step {
            Step::Variant(_, variant) => visitor.visit_enum(Chosen { variant, probe }),
            Step::Within | Step::Field(_) => Err(Stop),
        })
    }

    forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A list or section of one value.
struct One<'p> {
    key: Option<&'static str>,
    probe: Probe<'p>,
}

impl<'de> de::MapAccess<'de> for One<'_> {
    type Error = Stop;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let key = self.key.take();
        key.map(|key| seed.deserialize(key.into_deserializer())).transpose()
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(self.probe)
    }
}

impl<'de> de::SeqAccess<'de> for One<'_> {
    type Error = Stop;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        seed.deserialize(self.probe).map(Some)
    }
}

/// One of an enumeration.
struct Chosen<'p> {
    variant: &'static str,
    probe: Probe<'p>,
}

impl<'de, 'p> de::EnumAccess<'de> for Chosen<'p> {
    type Error = Stop;
    type Variant = Probe<'p>;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Probe<'p>), Stop> {
        Ok((seed.deserialize(self.variant.into_deserializer())?, self.probe))
    }
}

impl<'de> de::VariantAccess<'de> for Probe<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.stop(Found::Bare)
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Stop> {
        de::Deserializer::deserialize_seq(self, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Stop> {
        de::Deserializer::deserialize_struct(self, "", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, time::Duration};

    use serde::Deserialize;

    use super::*;

    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct Everything {
        flag: bool,
        port: u16,
        #[serde(default)]
        count: Option<NonZeroUsize>,
        share: f32,
        path: PathBuf,
        #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
        wait: Duration,
        inner: Option<Inner>,
        each: Vec<Inner>,
        by_name: BTreeMap<String, Inner>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct Inner {
        first: String,
        kind: Kind,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        OneThing,
        #[serde(alias = "OTHER")]
        Another,
    }

    /// Whatever serde can be asked for is seen: optional or not, with a default or without.
    #[test]
    fn a_type_tells_its_shape() {
        let inner = || {
            Shape::Section(vec![
                ("first", Shape::Text),
                ("kind", Shape::Word(vec!["one_thing", "OTHER", "another"])),
            ])
        };
        let whole = |minimum, maximum| Shape::Integer { minimum, maximum };
        let Shape::Section(fields) = Shape::of::<Everything>() else {
            unreachable!()
        };
        let expected = vec![
            ("flag", Shape::Bool),
            ("port", whole(Some(0), Some(65_535))),
            ("count", whole(Some(1), None)),
            ("share", Shape::Number),
            ("path", Shape::Text),
            ("wait", Shape::Duration),
            ("inner", inner()),
            ("each", Shape::List(Box::new(inner()))),
            ("by_name", Shape::Map(Box::new(inner()))),
        ];
        assert_eq!(fields, expected);
    }
}
