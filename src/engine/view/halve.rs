//! A request that is too large for a destination, as two requests of about half its items each.
//!
//! Enters: the wire bytes of an export request of any signal. Leaves: two of them, whose items in order are the items of
//! the one; and how many items there are.
//!
//! Promises: every item is in exactly one half, byte for byte. A resource, scope or metric that is cut keeps all that is not an
//! item in both halves: resource, scope, schema URL, a metric's name, unit and temporality, unknown fields; so do the fields of the
//! request itself. A metric without points is in one half. Nothing is validated beyond what has to be framed. Deliberately absent:
//! sizes. Half the items need not be half the bytes; whoever finds a half still too large halves again.

use std::ops::Range;

use super::{
    Malformed, Signal,
    wire::{Cursor, Field, Payload, put_varint},
};

/// What is left of a signal's nesting at a message: the fields that hold its children, and those of the levels below.
type Nesting = &'static [&'static [u32]];

const NO_FIELDS: &[u32] = &[];

/// Number of items in a request, without a look into them.
///
/// # Errors
/// [`Malformed`]: the bytes cannot be framed.
pub fn item_count(signal: Signal, request: &[u8]) -> Result<usize, Malformed> {
    count(Cursor::new(request), signal.nesting())
}

/// The two halves; `None` when there are not two items, or the bytes cannot be framed.
pub fn halve(signal: Signal, request: &[u8]) -> Option<[Vec<u8>; 2]> {
    let items = item_count(signal, request).ok().filter(|items| *items >= 2)?;
    let middle = items / 2;
    // What stands behind the last item goes with it.
    Some([
        part(signal, request, 0..middle)?,
        part(signal, request, middle..usize::MAX)?,
    ])
}

fn part(signal: Signal, request: &[u8], kept: Range<usize>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(request.len() / 2);
    write(request, Cursor::new(request), signal.nesting(), 0, &kept, &mut out).ok()?;
    Some(out)
}

/// The child message in a field, if it is one.
fn child<'a>(field: &Field<'a>, children: &[u32]) -> Option<Cursor<'a>> {
    match field.payload {
        Payload::Delimited(inner) if children.contains(&field.number) => Some(inner),
        _ => None,
    }
}

/// Items below a message of this nesting; without any it is an item itself.
fn count(mut message: Cursor<'_>, nesting: Nesting) -> Result<usize, Malformed> {
    let Some((children, below)) = nesting.split_first() else {
        return Ok(1);
    };
    let mut items = 0;
    while let Some(field) = message.next()? {
        if let Some(inner) = child(&field, children) {
            items += count(inner, below)?;
        }
    }
    Ok(items)
}

/// Writes a message without the items that are not `kept`; `position` is the number of its first item.
fn write(
    request: &[u8],
    mut message: Cursor<'_>,
    nesting: Nesting,
    mut position: usize,
    kept: &Range<usize>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let (children, below) = nesting.split_first().unwrap_or((&NO_FIELDS, &[]));
    while let Some(field) = message.next()? {
        let whole = request.get(field.start..message.at()).unwrap_or_default();
        let Some(inner) = child(&field, children) else {
            out.extend_from_slice(whole);
            continue;
        };
        let first = position;
        position += count(inner, below)?;
        let ours = first.max(kept.start)..position.min(kept.end);
        if ours == (first..position) && kept.contains(&first) {
            out.extend_from_slice(whole);
        } else if !ours.is_empty() {
            let mut content = Vec::with_capacity(whole.len());
            write(request, inner, below, first, kept, &mut content)?;
            out.extend_from_slice(request.get(field.start..field.len_at).unwrap_or_default());
            put_varint(content.len(), out);
            out.extend_from_slice(&content);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::{
        super::{
            View,
            build::{delimited, text, varint},
        },
        *,
    };
    use proptest::{collection::vec, prelude::*};

    /// The items of a message as bytes, each with what every message around it says beside children.
    fn told(message: &[u8], nesting: Nesting, around: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
        let Some((numbers, below)) = nesting.split_first() else {
            return vec![(message.to_vec(), around.to_vec())];
        };
        let (mut children, mut beside) = (Vec::new(), Vec::new());
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next().unwrap() {
            match child(&field, numbers) {
                Some(inner) => children.push((field.number, inner.rest().to_vec())),
                None => beside.extend_from_slice(&message[field.start..cursor.at()]),
            }
        }
        let told = children.iter().flat_map(|(number, child)| {
            // Which field it is says of what kind a metric is.
            let around = [around, &[beside.clone(), varint(*number as usize, 0)]].concat();
            told(child, below, &around)
        });
        told.collect()
    }

    fn told_by(signal: Signal, request: &[u8]) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
        told(request, signal.nesting(), &[])
    }

    /// Fields beside children: known ones and unknown ones.
    fn odd() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(Vec::new()),
            Just(delimited(3, "https://schema")),
            Just(delimited(1000, "unknown")),
            Just(varint(99, 300)),
            Just(delimited(1, delimited(9, "n"))),
        ]
    }

    /// A field `number` of children, with oddities around them.
    fn around(
        numbers: &'static [usize],
        children: impl Strategy<Value = Vec<u8>>,
        most: usize,
    ) -> impl Strategy<Value = Vec<u8>> {
        let number = proptest::sample::select(numbers);
        (number, vec(children, 0..most), odd(), odd()).prop_map(|(number, children, before, after)| {
            delimited(number, [before, children.concat(), after].concat())
        })
    }

    /// Anything with items in it.
    fn request(signal: Signal) -> BoxedStrategy<Vec<u8>> {
        let text = "[a-z]{0,9}".prop_map(|word| delimited(5, text(&word)));
        let scopes = match signal {
            Signal::Logs | Signal::Traces => {
                let item = text.prop_map(|text| delimited(2, text));
                around(&[2], item, 5).boxed()
            }
            Signal::Metrics => {
                let point = text.prop_map(|text| delimited(1, text));
                let data = around(&[5, 7, 9, 10, 11], point, 5);
                // Nobody writes a second kind of data, and it is no reason to lose a point.
                let metric = around(&[2], data, 3);
                around(&[2], metric, 4).boxed()
            }
        };
        let resources = around(&[1], scopes, 4);
        let unknown = prop_oneof![Just(Vec::new()), Just(delimited(77, "of the request"))];
        (vec(resources, 0..4), unknown)
            .prop_map(|(resources, unknown)| [unknown, resources.concat()].concat())
            .boxed()
    }

    fn any_request() -> impl Strategy<Value = (Signal, Vec<u8>)> {
        proptest::sample::select(&Signal::ALL[..]).prop_flat_map(|signal| (Just(signal), request(signal)))
    }

    proptest! {
        #[test]
        fn known_loss_the_items_of_both_halves_are_those_of_the_whole_in_order((signal, request) in any_request()) {
            let items = item_count(signal, &request).unwrap();
            if signal == Signal::Logs {
                prop_assert_eq!(items, View::parse(&request).unwrap().len());
            }
            let Some([first, second]) = halve(signal, &request) else {
                prop_assert!(items < 2);
                return Ok(());
            };
            prop_assert_eq!(item_count(signal, &first).unwrap(), items / 2);
            prop_assert_eq!([told_by(signal, &first), told_by(signal, &second)].concat(), told_by(signal, &request));
        }

        /// Parts one after the other are a request again, as protobuf merges: what is left of a request can be kept as one.
        #[test]
        fn parts_behind_each_other_are_one_request((signal, request) in any_request()) {
            let Some(halves) = halve(signal, &request) else { return Ok(()) };
            // Without what stands beside resources: both halves have it.
            let items = |request: &[u8]| -> Vec<_> {
                let told = told_by(signal, request).into_iter();
                told.map(|(item, around)| (item, around[1..].to_vec())).collect()
            };
            prop_assert_eq!(items(&halves.concat()), items(&request));
        }

        #[test]
        fn any_bytes_are_halved_without_panic(bytes in vec(any::<u8>(), 0..60)) {
            for signal in Signal::ALL {
                let _ = halve(signal, &bytes);
            }
        }
    }

    #[test]
    fn what_has_no_two_items_has_no_halves() {
        let one = delimited(1, delimited(2, delimited(2, delimited(5, text("alone")))));
        for signal in Signal::ALL {
            assert_eq!(halve(signal, &one), None);
            assert_eq!(halve(signal, &[]), None);
            assert_eq!(halve(signal, b"\x0a\xff"), None);
        }
    }

    #[test]
    fn a_metric_is_cut_between_its_points_and_one_without_points_is_kept_once() {
        let points = |words: &[&str]| words.iter().flat_map(|word| delimited(1, word)).collect::<Vec<u8>>();
        let sum = |words: &[&str]| delimited(7, [points(words), varint(2, 2)].concat());
        let metric = |data: Vec<u8>| delimited(2, [delimited(1, "requests"), data].concat());
        let request = |metrics: &[Vec<u8>]| delimited(1, delimited(2, metrics.concat()));
        let empty = delimited(2, delimited(1, "no points"));
        let [first, second] = halve(
            Signal::Metrics,
            &request(&[empty.clone(), metric(sum(&["a", "b", "c", "d"]))]),
        )
        .unwrap();
        assert_eq!(first, request(&[empty, metric(sum(&["a", "b"]))]));
        assert_eq!(second, request(&[metric(sum(&["c", "d"]))]));
    }
}
