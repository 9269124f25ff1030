//! Arbitrary OTLP requests, written on the wire directly, so that they hold what no encoder would emit: unknown fields
//! in every message (groups too), fields repeated and in any order, varints with superfluous bytes, empty messages.
//! The field tables are written down a second time here on purpose: they check those of the crate.

use harbinger::engine::annotate::{Annotation, Settings};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What a field holds.
#[derive(Copy, Clone, Debug)]
enum Kind {
    Varint,
    Fixed64,
    Fixed32,
    Text,
    Bytes,
    /// The key of a KeyValue: often one of our names.
    Key,
    Message(&'static [(u32, Kind)]),
    /// An AnyValue; it and the next three hold each other.
    Value,
    ArrayValue,
    KeyValueList,
    KeyValue,
}

const REQUEST: &[(u32, Kind)] = &[(1, Kind::Message(RESOURCE_LOGS))];
const RESOURCE_LOGS: &[(u32, Kind)] = &[
    (1, Kind::Message(RESOURCE)),
    (2, Kind::Message(SCOPE_LOGS)),
    (2, Kind::Message(SCOPE_LOGS)),
    (2, Kind::Message(SCOPE_LOGS)),
    (3, Kind::Text),
];
const RESOURCE: &[(u32, Kind)] = &[(1, Kind::KeyValue), (2, Kind::Varint), (3, Kind::Message(ENTITY_REF))];
const ENTITY_REF: &[(u32, Kind)] = &[(1, Kind::Text), (2, Kind::Text), (3, Kind::Text), (4, Kind::Text)];
const SCOPE_LOGS: &[(u32, Kind)] = &[
    (1, Kind::Message(SCOPE)),
    (2, Kind::Message(RECORD)),
    (2, Kind::Message(RECORD)),
    (2, Kind::Message(RECORD)),
    (3, Kind::Text),
];
const SCOPE: &[(u32, Kind)] = &[(1, Kind::Text), (2, Kind::Text), (3, Kind::KeyValue), (4, Kind::Varint)];
const RECORD: &[(u32, Kind)] = &[
    (1, Kind::Fixed64),
    (2, Kind::Varint),
    (3, Kind::Text),
    (5, Kind::Value),
    (6, Kind::KeyValue),
    (6, Kind::KeyValue),
    (6, Kind::KeyValue),
    (7, Kind::Varint),
    (8, Kind::Fixed32),
    (9, Kind::Bytes),
    (10, Kind::Bytes),
    (11, Kind::Fixed64),
    (12, Kind::Text),
];
const KEY_VALUE: &[(u32, Kind)] = &[(1, Kind::Key), (1, Kind::Key), (2, Kind::Value), (3, Kind::Varint)];
const SCALARS: &[(u32, Kind)] = &[
    (1, Kind::Text),
    (2, Kind::Varint),
    (3, Kind::Varint),
    (4, Kind::Fixed64),
    (7, Kind::Bytes),
    (8, Kind::Varint),
];
const VALUE: &[(u32, Kind)] = &[
    (1, Kind::Text),
    (2, Kind::Varint),
    (3, Kind::Varint),
    (4, Kind::Fixed64),
    (5, Kind::ArrayValue),
    (5, Kind::ArrayValue),
    (6, Kind::KeyValueList),
    (6, Kind::KeyValueList),
    (7, Kind::Bytes),
    (8, Kind::Varint),
];
const ARRAY_VALUE: &[(u32, Kind)] = &[(1, Kind::Value)];
const KEY_VALUE_LIST: &[(u32, Kind)] = &[(1, Kind::KeyValue)];

/// How deep lists nest in a value.
const VALUE_DEPTH: u32 = 2;

/// An ExportLogsServiceRequest that every protobuf decoder accepts.
pub fn request() -> BoxedStrategy<Vec<u8>> {
    message(REQUEST, VALUE_DEPTH, 1..4)
}

/// A request, damaged in one or two places: mostly a byte changed, else one taken out or put in, or the end cut off.
pub fn damaged_request() -> impl Strategy<Value = Vec<u8>> {
    let damage = (0..10_u8, any::<Index>(), any::<u8>());
    (request(), vec(damage, 1..3)).prop_map(|(mut bytes, damages)| {
        for (what, place, byte) in damages {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match what {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, byte),
                2 => bytes.truncate(at),
                _ => bytes[at] = byte,
            }
        }
        bytes
    })
}

/// Annotations for up to 64 records; take as many as there are records, from the front, again and again.
pub fn annotations() -> impl Strategy<Value = Vec<Annotation>> {
    let text = || proptest::option::weighted(0.3, select(vec!["", "x", "é", "🦀"]).prop_flat_map(repeated));
    let one = (
        proptest::option::weighted(0.8, any::<bool>()),
        text(),
        proptest::option::weighted(0.2, select(vec!["warming_up", "degraded"])),
        proptest::option::weighted(0.3, (0.0..1.0, 0.0..1.0)),
        (text(), text(), text()),
    )
        .prop_map(
            |(is_anomaly, incident_id, verdict, score, (reason, template, model_version))| Annotation {
                is_anomaly,
                incident_id: incident_id.map(Into::into),
                verdict,
                score: score.map(|(score, _)| score),
                p_value: score.map(|(_, p_value)| p_value),
                reason: reason.map(Into::into),
                template: template.map(Into::into),
                model_version: model_version.map(Into::into),
            },
        );
    vec(one, 1..64)
}

fn repeated(text: &'static str) -> impl Strategy<Value = String> {
    (0..300_usize).prop_map(move |times| text.repeat(times))
}

fn message(fields: &'static [(u32, Kind)], depth: u32, count: std::ops::Range<usize>) -> BoxedStrategy<Vec<u8>> {
    let known = select(fields).prop_flat_map(move |(number, kind)| known_field(number, kind, depth));
    vec(prop_oneof![8 => known, 1 => unknown_field(2)], count)
        .prop_map(|fields| fields.concat())
        .boxed()
}

fn known_field(number: u32, kind: Kind, depth: u32) -> BoxedStrategy<Vec<u8>> {
    let scalars_only = depth == 0;
    match kind {
        Kind::Varint => varint_field(number),
        Kind::Fixed64 => fixed_field::<8>(number, 1),
        Kind::Fixed32 => fixed_field::<4>(number, 5),
        Kind::Text => delimited_field(number, text()),
        Kind::Bytes => delimited_field(number, vec(any::<u8>(), 0..20)),
        Kind::Key => delimited_field(number, key()),
        Kind::Message(fields) => delimited_field(number, message(fields, depth, 0..8)),
        Kind::Value if scalars_only => delimited_field(number, message(SCALARS, 0, 0..2)),
        Kind::Value => delimited_field(number, message(VALUE, depth - 1, 0..4)),
        Kind::ArrayValue => delimited_field(number, message(ARRAY_VALUE, depth, 0..3)),
        Kind::KeyValueList => delimited_field(number, message(KEY_VALUE_LIST, depth, 0..3)),
        Kind::KeyValue => {
            let more =
                (tidy_key_value(), message(KEY_VALUE, depth, 0..3)).prop_map(|(tidy, more)| [tidy, more].concat());
            delimited_field(
                number,
                prop_oneof![2 => tidy_key_value(), 1 => more, 2 => message(KEY_VALUE, depth, 0..4)],
            )
        }
    }
}

/// A KeyValue as encoders write it.
fn tidy_key_value() -> impl Strategy<Value = Vec<u8>> {
    (key(), text()).prop_map(|(key, text)| {
        let value = delimited(1, 0, 0, &text);
        [delimited(1, 0, 0, &key), delimited(2, 0, 0, &value)].concat()
    })
}

/// A field that none of the messages knows, of any wire type; groups hold fields again.
fn unknown_field(group_depth: u32) -> BoxedStrategy<Vec<u8>> {
    let number = || select(vec![13, 15, 16, 99, 2047, 2048, (1 << 29) - 1]);
    let plain = number().prop_flat_map(|number| {
        prop_oneof![
            varint_field(number),
            fixed_field::<8>(number, 1),
            fixed_field::<4>(number, 5),
            delimited_field(number, vec(any::<u8>(), 0..20)),
        ]
    });
    if group_depth == 0 {
        return plain.boxed();
    }
    let group = (number(), vec(unknown_field(group_depth - 1), 0..3))
        .prop_map(|(number, fields)| [key_of(number, 3, 0), fields.concat(), key_of(number, 4, 0)].concat());
    prop_oneof![4 => plain, 1 => group].boxed()
}

/// Superfluous bytes in a varint: nearly always none.
fn padding() -> impl Strategy<Value = usize> {
    prop_oneof![12 => Just(0_usize), 1 => 1..3_usize]
}

fn varint_field(number: u32) -> BoxedStrategy<Vec<u8>> {
    let value = prop_oneof![0..3_u64, any::<u64>(), Just(u64::MAX)];
    (padding(), padding(), value)
        .prop_map(move |(key_padding, padding, value)| {
            [key_of(number, 0, key_padding), varint(value, padding)].concat()
        })
        .boxed()
}

fn fixed_field<const N: usize>(number: u32, wire_type: u32) -> BoxedStrategy<Vec<u8>> {
    (padding(), any::<[u8; N]>())
        .prop_map(move |(padding, bytes)| [&key_of(number, wire_type, padding), &bytes[..]].concat())
        .boxed()
}

fn delimited_field(number: u32, payload: impl Strategy<Value = Vec<u8>> + 'static) -> BoxedStrategy<Vec<u8>> {
    (padding(), padding(), payload)
        .prop_map(move |(key_padding, len_padding, payload)| delimited(number, key_padding, len_padding, &payload))
        .boxed()
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![6 => "[a-z é🦀]{0,6}", 1 => (120..140_usize).prop_map(|len| "x".repeat(len))]
        .prop_map(String::into_bytes)
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let ours = select(names(&Settings::default()).to_vec());
    prop_oneof![
        3 => select(vec!["", "a", "thread.id", "is_anomaly_", "service.name"]).prop_map(String::from),
        3 => ours.clone(),
        1 => ours.prop_map(|name| name + ".original"),
    ]
    .prop_map(String::into_bytes)
}

/// Our names, in the order in which they are written.
pub fn names(settings: &Settings) -> [String; 8] {
    let s = settings.clone();
    [
        s.is_anomaly,
        s.incident_id,
        s.verdict,
        s.score,
        s.p_value,
        s.reason,
        s.template,
        s.model_version,
    ]
}

/// A length-delimited field.
pub fn delimited(number: u32, key_padding: usize, len_padding: usize, payload: &[u8]) -> Vec<u8> {
    [
        &key_of(number, 2, key_padding),
        &varint(payload.len() as u64, len_padding),
        payload,
    ]
    .concat()
}

fn key_of(number: u32, wire_type: u32, padding: usize) -> Vec<u8> {
    varint(u64::from(number << 3 | wire_type), padding)
}

/// A varint with `padding` superfluous bytes, as far as ten bytes allow.
pub fn varint(mut value: u64, padding: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    for _ in 0..padding.min(10 - bytes.len()) {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push(0);
    }
    bytes
}
