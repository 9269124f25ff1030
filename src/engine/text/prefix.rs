//! Splits off what log frameworks and collectors write before a message: time, host, process, thread.
//!
//! Enters: a text. Leaves: the part of its prefix that says something (a program, a level), and the message.
//!
//! Known: RFC 5424, RFC 3164 (with and without `<PRI>`, with RFC 3339 times as rsyslog writes them), the container runtimes'
//! `time stream F`, klog and glog, and a leading time with level, thread and process in the order of log4j, logback and
//! Spring. Promises: total, no allocation, one look at the first bytes for texts without a prefix; the message is never
//! empty. Absent on purpose: the time's value (the edge reads times) and the priority (severity is no text).

use super::mask::{at, numeric_time, run_within, worded_time};

/// Longest name of a program that is believed to be one.
const MAX_NAME_BYTES: usize = 64;

/// A text without its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split<'t> {
    /// What of the prefix says something, or nothing.
    pub lead: &'t str,
    /// What joins it to the message.
    pub joint: &'static str,
    /// The rest.
    pub message: &'t str,
}

/// The text without its prefix, if it has one and says more.
pub(super) fn split(text: &str) -> Option<Split<'_>> {
    let bytes = text.as_bytes();
    let split = match at(bytes, 0) {
        b'<' if at(bytes, 1).is_ascii_digit() => prioritised(text),
        b'0'..=b'9' => timed(text),
        b'I' | b'W' | b'E' | b'F' if at(bytes, 1).is_ascii_digit() => klog(text),
        b'A'..=b'Z' if at(bytes, 3) == b' ' => bsd(text, 0),
        _ => None,
    }?;
    (!split.message.trim().is_empty()).then_some(split)
}

fn message(text: &str, start: usize) -> Option<Split<'_>> {
    Some(Split {
        lead: "",
        joint: "",
        message: text.get(start..)?.trim_start_matches(' '),
    })
}

/// `<34>…`: syslog of either kind.
fn prioritised(text: &str) -> Option<Split<'_>> {
    let bytes = text.as_bytes();
    let close = run_within(bytes, 1, 3, |byte| byte.is_ascii_digit());
    if at(bytes, close) != b'>' {
        return None;
    }
    let start = close + 1;
    let version = run_within(bytes, start, 2, |byte| byte.is_ascii_digit());
    if version > start && at(bytes, version) == b' ' {
        return structured(text, version + 1);
    }
    let start = start + usize::from(at(bytes, start) == b' ');
    bsd(text, start)
        .or_else(|| tagged(text, numeric_time(bytes, start)? + 1))
        .or_else(|| tagged(text, start))
        .or_else(|| message(text, start))
}

/// RFC 5424 behind its version: `time host app pid msgid [data] message`.
fn structured(text: &str, start: usize) -> Option<Split<'_>> {
    let mut fields = text.get(start..)?.splitn(6, ' ');
    let (time, _host, app) = (fields.next()?, fields.next()?, fields.next()?);
    let (_process, id, rest) = (fields.next()?, fields.next()?, fields.next()?);
    if time != "-" && numeric_time(time.as_bytes(), 0) != Some(time.len()) {
        return None;
    }
    let after = behind_data(rest)?;
    let after = after.trim_start_matches([' ', '\u{feff}']);
    let lead = if app == "-" { "" } else { app };
    let whole = text.len() - rest.len() - id.len() - 1;
    Some(Split {
        lead,
        joint: if lead.is_empty() { "" } else { ": " },
        // Without a message the record is what its id and data say.
        message: if after.is_empty() { text.get(whole..)? } else { after },
    })
}

/// What follows structured data: `-`, or elements in brackets whose values are quoted.
fn behind_data(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('-') {
        return Some(rest);
    }
    let bytes = text.as_bytes();
    let (mut position, mut quoted) = (0, false);
    while position < bytes.len() {
        match (at(bytes, position), quoted) {
            (b'\\', true) => position += 1,
            (b'"', _) => quoted = !quoted,
            (b']', false) if at(bytes, position + 1) != b'[' => return text.get(position + 1..),
            _ => {}
        }
        position += 1;
    }
    None
}

/// RFC 3164 from its time on: `Nov 22 10:00:00 host app[123]: message`.
fn bsd(text: &str, start: usize) -> Option<Split<'_>> {
    let bytes = text.as_bytes();
    let day = start + 4 + usize::from(at(bytes, start + 4) == b' ');
    if !at(bytes, day).is_ascii_digit() {
        return None;
    }
    let (from, end) = worded_time(bytes, day, start)?;
    if from != start || at(bytes, end) != b' ' {
        return None;
    }
    tagged(text, end + 1).or_else(|| message(text, end))
}

/// `host app[123]: message` or `app: message`.
fn tagged(text: &str, start: usize) -> Option<Split<'_>> {
    let rest = text.get(start..)?.trim_start_matches(' ');
    let (first, behind) = rest.split_once(' ')?;
    let (tag, message) = match first.strip_suffix(':') {
        Some(tag) => (tag, behind),
        None => {
            let (tag, message) = behind.split_once(": ")?;
            (tag, message)
        }
    };
    let name = tag.split('[').next().unwrap_or(tag);
    let named = !name.is_empty() && tag.len() <= MAX_NAME_BYTES && !tag.contains(char::is_whitespace);
    named.then(|| Split {
        lead: name,
        joint: ": ",
        message: message.trim_start_matches(' '),
    })
}

/// `I1122 10:00:00.123456    1 file.go:12] message`: all but the place and the message goes.
fn klog(text: &str) -> Option<Split<'_>> {
    let bytes = text.as_bytes();
    let date = run_within(bytes, 1, 9, |byte| byte.is_ascii_digit());
    if !matches!(date, 5 | 9) || at(bytes, date) != b' ' {
        return None;
    }
    let blank = |start| run_within(bytes, start, 16, |byte| byte == b' ');
    let thread = blank(numeric_time(bytes, date + 1)?);
    let end = run_within(bytes, thread, 20, |byte| byte.is_ascii_digit());
    let place = blank(end);
    let close = run_within(bytes, place, MAX_NAME_BYTES * 2, |byte| byte > b' ' && byte != b']');
    (end > thread && place > end && at(bytes, close) == b']').then(|| message(text, place))?
}

/// A leading time, and what frameworks write behind it.
fn timed(text: &str) -> Option<Split<'_>> {
    let bytes = text.as_bytes();
    let end = numeric_time(bytes, 0)?;
    if at(bytes, end) != b' ' {
        return None;
    }
    let rest = text.get(end..)?.trim_start_matches(' ');
    if let Some(line) = rest.strip_prefix("stdout ").or_else(|| rest.strip_prefix("stderr ")) {
        let line = line.strip_prefix("F ").or_else(|| line.strip_prefix("P "));
        return line.and_then(|line| message(line, 0));
    }
    // A host and a program: only with a process id are they told from a level and a class.
    let two_words = |head: &str| head.split_once(' ').is_some_and(|(_, tag)| !tag.contains(' '));
    if rest.split_once("]: ").is_some_and(|(head, _)| two_words(head)) {
        return tagged(rest, 0);
    }
    Some(framed(rest))
}

/// `[thread] LEVEL …`, `LEVEL [thread] …`, `LEVEL 123 --- [app] [thread] …`, or neither.
fn framed(rest: &str) -> Split<'_> {
    let whole = Split {
        lead: "",
        joint: "",
        message: rest,
    };
    let rest = match bracketed(rest) {
        Some((name, behind)) if level(behind).is_some() || all_digits(name) => behind,
        _ => rest,
    };
    let Some((lead, mut message)) = level(rest) else {
        return Split { message: rest, ..whole };
    };
    if let Some((process, behind)) = message.split_once(" --- ")
        && all_digits(process)
    {
        message = behind.trim_start_matches(' ');
        while let Some((_, behind)) = bracketed(message) {
            message = behind;
        }
    } else if let Some((name, behind)) = bracketed(message)
        && (name == "main" || name.bytes().any(|byte| byte.is_ascii_digit()))
    {
        message = behind;
    }
    Split {
        lead,
        joint: " ",
        message,
    }
}

/// The word in brackets that the text begins with, and what follows.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let (name, behind) = text.strip_prefix('[')?.split_once(']')?;
    let short = name.len() <= MAX_NAME_BYTES && !name.contains(['[', '\n']);
    (short && behind.starts_with(' ')).then(|| (name.trim(), behind.trim_start_matches(' ')))
}

/// The level that the text begins with, and what follows.
fn level(text: &str) -> Option<(&str, &str)> {
    let (word, behind) = text.split_once(' ')?;
    const LEVELS: [&str; 11] = [
        "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "SEVERE", "CRITICAL", "FATAL", "ALERT",
    ];
    let known = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    known.then(|| (word, behind.trim_start_matches(' ')))
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    fn without(text: &str) -> String {
        split(text).map_or_else(
            || text.to_owned(),
            |split| [split.lead, split.joint, split.message].concat(),
        )
    }

    #[test]
    fn prefixes_go() {
        for (text, expected) in [
            // RFC 5424
            (
                "<34>1 2026-11-22T10:00:00.003Z web1 app 123 ID47 - it failed",
                "app: it failed",
            ),
            (
                r#"<165>1 2026-11-22T10:00:00+02:00 web1 shop - - [a@1 k="v \"] x"][b@1 i="7"] it failed"#,
                "shop: it failed",
            ),
            ("<34>1 - - - - - - \u{feff}it failed", "it failed"),
            (
                "<34>1 2026-11-22T10:00:00Z h app 1 ID47 [a x=\"1\"]",
                "app: ID47 [a x=\"1\"]",
            ),
            (
                "<34>1 2026-11-22T10:00:00Z h app 1 ID47",
                "<34>1 2026-11-22T10:00:00Z h app 1 ID47",
            ),
            // RFC 3164
            ("<13>Nov 22 10:00:00 web1 app[123]: it failed", "app: it failed"),
            ("<13>Nov  2 10:00:00 web1 kernel: [ 12.5] oom", "kernel: [ 12.5] oom"),
            ("Nov 22 10:00:00 web1 sshd[99]: it failed", "sshd: it failed"),
            ("Nov 22 10:00:00 cron: it failed", "cron: it failed"),
            (
                "<13>2026-11-22T10:00:00.5+02:00 web1 app[1]: it failed",
                "app: it failed",
            ),
            ("<13>app[12]: it failed", "app: it failed"),
            ("<13>it failed", "it failed"),
            ("2026-11-22T10:00:00.5+02:00 web1 app[1]: it failed", "app: it failed"),
            // container runtimes, klog
            ("2026-11-22T10:00:00.123456789Z stderr F it failed", "it failed"),
            (
                "I1122 10:00:00.123456       1 main.go:12] it failed",
                "main.go:12] it failed",
            ),
            (
                "E20261122 10:00:00.123456 4711 net.cc:7] it failed",
                "net.cc:7] it failed",
            ),
            // frameworks
            (
                "2026-11-22 10:00:00,123 [thread-12] INFO c.a.B - done",
                "INFO c.a.B - done",
            ),
            ("10:00:00.123 [main] DEBUG c.a.B - done", "DEBUG c.a.B - done"),
            ("2026-11-22 10:00:00,123 WARN [exec-5] c.a.B: done", "WARN c.a.B: done"),
            ("2026-11-22 10:00:00,123 ERROR [billing] done", "ERROR [billing] done"),
            (
                "2026-11-22T10:00:00.123Z  INFO 4711 --- [shop] [nio-8080-exec-1] c.a.B  : done",
                "INFO c.a.B  : done",
            ),
            ("2026-11-22 10:00:00.123 UTC [4711] LOG:  done", "LOG:  done"),
            ("2026/11/22 10:00:00 [error] 12#12: *1 done", "[error] 12#12: *1 done"),
            ("2026-11-22 10:00:00 [auth] done", "[auth] done"),
            // none
            ("it failed at 10:00:00", "it failed at 10:00:00"),
            ("2026-11-22 10:00:00 ", "2026-11-22 10:00:00 "),
            ("<html> 5", "<html> 5"),
            ("<1234>x", "<1234>x"),
            ("May I ask: who", "May I ask: who"),
            ("E5 is a chord", "E5 is a chord"),
            ("", ""),
        ] {
            assert_eq!(without(text), expected, "from {text:?}");
        }
    }

    proptest! {
        /// Any text at all: no panic, and a message is left.
        #[test]
        fn is_total(text in "(<[0-9]{1,4}>)?([0-9] )?([A-Z][a-z]{2} +[0-9]+ |[IWEF][0-9]{4} |2026-11-22[T ])?([0-9:.]{5,15}Z?)? ?\\PC*") {
            if let Some(split) = split(&text) {
                prop_assert!(text.ends_with(split.message) && !split.message.trim().is_empty());
            }
        }
    }
}
