//! Of groups in a row (`(1, 'a'), (2, 'b')`, `[{"id":1},{"id":2}]`) one stays, however many there are.
//!
//! Enters: what was written of a template. Leaves: the same without groups that follow an equal one; behind `VALUES` and in
//! an array of objects any further group goes: those hold rows, and rows differ in what is missing.
//! Promise: a text without groups in a row costs a search for commas. Absent on purpose: groups joined by other signs.

use memchr::memchr;

/// Takes back all groups in a row but the first. In a template that is `done` also the row that its end cuts off: where it
/// was cut says nothing.
pub(super) fn collapse(out: &mut String, done: bool) {
    let mut searched = 0;
    while let Some(index) = memchr(b',', out.as_bytes().get(searched..).unwrap_or_default()) {
        let comma = searched + index;
        searched = comma + 1;
        let Some((first, second, opening, closing)) = around(out, comma) else {
            continue;
        };
        let end = length(second, opening, closing);
        let group = second.get(..end.unwrap_or(second.len())).unwrap_or_default();
        let (kept, removed) = (first.len(), out.len() - second.len() + group.len());
        let goes = match end {
            Some(_) => first.ends_with(group) || holds_rows(first, opening, closing),
            None => done && holds_rows(first, opening, closing),
        };
        if goes {
            out.replace_range(kept..removed, "");
            searched = kept;
        }
    }
}

/// What stands before and behind the comma, and how groups there open and close, if both are groups of one kind.
fn around(text: &str, comma: usize) -> Option<(&str, &str, u8, u8)> {
    let first = text.get(..comma)?;
    let last = first.bytes().next_back()?;
    if !matches!(last, b')' | b']' | b'}') {
        return None;
    }
    let second = text.get(comma + 1..)?.trim_start_matches(' ');
    let opening = second.bytes().next()?;
    let closing = match opening {
        b'(' => b')',
        b'[' => b']',
        b'{' => b'}',
        _ => return None,
    };
    (last == closing).then_some((first, second, opening, closing))
}

/// The length of the group that the text begins with.
fn length(text: &str, opening: u8, closing: u8) -> Option<usize> {
    let mut depth = 0;
    let last = text.bytes().position(|byte| {
        depth += i32::from(byte == opening) - i32::from(byte == closing);
        depth == 0
    });
    last.map(|last| last + 1)
}

/// Is the group that ends the text a row: behind `VALUES`, or an object in an array?
fn holds_rows(text: &str, opening: u8, closing: u8) -> bool {
    let mut depth = 0;
    let start = text.bytes().rposition(|byte| {
        depth += i32::from(byte == closing) - i32::from(byte == opening);
        depth == 0
    });
    let before = start.and_then(|start| text.get(..start)).unwrap_or_default();
    let before = before.trim_end_matches(' ');
    let values = before.len().checked_sub(6).and_then(|from| before.get(from..));
    opening == b'{' && before.ends_with('[') || values.is_some_and(|word| word.eq_ignore_ascii_case("VALUES"))
}
