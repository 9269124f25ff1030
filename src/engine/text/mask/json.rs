//! Masks strings in JSON: names, paths and words of users there would make a template of every record.
//!
//! Enters: a [`Masker`] at a quote. Leaves: the masker behind the string, if it is a value, or an element of an array that is
//! one. Values of keys that say what happened (`error`, `status`, `message`, …) stay, masked as any text is.
//! Absent on purpose: strings in quotes elsewhere, which often name what failed.

use super::Masker;
use super::secrets::{closing, placeholder};
use super::shapes::{at, before};

/// How keys end whose values say what happened, and are few or sentences.
const TELLING_KEYS: [&str; 32] = [
    "message",
    "msg",
    "error",
    "err",
    "reason",
    "exception",
    "description",
    "detail",
    "details",
    "cause",
    "level",
    "severity",
    "status",
    "state",
    "type",
    "kind",
    "event",
    "action",
    "method",
    "operation",
    "code",
    "result",
    "outcome",
    "title",
    "summary",
    "logger",
    "component",
    "module",
    "phase",
    "text",
    "log",
    "body",
];

/// Longest key that is looked for.
const MAX_KEY_BYTES: usize = 64;

impl Masker<'_, '_> {
    /// At a quote: the beginning of a value, or any other.
    pub(super) fn json_string(&mut self) {
        let bytes = self.bytes;
        let quote = self.position;
        self.position += 1;
        let escaped = before(bytes, quote) == b'\\';
        let head = bytes.get(..quote - usize::from(escaped)).unwrap_or_default();
        let blanks = head
            .iter()
            .rev()
            .take_while(|byte| **byte <= b' ' || **byte == 0x7f)
            .count();
        let sign = before(head, head.len() - blanks);
        if !matches!(sign, b':' | b',' | b'[') {
            return;
        }
        // What was written decides: the key itself may have been part of a value.
        self.position = quote;
        self.flush();
        self.position = quote + 1;
        let written = self
            .out
            .strip_suffix(if escaped { "\\" } else { "" })
            .unwrap_or_default();
        let written = written.trim_end_matches(' ');
        let mark = if escaped { "\\\"" } else { "\"" };
        let end = closing(bytes, quote + 1, b'"', escaped);
        let masked = match sign {
            b':' => is_value(written, mark),
            b'[' => written.strip_suffix('[').is_some_and(|array| is_value(array, mark)),
            // Behind a masked element of an array; a key of an object is followed by a colon.
            _ => {
                let element = written.strip_suffix(',').map(|list| list.trim_end_matches(' '));
                let element = element.and_then(|list| list.strip_suffix(mark)?.strip_suffix("<s>"));
                let next = bytes.get(end + mark.len()..).unwrap_or_default();
                let next = next.iter().find(|byte| **byte > b' ' && **byte != 0x7f);
                element.is_some() && matches!(next, Some(b',' | b']'))
            }
        };
        let whole = placeholder(bytes, quote + 1).is_some_and(|after| after == end);
        if !masked || end == quote + 1 || whole && bytes.get(quote + 1..end) != Some(b"<s>") {
            return;
        }
        self.emit("<s>", end);
        // The closing quote begins nothing.
        if !self.full && at(bytes, end) != 0 {
            self.position = end + mark.len();
        }
    }
}

/// Does the text end with a JSON key and a colon, and is the key none that says what happened?
fn is_value(written: &str, mark: &str) -> bool {
    let Some(before) = written.strip_suffix(':').and_then(|text| text.strip_suffix(mark)) else {
        return false;
    };
    let near = before.get(before.ceil_char_boundary(before.len().saturating_sub(MAX_KEY_BYTES))..);
    let key = near.and_then(|near| Some(near.rsplit_once('"')?.1)).unwrap_or_default();
    let tells = |word: &str| {
        let tail = key.len().checked_sub(word.len()).and_then(|from| key.get(from..));
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(word))
    };
    !TELLING_KEYS.into_iter().any(tells)
}
