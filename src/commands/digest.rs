//! Incidents as a person reads them: gathers the records that carry one `incident_id`, and prints the gist.
//!
//! What enters: marked records in any order. What leaves: a digest per incident, in order of first sight of its leading
//! edge, and text for a terminal. Promises: the leading edge is the earliest anomalous record (the first of equals), or
//! the earliest of all where none is anomalous. Absent on purpose: judgement; it only counts what others decided.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
};

use super::terminal::{harmless, length, one_line};
use crate::engine::{
    text::TemplateKey,
    view::{rfc3339, severity_name},
};

/// One record that belongs to an incident.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Event time, nanoseconds since the Unix epoch, if it has one.
    pub time_unix_nano: Option<u64>,
    /// Name of its service.
    pub service: &'a str,
    /// OTLP severity number, 0 when unknown.
    pub severity_number: i32,
    /// What it says.
    pub message: &'a str,
    /// Whether it was judged anomalous, or merely belongs.
    pub is_anomaly: bool,
    /// Its template, where that is known.
    pub template: Option<TemplateKey>,
}

/// What there is to say of one incident.
#[derive(Clone, Debug)]
pub struct Digest<'a> {
    /// Its id.
    pub incident_id: String,
    /// Its records, in time order (equals in input order).
    pub members: Vec<Member<'a>>,
}

impl<'a> Digest<'a> {
    /// The record it began with.
    pub fn leading_edge(&self) -> Option<&Member<'a>> {
        self.members
            .iter()
            .find(|member| member.is_anomaly)
            .or(self.members.first())
    }

    /// How many of its records are anomalous themselves.
    pub fn anomalous(&self) -> usize {
        self.members.iter().filter(|member| member.is_anomaly).count()
    }

    /// Its services, in order of appearance.
    pub fn services(&self) -> Vec<&'a str> {
        let mut services = Vec::new();
        for member in &self.members {
            if !services.contains(&member.service) {
                services.push(member.service);
            }
        }
        services
    }

    /// Time of its first and of its last record.
    pub fn span_unix_nano(&self) -> Option<(u64, u64)> {
        let mut times = self.members.iter().filter_map(|member| member.time_unix_nano);
        let first = times.next()?;
        Some((first, times.next_back().unwrap_or(first)))
    }

    /// Its gravest record: the first of the highest severity among the anomalous ones, or among all where there is none.
    pub fn worst(&self) -> Option<&Member<'a>> {
        let is_mixed = self.anomalous() > 0;
        let graded = self.members.iter().filter(|member| member.is_anomaly || !is_mixed);
        // Of equals the last is taken, which is the first from behind.
        graded.rev().max_by_key(|member| member.severity_number)
    }

    /// Its worst severity number.
    pub fn worst_severity(&self) -> i32 {
        self.members
            .iter()
            .map(|member| member.severity_number)
            .max()
            .unwrap_or(0)
    }

    /// Its most frequent messages after the leading edge, with their counts, numbers told apart.
    fn frequent(&self, most: usize) -> Vec<(&'a str, usize)> {
        let mut counts: BTreeMap<String, (&'a str, usize)> = BTreeMap::new();
        for member in self.members.iter().filter(|member| member.is_anomaly) {
            let shape = member
                .message
                .chars()
                .filter(|c| !c.is_ascii_digit())
                .take(120)
                .collect();
            counts.entry(shape).or_insert((member.message, 0)).1 += 1;
        }
        let mut frequent: Vec<_> = counts.into_values().collect();
        frequent.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        frequent.truncate(most);
        frequent
    }
}

/// Gathers members into incidents, ordered by the time of their first record, those without times last.
pub fn gather<'a>(members: impl Iterator<Item = (String, Member<'a>)>) -> Vec<Digest<'a>> {
    let mut index: HashMap<String, usize> = HashMap::new();
    let mut digests: Vec<Digest<'a>> = Vec::new();
    for (incident_id, member) in members {
        let at = *index.entry(incident_id).or_insert_with_key(|incident_id| {
            digests.push(Digest {
                incident_id: incident_id.clone(),
                members: Vec::new(),
            });
            digests.len() - 1
        });
        if let Some(digest) = digests.get_mut(at) {
            digest.members.push(member);
        }
    }
    for digest in &mut digests {
        digest
            .members
            .sort_by_key(|member| member.time_unix_nano.unwrap_or(u64::MAX));
    }
    digests.sort_by_key(|digest| digest.span_unix_nano().map_or(u64::MAX, |(first, _)| first));
    digests
}

/// Which of incidents with so many records are shown when only the `most` largest are: of equals the first.
pub fn largest(records: &[usize], most: usize) -> Vec<bool> {
    let mut by_size = records.to_vec();
    by_size.sort_unstable_by_key(|records| std::cmp::Reverse(*records));
    let smallest_shown = by_size.get(most.saturating_sub(1)).copied().unwrap_or(0);
    let mut shown = 0;
    let show = |records: &usize| {
        let is_shown = *records >= smallest_shown && shown < most;
        shown += usize::from(is_shown);
        is_shown
    };
    records.iter().map(show).collect()
}

/// Prints the `most` largest incidents in order of time, a few lines each.
pub fn print(out: &mut impl Write, digests: &[Digest<'_>], most: usize) -> io::Result<()> {
    let records: Vec<usize> = digests.iter().map(|digest| digest.members.len()).collect();
    let is_shown = largest(&records, most);
    for (digest, _) in digests.iter().zip(&is_shown).filter(|(_, is_shown)| **is_shown) {
        print_one(out, digest)?;
    }
    print_rest(out, &is_shown)
}

/// Says how many incidents are not shown, if any.
pub fn print_rest(out: &mut impl Write, is_shown: &[bool]) -> io::Result<()> {
    match is_shown.iter().filter(|is_shown| !**is_shown).count() {
        0 => Ok(()),
        rest => writeln!(out, "  … and {rest} smaller ones"),
    }
}

/// Prints one incident, a few lines.
pub fn print_one(out: &mut impl Write, digest: &Digest<'_>) -> io::Result<()> {
    let when = digest
        .span_unix_nano()
        .map_or_else(|| "no time".to_owned(), |(first, last)| span(first, last));
    let worst = severity_name(digest.worst_severity()).unwrap_or_default();
    writeln!(
        out,
        "● {}   {when}   {}",
        harmless(&digest.incident_id),
        harmless(&digest.services().join(", "))
    )?;
    writeln!(
        out,
        "    {} records, {} anomalous{}{worst}",
        digest.members.len(),
        digest.anomalous(),
        if worst.is_empty() { "" } else { ", worst " },
    )?;
    if let Some(edge) = digest.leading_edge() {
        writeln!(
            out,
            "    began with   {}: {}",
            harmless(edge.service),
            one_line(edge.message, 110)
        )?;
    }
    for (message, count) in digest.frequent(3) {
        writeln!(out, "    {count:>6} ×     {}", one_line(message, 110))?;
    }
    writeln!(out)
}

fn span(first: u64, last: u64) -> String {
    let seconds = |time: u64| rfc3339(time - time % 1_000_000_000);
    let length_s = last.saturating_sub(first) / 1_000_000_000;
    format!("{} +{}", seconds(first), length(length_s))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn member(time_unix_nano: u64, message: &str, is_anomaly: bool) -> Member<'_> {
        Member {
            time_unix_nano: Some(time_unix_nano),
            service: "s",
            severity_number: 9,
            message,
            is_anomaly,
            template: None,
        }
    }

    #[test]
    fn the_leading_edge_is_the_earliest_anomalous_record() {
        let records = [
            member(5, "late", true),
            member(1, "context", false),
            member(3, "edge", true),
        ];
        let digests = gather(records.into_iter().map(|member| ("a".to_owned(), member)));
        assert_eq!(digests[0].leading_edge().map(|edge| edge.message), Some("edge"));
        assert_eq!(digests[0].span_unix_nano(), Some((1, 5)));
    }

    #[test]
    fn the_gravest_is_the_first_of_the_highest_severity_among_the_anomalous() {
        let graded = |time, message, is_anomaly, severity_number| Member {
            severity_number,
            ..member(time, message, is_anomaly)
        };
        let records = [
            graded(1, "context", false, 21),
            graded(2, "mild", true, 13),
            graded(3, "first", true, 17),
            graded(4, "again", true, 17),
        ];
        let digests = gather(records.into_iter().map(|member| ("a".to_owned(), member)));
        assert_eq!(digests[0].worst().map(|worst| worst.message), Some("first"));
    }

    #[test]
    fn printing_shows_the_largest_and_counts_the_rest() {
        let records = (0..10u64).map(|n| (if n < 7 { "big" } else { "small" }.to_owned(), member(n, "boom", true)));
        let digests = gather(records);
        let mut out = Vec::new();
        print(&mut out, &digests, 1).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("● big") && !text.contains("● small") && text.contains("1 smaller"),
            "{text}"
        );
    }
}
