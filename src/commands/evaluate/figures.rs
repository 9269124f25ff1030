//! What one run came to, in figures.
//!
//! What enters: a file's truth and, for each of its rows, what the engine said. What leaves: [`Figures`], which the report
//! prints. Promises: only rows after the warm-up count, also for windows and times of faults; without labels every line
//! counts as healthy, and errors in the time of a fault as what its incidents are to hold. Absent on purpose: how a figure is computed, see [`super::metrics`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{
    grouping::Grouping,
    labels::{Labelled, Truth},
    metrics::{Decisions, Ranking},
};
use crate::{
    commands::offline::Outcome,
    engine::{correlate::IncidentId, score::Detector},
};

const DAY_NANO: f64 = 86_400e9;

/// Everything that is told of one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// The file, as it was named.
    pub file: String,
    /// Lines of the file.
    pub lines: usize,
    /// Lines after the warm-up: those that count.
    pub counted: usize,
    /// Of these, lines that came before the engine had learned enough to give a score.
    pub without_score: usize,
    /// Distinct templates of the lines that count.
    pub templates: usize,
    /// Some line has a label.
    pub labelled: bool,
    /// Of lines.
    pub by_line: Quality,
    /// Of templates: positive, or flagged, if any of its lines is; its score is its highest.
    pub by_template: Quality,
    /// Anomalous episodes.
    pub episodes: Episodes,
    /// Incidents with lines that count.
    pub incidents: usize,
    /// Of these, incidents without any true line.
    pub false_incidents: usize,
    /// Where lines that count belong to named faults.
    pub faults: Option<Faults>,
    /// Each detector alone, and all but it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ablation: Vec<Ablated>,
    /// What differs from run to run.
    pub run: Run,
}

/// How well a number of things were told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Things that are anomalous.
    pub positives: usize,
    /// Things that were flagged.
    pub flagged: usize,
    /// Share that was flagged.
    pub flagged_share: f64,
    /// False positives.
    pub false_flags: usize,
    /// False positives over negatives.
    pub false_share: f64,
    /// True positives over flagged.
    pub precision: Option<f64>,
    /// True positives over positives.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// Area under the ROC curve of the score.
    pub roc_auc: Option<f64>,
    /// Average precision of the score.
    pub average_precision: Option<f64>,
    /// Recall where the score lets 1 % of negatives through.
    pub recall_at_1_percent_false: Option<f64>,
}

/// Anomalous episodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Episodes {
    /// All.
    pub count: usize,
    /// Without any true line: false alarms.
    pub false_alarms: usize,
    /// False alarms a day, where there are times.
    pub false_alarms_a_day: Option<f64>,
    /// Without any line in the time of a named fault, labelled or not: what follows from a fault is no false alarm.
    pub outside_windows: Option<usize>,
    /// The same an hour, where there are times.
    pub outside_windows_an_hour: Option<f64>,
}

/// What was found of the faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Faults {
    /// Faults with any flagged line.
    pub found: usize,
    /// Lines outside all windows that were flagged, over lines outside; a window is from a fault's first line to its last.
    pub flagged_outside_windows: f64,
    /// How well incidents match them.
    #[serde(flatten)]
    pub grouping: Grouping,
    /// Each, in order of time.
    pub each: Vec<Fault>,
}

/// One fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Fault {
    /// Its name.
    pub name: String,
    /// Its lines; those with a label where lines have labels.
    pub lines: usize,
    /// Of these, flagged.
    pub flagged: usize,
    /// Seconds from its first line to its first flagged one.
    pub first_flag_after_s: Option<f64>,
    /// Incidents its lines are in, also where not all of them are true.
    pub incidents: usize,
}

/// What one detector is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ablated {
    /// The detector.
    pub detector: Detector,
    /// Its contribution alone as the score.
    pub alone: Ranked,
    /// A run of all the others.
    pub left_out: Quality,
}

/// How well a score ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Ranked {
    /// Area under the ROC curve.
    pub roc_auc: Option<f64>,
    /// Average precision.
    pub average_precision: Option<f64>,
}

/// What differs from run to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Run {
    /// Records through the engine a second, embedding included.
    pub records_per_second: f64,
    /// Most memory the process has held so far, in bytes; where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// Something that was judged.
#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    score: Option<f64>,
    flagged: bool,
    positive: bool,
}

impl Quality {
    fn of(judged: &[Judged]) -> Self {
        let flags: Vec<bool> = judged.iter().map(|judged| judged.flagged).collect();
        let truths: Vec<bool> = judged.iter().map(|judged| judged.positive).collect();
        let count = |which: fn(&Judged) -> bool| judged.iter().filter(|judged| which(judged)).count();
        let (positives, flagged) = (count(|it| it.positive), count(|it| it.flagged));
        let false_flags = count(|it| it.flagged && !it.positive);
        let decisions = Decisions::of(&flags, &truths);
        let ranking = Ranking::new(judged.iter().map(|judged| (judged.score, judged.positive)));
        Self {
            positives,
            flagged,
            flagged_share: share(flagged, judged.len()),
            false_flags,
            false_share: share(false_flags, judged.len() - positives),
            precision: decisions.precision,
            recall: decisions.recall,
            f1: decisions.f1,
            roc_auc: ranking.roc_auc(),
            average_precision: ranking.average_precision(),
            recall_at_1_percent_false: ranking.recall_at(0.01),
        }
    }
}

/// The rows that count, with what was said of them.
pub struct Counted<'a> {
    labelled: &'a Labelled,
    rows: Vec<(u64, Truth, &'a Outcome)>,
}

impl<'a> Counted<'a> {
    /// The rows from the index `from` on; `outcomes` go with the rows.
    pub fn new(labelled: &'a Labelled, outcomes: &'a [Outcome], from: usize) -> Self {
        let rows = labelled.rows.iter().zip(&labelled.truths).zip(outcomes).skip(from);
        Self {
            labelled,
            rows: rows
                .map(|((row, truth), outcome)| (row.record.time_unix_nano, *truth, outcome))
                .collect(),
        }
    }

    /// Everything there is to tell of the run, but for its ablation.
    pub fn figures(&self, file: String, run: Run) -> Figures {
        let windows = self.windows();
        let real: Vec<bool> = self.rows.iter().map(|row| self.is_real(row, &windows)).collect();
        let (episodes, false_alarms) = tally(self.rows.iter().map(|row| row.2.episode).zip(&real));
        let (incidents, false_incidents) = tally(self.rows.iter().map(|row| row.2.incident).zip(&real));
        let by_template = self.by_template();
        let outside_windows = self.episodes_outside_windows();
        Figures {
            file,
            lines: self.labelled.rows.len(),
            counted: self.rows.len(),
            without_score: self.rows.iter().filter(|row| row.2.score.is_none()).count(),
            templates: by_template.len(),
            labelled: self.labelled.has_labels,
            by_line: self.quality(),
            by_template: Quality::of(&by_template),
            episodes: Episodes {
                count: episodes,
                false_alarms,
                false_alarms_a_day: self.days().map(|days| false_alarms as f64 / days),
                outside_windows,
                outside_windows_an_hour: outside_windows
                    .zip(self.days())
                    .map(|(outside, days)| outside as f64 / (24.0 * days)),
            },
            incidents,
            false_incidents,
            faults: (!windows.is_empty()).then(|| self.faults(&windows)),
            ablation: Vec::new(),
            run,
        }
    }

    /// How well lines were told apart.
    pub fn quality(&self) -> Quality {
        let judged = |row: &(u64, Truth, &Outcome)| Judged {
            score: row.2.score,
            flagged: row.2.is_anomaly,
            positive: row.1.positive,
        };
        Quality::of(&self.rows.iter().map(judged).collect::<Vec<_>>())
    }

    /// How well a detector's contribution alone ranks lines.
    pub fn alone(&self, detector: Detector) -> Ranked {
        let ranking = Ranking::new(self.rows.iter().map(|row| {
            let evidence = row.2.evidence.get(detector.index()).copied();
            (row.2.score.and(evidence), row.1.positive)
        }));
        Ranked {
            roc_auc: ranking.roc_auc(),
            average_precision: ranking.average_precision(),
        }
    }

    fn by_template(&self) -> Vec<Judged> {
        let mut templates: HashMap<u64, usize> = HashMap::new();
        let mut judged: Vec<Judged> = Vec::new();
        for (_, truth, outcome) in &self.rows {
            let at = *templates.entry(outcome.template.0).or_insert(judged.len());
            if at == judged.len() {
                judged.push(Judged::default());
            }
            if let Some(template) = judged.get_mut(at) {
                template.positive |= truth.positive;
                template.flagged |= outcome.is_anomaly;
                template.score = match (template.score, outcome.score) {
                    (Some(one), Some(other)) => Some(one.max(other)),
                    (one, other) => one.or(other),
                };
            }
        }
        judged
    }

    /// Days from the first line to the last; none without times, or when all lines have one.
    fn days(&self) -> Option<f64> {
        let (first, last) = (self.rows.first()?.0, self.rows.last()?.0);
        (self.labelled.has_times && last > first).then(|| (last - first) as f64 / DAY_NANO)
    }

    /// The fault whose line this is. Where lines have labels, a healthy line in a fault's window is not the fault's.
    fn fault_of(&self, truth: &Truth) -> Option<usize> {
        truth.fault.filter(|_| truth.positive || !self.labelled.has_labels)
    }

    /// The fault whose true line this is. Without labels the lines of a fault are all that were said in its time, and what
    /// was said as an error is taken for its own.
    fn true_fault_of(&self, truth: &Truth) -> Option<usize> {
        self.fault_of(truth)
            .filter(|_| self.labelled.has_labels || truth.is_error)
    }

    /// From the first line of each fault to its last.
    fn windows(&self) -> BTreeMap<usize, (u64, u64)> {
        let mut windows = BTreeMap::new();
        for (time, truth, _) in &self.rows {
            if let Some(fault) = self.fault_of(truth) {
                windows.entry(fault).or_insert((*time, *time)).1 = *time;
            }
        }
        windows
    }

    /// Anomalous episodes without any line in the time of a fault: from the first line that names it to the last, labelled
    /// or not. None where no fault is named.
    fn episodes_outside_windows(&self) -> Option<usize> {
        let mut windows = BTreeMap::new();
        for (time, truth, _) in &self.rows {
            if let Some(fault) = truth.fault {
                windows.entry(fault).or_insert((*time, *time)).1 = *time;
            }
        }
        let within: Vec<bool> = self.rows.iter().map(|row| inside(row.0, &windows)).collect();
        let (_, outside) = tally(self.rows.iter().map(|row| row.2.episode).zip(&within));
        (!windows.is_empty()).then_some(outside)
    }

    /// Whether an alarm on this line is a true one.
    fn is_real(&self, (time, truth, _): &(u64, Truth, &Outcome), windows: &BTreeMap<usize, (u64, u64)>) -> bool {
        truth.positive || !self.labelled.has_labels && inside(*time, windows)
    }

    fn faults(&self, windows: &BTreeMap<usize, (u64, u64)>) -> Faults {
        let mut each: BTreeMap<usize, Fault> = BTreeMap::new();
        let mut incidents: BTreeMap<usize, BTreeSet<IncidentId>> = BTreeMap::new();
        for (time, truth, outcome) in &self.rows {
            let Some(number) = self.fault_of(truth) else { continue };
            let fault = each.entry(number).or_default();
            fault.lines += 1;
            fault.flagged += usize::from(outcome.is_anomaly);
            if outcome.is_anomaly && fault.first_flag_after_s.is_none() {
                let first = windows.get(&number).map_or(*time, |window| window.0);
                fault.first_flag_after_s = Some((time - first) as f64 / 1e9);
            }
            incidents.entry(number).or_default().extend(outcome.incident);
        }
        for (number, fault) in &mut each {
            fault.name = self.labelled.faults.get(*number).cloned().unwrap_or_default();
            fault.incidents = incidents.get(number).map_or(0, BTreeSet::len);
        }
        let outside = || self.rows.iter().filter(|row| !inside(row.0, windows));
        let each: Vec<Fault> = each.into_values().collect();
        let lines = self
            .rows
            .iter()
            .map(|(time, truth, outcome)| (*time, self.true_fault_of(truth), *outcome));
        Faults {
            found: each.iter().filter(|fault| fault.flagged > 0).count(),
            flagged_outside_windows: share(outside().filter(|row| row.2.is_anomaly).count(), outside().count()),
            grouping: Grouping::of(&lines.collect::<Vec<_>>()),
            each,
        }
    }
}

fn inside(time: u64, windows: &BTreeMap<usize, (u64, u64)>) -> bool {
    windows.values().any(|(first, last)| (*first..=*last).contains(&time))
}

/// How many distinct ids there are, and how many of them without any real line.
fn tally<'a, I: Ord>(ids: impl Iterator<Item = (Option<I>, &'a bool)>) -> (usize, usize) {
    let mut known: BTreeMap<I, bool> = BTreeMap::new();
    for (id, real) in ids {
        if let Some(id) = id {
            *known.entry(id).or_default() |= real;
        }
    }
    (known.len(), known.values().filter(|real| !**real).count())
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::{edge::files::Row, engine::text::TemplateKey};

    /// Seconds, label, fault, flagged and score, episode.
    type Line = (u64, bool, Option<usize>, Option<f64>, Option<u64>);

    fn run(lines: &[Line], has_labels: bool, faults: &[&str]) -> Figures {
        let mut labelled = Labelled {
            has_labels,
            has_times: true,
            faults: faults.iter().map(|name| (*name).to_owned()).collect(),
            ..Labelled::default()
        };
        let mut outcomes = Vec::new();
        for (second, positive, fault, score, episode) in lines {
            let mut row = Row::default();
            row.record.time_unix_nano = second * 1_000_000_000;
            labelled.rows.push(row);
            labelled.truths.push(Truth {
                positive: *positive,
                fault: *fault,
                is_error: episode.is_some(),
            });
            outcomes.push(Outcome {
                is_anomaly: episode.is_some(),
                score: *score,
                episode: *episode,
                template: TemplateKey(*second % 10),
                ..Outcome::default()
            });
        }
        Counted::new(&labelled, &outcomes, 1).figures("f".to_owned(), Run::default())
    }

    #[test]
    fn only_what_comes_after_the_warm_up_counts() {
        let figures = run(
            &[
                (0, true, Some(0), Some(9.0), Some(7)),
                (10, false, None, None, None),
                (21, true, Some(0), Some(1.0), None),
                (24, true, Some(0), Some(2.0), Some(1)),
                (30, false, None, Some(0.5), Some(2)),
                (86_410, false, None, Some(0.1), None),
            ],
            true,
            &["disk"],
        );
        assert_eq!(
            (figures.lines, figures.counted, figures.without_score, figures.templates),
            (6, 5, 1, 3)
        );
        let lines = figures.by_line;
        assert_eq!((lines.positives, lines.flagged, lines.false_flags), (2, 2, 1));
        assert_eq!(
            (lines.precision, lines.recall, lines.roc_auc),
            (Some(0.5), Some(0.5), Some(1.0))
        );
        assert_eq!((figures.episodes.count, figures.episodes.false_alarms), (2, 1));
        assert_eq!(figures.episodes.false_alarms_a_day, Some(1.0));
        // Of two episodes one is the fault's.
        assert_eq!(figures.episodes.outside_windows, Some(1));
        let an_hour = figures.episodes.outside_windows_an_hour.unwrap();
        assert!((an_hour - 1.0 / 24.0).abs() < 1e-9, "{an_hour}");
        let faults = figures.faults.unwrap();
        assert_eq!(faults.each[0].first_flag_after_s, Some(3.0));
        assert_eq!(
            (faults.found, faults.each[0].lines, faults.each[0].name.as_str()),
            (1, 2, "disk")
        );
        assert_eq!(faults.flagged_outside_windows, 1.0 / 3.0);
        // Both lines stand alone: as unlike one fault as can be.
        assert_eq!(faults.grouping.adjusted_rand_index, Some(0.0));
    }

    #[test]
    fn what_follows_from_a_fault_is_not_outside_its_window_though_it_is_no_true_line() {
        let figures = run(
            &[
                (0, false, None, None, None),
                (10, true, Some(0), Some(1.0), Some(1)),
                (20, false, Some(0), Some(1.0), Some(2)),
                (30, false, None, Some(1.0), Some(3)),
            ],
            true,
            &["cpu"],
        );
        assert_eq!((figures.episodes.count, figures.episodes.false_alarms), (3, 2));
        assert_eq!(figures.episodes.outside_windows, Some(1));
    }

    #[test]
    fn without_labels_windows_say_which_alarms_are_true() {
        let figures = run(
            &[
                (0, false, None, None, None),
                (10, false, Some(0), Some(1.0), None),
                (12, false, Some(0), Some(1.0), Some(1)),
                (20, false, Some(0), Some(1.0), None),
                (50, false, None, Some(1.0), Some(2)),
            ],
            false,
            &["cpu"],
        );
        assert_eq!((figures.episodes.count, figures.episodes.false_alarms), (2, 1));
        assert_eq!(figures.by_line.roc_auc, None);
        let faults = figures.faults.unwrap();
        assert_eq!(
            (faults.each[0].first_flag_after_s, faults.grouping.adjusted_rand_index),
            (Some(2.0), Some(1.0))
        );
        // Of three lines one is an error.
        assert_eq!((faults.each[0].lines, faults.grouping.true_lines), (3, 1));
        assert_eq!(faults.flagged_outside_windows, 1.0);
    }
}
