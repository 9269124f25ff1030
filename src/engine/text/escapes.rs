//! Strips ANSI escape sequences: colours and titles are for terminals, not part of what a log says.
//!
//! Enters: a text. Leaves: the text without them; no escape byte is left.

use super::mask::{at, run_within};

/// The byte that begins an ANSI escape sequence.
pub(super) const ESCAPE: u8 = 0x1b;

/// The text without ANSI escape sequences.
pub(super) fn without_escapes(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = String::with_capacity(text.len());
    let mut position = 0;
    while position < bytes.len() {
        let escape = bytes
            .iter()
            .skip(position)
            .position(|byte| *byte == ESCAPE)
            .map_or(bytes.len(), |offset| position + offset);
        plain.push_str(text.get(position..escape).unwrap_or_default());
        position = if at(bytes, escape) == ESCAPE {
            skip_escape(bytes, escape)
        } else {
            escape
        };
    }
    plain
}

/// The end of an ANSI escape sequence at `start`: CSI (colours), OSC (titles) or a two-byte one.
fn skip_escape(bytes: &[u8], start: usize) -> usize {
    match at(bytes, start + 1) {
        b'[' => {
            let end = run_within(bytes, start + 2, 64, |byte| (0x20..0x40).contains(&byte));
            if (0x40..0x7f).contains(&at(bytes, end)) {
                end + 1
            } else {
                end
            }
        }
        b']' => {
            let end = run_within(bytes, start + 2, 512, |byte| (b' '..0x7f).contains(&byte));
            match at(bytes, end) {
                0x07 => end + 1,
                0x1b if at(bytes, end + 1) == b'\\' => end + 2,
                _ => end,
            }
        }
        0x20..0x7f => start + 2,
        _ => start + 1,
    }
}
