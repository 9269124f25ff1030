//! Severity names and numbers of the field, as OTLP's severity numbers.
//!
//! Enters: what a column or a line says. Leaves: 1 (TRACE) to 24 (FATAL4), or 0 when it says nothing.
//! Source: OpenTelemetry log data model, appendix B (syslog, log4j, Windows and others).

/// The OTLP severity number of a level's name (case does not matter) or of pino's and bunyan's numbers.
pub fn number_of(text: &str) -> i32 {
    let name = text.trim().trim_matches(['[', ']', '<', '>', ':', '"']);
    if name.len() > 16 {
        return 0;
    }
    match name.to_ascii_lowercase().as_str() {
        "trace" | "finest" | "verbose" | "t" | "v" | "10" => 1,
        "finer" => 2,
        "debug" | "fine" | "dbg" | "d" | "20" | "debug1" | "debug2" | "debug3" | "debug4" | "debug5" => 5,
        "info" | "information" | "informational" | "inf" | "i" | "config" | "log" | "statement" | "detail" | "hint"
        | "30" => 9,
        "notice" | "note" | "n" => 10,
        "warn" | "warning" | "wrn" | "w" | "40" => 13,
        "error" | "err" | "severe" | "failure" | "e" | "50" => 17,
        "critical" | "crit" | "c" => 18,
        "alert" => 19,
        "fatal" | "emerg" | "emergency" | "f" | "60" => 21,
        "panic" => 22,
        _ => 0,
    }
}

/// The OTLP severity number of a syslog priority, facility or not.
pub(super) fn of_syslog_priority(priority: u64) -> i32 {
    match priority & 7 {
        0 => 21,
        1 => 19,
        2 => 18,
        3 => 17,
        4 => 13,
        5 => 10,
        6 => 9,
        _ => 5,
    }
}

/// The level that a line of plain text names near its start: a word in brackets, in capitals, or before a colon.
pub(super) fn in_line(text: &str) -> Option<&str> {
    for word in text.split_ascii_whitespace().take(6) {
        let bare = word.trim_matches(['[', ']', '(', ')', '<', '>', ':', '|', ',']);
        let long = bare.len() >= 3 && bare.bytes().all(|byte| byte.is_ascii_alphabetic());
        let marked = word.starts_with(['[', '<'])
            || word.ends_with([':', ']'])
            || bare.bytes().all(|byte| byte.is_ascii_uppercase());
        if long && marked && number_of(bare) != 0 {
            return Some(bare);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_numbers() {
        for (name, number) in [
            ("INFO", 9),
            ("Warning", 13),
            ("[error]", 17),
            ("FATAL", 21),
            ("notice", 10),
            ("50", 17),
            ("", 0),
            ("blue", 0),
        ] {
            assert_eq!(number_of(name), number, "{name}");
        }
        assert_eq!((of_syslog_priority(3), of_syslog_priority(8 * 4 + 6)), (17, 9));
    }

    /// Words that happen to be levels in a sentence are no levels.
    #[test]
    fn a_level_in_a_line_is_marked_as_one() {
        assert_eq!(in_line("[12] LOG:  database system is ready"), Some("LOG"));
        assert_eq!(in_line("[error] 12#0: *5 connect() failed"), Some("error"));
        assert_eq!(in_line("main WARN org.example: slow"), Some("WARN"));
        assert_eq!(in_line("an error in the log of the config"), None);
    }
}
