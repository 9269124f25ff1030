//! What an incident's fields are for people: times, states, severities, ties, and a course as a bar.
//!
//! What enters: fields of the API's messages. What leaves: short words, and the colours they have. Promises: times are UTC, as
//! in the ids; what is not known is an empty text. Absent on purpose: lines, see [`super::table`] and [`super::show`].

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;

use crate::{
    commands::terminal::length,
    edge::api::proto::{Happened, Incident, IncidentState},
    engine::view::severity_name,
};

/// For what is only there to be copied or compared.
pub const FAINT: Style = Style::new().dimmed();
/// For what is read first.
pub const STRONG: Style = Style::new().bold();

/// The word for an incident's state.
pub fn state(incident: &Incident) -> &'static str {
    match incident.state() {
        IncidentState::Unspecified => "",
        IncidentState::Open => "open",
        IncidentState::Closed => "closed",
        IncidentState::Merged => "merged",
    }
}

/// And how it looks.
pub fn state_style(incident: &Incident) -> Style {
    match incident.state() {
        IncidentState::Open => STRONG,
        IncidentState::Merged => FAINT,
        IncidentState::Unspecified | IncidentState::Closed => Style::new(),
    }
}

/// The word for what happened to an incident, and how it looks.
pub fn happened(happened: Happened) -> (&'static str, Style) {
    let colored = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
    match happened {
        Happened::Unspecified => ("", Style::new()),
        Happened::Opened => ("opened", colored(AnsiColor::Magenta).bold()),
        Happened::Updated => ("grew", Style::new()),
        Happened::Merged => ("merged", colored(AnsiColor::Cyan)),
        Happened::Closed => ("closed", colored(AnsiColor::Green)),
    }
}

/// The name of a severity, and how it looks.
pub fn severity(severity_number: i32) -> (&'static str, Style) {
    let colored = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
    let style = match severity_number {
        13..=16 => colored(AnsiColor::Yellow),
        17..=20 => colored(AnsiColor::Red),
        21..=24 => colored(AnsiColor::Red).bold(),
        _ => Style::new(),
    };
    (severity_name(severity_number).unwrap_or_default(), style)
}

/// `2024-11-18 10:00:00`.
pub fn time(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| Timestamp::from_second(time.seconds).ok());
    time.map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// `11-18 10:00:00`: the year is in the id.
pub fn day_and_time(at: Option<&prost_types::Timestamp>) -> String {
    time(at).get(5..).unwrap_or_default().to_owned()
}

/// `10:00:00`.
pub fn time_of_day(at: Option<&prost_types::Timestamp>) -> String {
    time(at).get(11..).unwrap_or_default().to_owned()
}

/// `+3m08s`, from the first record to the last.
pub fn lasted(incident: &Incident) -> String {
    match (incident.first_time.as_ref(), incident.last_time.as_ref()) {
        (Some(first), Some(last)) => format!("+{}", length(between_ms(first, last).max(0) as u64 / 1000)),
        _ => String::new(),
    }
}

/// `+0.4s`, `+12s`, `-3m08s`: how long after (or before) another time.
pub fn offset(from: Option<&prost_types::Timestamp>, to: Option<&prost_types::Timestamp>) -> String {
    let (Some(from), Some(to)) = (from, to) else {
        return String::new();
    };
    let between_ms = between_ms(from, to);
    let sign = if between_ms < 0 { '-' } else { '+' };
    let ms = between_ms.unsigned_abs();
    match ms {
        0 => "+0s".to_owned(),
        1..10_000 => format!("{sign}{}.{}s", ms / 1000, ms / 100 % 10),
        _ => format!("{sign}{}", length(ms / 1000)),
    }
}

fn between_ms(from: &prost_types::Timestamp, to: &prost_types::Timestamp) -> i64 {
    let ms = |time: &prost_types::Timestamp| {
        let whole = time.seconds.saturating_mul(1000);
        whole.saturating_add(i64::from(time.nanos / 1_000_000))
    };
    ms(to).saturating_sub(ms(from))
}

/// Records over time as a bar of at most so many characters: the highest is `▇`, and `.` is none.
pub fn bar(records: &[u64], most: usize) -> String {
    let each = records.len().div_ceil(most.max(1)).max(1);
    let sums: Vec<u64> = records
        .chunks(each)
        .map(|spans| spans.iter().fold(0, |sum: u64, records| sum.saturating_add(*records)))
        .collect();
    let highest = sums.iter().copied().max().unwrap_or_default().max(1);
    let level = |sum: u64| match sum as f64 / highest as f64 {
        0.0 => '.',
        share if share <= 0.2 => '▁',
        share if share <= 0.4 => '▂',
        share if share <= 0.6 => '▃',
        share if share <= 0.8 => '▅',
        _ => '▇',
    };
    sums.into_iter().map(level).collect()
}

/// What made episodes part of one incident, in words; the name itself where it is of a later version.
pub fn tie(name: &str) -> &str {
    match name {
        "meaning" => "alike in meaning",
        "shared_id" => "the same ids in both",
        "time" => "close in time",
        "service" => "the same service, or one it works with",
        "companion" => "together in an incident before",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, ms: i32) -> prost_types::Timestamp {
        prost_types::Timestamp {
            seconds,
            nanos: ms * 1_000_000,
        }
    }

    #[test]
    fn times_are_written_in_three_lengths() {
        let at = at(1_731_924_000, 999);
        let told = [time(Some(&at)), day_and_time(Some(&at)), time_of_day(Some(&at))];
        assert_eq!(told, ["2024-11-18 10:00:00", "11-18 10:00:00", "10:00:00"]);
        assert_eq!([time(None), day_and_time(None), time_of_day(None)], ["", "", ""]);
    }

    #[test]
    fn offsets_tell_tenths_while_they_matter() {
        let edge = at(100, 500);
        let told = [
            at(100, 500),
            at(100, 950),
            at(103, 0),
            at(112, 700),
            at(400, 0),
            at(100, 0),
            at(40, 0),
        ]
        .map(|time| offset(Some(&edge), Some(&time)));
        assert_eq!(told, ["+0s", "+0.4s", "+2.5s", "+12s", "+4m59s", "-0.5s", "-1m00s"]);
        assert_eq!(offset(None, Some(&edge)), "");
    }

    #[test]
    fn a_course_is_a_bar_that_fits() {
        assert_eq!(bar(&[1, 0, 20, 40, 60, 80, 100], 8), "▁.▁▂▃▅▇");
        assert_eq!(bar(&[1; 32], 8), "▇▇▇▇▇▇▇▇");
        assert_eq!(bar(&[1; 9], 8), "▇▇▇▇▃", "two spans a character, one in the last");
        assert_eq!(bar(&[1, 1_000_000], 8), "▁▇", "one of many is not none");
        assert_eq!((bar(&[], 8), bar(&[0, 0], 8)), (String::new(), "..".to_owned()));
    }
}
