//! Reads logfmt: `level=info msg="it works" took=12ms`.
//!
//! Enters: a text. Leaves: its pairs in order, if all of it is pairs. Promises: total; a text that is not logfmt costs a
//! look at its first word. Absent on purpose: keys without a value, which would make logfmt of prose.

use std::borrow::Cow;

use super::mask::{at, run_within};

/// Most pairs that are read.
const MAX_PAIRS: usize = 256;

/// The pairs of a text that consists of two or more of them and nothing else.
pub(super) fn pairs(text: &str) -> Option<Vec<(&str, Cow<'_, str>)>> {
    let bytes = text.as_bytes();
    let mut pairs = Vec::new();
    let mut position = 0;
    while position < bytes.len() {
        let start = position;
        let end = run_within(bytes, start, 64, |byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'@' | b'/')
        });
        let named = at(bytes, start).is_ascii_alphabetic() || matches!(at(bytes, start), b'_' | b'@');
        if !named || at(bytes, end) != b'=' || pairs.len() == MAX_PAIRS {
            return None;
        }
        let (value, after) = if at(bytes, end + 1) == b'"' {
            quoted(text, end + 2)?
        } else {
            let after = run_within(bytes, end + 1, bytes.len(), |byte| byte > b' ' && byte != b'"');
            (Cow::Borrowed(text.get(end + 1..after)?), after)
        };
        pairs.push((text.get(start..end)?, value));
        position = run_within(bytes, after, bytes.len(), |byte| byte == b' ');
        if position == after && after < bytes.len() {
            return None;
        }
    }
    (pairs.len() >= 2).then_some(pairs)
}

/// The string from `start` up to its closing quote, and the position behind that.
fn quoted(text: &str, start: usize) -> Option<(Cow<'_, str>, usize)> {
    let (mut end, mut escaped) = (start, false);
    let bytes = text.as_bytes();
    while end < bytes.len() && at(bytes, end) != b'"' {
        let escape = at(bytes, end) == b'\\';
        escaped |= escape;
        end += 1 + usize::from(escape);
    }
    let inner = text.get(start..end)?;
    if at(bytes, end) != b'"' {
        return None;
    }
    if !escaped {
        return Some((Cow::Borrowed(inner), end + 1));
    }
    // Go quotes as JSON does, nearly: what JSON does not know stays as it stands.
    let plain = serde_json::from_str(text.get(start - 1..=end)?).map_or(Cow::Borrowed(inner), Cow::Owned);
    Some((plain, end + 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn reads_pairs_and_nothing_else() {
        let read = |text| {
            pairs(text).map(|pairs| {
                pairs
                    .iter()
                    .map(|(key, value)| format!("{key}:{value}"))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            read(r#"level=info msg="it \"works\"\n" path=/a?b=c err= http.status=200"#).unwrap(),
            [
                "level:info",
                "msg:it \"works\"\n",
                "path:/a?b=c",
                "err:",
                "http.status:200"
            ]
        );
        assert_eq!(read(r#"a="\q" b=1"#).unwrap(), [r"a:\q", "b:1"]);
        for prose in [
            "a=1",
            "took=5 then it ended",
            "x = 5 y = 6",
            "1=2 3=4",
            r#"a="b"c d=e"#,
            r#"a="b c=d"#,
            "a=1\nb=2",
            "",
            "=",
            "é=1 b=2",
        ] {
            assert_eq!(read(prose), None, "{prose}");
        }
    }
}
