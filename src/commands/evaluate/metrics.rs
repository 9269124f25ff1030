//! How good a ranking, a decision, a grouping is: numbers from numbers.
//!
//! What enters: scores, decisions and groups beside the truth. What leaves: ROC-AUC, average precision, recall at a bound
//! of false positives, precision, recall, F1; of groupings the adjusted Rand index, normalised mutual information, and
//! precision, recall and F1 over pairs. Promises: pure; the same input gives the same figures to the bit; equal scores
//! count as one step, so the order of the input is without influence; `None` where a figure has no meaning (no positives,
//! nothing flagged). Precision, recall, F1 and ROC-AUC are smartcore's; its mutual information (as V-measure) is not
//! taken, as it sums in the order of a hash map and is 0/0 for a single group. Absent on purpose: which lines count, see
//! [`super::figures`].

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use smartcore::metrics;

/// Things in the order of their scores, equal ones together.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// Positives and negatives of each distinct score, highest score first.
    steps: Vec<(u64, u64)>,
    positives: u64,
    negatives: u64,
}

impl Ranking {
    /// Ranks by score; no score ranks below every score.
    pub fn new(scored: impl IntoIterator<Item = (Option<f64>, bool)>) -> Self {
        let mut scored: Vec<(f64, bool)> = scored
            .into_iter()
            .map(|(score, positive)| {
                let known = score.filter(|score| !score.is_nan());
                (known.unwrap_or(f64::NEG_INFINITY), positive)
            })
            .collect();
        scored.sort_by(|one, other| other.0.total_cmp(&one.0));
        let mut ranking = Self {
            steps: Vec::new(),
            positives: 0,
            negatives: 0,
        };
        let mut before = None;
        for (score, positive) in scored {
            if before != Some(score) {
                ranking.steps.push((0, 0));
            }
            before = Some(score);
            let total = if positive {
                &mut ranking.positives
            } else {
                &mut ranking.negatives
            };
            *total += 1;
            if let Some((positives, negatives)) = ranking.steps.last_mut() {
                *(if positive { positives } else { negatives }) += 1;
            }
        }
        ranking
    }

    fn both_kinds(&self) -> bool {
        self.positives > 0 && self.negatives > 0
    }

    /// Chance that a positive ranks above a negative, equals counting half.
    pub fn roc_auc(&self) -> Option<f64> {
        if !self.both_kinds() {
            return None;
        }
        // smartcore sorts again, by a quicksort with worst cases: it gets the steps' numbers, which are sorted already.
        let (mut truths, mut scores) = (Vec::new(), Vec::new());
        for (step, (positives, negatives)) in self.steps.iter().rev().enumerate() {
            for (count, truth) in [(positives, 1.0), (negatives, 0.0)] {
                truths.extend((0..*count).map(|_| truth));
                scores.extend((0..*count).map(|_| step as f64));
            }
        }
        Some(metrics::roc_auc_score(&truths, &scores))
    }

    /// Precision at each step, weighed by the recall it adds: scikit-learn's `average_precision_score`.
    pub fn average_precision(&self) -> Option<f64> {
        if !self.both_kinds() {
            return None;
        }
        let (mut found, mut false_positives, mut sum) = (0u64, 0u64, 0.0);
        for (positives, negatives) in &self.steps {
            found += positives;
            false_positives += negatives;
            sum += *positives as f64 * found as f64 / (found + false_positives) as f64;
        }
        Some(sum / self.positives as f64)
    }

    /// Share of positives above the lowest score that at most this share of negatives reaches.
    pub fn recall_at(&self, false_positive_rate: f64) -> Option<f64> {
        if !self.both_kinds() {
            return None;
        }
        let bound = false_positive_rate * self.negatives as f64;
        let (mut found, mut false_positives) = (0u64, 0u64);
        for (positives, negatives) in &self.steps {
            false_positives += negatives;
            if false_positives as f64 > bound {
                break;
            }
            found += positives;
        }
        Some(found as f64 / self.positives as f64)
    }
}

/// How good yes and no were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decisions {
    /// Share of the flagged that are positive; `None` when nothing was flagged.
    pub precision: Option<f64>,
    /// Share of the positive that were flagged.
    pub recall: Option<f64>,
    /// Harmonic mean of the two, 0 when nothing positive was flagged.
    pub f1: Option<f64>,
}

impl Decisions {
    /// Compares what was flagged with what is positive. All `None` unless there are positives and negatives.
    pub fn of(flagged: &[bool], positive: &[bool]) -> Self {
        // With one kind only, smartcore averages over kinds, which is another question.
        if !positive.contains(&true) || !positive.contains(&false) {
            return Self::default();
        }
        let numbers = |flags: &[bool]| flags.iter().map(|flag| u8::from(*flag)).collect::<Vec<_>>();
        let (truth, said) = (numbers(positive), numbers(flagged));
        let recall = metrics::recall(&truth, &said);
        // Its F1 is 0/0 when both are 0.
        let f1 = if recall > 0.0 {
            metrics::f1(&truth, &said, 1.0)
        } else {
            0.0
        };
        Self {
            precision: flagged.contains(&true).then(|| metrics::precision(&truth, &said)),
            recall: Some(recall),
            f1: Some(f1),
        }
    }
}

/// Two groupings of the same things, counted against each other.
#[derive(Clone, Debug, Default)]
pub struct Contingency {
    /// Things that are in a group of the one and a group of the other, in order of the groups' first sight.
    cells: BTreeMap<(usize, usize), u64>,
    /// Sizes of the one's groups.
    rows: Vec<u64>,
    /// Sizes of the other's groups.
    columns: Vec<u64>,
    things: u64,
}

impl Contingency {
    /// Counts things by their group in the one, the truth, and in the other.
    pub fn of<A: Hash + Eq, B: Hash + Eq>(groups: impl IntoIterator<Item = (A, B)>) -> Self {
        let (mut rows, mut columns) = (Numbered::default(), Numbered::default());
        let mut counted = Self::default();
        for (one, other) in groups {
            *counted
                .cells
                .entry((rows.count(one), columns.count(other)))
                .or_insert(0) += 1;
            counted.things += 1;
        }
        (counted.rows, counted.columns) = (rows.counts, columns.counts);
        counted
    }

    /// Pairs of things that are together in both, in the one, in the other, and all there are.
    fn pairs(&self) -> (i128, i128, i128, i128) {
        let pairs = |count: u64| i128::from(count) * (i128::from(count) - 1) / 2;
        let sum = |counts: &mut dyn Iterator<Item = u64>| counts.map(pairs).sum::<i128>();
        (
            sum(&mut self.cells.values().copied()),
            sum(&mut self.rows.iter().copied()),
            sum(&mut self.columns.iter().copied()),
            pairs(self.things),
        )
    }

    /// How far the two agree: 1 when they are the same, about 0 by chance (Hubert and Arabie 1985).
    pub fn adjusted_rand_index(&self) -> Option<f64> {
        if self.things == 0 {
            return None;
        }
        let (together, of_rows, of_columns, all) = self.pairs();
        // (together − of_rows·of_columns/all) / ((of_rows + of_columns)/2 − of_rows·of_columns/all), times 2·all.
        let chance = of_rows.checked_mul(of_columns)?;
        let above = 2 * (together.checked_mul(all)? - chance);
        let most = (of_rows + of_columns).checked_mul(all)? - 2 * chance;
        // Both groupings are trivial, and the same: all in one, or each alone.
        if most == 0 {
            return Some(1.0);
        }
        Some(above as f64 / most as f64)
    }

    /// What the two tell of each other over the arithmetic mean of their entropies (Strehl and Ghosh 2002; Vinh, Epps
    /// and Bailey 2010): 1 when they are the same, 0 when they are independent. Not adjusted for chance.
    pub fn normalised_mutual_information(&self) -> Option<f64> {
        if self.things == 0 {
            return None;
        }
        let all = self.things as f64;
        let entropy = |counts: &[u64]| -> f64 {
            let shares = counts.iter().map(|count| *count as f64 / all);
            shares.map(|share| -share * share.ln()).sum()
        };
        let mean = f64::midpoint(entropy(&self.rows), entropy(&self.columns));
        // All in one group in both: the same.
        if mean <= 0.0 {
            return Some(1.0);
        }
        let mutual = self.cells.iter().filter_map(|((row, column), count)| {
            let expected = *self.rows.get(*row)? as f64 * *self.columns.get(*column)? as f64;
            let count = *count as f64;
            Some(count / all * (count * all / expected).ln())
        });
        Some((mutual.sum::<f64>() / mean).clamp(0.0, 1.0))
    }

    /// Pairs of things as decisions: together in the other is flagged, together in the one is positive.
    pub fn pairwise(&self) -> Decisions {
        let (together, positive, flagged, _) = self.pairs();
        let of = |whole: i128| (whole > 0).then(|| together as f64 / whole as f64);
        let f1 = (positive > 0).then(|| 2.0 * together as f64 / (positive + flagged) as f64);
        Decisions {
            precision: of(flagged),
            recall: of(positive),
            f1,
        }
    }
}

/// Numbers groups by first sight and counts their members.
struct Numbered<G> {
    index: HashMap<G, usize>,
    counts: Vec<u64>,
}

impl<G> Default for Numbered<G> {
    fn default() -> Self {
        Self {
            index: HashMap::new(),
            counts: Vec::new(),
        }
    }
}

impl<G: Hash + Eq> Numbered<G> {
    fn count(&mut self, group: G) -> usize {
        let next = self.counts.len();
        let number = *self.index.entry(group).or_insert(next);
        match self.counts.get_mut(number) {
            Some(count) => *count += 1,
            None => self.counts.push(1),
        }
        number
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn adjusted_rand_index<A: Hash + Eq, B: Hash + Eq>(groups: impl IntoIterator<Item = (A, B)>) -> Option<f64> {
        Contingency::of(groups).adjusted_rand_index()
    }

    fn ranking(scores: &[f64], positives: &[u8]) -> Ranking {
        Ranking::new(
            scores
                .iter()
                .zip(positives)
                .map(|(score, positive)| (Some(*score), *positive == 1)),
        )
    }

    fn close(one: Option<f64>, other: f64) {
        assert!((one.unwrap() - other).abs() < 1e-12, "{one:?} is not {other}");
    }

    #[test]
    fn a_ranking_by_hand() {
        // scikit-learn's own example.
        let four = ranking(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]);
        close(four.roc_auc(), 0.75);
        // Steps .8 (1 of 1), .4 (1 of 2), .35 (2 of 3): ½·1 + ½·⅔.
        close(four.average_precision(), 5.0 / 6.0);
        close(four.recall_at(0.0), 0.5);
        close(four.recall_at(0.5), 1.0);
    }

    #[test]
    fn equal_scores_are_one_step() {
        let tied = ranking(&[0.5, 0.9, 0.5], &[0, 1, 1]);
        close(tied.roc_auc(), 0.75);
        // ½·1 + ½·⅔
        close(tied.average_precision(), 5.0 / 6.0);
        close(tied.recall_at(0.01), 0.5);
        let all = ranking(&[1.0; 8], &[1, 0, 0, 0, 0, 0, 0, 1]);
        close(all.roc_auc(), 0.5);
        close(all.average_precision(), 0.25);
        close(all.recall_at(0.01), 0.0);
    }

    #[test]
    fn no_score_ranks_lowest() {
        let scored = [(None, false), (Some(f64::NAN), false), (Some(-1e300), true)];
        close(Ranking::new(scored).roc_auc(), 1.0);
    }

    #[test]
    fn without_both_kinds_nothing_is_said() {
        for truth in [[0, 0], [1, 1]] {
            let one_kind = ranking(&[0.1, 0.2], &truth);
            assert_eq!(
                (
                    one_kind.roc_auc(),
                    one_kind.average_precision(),
                    one_kind.recall_at(0.1)
                ),
                (None, None, None)
            );
        }
        assert_eq!(Decisions::of(&[true, false], &[false, false]), Decisions::default());
    }

    #[test]
    fn decisions_by_hand() {
        let decisions = Decisions::of(&[true, true, false, false, true], &[true, false, true, false, false]);
        close(decisions.precision, 1.0 / 3.0);
        close(decisions.recall, 0.5);
        close(decisions.f1, 0.4);
        let silent = Decisions::of(&[false; 3], &[true, false, false]);
        assert_eq!(
            (silent.precision, silent.recall, silent.f1),
            (None, Some(0.0), Some(0.0))
        );
    }

    #[test]
    fn the_rand_index_by_hand() {
        // scikit-learn's examples.
        close(adjusted_rand_index([(0, 0), (0, 0), (1, 1), (1, 2)]), 4.0 / 7.0);
        close(adjusted_rand_index([(0, 1), (0, 1), (1, 0), (1, 0)]), 1.0);
        close(adjusted_rand_index([(0, 0), (0, 1), (1, 0), (1, 1)]), -0.5);
        close(adjusted_rand_index([(0, 0), (0, 0)]), 1.0);
        assert_eq!(adjusted_rand_index::<u8, u8>([]), None);
    }

    #[test]
    fn mutual_information_by_hand() {
        let of = |groups: &[(u8, u8)]| Contingency::of(groups.iter().copied()).normalised_mutual_information();
        close(of(&[(0, 1), (0, 1), (1, 0), (1, 0)]), 1.0);
        close(of(&[(0, 0), (0, 1), (1, 0), (1, 1)]), 0.0);
        // Truth: ln 2. Groups: ½·ln 2 + 2·¼·ln 4 = 3/2·ln 2, which tell all of the truth: ln 2 / (5/4·ln 2).
        close(of(&[(0, 0), (0, 0), (1, 1), (1, 2)]), 0.8);
        close(of(&[(0, 0), (0, 0)]), 1.0);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn pairs_by_hand() {
        // Together in truth: 3 + 1 pairs; in groups: 1 + 3; in both: 1 + 1.
        let pairs = Contingency::of([(0, 0), (0, 0), (0, 1), (1, 1), (1, 1)]).pairwise();
        close(pairs.precision, 0.5);
        close(pairs.recall, 0.5);
        close(pairs.f1, 0.5);
        let alone = Contingency::of([(0, 0), (0, 1)]).pairwise();
        assert_eq!((alone.precision, alone.recall, alone.f1), (None, Some(0.0), Some(0.0)));
        assert_eq!(Contingency::of([(0, 0), (1, 1)]).pairwise(), Decisions::default());
    }

    /// As large as the largest set here, with few distinct scores: neither slow nor overflowing.
    #[test]
    fn many_lines_with_equal_scores_are_no_trouble() {
        let lines = (0..200_000u32).map(|n| (Some(f64::from(n.reverse_bits() % 7)), n % 50 == 0));
        assert!(Ranking::new(lines).roc_auc().is_some());
        close(adjusted_rand_index((0..200_000u32).map(|n| (n % 28, n % 28))), 1.0);
    }

    proptest! {
        #[test]
        fn a_monotone_change_of_scores_changes_nothing(scored in prop::collection::vec((-20i32..20, any::<bool>()), 1..60)) {
            let of = |change: fn(f64) -> f64| {
                let ranking = Ranking::new(scored.iter().map(|(score, positive)| (Some(change(f64::from(*score))), *positive)));
                (ranking.roc_auc(), ranking.average_precision(), ranking.recall_at(0.1))
            };
            prop_assert_eq!(of(|score| score), of(|score| (score / 7.0).exp()));
        }

        #[test]
        fn auc_is_the_share_of_pairs_in_order(scored in prop::collection::vec((0i32..6, any::<bool>()), 1..40)) {
            let (mut pairs, mut ordered) = (0.0, 0.0);
            for (high, _) in scored.iter().filter(|(_, positive)| *positive) {
                for (low, _) in scored.iter().filter(|(_, positive)| !*positive) {
                    pairs += 1.0;
                    ordered += match high.cmp(low) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
            let ranking = Ranking::new(scored.iter().map(|(score, positive)| (Some(f64::from(*score)), *positive)));
            match ranking.roc_auc() {
                Some(auc) => prop_assert!((auc - ordered / pairs).abs() < 1e-9),
                None => prop_assert_eq!(pairs, 0.0),
            }
        }

        #[test]
        fn the_order_of_lines_is_without_influence(scored in prop::collection::vec((0i32..6, any::<bool>()), 1..40)) {
            let of = |lines: Vec<&(i32, bool)>| {
                let ranking = Ranking::new(lines.into_iter().map(|(score, positive)| (Some(f64::from(*score)), *positive)));
                (ranking.roc_auc(), ranking.average_precision(), ranking.recall_at(0.1))
            };
            prop_assert_eq!(of(scored.iter().collect()), of(scored.iter().rev().collect()));
        }

        #[test]
        fn new_names_for_groups_change_nothing(groups in prop::collection::vec((0u8..5, 0u8..5), 1..50)) {
            let renamed = groups.iter().map(|(one, other)| (one.wrapping_mul(7) ^ 3, u64::from(*other) + 900));
            let given = adjusted_rand_index(groups.iter().copied());
            prop_assert_eq!(given, adjusted_rand_index(renamed));
            prop_assert_eq!(given, adjusted_rand_index(groups.iter().map(|(one, other)| (*other, *one))));
            prop_assert!(given.unwrap() <= 1.0);
        }

        #[test]
        fn a_grouping_equals_itself(groups in prop::collection::vec(0u8..5, 1..50)) {
            close(adjusted_rand_index(groups.iter().map(|group| (*group, *group))), 1.0);
        }
    }
}
