//! How well incidents match faults.
//!
//! What enters: for each true line its fault and what the engine said. What leaves: [`Grouping`]. Promises: each true line
//! counts once, and one in no incident is a group of its own; children are told both apart and as one with their parents.
//! Absent on purpose: which lines are true, see [`super::figures`]; the formulas, see [`super::metrics`].

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
};

use serde::Serialize;

use super::metrics::Contingency;
use crate::{commands::offline::Outcome, engine::correlate::IncidentId};

/// How well incidents match faults, over true lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Grouping {
    /// Lines of faults that are true: those with a label; where no line has one, those of severity ERROR and above.
    pub true_lines: usize,
    /// Agreement of incidents with faults, less what chance would give; a line in no incident is a group of its own.
    pub adjusted_rand_index: Option<f64>,
    /// What incidents and faults tell of each other, over the mean of what each tells.
    pub normalised_mutual_information: Option<f64>,
    /// Of pairs of lines in one incident, those of one fault.
    pub pairwise_precision: Option<f64>,
    /// Of pairs of lines of one fault, those in one incident.
    pub pairwise_recall: Option<f64>,
    /// Harmonic mean of the two.
    pub pairwise_f1: Option<f64>,
    /// Mean number of incidents of the faults that are in any.
    pub incidents_a_fault: Option<f64>,
    /// The same, where an incident and what it was continued by count as one.
    pub incidents_a_fault_with_children_as_one: Option<f64>,
    /// The most true lines in one incident, over all true lines.
    pub largest_share: f64,
    /// True lines in no incident, over all.
    pub ungrouped_share: f64,
    /// How far the leading edge is from a fault's first true line, in seconds: the mean over faults that are in any
    /// incident. It is that of the incident with most of the fault's true lines.
    pub leading_edge_error_mean_s: Option<f64>,
    /// The largest of these.
    pub leading_edge_error_worst_s: Option<f64>,
    /// Anomalous lines that were forwarded with another id than their incident goes by at the end, over those in any.
    pub id_churn: Option<f64>,
    /// Those of them that are not even found by an alias.
    pub id_churn_without_aliases: Option<f64>,
}

/// A line that counts: its time, the fault whose true line it is, what was said of it.
pub type Line<'a> = (u64, Option<usize>, &'a Outcome);

/// What a true line was grouped with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    Incident(IncidentId),
    Alone(usize),
}

impl Grouping {
    /// Compares over the lines that count, in order of time.
    pub fn of(lines: &[Line<'_>]) -> Self {
        let true_lines: Vec<(u64, usize, &Outcome)> = lines
            .iter()
            .filter_map(|(time, fault, outcome)| Some((*time, (*fault)?, *outcome)))
            .collect();
        let groups = true_lines.iter().enumerate().map(|(line, (_, fault, outcome))| {
            let group = outcome.incident.map_or(Group::Alone(line), Group::Incident);
            (*fault, group)
        });
        let contingency = Contingency::of(groups);
        let pairs = contingency.pairwise();
        let errors = leading_edge_errors_s(lines);
        let (churn, lost) = churn(lines);
        let sizes = counts(true_lines.iter().filter_map(|(.., outcome)| outcome.incident));
        let ungrouped = true_lines.iter().filter(|(.., outcome)| outcome.incident.is_none());
        Self {
            true_lines: true_lines.len(),
            adjusted_rand_index: contingency.adjusted_rand_index(),
            normalised_mutual_information: contingency.normalised_mutual_information(),
            pairwise_precision: pairs.precision,
            pairwise_recall: pairs.recall,
            pairwise_f1: pairs.f1,
            incidents_a_fault: incidents_a_fault(&true_lines, |outcome| outcome.incident),
            incidents_a_fault_with_children_as_one: incidents_a_fault(&true_lines, |outcome| outcome.root),
            largest_share: share(sizes.into_values().max().unwrap_or(0), true_lines.len()),
            ungrouped_share: share(ungrouped.count(), true_lines.len()),
            leading_edge_error_mean_s: mean(&errors),
            leading_edge_error_worst_s: errors.iter().copied().reduce(f64::max),
            id_churn: churn,
            id_churn_without_aliases: lost,
        }
    }
}

fn incidents_a_fault(
    true_lines: &[(u64, usize, &Outcome)],
    incident: impl Fn(&Outcome) -> Option<IncidentId>,
) -> Option<f64> {
    let mut of_faults: BTreeMap<usize, BTreeSet<IncidentId>> = BTreeMap::new();
    for (_, fault, outcome) in true_lines {
        if let Some(incident) = incident(outcome) {
            of_faults.entry(*fault).or_default().insert(incident);
        }
    }
    let counts: Vec<f64> = of_faults.values().map(|incidents| incidents.len() as f64).collect();
    mean(&counts)
}

/// For each fault in any incident, from its first true line to the leading edge, earlier or later.
fn leading_edge_errors_s(lines: &[Line<'_>]) -> Vec<f64> {
    // As elsewhere the leading edge is the earliest anomalous line; context that came before it leads nothing.
    let mut edges: BTreeMap<IncidentId, (bool, u64)> = BTreeMap::new();
    let mut first: BTreeMap<usize, u64> = BTreeMap::new();
    let mut incidents: BTreeMap<usize, Vec<IncidentId>> = BTreeMap::new();
    for (time, fault, outcome) in lines {
        if let Some(incident) = outcome.incident {
            let edge = (!outcome.is_anomaly, *time);
            let known = edges.entry(incident).or_insert(edge);
            *known = edge.min(*known);
        }
        if let Some(fault) = fault {
            first.entry(*fault).or_insert(*time);
            incidents.entry(*fault).or_default().extend(outcome.incident);
        }
    }
    let errors = first.iter().filter_map(|(fault, first)| {
        let counts = counts(incidents.get(fault)?.iter().copied());
        // Of equals the earliest, which has the smallest id.
        let (main, _) = counts.into_iter().rev().max_by_key(|(_, lines)| *lines)?;
        let (_, edge) = edges.get(&main)?;
        Some(edge.abs_diff(*first) as f64 / 1e9)
    });
    errors.collect()
}

/// Shares of the anomalous lines in incidents: with another id than the last, and with one that leads nowhere.
fn churn(lines: &[Line<'_>]) -> (Option<f64>, Option<f64>) {
    let anomalous = || {
        let outcomes = lines.iter().map(|(.., outcome)| *outcome);
        outcomes.filter(|outcome| outcome.is_anomaly && outcome.incident.is_some())
    };
    let all = anomalous().count();
    let changed = anomalous().filter(|outcome| outcome.forwarded != outcome.incident);
    let lost = anomalous().filter(|outcome| outcome.is_lost);
    let of_all = |part: usize| (all > 0).then(|| share(part, all));
    (of_all(changed.count()), of_all(lost.count()))
}

fn counts<G: Ord>(groups: impl Iterator<Item = G>) -> BTreeMap<G, usize> {
    let mut counts = BTreeMap::new();
    for group in groups {
        *counts.entry(group).or_insert(0) += 1;
    }
    counts
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> IncidentId {
        IncidentId::from_raw(number << 30)
    }

    /// An anomalous line in this incident, forwarded with its id.
    fn said(incident: u64) -> Outcome {
        Outcome {
            is_anomaly: true,
            incident: Some(id(incident)),
            forwarded: Some(id(incident)),
            root: Some(id(incident)),
            ..Outcome::default()
        }
    }

    fn grouping(lines: &[(u64, Option<usize>, Outcome)]) -> Grouping {
        let lines: Vec<Line<'_>> = lines
            .iter()
            .map(|(second, fault, outcome)| (second * 1_000_000_000, *fault, outcome))
            .collect();
        Grouping::of(&lines)
    }

    #[test]
    fn a_perfect_match_by_hand() {
        let found = grouping(&[
            (1, Some(0), said(1)),
            (2, None, Outcome::default()),
            (3, Some(1), said(2)),
            (4, Some(0), said(1)),
            (5, Some(1), said(2)),
        ]);
        let expected = Grouping {
            true_lines: 4,
            adjusted_rand_index: Some(1.0),
            normalised_mutual_information: Some(1.0),
            pairwise_precision: Some(1.0),
            pairwise_recall: Some(1.0),
            pairwise_f1: Some(1.0),
            incidents_a_fault: Some(1.0),
            incidents_a_fault_with_children_as_one: Some(1.0),
            largest_share: 0.5,
            ungrouped_share: 0.0,
            leading_edge_error_mean_s: Some(0.0),
            leading_edge_error_worst_s: Some(0.0),
            id_churn: Some(0.0),
            id_churn_without_aliases: Some(0.0),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn children_lost_lines_and_edges_by_hand() {
        let child = Outcome {
            root: Some(id(1)),
            ..said(2)
        };
        let context = Outcome {
            is_anomaly: false,
            ..said(4)
        };
        let found = grouping(&[
            (10, Some(0), said(1)),
            (11, Some(0), said(1)),
            (12, Some(0), child),
            (13, Some(0), Outcome::default()),
            // What leads the second fault's incident is 4 s before the fault's first line; its context does not count.
            (15, None, context),
            (16, None, said(4)),
            (20, Some(1), said(4)),
        ]);
        assert_eq!((found.true_lines, found.ungrouped_share), (5, 0.2));
        assert_eq!(found.largest_share, 0.4);
        assert_eq!(
            (found.incidents_a_fault, found.incidents_a_fault_with_children_as_one),
            (Some(1.5), Some(1.0))
        );
        assert_eq!(
            (found.leading_edge_error_mean_s, found.leading_edge_error_worst_s),
            (Some(2.0), Some(4.0))
        );
        // Of six pairs of one fault one is in one incident, and no incident has two faults.
        assert_eq!(
            (found.pairwise_precision, found.pairwise_recall),
            (Some(1.0), Some(1.0 / 6.0))
        );
    }

    #[test]
    fn an_edge_may_also_be_late_and_of_equal_incidents_the_earlier_counts() {
        let missed = Outcome::default();
        let found = grouping(&[(10, Some(0), missed), (13, Some(0), said(1)), (14, Some(0), said(2))]);
        assert_eq!(found.leading_edge_error_worst_s, Some(3.0));
    }

    #[test]
    fn ids_that_changed_are_counted_and_those_that_lead_nowhere_apart() {
        let merged = Outcome {
            forwarded: Some(id(2)),
            ..said(1)
        };
        let lost = Outcome {
            is_lost: true,
            ..merged
        };
        let context = Outcome {
            is_anomaly: false,
            ..merged
        };
        let found = grouping(&[
            (1, None, said(1)),
            (2, None, merged),
            (3, None, lost),
            (4, None, said(1)),
            (5, None, context),
        ]);
        assert_eq!(
            (found.id_churn, found.id_churn_without_aliases),
            (Some(0.5), Some(0.25))
        );
    }

    #[test]
    fn without_true_lines_nothing_is_said() {
        let found = grouping(&[(1, None, Outcome::default())]);
        assert_eq!(found, Grouping::default());
    }
}
