//! Takes texts out of a scorer's state: all of them, or templates that somebody wants forgotten.
//!
//! What enters: a state as it lies on the disk. What leaves: the same state without. Promises: no text that is to go stays,
//! neither as a template, nor in the judge's bank, nor quoted in a reason. What the network and the calibration have
//! learned of a template is in their numbers and stays until the next training; no text can be read from it.

use std::collections::BTreeMap;

use super::{
    super::{Scorer, neighbour::shortened},
    messages::ScorerState,
};
use crate::engine::text::TemplateKey;

/// A template that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Its text.
    pub text: String,
    /// Records that had it.
    pub records: u64,
    /// Services that said it.
    pub services: usize,
}

impl Scorer {
    /// Whether the template is remembered.
    pub fn knows(&self, template: TemplateKey) -> bool {
        self.templates.by_key.contains_key(&template)
    }
}

impl ScorerState {
    /// Keeps no text of a log; keys and embeddings stay.
    pub fn drop_texts(&mut self) {
        for template in &mut self.templates {
            template.text = String::new();
        }
        for known in self.judge.iter_mut().flat_map(|judge| &mut judge.bank) {
            known.text = String::new();
        }
        self.drop_quotations(|_| true);
    }

    /// Forgets every template whose text `matches`, with its series and its place in the judge's bank.
    pub fn forget(&mut self, matches: impl Fn(&str) -> bool) -> Vec<Forgotten> {
        let mut gone: BTreeMap<u64, Forgotten> = BTreeMap::new();
        let mut take = |key: u64, text: &str, records: u64| {
            let is_gone = !text.is_empty() && matches(text);
            if is_gone {
                gone.entry(key).or_insert_with(|| Forgotten {
                    text: text.to_owned(),
                    records,
                    services: 0,
                });
            }
            !is_gone
        };
        self.templates
            .retain(|template| take(template.key, &template.text, template.lines));
        if let Some(judge) = &mut self.judge {
            judge.bank.retain(|known| take(known.key, &known.text, known.lines));
        }
        self.series.retain(|series| match gone.get_mut(&series.template) {
            Some(gone) => {
                gone.services += 1;
                false
            }
            None => true,
        });
        self.drop_quotations(|quoted| gone.values().any(|gone| shortened(&gone.text) == quoted));
        gone.into_values().collect()
    }

    /// Whether any text is kept.
    pub fn has_texts(&self) -> bool {
        self.templates.iter().any(|template| !template.text.is_empty())
    }

    /// Takes quotations out of reasons: `nearest known "…" at 0.41` becomes `nearest known at 0.41`.
    fn drop_quotations(&mut self, is_meant: impl Fn(&str) -> bool) {
        let episodes = self.series.iter_mut().filter_map(|series| series.episode.as_mut());
        for anomaly in episodes.filter_map(|episode| episode.anomaly.as_mut()) {
            if let Some((without, quoted)) = unquoted(&anomaly.reason)
                && is_meant(quoted)
            {
                anomaly.reason = without;
            }
        }
    }
}

/// A reason without its quotation, and what was quoted; `None` where nothing is.
pub fn unquoted(reason: &str) -> Option<(String, &str)> {
    let (before, rest) = reason.split_once('"')?;
    let (quoted, after) = rest.rsplit_once('"')?;
    Some((format!("{}{after}", before.trim_end()), quoted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::messages::{AnomalyState, EpisodeState, FittedState, KnownState, SeriesState, TemplateState};
    use super::*;

    const QUOTING: &str = "unlike anything usual: nearest known \"paid \"now\" by <name>\" at 0.41";

    /// Two usual templates, and a strange one whose reason quotes the first.
    fn state() -> ScorerState {
        let texts = ["paid \"now\" by <name>", "listed the basket", "disk vanished"];
        let template = |(key, text): (u64, &str)| TemplateState {
            key,
            text: text.to_owned(),
            lines: 7,
            ..TemplateState::default()
        };
        let known = |(key, text): (u64, &str)| KnownState {
            key,
            text: text.to_owned(),
            ..KnownState::default()
        };
        let series = |template| SeriesState {
            template,
            episode: Some(EpisodeState {
                anomaly: (template == 2).then(|| AnomalyState {
                    reason: QUOTING.to_owned(),
                    ..AnomalyState::default()
                }),
                ..EpisodeState::default()
            }),
            ..SeriesState::default()
        };
        ScorerState {
            templates: (0..).zip(texts).map(template).collect(),
            series: (0..3).map(series).collect(),
            judge: Some(FittedState {
                bank: (0..).zip(texts).take(2).map(known).collect(),
                ..FittedState::default()
            }),
            ..ScorerState::default()
        }
    }

    fn reason(state: &ScorerState) -> &str {
        let episodes = state.series.iter().filter_map(|series| series.episode.as_ref());
        &episodes
            .filter_map(|episode| episode.anomaly.as_ref())
            .next()
            .unwrap()
            .reason
    }

    #[test]
    fn without_texts_nothing_is_quoted() {
        let mut state = state();
        assert!(state.has_texts());
        state.drop_texts();
        assert!(!state.has_texts());
        assert!(
            state
                .judge
                .as_ref()
                .unwrap()
                .bank
                .iter()
                .all(|known| known.text.is_empty())
        );
        assert_eq!(reason(&state), "unlike anything usual: nearest known at 0.41");
        assert!(state.forget(|_| true).is_empty(), "there is nothing to match");
    }

    #[test]
    fn what_is_forgotten_is_in_no_list_and_no_reason() {
        let mut state = state();
        let gone = state.forget(|text| text.contains("basket"));
        assert_eq!(
            (gone[0].text.as_str(), gone[0].records, gone[0].services),
            ("listed the basket", 7, 1)
        );
        assert_eq!(reason(&state), QUOTING, "another's quotation stays");
        assert_eq!(state.forget(|text| text.starts_with("paid")).len(), 1);
        assert_eq!(reason(&state), "unlike anything usual: nearest known at 0.41");
        let left: Vec<u64> = state.templates.iter().map(|template| template.key).collect();
        assert_eq!(
            (left, state.series.len(), state.judge.unwrap().bank.len()),
            (vec![2], 1, 0)
        );
    }
}
