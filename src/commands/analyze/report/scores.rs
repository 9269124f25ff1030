//! Anomaly scores over time: how high they were in each span, and which records reached highest.
//!
//! What enters: verdicts of rows, in any order, once it is known between which times they lie. What leaves: counts and
//! percentiles of at most [`MAX_SPANS`] spans, and peaks. Promises: memory does not grow with rows; maxima are exact,
//! percentiles to an eighth of a log-odd. Absent on purpose: rows without a time, which stand in no span.

use serde::Serialize;

use super::super::{rows, verdicts::Verdict};
use crate::engine::{text::TemplateKey, view::rfc3339};

/// Spans at most.
const MAX_SPANS: u64 = 400;
/// Peaks that are kept of a span, each of another template, and in all.
const SPAN_PEAKS: usize = 4;
const MAX_PEAKS: usize = 200;

/// Log-odds are counted from here to there, in such steps.
const LOWEST: f64 = -24.0;
const HIGHEST: f64 = 24.0;
const STEPS: f64 = 8.0;
const BINS: usize = ((HIGHEST - LOWEST) * STEPS) as usize;

/// An episode becomes anomalous where its probability is above this: where that is in a stream, its calibration has moved there.
const THRESHOLD: f64 = 0.5;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A record with a high score.
#[derive(Clone, Debug, PartialEq)]
struct Peak {
    log_odds: f64,
    time_unix_nano: u64,
    service: String,
    template: Option<TemplateKey>,
    incident: String,
}

#[derive(Clone, Debug, Default)]
struct Span {
    records: u64,
    anomalous: u64,
    /// Records by log-odds; empty where none has a score.
    bins: Vec<u32>,
    scored: u64,
    highest: f64,
    peaks: Vec<Peak>,
}

/// See the module.
#[derive(Debug)]
pub struct Scores {
    start_unix_nano: u64,
    span_nano: u64,
    spans: Vec<Span>,
}

/// The same as it is written.
#[derive(Debug, Serialize)]
pub struct Written {
    threshold: f64,
    start: String,
    span_seconds: u64,
    records: Vec<u64>,
    anomalous: Vec<u64>,
    median: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
    max: Vec<Option<f64>>,
    peaks: Vec<WrittenPeak>,
}

#[derive(Debug, Serialize)]
struct WrittenPeak {
    time: String,
    score: f64,
    service: String,
    text: String,
    template_key: String,
    incident_id: String,
}

impl Scores {
    /// Nothing yet; all rows that have a time are between these.
    pub fn between(first_unix_nano: u64, last_unix_nano: u64) -> Self {
        let mut span_nano = NANOS_PER_SECOND;
        while last_unix_nano / span_nano - first_unix_nano / span_nano >= MAX_SPANS {
            span_nano = span_nano.saturating_mul(2);
        }
        let spans = last_unix_nano / span_nano - first_unix_nano / span_nano + 1;
        Self {
            start_unix_nano: first_unix_nano / span_nano * span_nano,
            span_nano,
            spans: vec![Span::default(); spans as usize],
        }
    }

    /// Counts a row; `incident` is the id it goes by, if any.
    pub fn count(&mut self, row: &rows::PutAside<'_>, verdict: &Verdict, incident: &str) {
        let Some(time_unix_nano) = row.time_unix_nano else {
            return;
        };
        let place = time_unix_nano.saturating_sub(self.start_unix_nano) / self.span_nano;
        let Some(span) = self.spans.get_mut(place as usize) else {
            return;
        };
        span.records += 1;
        span.anomalous += u64::from(verdict.is_anomaly);
        let Some(log_odds) = verdict.score.filter(|score| !score.is_nan()) else {
            return;
        };
        if span.bins.is_empty() {
            span.bins = vec![0; BINS];
            span.highest = log_odds;
        }
        span.scored += 1;
        span.highest = span.highest.max(log_odds);
        let bin = ((log_odds.clamp(LOWEST, HIGHEST) - LOWEST) * STEPS) as usize;
        if let Some(count) = span.bins.get_mut(bin.min(BINS - 1)) {
            *count = count.saturating_add(1);
        }
        span.peak(log_odds, verdict.template, || Peak {
            log_odds,
            time_unix_nano,
            service: row.service.to_owned(),
            template: verdict.template,
            incident: incident.to_owned(),
        });
    }

    /// As it is written; `text` says a template's.
    pub fn written(self, text: impl Fn(TemplateKey) -> String) -> Written {
        let each = |of: &dyn Fn(&Span) -> Option<f64>| {
            let all = self.spans.iter().map(|span| of(span).map(probability));
            all.collect()
        };
        let mut peaks: Vec<&Peak> = self.spans.iter().flat_map(|span| &span.peaks).collect();
        // Stable: equals stay in order of time.
        peaks.sort_by(|one, other| other.log_odds.total_cmp(&one.log_odds));
        peaks.truncate(MAX_PEAKS);
        Written {
            threshold: THRESHOLD,
            start: rfc3339(self.start_unix_nano),
            span_seconds: self.span_nano / NANOS_PER_SECOND,
            records: self.spans.iter().map(|span| span.records).collect(),
            anomalous: self.spans.iter().map(|span| span.anomalous).collect(),
            median: each(&|span| span.quantile(0.5)),
            p99: each(&|span| span.quantile(0.99)),
            max: each(&|span| (span.scored > 0).then_some(span.highest)),
            peaks: peaks
                .into_iter()
                .map(|peak| WrittenPeak {
                    time: rfc3339(peak.time_unix_nano),
                    score: probability(peak.log_odds),
                    service: peak.service.clone(),
                    text: peak.template.map(&text).unwrap_or_default(),
                    template_key: peak.template.map(|key| key.to_string()).unwrap_or_default(),
                    incident_id: peak.incident.clone(),
                })
                .collect(),
        }
    }
}

impl Span {
    /// Keeps a record if it is among the highest, the first one of its template.
    fn peak(&mut self, log_odds: f64, template: Option<TemplateKey>, peak: impl FnOnce() -> Peak) {
        let known = self.peaks.iter().position(|peak| peak.template == template);
        if let Some(known) = known.and_then(|known| self.peaks.get_mut(known)) {
            if log_odds > known.log_odds {
                *known = peak();
            }
            return;
        }
        if self.peaks.len() < SPAN_PEAKS {
            return self.peaks.push(peak());
        }
        let lowest = self
            .peaks
            .iter_mut()
            .min_by(|one, other| one.log_odds.total_cmp(&other.log_odds));
        if let Some(lowest) = lowest.filter(|lowest| log_odds > lowest.log_odds) {
            *lowest = peak();
        }
    }

    /// Log-odds that such a share of the scores does not exceed.
    fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = (self.scored as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        let bin = self.bins.iter().position(|count| {
            below += u64::from(*count);
            below >= wanted
        })?;
        Some((LOWEST + (bin as f64 + 0.5) / STEPS).min(self.highest))
    }
}

/// The probability of log-odds, to six digits.
fn probability(log_odds: f64) -> f64 {
    rounded(1.0 / (1.0 + (-log_odds).exp()))
}

/// A number to six digits: more would be noise, and most of the file.
pub fn rounded(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use prost::Message;

    use super::*;
    use crate::{commands::analyze::rows::Rows, edge::files::Row};

    /// Counts records at these seconds, with these log-odds, each of its own template.
    fn scores(records: &[(u64, Option<f64>)]) -> Scores {
        let times = || records.iter().map(|(second, _)| second * NANOS_PER_SECOND);
        let mut scores = Scores::between(times().min().unwrap(), times().max().unwrap());
        let rows: Vec<Row> = times()
            .map(|time| Row {
                time_unix_nano: Some(time),
                cells: vec![String::new()],
                ..Row::default()
            })
            .collect();
        let rows = Rows::decode(&*Rows::of(&rows, 1, &[vec![0]]).unwrap().encode_to_vec()).unwrap();
        for (place, (row, (_, score))) in rows.iter().zip(records).enumerate() {
            let verdict = Verdict {
                is_anomaly: score.is_some_and(|score| score > 0.0),
                score: *score,
                incident: None,
                template: Some(TemplateKey(place as u64)),
            };
            scores.count(&row, &verdict, "");
        }
        scores
    }

    #[test]
    fn spans_are_few_however_long_it_took_and_begin_at_multiples() {
        for (first, last) in [
            (0, 0),
            (1000, 1399),
            (1000, 1400),
            (1_700_000_000, 1_800_000_000),
            (7, u64::MAX / NANOS_PER_SECOND - 1),
        ] {
            let scores = Scores::between(first * NANOS_PER_SECOND, last * NANOS_PER_SECOND);
            assert!(
                (1..=400).contains(&scores.spans.len()),
                "{first} {last}: {}",
                scores.spans.len()
            );
            assert_eq!(scores.start_unix_nano % scores.span_nano, 0);
            let end = u128::from(scores.start_unix_nano) + u128::from(scores.span_nano) * scores.spans.len() as u128;
            assert!(end > u128::from(last * NANOS_PER_SECOND));
        }
    }

    #[test]
    fn a_span_says_what_half_and_all_but_a_hundredth_do_not_exceed() {
        let mut records: Vec<(u64, Option<f64>)> = (0..1000).map(|n| (8, Some(-10.0 + f64::from(n) / 100.0))).collect();
        records.push((9, None));
        records.push((11, Some(3.0)));
        let written = scores(&records).written(|key| key.0.to_string());
        assert_eq!(
            (written.records, written.anomalous),
            (vec![1000, 1, 0, 1], vec![0, 0, 0, 1])
        );
        let log_odds = |probability: f64| (probability / (1.0 - probability)).ln();
        assert!(
            (log_odds(written.median[0].unwrap()) + 5.0).abs() < 0.15,
            "{:?}",
            written.median
        );
        assert!((log_odds(written.p99[0].unwrap()) + 0.1).abs() < 0.15);
        assert!((log_odds(written.max[0].unwrap()) + 0.01).abs() < 1e-4);
        assert_eq!([written.median[1], written.p99[1], written.max[2]], [None; 3]);
        assert_eq!(written.median[3], written.max[3], "the only one");
        let peaks: Vec<&str> = written.peaks.iter().map(|peak| peak.text.as_str()).collect();
        assert_eq!(
            peaks,
            ["1001", "999", "998", "997", "996"],
            "four a span, the highest first"
        );
    }

    #[test]
    fn numbers_keep_six_digits() {
        assert_eq!(
            [1.0 / 3.0, 123_456_789.0, 0.0, 1e-12 / 3.0].map(rounded),
            [0.333_333, 123_457_000.0, 0.0, 3.333_33e-13]
        );
    }
}
