//! What is written for people: how wide the terminal is, whether it has colours, and texts of logs that can do it no harm.
//!
//! What enters: standard output, `--color`, texts. What leaves: lines that fit, counted in columns (a wide character is two).
//! Promises: nothing that a log says moves the cursor, changes a colour or turns the direction of the text; colours only where
//! somebody looks and wants them (`NO_COLOR`, `CLICOLOR`, `TERM=dumb`), or asks for them. Absent on purpose: cursor
//! movements; what was printed stays.

use std::io::{self, IsTerminal};

use anstream::AutoStream;
use anstyle::Style;
use clap::ColorChoice;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::engine::view::is_obeyed;

/// Stands for a character that would have been obeyed instead of shown.
const OBEYED: char = char::REPLACEMENT_CHARACTER;
/// Characters a column at most: some are put over the one before and take no column.
const STACKED: usize = 4;

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ColorArgs {
    /// Colours; auto is on a terminal only, and not where NO_COLOR is set
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorChoice,
}

/// What is written to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// How wide it is; nothing where it is a file or another program.
    pub columns: Option<usize>,
    /// Whether it has colours.
    pub has_colors: bool,
}

impl Terminal {
    /// Standard output.
    pub fn of_stdout(wanted: ColorArgs) -> Self {
        let stdout = io::stdout();
        let columns = terminal_size::terminal_size_of(&stdout).filter(|_| stdout.is_terminal());
        Self {
            columns: columns.map(|(width, _)| usize::from(width.0)),
            has_colors: match wanted.color {
                ColorChoice::Auto => AutoStream::choice(&stdout) != anstream::ColorChoice::Never,
                ColorChoice::Always => true,
                ColorChoice::Never => false,
            },
        }
    }

    /// Columns beside those that are taken; without end where there is no terminal.
    pub fn room(self, taken: usize) -> usize {
        self.columns.map_or(usize::MAX, |columns| columns.saturating_sub(taken))
    }

    /// The text in that style, where there are colours.
    pub fn paint(self, style: Style, text: &str) -> String {
        if self.has_colors && style != Style::new() && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// How many columns a text takes.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// The text with spaces behind it, so that it takes as many columns.
pub fn left(text: &str, wide: usize) -> String {
    format!("{text}{}", " ".repeat(wide.saturating_sub(columns(text))))
}

/// The text with spaces in front of it, so that it takes as many columns.
pub fn right(text: &str, wide: usize) -> String {
    format!("{}{text}", " ".repeat(wide.saturating_sub(columns(text))))
}

/// The text as it stands, without what a terminal would obey.
pub fn harmless(text: &str) -> String {
    let shown = |character| if is_obeyed(character) { OBEYED } else { character };
    text.chars().map(shown).collect()
}

/// The text on one line of at most so many columns, harmless.
pub fn one_line(text: &str, most: usize) -> String {
    let words: Vec<String> = text.split_whitespace().map(harmless).collect();
    let mut line = words.join(" ");
    let is_cut = columns(&line) > most;
    let room = if is_cut { most.saturating_sub(1) } else { most };
    let mut used = 0;
    let end = line.char_indices().enumerate().find(|(number, (_, character))| {
        used += character.width().unwrap_or(0);
        used > room || *number >= most.saturating_mul(STACKED)
    });
    if let Some((_, (end, _))) = end {
        line.truncate(end);
        if most > 0 {
            line.push('…');
        }
    }
    line
}

/// The text on as many lines as it takes, each of at most so many columns, harmless. Only words that are longer are cut.
pub fn wrapped(text: &str, wide: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut used) = (String::new(), 0_usize);
    for word in text.split_whitespace().map(harmless) {
        if used > 0 && used.saturating_add(1 + columns(&word)) > wide {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        for character in word.chars() {
            let more = character.width().unwrap_or(0);
            if used > 0 && used.saturating_add(more) > wide {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(character);
            used += more;
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// `24s`, `3m08s`, `2h05m`, `3d04h`.
pub fn length(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes:02}m"),
        (days, hours, ..) => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_wide_as_it_may_be_in_columns() {
        assert_eq!(one_line("two\n  words", 9), "two words");
        assert_eq!(one_line("two words", 8), "two wor…");
        assert_eq!(one_line("支付失败了", 10), "支付失败了");
        assert_eq!(
            one_line("支付失败了", 9),
            "支付失败…",
            "a wide character is two columns"
        );
        assert_eq!(one_line("支付失败了", 8), "支付失…");
        assert_eq!(columns(&one_line("支付失败了", 8)), 7, "half of one is none");
        assert_eq!(
            (one_line("any", 0), one_line("any", 1)),
            (String::new(), "…".to_owned())
        );
        assert_eq!(one_line("any", usize::MAX), "any");
        assert_eq!(
            (left("支付", 5), right("支付", 5)),
            ("支付 ".to_owned(), " 支付".to_owned())
        );
        let stacked = format!("e{}", "\u{301}".repeat(10_000));
        assert!(
            one_line(&stacked, 10).chars().count() <= 41,
            "what takes no column has an end too"
        );
    }

    #[test]
    fn nothing_that_a_log_says_is_obeyed() {
        let evil = "\u{1b}[2Jboom \u{9b}31m\u{7}\u{202e}txt.exe\u{2066}\u{200b}\u{feff}\u{e0041}\u{7f}";
        for text in [one_line(evil, 80), harmless(evil), wrapped(evil, 80).concat()] {
            assert!(!text.chars().any(is_obeyed), "{text:?}");
            assert!(text.contains("�[2Jboom") && text.contains("txt.exe"), "{text:?}");
        }
        assert_eq!(
            one_line("👩\u{200d}🚒 a\u{301}", 80),
            "👩\u{200d}🚒 a\u{301}",
            "what joins letters stays"
        );
    }

    #[test]
    fn words_are_wrapped_and_only_long_ones_cut() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a /very/long/path b", 6), ["a", "/very/", "long/p", "ath b"]);
        assert_eq!(wrapped("支付 失败", 4), ["支付", "失败"]);
        assert_eq!(wrapped("支付", 1), ["支", "付"], "never without end");
        assert_eq!(wrapped("as it is", usize::MAX), ["as it is"]);
        assert!(wrapped("  ", 10).is_empty());
    }

    #[test]
    fn colours_are_there_where_they_are_wanted() {
        let red = Style::new().fg_color(Some(anstyle::AnsiColor::Red.into()));
        let mut terminal = Terminal::default();
        assert_eq!(terminal.paint(red, "ERROR"), "ERROR");
        terminal.has_colors = true;
        assert_eq!(terminal.paint(red, "ERROR"), "\u{1b}[31mERROR\u{1b}[0m");
        assert_eq!(
            (terminal.paint(red, ""), terminal.paint(Style::new(), "x")),
            (String::new(), "x".to_owned())
        );
    }

    #[test]
    fn lengths_are_short() {
        let told = [0, 24, 188, 7500, 3600 * 76].map(length);
        assert_eq!(told, ["0s", "24s", "3m08s", "2h05m", "3d04h"]);
    }
}
