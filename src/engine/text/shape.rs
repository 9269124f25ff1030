//! What masking goes by in a body, and the templates of bodies of one shape: most logs say a few hundred things in numbers that vary.
//!
//! Enters: the bytes of a body. Leaves: its shape (the body with every number replaced by what masking asks of it: how long it is,
//! and whether it may be a year, a month, a day, part of an address, or a status), and what was read of another body of that shape.
//!
//! Promises: two bodies of one shape have one template, so that looking it up changes nothing but the time it takes (a property in
//! `tests` below, and over the whole recording in `tests/all/replaying.rs`); bounded: [`MAX_SHAPES`] short texts, all of which go
//! when they are too many. Absent on purpose: bodies that are JSON, whose numbers are written anew, and those full of
//! letters between digits, of which no two have one shape. What makes room is not counted: it is read again.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::{TemplateKey, mask::at};

/// Longest body that has a shape.
const MAX_BYTES: usize = 512;
/// Longest run of digits in one.
const MAX_DIGITS: usize = 32;
/// Runs of digits that touch a letter; more are hashes and tokens.
const MAX_GLUED: usize = 6;
/// Shapes that are remembered.
const MAX_SHAPES: usize = 16_384;
/// Places to note a shape that was met once.
const MET: usize = 8_192;

/// Stands for a number in a shape; no byte of UTF-8.
const NUMBER: u8 = 0xff;
/// Stands for a UUID.
const UUID: u8 = 0xfe;

/// Writes the shape of a body to `shape`; false if it has none.
pub(super) fn write(body: &[u8], shape: &mut Vec<u8>) -> bool {
    shape.clear();
    if body.len() > MAX_BYTES || body.first() == Some(&b'{') {
        return false;
    }
    let (mut position, mut glued) = (0, 0);
    loop {
        let rest = body.get(position..).unwrap_or_default();
        let plain = rest.iter().position(|byte| byte.is_ascii_digit() || *byte >= UUID);
        let plain = plain.unwrap_or(rest.len());
        shape.extend_from_slice(rest.get(..plain).unwrap_or_default());
        let start = position + plain;
        let Some(first) = body.get(start) else { return true };
        if *first >= UUID {
            return false;
        }
        if let Some(before) = behind_uuid_start(body, start) {
            shape.truncate(shape.len().saturating_sub(before));
            shape.push(UUID);
            position = start - before + 36;
            continue;
        }
        let digits = body.get(start..).unwrap_or_default();
        let length = digits
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(digits.len());
        let end = start + length;
        let touches = at(body, end).is_ascii_alphabetic() || start > 0 && at(body, start - 1).is_ascii_alphabetic();
        glued += usize::from(touches);
        if length > MAX_DIGITS || glued > MAX_GLUED {
            return false;
        }
        shape.extend_from_slice(&[NUMBER, length as u8, class(digits.get(..length).unwrap_or_default())]);
        position = end;
    }
}

/// What masking asks of a number beside its length and neighbours.
fn class(digits: &[u8]) -> u8 {
    match digits {
        // No year, no status; `0x`; an address of digits only.
        [b'0', ..] => b'0',
        // Tens of a month or of a day.
        [b'1', _] => b'1',
        [b'2' | b'3', _] => b'2',
        [_, _] => b'4',
        // Part of an IPv4 address, status of a process; status of HTTP; neither.
        [b'1', _, _] | [b'2', b'0'..=b'4', _] | [b'2', b'5', b'0'..=b'5'] => b'p',
        [b'4' | b'5', _, _] => b's',
        [_, _, _] => b'n',
        // Years of logs.
        [b'1', b'9', _, _] | [b'2', b'0' | b'1', _, _] => b'y',
        [b'1', b'9', ..] | [b'2', b'0', ..] if digits.len() == 8 => b'y',
        _ => b'n',
    }
}

/// How many letters of a UUID stand before its first digit at `digit`, if it is in a UUID that stands alone.
fn behind_uuid_start(body: &[u8], digit: usize) -> Option<usize> {
    let head = body.get(..digit).unwrap_or_default();
    let letters = head
        .iter()
        .rev()
        .take(8)
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let start = digit - letters;
    let uuid = body.get(start..start + 36)?;
    if at(uuid, 8) != b'-' {
        return None;
    }
    let whole = uuid.iter().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let joined = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'/' | b'=' | 0x80..);
    let before = if start > 0 { at(body, start - 1) } else { b' ' };
    (whole && !joined(before) && !joined(at(body, start + 36))).then_some(letters)
}

/// What was read of a body of a shape.
#[derive(Clone, Debug)]
pub(super) struct Recalled {
    pub key: TemplateKey,
    pub template: Arc<str>,
}

/// The templates of shapes. Shared by all that read.
#[derive(Debug)]
pub struct Shapes {
    templates: DashMap<Box<[u8]>, Recalled, RandomState>,
    /// Hashes of shapes that were met: most are met once, and are not worth a place.
    met: Box<[AtomicU32]>,
}

impl Default for Shapes {
    fn default() -> Self {
        Self {
            templates: DashMap::default(),
            met: (0..MET).map(|_| AtomicU32::new(0)).collect(),
        }
    }
}

impl Shapes {
    /// What a body of this shape comes to, if one was read.
    pub(super) fn recall(&self, shape: &[u8]) -> Option<Recalled> {
        self.templates.get(shape).map(|known| known.clone())
    }

    /// A body of this shape has this template. Remembered from the second time on.
    pub(super) fn remember(&self, shape: &[u8], key: TemplateKey, template: &str) {
        // A template that keeps digits keeps those of its body.
        if template.bytes().any(|byte| byte.is_ascii_digit()) {
            return;
        }
        let hash = xxhash_rust::xxh3::xxh3_64(shape);
        let mark = (hash >> 32) as u32 | 1;
        let place = self.met.get(hash as usize % MET);
        if place.is_some_and(|place| place.swap(mark, Ordering::Relaxed) != mark) {
            return;
        }
        if self.templates.len() >= MAX_SHAPES {
            self.templates.clear();
        }
        let template = Arc::from(template);
        self.templates.insert(Box::from(shape), Recalled { key, template });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::{collection::vec, prelude::*};

    use super::{super::mask, *};

    fn shape(body: &str) -> Option<Vec<u8>> {
        let mut shape = Vec::new();
        write(body.as_bytes(), &mut shape).then_some(shape)
    }

    fn template(body: &str) -> String {
        let mut template = String::new();
        mask(body, &mut template);
        template
    }

    #[test]
    fn what_masking_asks_for_is_in_the_shape() {
        for (one, other) in [
            ("took 123 ms", "took 187 ms"),
            ("id 2345678 of 77", "id 9999999 of 44"),
            (
                "req-x 8a9d88e8-bc1c-41df-80f6-7fecf2079f32 ok",
                "req-x deadbee8-0c1c-41df-80f6-7fecf2079f32 ok",
            ),
        ] {
            assert_eq!(shape(one), shape(other), "{one}");
        }
        for (one, other) in [
            ("status 503", "status 203"),
            ("at 10.0.0.255 up", "at 10.0.0.256 up"),
            ("on 2024-01-02", "on 1824-01-02"),
            ("on 2024-01-02", "on 2024-21-02"),
            ("mask 0x12", "mask 1x12"),
            ("took 12 ms", "took 123 ms"),
        ] {
            assert_ne!(shape(one), shape(other), "{one}");
        }
        for none in ["{\"a\": 1}", "1a2b3c4d5e6f7a8b9c", &"7 ".repeat(300)] {
            assert_eq!(shape(none), None, "{none}");
        }
    }

    #[test]
    fn a_template_is_remembered_from_the_second_time_on_unless_it_keeps_digits() {
        let shapes = Shapes::default();
        let key = TemplateKey::of("took <n> ms");
        shapes.remember(b"one", key, "took <n> ms");
        assert!(shapes.recall(b"one").is_none());
        shapes.remember(b"one", key, "took <n> ms");
        assert_eq!(&*shapes.recall(b"one").unwrap().template, "took <n> ms");
        for _ in 0..2 {
            shapes.remember(b"two", key, "status 503");
        }
        assert!(shapes.recall(b"two").is_none());
        for number in 0..=MAX_SHAPES as u64 {
            for _ in 0..2 {
                shapes.remember(&number.to_le_bytes(), key, "x");
            }
        }
        assert!(shapes.templates.len() <= MAX_SHAPES);
    }

    /// Pieces of logs in which digits mean something to masking, and signs that may stand between them.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9]{1,9}",
            "[0-9]{14,17}",
            "(19|20|21|18)[0-9]{2}[-/.][0-9]{2}[-/.][0-9]{2}([T ][0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]{3})?(Z|\\+[0-9]{4})?)?",
            "(19|20)[0-9]{6}([T_-][0-9]{6})?",
            "[0-9]{1,2}[/ -](Jan|Sep|Foo)[/ -][0-9]{4}",
            "(Jan|Sep) [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}",
            "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}(:[0-9]{1,5})?",
            "(status|HTTP/1\\.1\"?|exit code|signal|errno|code)[ =:]{1,2}[0-9]{1,3}",
            "0[xX][0-9a-f]{1,8}",
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[0-9a-f]{2}(:[0-9a-f]{2}){5}",
            "[0-9]{1,3}(ms|s|KB|%|x|h[0-9]{1,2}m|e-?[0-9]{1,2})",
            "(sk-|ghp_|eyJ|AKIA)[0-9A-Za-z]{1,20}",
            "[A-Za-z]{1,6}[0-9]{1,4}[a-z]{0,3}",
            "(user|password|id|a\\.b)[=:][ ]?[0-9a-z]{1,6}",
            "[a-z@]{1,9}",
        ]
    }

    /// Another body of nearly the same shape: some digits are others.
    fn varied(body: &str, seed: u64) -> String {
        let mut random = fastrand::Rng::with_seed(seed);
        body.chars()
            .map(|letter| match letter {
                '0'..='9' if random.u8(..3) == 0 => char::from(b'0' + random.u8(..10)),
                other => other,
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]
        /// Two bodies of one shape have one template, or each keeps digits of its own, for which none is remembered.
        #[test]
        fn one_shape_one_template(
            pieces in vec((piece(), "[ ,=:/()\"'\\[\\]_.;-]{1,2}"), 1..6),
            seeds in vec(any::<u64>(), 8),
        ) {
            let body: String = pieces.iter().flat_map(|(piece, sign)| [piece.as_str(), sign]).collect();
            let (of_body, said) = (shape(&body), template(&body));
            for seed in seeds {
                let other = varied(&body, seed);
                if of_body.is_some() && shape(&other) == of_body {
                    let digits = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit());
                    let heard = template(&other);
                    prop_assert!(said == heard || digits(&said) && digits(&heard), "{body:?} {said:?}\n{other:?} {heard:?}");
                }
            }
        }
    }
}
