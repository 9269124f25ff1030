//! JSON to protobuf bytes, written while the text is parsed.
//!
//! What enters: JSON text. What leaves: protobuf bytes of the message it is, or where it is not and what should stand there.
//! Promise: the same bytes an encoder of protobuf would write from the same values, fields in the order of the text. A
//! field that comes twice is refused: which of the two is meant is not ours to guess. Nesting ends at the parser's 128
//! levels, about 40 lists in each other.
//! Absent on purpose: names of enums, which OTLP forbids.

use std::fmt;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{
    DeserializeSeed, Deserializer, Error, Expected, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::{Field, Kind, Label, Message};

/// The text is not the message in OTLP's JSON: correct what is named.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Write UTF-8.
    #[error("not UTF-8 at line {line} column {column}")]
    NotUtf8 {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// Leave the mark out.
    #[error("a byte-order mark at line 1 column 1: JSON begins without one")]
    ByteOrderMark,
    /// Write what is expected there.
    #[error("{0}")]
    Mapping(#[from] serde_json::Error),
}

/// The protobuf bytes of the `message` that `json` is.
///
/// # Errors
/// It is not; with line and column.
pub fn to_protobuf(message: &'static Message, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let text = std::str::from_utf8(json).map_err(|error| {
        let before = json.get(..error.valid_up_to()).unwrap_or_default();
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        JsonError::NotUtf8 {
            line: 1 + memchr::memchr_iter(b'\n', before).count(),
            column: 1 + before.len() - line_start,
        }
    })?;
    if text.starts_with('\u{feff}') {
        return Err(JsonError::ByteOrderMark);
    }
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut parser = serde_json::Deserializer::from_str(text);
    Fields { message, out: &mut out }.deserialize(&mut parser)?;
    parser.end()?;
    Ok(out)
}

/// Stands for all fields of a `oneof` among those that were seen; no message has so many others.
const CHOICE: u32 = 1 << 31;

/// Reads the fields of a message.
struct Fields<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an object, {}", self.message.name)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        Err(wrong_text(text, &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = 0_u32;
        while let Some(found) = map.next_key_seed(Name(self.message))? {
            let Some((index, field)) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let seed = Optional {
                field,
                keep_default: matches!(field.label, Label::Optional | Label::Choice),
                out: self.out,
            };
            if !map.next_value_seed(seed)? {
                continue;
            }
            let is_choice = field.label == Label::Choice;
            let bit = if is_choice { CHOICE } else { 1 << index };
            if seen & bit != 0 {
                let (name, message) = (field.name, self.message.name);
                return Err(A::Error::custom(if is_choice {
                    format!("`{name}`: a second value in one {message}")
                } else {
                    format!("`{name}`: the same field for the second time")
                }));
            }
            seen |= bit;
        }
        Ok(())
    }
}

/// Finds a field by its name.
struct Name(&'static Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<(usize, &'static Field)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<(usize, &'static Field)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the name of a field of {}", self.0.name)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let mut fields = self.0.fields.iter().enumerate();
        Ok(fields.find(|(_, field)| field.name == name))
    }
}

/// Reads a field unless it is `null`, which means absent; says whether it is there.
struct Optional<'o> {
    field: &'static Field,
    keep_default: bool,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Optional<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Optional<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` or null", self.field.name)
    }

    fn visit_none<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        let Self {
            field,
            keep_default,
            out,
        } = self;
        if matches!(field.label, Label::Many | Label::Packed) {
            deserializer.deserialize_any(Elements { field, out })?;
        } else {
            Value {
                field,
                keep_default,
                out,
            }
            .deserialize(deserializer)?;
        }
        Ok(true)
    }
}

/// Reads the elements of a repeated field.
struct Elements<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a list, `{}`", self.field.name)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        Err(wrong_text(text, &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { field, out } = self;
        let before = out.len();
        let start = (field.label == Label::Packed).then(|| open(field, out));
        let mut is_empty = true;
        loop {
            let element = Value {
                field,
                keep_default: true,
                out,
            };
            if elements.next_element_seed(element)?.is_none() {
                break;
            }
            is_empty = false;
        }
        match start {
            Some(_) if is_empty => out.truncate(before),
            Some(start) => close(start, out),
            None => {}
        }
        Ok(())
    }
}

/// Reads one value and appends it.
struct Value<'o> {
    field: &'static Field,
    keep_default: bool,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Kind::Message(message) = self.field.kind else {
            return deserializer.deserialize_any(self);
        };
        let start = open(self.field, self.out);
        Fields { message, out: self.out }.deserialize(deserializer)?;
        close(start, self.out);
        Ok(())
    }
}

/// Begins what has a length; returns where that is to stand.
fn open(field: &Field, out: &mut Vec<u8>) -> usize {
    encode_key(field.number, WireType::LengthDelimited, out);
    let start = out.len();
    out.push(0);
    start
}

/// Writes the length of what stands behind `start`, where one byte was kept for it.
fn close(start: usize, out: &mut Vec<u8>) {
    let length = out.len() - start - 1;
    match (u8::try_from(length), out.get_mut(start)) {
        (Ok(short @ 0..0x80), Some(kept)) => *kept = short,
        _ => {
            let mut long = Vec::with_capacity(10);
            encode_varint(length as u64, &mut long);
            out.splice(start..=start, long);
        }
    }
}

impl Value<'_> {
    /// Numbers that are packed have one key together.
    fn key(&mut self, wire_type: WireType) {
        if self.field.label != Label::Packed {
            encode_key(self.field.number, wire_type, self.out);
        }
    }

    fn varint(mut self, value: u64) {
        if value != 0 || self.keep_default {
            self.key(WireType::Varint);
            encode_varint(value, self.out);
        }
    }

    fn fixed<const N: usize>(mut self, wire_type: WireType, value: [u8; N]) {
        if value != [0; N] || self.keep_default {
            self.key(wire_type);
            self.out.extend_from_slice(&value);
        }
    }

    fn bytes(self, value: &[u8]) {
        if !value.is_empty() || self.keep_default {
            encode_key(self.field.number, WireType::LengthDelimited, self.out);
            encode_varint(value.len() as u64, self.out);
            self.out.extend_from_slice(value);
        }
    }

    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let name = self.field.name;
        let out_of_range = |_| E::custom(format_args!("`{name}`: {value} is out of range"));
        match self.field.kind {
            // Negative numbers are extended to 64 bits, as protobuf has it.
            Kind::Enum | Kind::Int32 => {
                let value = i32::try_from(value).map_err(out_of_range)?;
                self.varint(i64::from(value).cast_unsigned());
            }
            // The sign goes to the lowest bit (zigzag).
            Kind::Sint32 => {
                let value = i32::try_from(value).map_err(out_of_range)?;
                self.varint(((value << 1) ^ (value >> 31)).cast_unsigned().into());
            }
            Kind::Uint64 => self.varint(u64::try_from(value).map_err(out_of_range)?),
            Kind::Sfixed64 => {
                let value = i64::try_from(value).map_err(out_of_range)?;
                self.fixed(WireType::SixtyFourBit, value.to_le_bytes());
            }
            Kind::Int64 => self.varint(i64::try_from(value).map_err(out_of_range)?.cast_unsigned()),
            Kind::Uint32 => self.varint(u32::try_from(value).map_err(out_of_range)?.into()),
            Kind::Fixed32 => {
                let value = u32::try_from(value).map_err(out_of_range)?;
                self.fixed(WireType::ThirtyTwoBit, value.to_le_bytes());
            }
            Kind::Fixed64 => {
                let value = u64::try_from(value).map_err(out_of_range)?;
                self.fixed(WireType::SixtyFourBit, value.to_le_bytes());
            }
            Kind::Double => self.fixed(WireType::SixtyFourBit, (value as f64).to_le_bytes()),
            _ => return Err(E::invalid_type(Unexpected::Other("number"), &self)),
        }
        Ok(())
    }
}

/// Every whole number up to here is a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Visitor<'_> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.field.kind {
            Kind::Text => "a string",
            Kind::Bool => "true or false",
            Kind::Enum => "a whole number",
            Kind::Double => "a number, \"NaN\", \"Infinity\" or \"-Infinity\"",
            Kind::Base64 => "a string of base64",
            Kind::Id(_) => "a string of hex digits",
            Kind::Message(message) => return write!(formatter, "an object, {}", message.name),
            _ => "a whole number or a string of its digits",
        };
        write!(formatter, "`{}`, {what}", self.field.name)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if !matches!(self.field.kind, Kind::Bool) {
            return Err(E::invalid_type(Unexpected::Bool(value), &self));
        }
        self.varint(value.into());
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double => {
                self.fixed(WireType::SixtyFourBit, value.to_le_bytes());
                Ok(())
            }
            // 1e3 is a whole number as well.
            _ if value.fract() == 0.0 && value.abs() <= EXACT => self.integer(value as i128),
            _ => Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.field.kind {
            Kind::Text => self.bytes(text.as_bytes()),
            Kind::Base64 => {
                let Some(decoded) = base64_decoded(text) else {
                    return Err(wrong_text(text, &self));
                };
                self.bytes(&decoded);
            }
            // Item 12: what is no id counts as absent, and the record stays.
            Kind::Id(length) => self.bytes(&id(text, length).unwrap_or_default()),
            Kind::Double => {
                let Some(value) = double(text) else {
                    return Err(wrong_text(text, &self));
                };
                self.fixed(WireType::SixtyFourBit, value.to_le_bytes());
            }
            Kind::Enum => {
                return Err(E::custom(format_args!(
                    "`{}`: the name or text {:?} where OTLP JSON has the number of the enum (17 is the severity ERROR)",
                    self.field.name,
                    shortened(text)
                )));
            }
            Kind::Bool | Kind::Message(_) => return Err(wrong_text(text, &self)),
            _ => match text.parse() {
                Ok(value) => return self.integer(value),
                Err(_) => return Err(wrong_text(text, &self)),
            },
        }
        Ok(())
    }
}

/// A text where something else should stand.
fn wrong_text<E: Error>(text: &str, expected: &dyn Expected) -> E {
    E::invalid_value(Unexpected::Str(&shortened(text)), expected)
}

/// What is quoted of a wrong text: it is part of somebody's log.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    let alphabet = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config).decode(text).ok()
}

/// The bytes of an id of this length; none if it is something else, or all zeros.
fn id(text: &str, length: usize) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != length || !rest.is_empty() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok())
        .collect();
    bytes.filter(|bytes| bytes.iter().any(|byte| *byte != 0))
}

fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok().filter(|value: &f64| value.is_finite()),
    }
}
