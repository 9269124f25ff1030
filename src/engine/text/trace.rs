//! Shortens stack traces, so that what was thrown and where carries the text, and the same fault thrown twice is one text.
//!
//! Enters: a text of several lines. Leaves: the lines without the deeper frames. Of Java, .NET, JavaScript, Python, Ruby,
//! PHP, Go, Rust and gdb the messages stay, the frames nearest to the fault, and fewer of each cause behind it; of Go the
//! first goroutine. Promise: total, one pass. Absent on purpose: line numbers and addresses, which masking replaces.

use super::mask::at;

/// Frames kept of the first run of stack frames: the first, or in Python (innermost last) the last ones.
const MAX_FRAMES: usize = 5;
/// The same of each further run: a cause says more by its message.
const MAX_FURTHER_FRAMES: usize = 2;

/// Leaves out what is deep.
pub(super) fn shorten(text: &mut String) {
    let lines: Vec<&str> = text.lines().filter(|line| !is_noise(line)).collect();
    let frames = (0..lines.len()).any(|index| frame(lines.get(index..).unwrap_or_default()).is_some());
    if !frames {
        return;
    }
    let mut kept: Vec<&str> = Vec::with_capacity(lines.len());
    let mut rest = lines.as_slice();
    let (mut budget, mut goroutines) = (MAX_FRAMES, 0);
    while let Some((line, tail)) = rest.split_first() {
        let Some(order) = frame(rest) else {
            goroutines += usize::from(line.starts_with("goroutine ") && line.ends_with("]:"));
            if goroutines > 1 {
                break;
            }
            kept.push(line);
            rest = tail;
            continue;
        };
        // A run: frames, and the lines of source code and places that Python, Go and Rust print with them.
        let mut starts = Vec::new();
        let mut length = 0;
        while let Some(line) = rest.get(length) {
            if frame(rest.get(length..).unwrap_or_default()).is_some() && !is_place(&starts, order, line) {
                starts.push(length);
            } else if !line.starts_with("    ") && !line.starts_with('\t') {
                break;
            }
            length += 1;
        }
        let (run, tail) = rest.split_at(length);
        let from = |frames: usize| starts.get(frames).copied().unwrap_or(length);
        let (first, last) = match order {
            Order::InnermostFirst | Order::Numbered => (0, from(budget)),
            Order::InnermostLast => (from(starts.len().saturating_sub(budget)), length),
        };
        kept.extend(run.get(first..last).unwrap_or_default());
        budget = MAX_FURTHER_FRAMES;
        rest = tail;
    }
    *text = kept.join("\n");
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    InnermostFirst,
    InnermostLast,
    /// Innermost first, and a frame's place is a line of its own.
    Numbered,
}

/// Rust prints `at file:line` below each numbered frame.
fn is_place(starts: &[usize], order: Order, line: &str) -> bool {
    order == Order::Numbered && !starts.is_empty() && line.trim_start().starts_with("at ")
}

/// Lines that say nothing: `... 12 more`, and Python's marks below a line of code.
fn is_noise(line: &str) -> bool {
    let bare = line.trim();
    let marks = bare.len() >= 2 && bare.bytes().all(|byte| matches!(byte, b'^' | b'~'));
    marks
        || bare.len() < line.len()
            && bare.starts_with("... ")
            && (bare.ends_with(" more") || bare.ends_with(" omitted"))
}

/// Is the first line a stack frame of Java, .NET or JavaScript (`at …`), Python (`File "…"`), Ruby (`from …`), Go (a call,
/// its file below), PHP or gdb (`#0 …`) or Rust (`0: …`)?
fn frame(lines: &[&str]) -> Option<Order> {
    let line = lines.first()?;
    let bare = line.trim_start();
    let indented = bare.len() < line.len();
    if indented && bare.starts_with("File \"") {
        return Some(Order::InnermostLast);
    }
    let digits = bare.bytes().take_while(u8::is_ascii_digit).count();
    if indented && digits > 0 && bare.get(digits..).is_some_and(|rest| rest.starts_with(": ")) {
        return Some(Order::Numbered);
    }
    let named = indented && (bare.starts_with("at ") || bare.starts_with("from "));
    let below = lines
        .get(1)
        .is_some_and(|below| below.starts_with('\t') && below.contains(".go:"));
    let go = !indented && below && (bare.ends_with(')') || bare.starts_with("created by "));
    let numbered = bare.starts_with('#') && at(bare.as_bytes(), 1).is_ascii_digit();
    (named || go || numbered).then_some(Order::InnermostFirst)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::mask;
    use super::*;

    fn shortened(text: &str) -> String {
        let mut text = text.to_owned();
        shorten(&mut text);
        text
    }

    fn template(text: &str) -> String {
        let mut out = String::new();
        mask(&shortened(text), &mut out);
        out
    }

    fn repeated(count: usize, line: impl Fn(usize) -> String) -> String {
        (0..count).map(line).collect()
    }

    /// What was thrown, why, and where: one template, whatever the depth of the stack and the lines of the release.
    #[test]
    fn the_same_fault_is_one_template() {
        let java = |depth: usize, n: usize| {
            let frames = repeated(depth, |i| format!("\n\tat org.shop.C{i}.run(C{i}.java:{})", n + i));
            format!(
                "java.io.IOException: disk full\n\tat a.b.Proxy$$Lambda$14/0x000000080006{n:04}.get(Unknown Source)\
                 {frames}\nCaused by: java.net.SocketException: reset{frames}\n\t... {n} more"
            )
        };
        let go = |depth: usize, n: usize| {
            let frames = repeated(depth, |i| {
                format!("main.f{i}(0xc00001{n:04}, 0x{n})\n\t/src/main.go:{n} +0x{n}d\n")
            });
            format!(
                "panic: nil map\n\ngoroutine {n} [running]:\n{frames}created by main.main in goroutine {n}\n\t/src/main.go:{n} +0x1d\n\n\
                 goroutine 18 [select]:\nmain.other(0x1)\n\t/src/other.go:{n} +0x1d\n"
            )
        };
        let python = |depth: usize, n: usize| {
            let deep = repeated(depth, |i| {
                format!("  File \"/srv/deep{i}.py\", line {n}, in go\n    go({n})\n")
            });
            let near = repeated(5, |i| {
                format!("  File \"/srv/m.py\", line {n}, in f{i}\n    f{i}()\n    ~^^^\n")
            });
            format!("failed\nTraceback (most recent call last):\n{deep}{near}KeyError: 'price'")
        };
        let dotnet = |depth: usize, n: usize| {
            let frames = repeated(depth, |i| format!("   at Shop.C{i}.Run() in /src/C.cs:line {n}\n"));
            format!(
                "System.InvalidOperationException: broken\n ---> System.TimeoutException: late\n{frames}   --- End of inner \
                 exception stack trace ---\n{frames}"
            )
        };
        let node = |depth: usize, n: usize| {
            let frames = repeated(depth, |i| format!("\n    at f{i} (/app/x.js:{n}:{n})"));
            format!("TypeError: x is not a function{frames}\n    at node:internal/main:{n}:1")
        };
        let rust = |depth: usize, n: usize| {
            let frames = repeated(depth, |i| {
                format!("  {i}: shop::f{i}\n             at /src/f.rs:{n}:5\n")
            });
            format!(
                "thread 'main' panicked at src/f.rs:{n}:5:\nindex out of bounds\nstack backtrace:\n{frames}note: done"
            )
        };
        type Fault<'f> = (
            &'f str,
            &'f dyn Fn(usize, usize) -> String,
            &'f [&'f str],
            &'f [&'f str],
        );
        let all: [Fault<'_>; 6] = [
            (
                "java",
                &java,
                &["java.io.IOException: disk full", "SocketException: reset", "C3"],
                &["C4.", "more"],
            ),
            ("go", &go, &["panic: nil map", "main.f<n>"], &["other", "created by"]),
            ("python", &python, &["KeyError: 'price'", "in f<n>"], &["deep", "^^"]),
            (
                "dotnet",
                &dotnet,
                &["TimeoutException: late", "InvalidOperationException: broken"],
                &[],
            ),
            ("node", &node, &["TypeError: x is not a function"], &["internal"]),
            ("rust", &rust, &["index out of bounds", "shop::f<n>", "note: done"], &[]),
        ];
        for (name, fault, there, gone) in all {
            let template_here = template(&fault(8, 17));
            assert_eq!(template(&fault(60, 4321)), template_here, "{name}");
            for text in there.iter().filter(|text| !text.starts_with('C')) {
                assert!(template_here.contains(text), "{name}: {text} in {template_here}");
            }
            let short = shortened(&fault(60, 17));
            assert!(short.lines().count() <= 16, "{name}:\n{short}");
            for text in gone {
                assert!(!short.contains(text), "{name}: {text} in {short}");
            }
        }
    }

    /// Lines without a frame stay, all of them.
    #[test]
    fn other_lines_stay() {
        for text in ["a\nb\n\nc", "at home\nfrom here\n#x", "1: one\n2: two", "a\n    b\n\tc"] {
            assert_eq!(shortened(text), text);
        }
    }
}
