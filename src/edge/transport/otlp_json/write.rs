//! Protobuf bytes to JSON.
//!
//! What enters: protobuf bytes of a message. What leaves: its JSON on one line, fields in the order of the table.
//! Promise: what is set is written, what is not is left out; nothing is held but the text; bytes that are not the message
//! are an error, not a guess. Absent on purpose: unknown fields, which JSON cannot hold.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::{Field, Kind, Label, Message};

/// Deepest nesting of messages; prost's and the engine's too.
const MAX_DEPTH: usize = 100;

/// The bytes cannot be written as JSON: they are no such message, hold text that is not UTF-8, or nest too deeply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {problem}")]
pub struct UnwritableError {
    message: &'static str,
    problem: String,
}

/// The JSON of the `message` that `protobuf` is.
///
/// # Errors
/// It is not, or cannot be written.
pub fn to_json(message: &'static Message, protobuf: &[u8]) -> Result<Vec<u8>, UnwritableError> {
    let mut out = Vec::with_capacity(protobuf.len() * 2);
    object(message, protobuf, MAX_DEPTH, &mut out)?;
    Ok(out)
}

/// What a field carries, one variant a wire type.
#[derive(Clone, Copy)]
enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Delimited(&'a [u8]),
    /// No field of ours is one.
    Group,
}

impl Payload<'_> {
    fn is_default(self) -> bool {
        matches!(
            self,
            Self::Varint(0) | Self::Fixed64(0) | Self::Fixed32(0) | Self::Delimited([])
        )
    }
}

/// The fields of a message, one after the other.
struct Wire<'a> {
    message: &'static Message,
    rest: &'a [u8],
}

impl<'a> Wire<'a> {
    fn next(&mut self) -> Result<Option<(u32, Payload<'a>)>, UnwritableError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let message = self.message.name;
        let unreadable = |error: prost::DecodeError| UnwritableError {
            message,
            problem: error.to_string(),
        };
        let (number, wire_type) = decode_key(&mut self.rest).map_err(unreadable)?;
        let payload = match wire_type {
            WireType::Varint => Payload::Varint(self.varint()?),
            WireType::SixtyFourBit => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            WireType::ThirtyTwoBit => Payload::Fixed32(u32::from_le_bytes(self.array()?)),
            WireType::LengthDelimited => {
                let length = self.varint()?;
                Payload::Delimited(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            WireType::StartGroup | WireType::EndGroup => {
                skip_field(wire_type, number, &mut self.rest, DecodeContext::default()).map_err(unreadable)?;
                Payload::Group
            }
        };
        Ok(Some((number, payload)))
    }

    /// The next of numbers that are packed.
    fn packed(&mut self, kind: Kind) -> Result<Option<Payload<'a>>, UnwritableError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        Ok(Some(match kind {
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            _ => Payload::Varint(self.varint()?),
        }))
    }

    fn varint(&mut self) -> Result<u64, UnwritableError> {
        decode_varint(&mut self.rest).map_err(|error| UnwritableError {
            message: self.message.name,
            problem: error.to_string(),
        })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], UnwritableError> {
        let cut = || UnwritableError {
            message: self.message.name,
            problem: "it is cut short".to_owned(),
        };
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], UnwritableError> {
        let taken = self.take(N)?;
        Ok(taken.first_chunk().copied().unwrap_or([0; N]))
    }
}

fn object(message: &'static Message, protobuf: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<(), UnwritableError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(UnwritableError {
            message: message.name,
            problem: format!("nested deeper than {MAX_DEPTH} messages"),
        });
    };
    let has_choice = message.fields.iter().any(|field| field.label == Label::Choice);
    let last = if has_choice {
        last_choice(message, protobuf)?
    } else {
        None
    };
    out.push(b'{');
    let start = out.len();
    for field in message.fields {
        if field.label == Label::Choice && last != Some(field.number) {
            continue;
        }
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        let written = match field.label {
            Label::Many | Label::Packed => list(message, field, protobuf, depth, out)?,
            Label::One | Label::Optional | Label::Choice => single(message, field, protobuf, depth, out)?,
        };
        if !written {
            out.truncate(before);
        }
    }
    out.push(b'}');
    Ok(())
}

/// The number of the last field of the `oneof`, which is the one that counts among several.
fn last_choice(message: &'static Message, protobuf: &[u8]) -> Result<Option<u32>, UnwritableError> {
    let mut last = None;
    let mut wire = Wire {
        message,
        rest: protobuf,
    };
    while let Some((number, _)) = wire.next()? {
        let is_choice = |field: &Field| field.label == Label::Choice && field.number == number;
        if message.fields.iter().any(is_choice) {
            last = Some(number);
        }
    }
    Ok(last)
}

fn list(
    message: &'static Message,
    field: &'static Field,
    protobuf: &[u8],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<bool, UnwritableError> {
    name(field, out);
    out.push(b'[');
    let start = out.len();
    let mut wire = Wire {
        message,
        rest: protobuf,
    };
    while let Some((number, payload)) = wire.next()? {
        if number != field.number {
            continue;
        }
        // A reader takes numbers packed or one by one, whatever the schema says.
        let (mut first, rest) = match (field.label, payload) {
            (Label::Packed, Payload::Delimited(packed)) => (None, packed),
            _ => (Some(payload), &[][..]),
        };
        let mut packed = Wire { message, rest };
        loop {
            let element = match first.take() {
                Some(payload) => Some(payload),
                None => packed.packed(field.kind)?,
            };
            let Some(element) = element else { break };
            if out.len() > start {
                out.push(b',');
            }
            value(message, field, element, depth, out)?;
        }
    }
    let any = out.len() > start;
    out.push(b']');
    Ok(any)
}

fn single(
    message: &'static Message,
    field: &'static Field,
    protobuf: &[u8],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<bool, UnwritableError> {
    let mut wire = Wire {
        message,
        rest: protobuf,
    };
    let mut found: Option<Payload<'_>> = None;
    let mut merged: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    while let Some((number, payload)) = wire.next()? {
        if number != field.number {
            continue;
        }
        // Parts of a message that comes several times are one message (protobuf, "Last One Wins").
        if let (Kind::Message(_), Payload::Delimited(part)) = (field.kind, payload) {
            if merged.is_empty() {
                merged = Cow::Borrowed(part);
            } else {
                merged.to_mut().extend_from_slice(part);
            }
        }
        found = Some(payload);
    }
    let is_message = matches!(field.kind, Kind::Message(_));
    let payload = match found {
        None => return Ok(false),
        Some(Payload::Delimited(_)) if is_message => Payload::Delimited(&merged),
        Some(payload) => payload,
    };
    if payload.is_default() && !is_message && field.label == Label::One {
        return Ok(false);
    }
    name(field, out);
    value(message, field, payload, depth, out)?;
    Ok(true)
}

fn name(field: &Field, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(field.name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn value(
    message: &'static Message,
    field: &'static Field,
    payload: Payload<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), UnwritableError> {
    let fail = |problem: String| UnwritableError {
        message: message.name,
        problem: format!("`{}`: {problem}", field.name),
    };
    let unwritable = |error: serde_json::Error| fail(error.to_string());
    match (field.kind, payload) {
        (Kind::Message(inner), Payload::Delimited(bytes)) => object(inner, bytes, depth, out)?,
        (Kind::Text, Payload::Delimited(bytes)) => {
            let text = std::str::from_utf8(bytes).map_err(|error| fail(error.to_string()))?;
            serde_json::to_writer(out, text).map_err(unwritable)?;
        }
        (Kind::Base64, Payload::Delimited(bytes)) => quoted(&STANDARD.encode(bytes), out),
        (Kind::Id(_), Payload::Delimited(bytes)) => {
            out.push(b'"');
            for byte in bytes {
                for nibble in [byte >> 4, byte & 15] {
                    out.push(char::from_digit(nibble.into(), 16).map_or(b'0', |digit| digit as u8));
                }
            }
            out.push(b'"');
        }
        (Kind::Bool, Payload::Varint(number)) => {
            out.extend_from_slice(if number == 0 { b"false" } else { b"true" });
        }
        // The upper half of a negative number of 32 bits only repeats its sign.
        (Kind::Enum | Kind::Int32, Payload::Varint(number)) => plain(number as i32, out),
        (Kind::Uint32, Payload::Varint(number)) => plain(number as u32, out),
        (Kind::Fixed32, Payload::Fixed32(number)) => plain(number, out),
        (Kind::Sint32, Payload::Varint(number)) => {
            let number = number as u32;
            plain((number >> 1).cast_signed() ^ -((number & 1).cast_signed()), out);
        }
        (Kind::Uint64, Payload::Varint(number)) => quoted(&number.to_string(), out),
        (Kind::Sfixed64, Payload::Fixed64(number)) => quoted(&number.cast_signed().to_string(), out),
        (Kind::Int64, Payload::Varint(number)) => quoted(&number.cast_signed().to_string(), out),
        (Kind::Fixed64, Payload::Fixed64(number)) => quoted(&number.to_string(), out),
        (Kind::Double, Payload::Fixed64(number)) => match f64::from_bits(number) {
            double if double.is_nan() => quoted("NaN", out),
            f64::INFINITY => quoted("Infinity", out),
            f64::NEG_INFINITY => quoted("-Infinity", out),
            double => serde_json::to_writer(out, &double).map_err(unwritable)?,
        },
        _ => return Err(fail("of another wire type".into())),
    }
    Ok(())
}

/// A text that needs no escapes.
fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn plain(number: impl ToString, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}
