//! What a record would be judged to be if it came next, and why, without anything being learned from it.
//!
//! What enters: a template with its embedding, a severity and perhaps a service. What leaves: an [`Explanation`].
//! Promises: the verdict is that of [`Scorer::record`], because a copy of the scorer is asked; the scorer itself stays as
//! it is. "Next" is at the time of the latest record, so the answer depends on no clock. Absent on purpose: how it is
//! told to people.

use std::{ops::Range, sync::Arc};

use serde::Serialize;
use similar::{Algorithm, DiffTag, capture_diff_slices};

use super::{
    Evidence, Scorer, ServiceId,
    calibration::Calibration,
    detector::{Detector, NEWS_BIAS},
    failure,
    judge::{Judgement, MIN_UNITS},
    service::Service,
    templates::Template,
};
use crate::engine::{embed::Embedding, opinions::Opinion, text::TemplateKey};

/// Known templates and sentences of the committee that are told.
const NEAREST: usize = 3;

/// A record that did not happen.
#[derive(Clone, Copy, Debug)]
pub struct Hypothesis<'h> {
    /// Key of its template.
    pub key: TemplateKey,
    /// Its template.
    pub template: &'h str,
    /// What the model makes of the template.
    pub embedding: &'h Embedding,
    /// Who says it; else who has said it most, else who says most.
    pub service: Option<&'h str>,
    /// OTLP severity number, 0 when it has none.
    pub severity_number: i32,
}

/// Everything there is to say of a record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Its text with the variable parts masked.
    pub template: String,
    /// The template's key, by which opinions are given: sixteen hexadecimal digits.
    pub template_key: String,
    /// What is remembered of the template; `None` for one that was never seen, or was forgotten.
    pub known: Option<Past>,
    /// The service it was judged as a record of; `None` where no service is known.
    pub service: Option<String>,
    /// OTLP severity number it was judged with.
    pub severity_number: i32,
    /// What somebody said of it, which decides; the detectors' evidence is told all the same.
    pub opinion: Option<Opinion>,
    /// The verdict; `None` before the first training.
    pub verdict: Option<Verdict>,
    /// Known templates that are most alike, other than its own; the nearest first.
    pub nearest: Vec<Neighbour>,
    /// The template beside the nearest known one, word by word.
    pub difference: Vec<Piece>,
    /// Share of the text, 0 to 1, that the model does not know: as much less do its words weigh.
    pub unknown_share: f32,
    /// How much it sounds like failure; `None` without a committee.
    pub failure: Option<Hearing>,
}

/// What is remembered of a template.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Past {
    /// Records that had it.
    pub lines: u64,
    /// Nanoseconds since the Unix epoch.
    pub first_seen_unix_nano: u64,
    /// The same.
    pub last_seen_unix_nano: u64,
    /// Whether the network was trained on it.
    pub usual: bool,
    /// Services that say it, with their records; the most first.
    pub services: Vec<(String, u64)>,
}

/// What the detectors say, together and each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What would be written on the record.
    pub outcome: Outcome,
    /// Why, where it is anomalous.
    pub reason: Option<String>,
    /// Probability that it is an anomaly.
    pub probability: f64,
    /// Share of the stream's records that begin a usual episode as strange.
    pub p_value: f64,
    /// The probability as log-odds: the stronger of news above what is usual, and complaint.
    pub log_odds: f64,
    /// Log-odds that it is news: the sum of bias and contributions.
    pub news: f64,
    /// Log-odds of news that are usual here; what is above counts.
    pub usual: f64,
    /// Log-odds of a complaint: words so plain that they need not be new. `None` where the detector is left out.
    pub complaint: Option<f64>,
    /// Log-odds of news where every detector is silent.
    pub bias: f64,
    /// What each detector says.
    pub detectors: Vec<Contribution>,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It would pass as normal.
    Normal,
    /// It would be marked.
    Anomalous,
    /// It would be marked, but its service has had enough of such episodes, or has just been released.
    Suppressed,
}

/// What one detector says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Contribution {
    /// Which.
    pub detector: Detector,
    /// In its own unit; the neutral value where it is left out.
    pub value: f64,
    /// Log-odds a unit.
    pub weight: f64,
    /// Log-odds: the product.
    pub contribution: f64,
}

/// A known template near another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its text.
    pub template: String,
    /// Cosine of the angle between the two, 1 for the same direction.
    pub cosine: f32,
    /// Records that had it.
    pub lines: u64,
    /// Whether the network was trained on it.
    pub usual: bool,
}

/// Words of one of two texts, or of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// Where they stand.
    pub of: Side,
    /// The words.
    pub words: String,
}

/// Which of two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// In both.
    Both,
    /// In the record alone.
    Record,
    /// In the known template alone.
    Known,
}

/// How much a text sounds like failure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hearing {
    /// The score: above 0 it does.
    pub score: f32,
    /// The score from which on repetition does not make it usual.
    pub grave_above: f64,
    /// Sentences of failure that are most alike; the nearest first.
    pub failing: Vec<Likeness>,
    /// Sentences that tell of nothing bad.
    pub fine: Vec<Likeness>,
}

/// A sentence of the committee.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Likeness {
    /// The sentence.
    pub sentence: &'static str,
    /// Cosine of the angle to it.
    pub cosine: f32,
}

impl Scorer {
    /// What the record would be judged to be if it came next.
    pub fn explain(&self, hypothesis: &Hypothesis<'_>) -> Explanation {
        let said_by = self.said_by(hypothesis.key);
        let service = match hypothesis.service {
            Some(name) => Some(name.to_owned()),
            None => said_by
                .first()
                .map(|(name, _)| name.clone())
                .or_else(|| self.busiest_service()),
        };
        let nearest = self.nearest(hypothesis);
        Explanation {
            template: hypothesis.template.to_owned(),
            template_key: hypothesis.key.to_string(),
            known: self.templates.by_key.get(&hypothesis.key).map(|template| Past {
                lines: template.lines,
                first_seen_unix_nano: template.first_seen_unix_nano,
                last_seen_unix_nano: template.last_seen_unix_nano,
                usual: self.is_usual(hypothesis.key),
                services: said_by,
            }),
            opinion: self.opinion(hypothesis.key, service.as_deref().unwrap_or_default()),
            verdict: self.verdict(hypothesis, service.as_deref().unwrap_or_default()),
            service,
            severity_number: hypothesis.severity_number,
            difference: nearest
                .first()
                .map(|nearest| difference(&nearest.template, hypothesis.template))
                .unwrap_or_default(),
            nearest,
            unknown_share: hypothesis.embedding.unknown_share(),
            failure: self.committee.as_ref().map(|committee| {
                let [failing, fine] = committee.voices(hypothesis.embedding);
                Hearing {
                    score: committee.hear(hypothesis.embedding),
                    grave_above: failure::GRAVE,
                    failing: likest(failing),
                    fine: likest(fine),
                }
            }),
        }
    }

    fn verdict(&self, hypothesis: &Hypothesis<'_>, service: &str) -> Option<Verdict> {
        let known = self.services.all.iter().find(|known| *known.name == *service);
        let usual = self.calibration_of(known).clone().usual(self.settings.alpha());
        let mut copy = self.clone();
        let (template, now) = (Arc::from(hypothesis.template), self.latest_unix_nano);
        copy.observe(hypothesis.key, || template, Some(hypothesis.embedding), 1, now);
        let id = copy.service(&Arc::from(service));
        let Judgement {
            evidence,
            log_odds,
            anomaly,
        } = copy.record(hypothesis.key, id, hypothesis.severity_number, now)?;
        let series = copy.series.get(&(hypothesis.key, id));
        let outcome = match &anomaly {
            Some(_) => Outcome::Anomalous,
            None if series.is_some_and(|series| series.episode.suppressed) => Outcome::Suppressed,
            None => Outcome::Normal,
        };
        let Evidence {
            contributions,
            news,
            complaint,
        } = evidence;
        let detectors = Detector::ALL.into_iter().zip(contributions);
        Some(Verdict {
            outcome,
            reason: anomaly.map(|anomaly| anomaly.reason.to_string()),
            probability: 1.0 / (1.0 + (-log_odds).exp()),
            p_value: self.calibration_of(known).p_value(news),
            log_odds,
            news,
            usual,
            complaint: complaint.is_finite().then_some(complaint),
            bias: NEWS_BIAS,
            detectors: detectors
                .map(|(detector, contribution)| Contribution {
                    detector,
                    value: detector.value_of(contribution),
                    weight: detector.weight(),
                    contribution,
                })
                .collect(),
        })
    }

    /// What news of the service are measured by.
    fn calibration_of<'s>(&'s self, service: Option<&'s Service>) -> &'s Calibration {
        let own = service.map(|service| &service.calibration);
        own.filter(|own| own.units.len() >= MIN_UNITS)
            .unwrap_or(&self.calibration)
    }

    /// Services that have said a template, with their records; the most first.
    fn said_by(&self, key: TemplateKey) -> Vec<(String, u64)> {
        let all = (key, ServiceId(0))..=(key, ServiceId(u32::MAX));
        let mut said: Vec<(String, u64)> = self
            .series
            .range(all)
            .filter_map(|((_, id), series)| {
                let window = &series.window;
                let records = window.before + window.counts.iter().map(|count| u64::from(*count)).sum::<u64>();
                Some((self.services.all.get(id.0 as usize)?.name.to_string(), records))
            })
            .collect();
        // Stable: equals keep the order in which the services were first seen.
        said.sort_by_key(|(_, records)| std::cmp::Reverse(*records));
        said
    }

    fn busiest_service(&self) -> Option<String> {
        let busiest = self.services.all.iter().max_by_key(|service| service.records)?;
        Some(busiest.name.to_string())
    }

    fn is_usual(&self, key: TemplateKey) -> bool {
        self.judge.as_ref().is_some_and(|judge| judge.text(key).is_some())
    }

    fn nearest(&self, hypothesis: &Hypothesis<'_>) -> Vec<Neighbour> {
        let others = self.templates.by_key.iter().filter(|(key, _)| **key != hypothesis.key);
        let mut near: Vec<(f32, TemplateKey, &Template)> = others
            .filter_map(|(key, template)| {
                let cosine = template.embedding.as_ref()?.cosine(hypothesis.embedding);
                Some((cosine, *key, template))
            })
            .collect();
        near.sort_by(|left, right| right.0.total_cmp(&left.0));
        near.into_iter()
            .take(NEAREST)
            .map(|(cosine, key, template)| Neighbour {
                template: template.text.to_string(),
                cosine,
                lines: template.lines,
                usual: self.is_usual(key),
            })
            .collect()
    }
}

fn likest(mut voices: Vec<(&'static str, f32)>) -> Vec<Likeness> {
    voices.sort_by(|left, right| right.1.total_cmp(&left.1));
    let likest = voices.into_iter().take(NEAREST);
    likest.map(|(sentence, cosine)| Likeness { sentence, cosine }).collect()
}

/// The words of two texts, in the fewest changes from one to the other (Myers, 1986).
fn difference(known: &str, record: &str) -> Vec<Piece> {
    let known: Vec<&str> = known.split_whitespace().collect();
    let record: Vec<&str> = record.split_whitespace().collect();
    let mut pieces = Vec::new();
    for change in capture_diff_slices(Algorithm::Myers, &known, &record) {
        let (tag, of_known, of_record) = change.as_tag_tuple();
        let mut add = |of: Side, words: &[&str], range: Range<usize>| {
            let words = words.get(range).unwrap_or_default().join(" ");
            if !words.is_empty() {
                pieces.push(Piece { of, words });
            }
        };
        if tag == DiffTag::Equal {
            add(Side::Both, &record, of_record);
        } else {
            add(Side::Known, &known, of_known);
            add(Side::Record, &record, of_record);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::sync::OnceLock;

    use super::*;
    use crate::engine::{
        embed::{DIMENSIONS, EmbedError, Embedder},
        score::{Committee, Settings},
    };

    const SECOND: u64 = 1_000_000_000;

    /// Two sentences of the committee, so that they sound like failure whatever the stub makes of words.
    const BROKEN: [&str; 2] = [
        "Assertion failed, aborting.",
        "Data corruption was detected on the disk.",
    ];

    /// Texts that begin with the same letter point in nearly the same direction.
    struct Letters;

    impl Embedder for Letters {
        fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
            let embed = |text: &&str| {
                let mut values = vec![0.0; DIMENSIONS];
                values[usize::from(text.bytes().next().unwrap_or(0))] = 1.0;
                values[128 + text.len()] = 0.5;
                Ok(Embedding::new(values)?)
            };
            texts.iter().map(embed).collect()
        }

        fn model_version(&self) -> &str {
            "letters"
        }
    }

    fn embedding(text: &str) -> Embedding {
        Letters.embed(&[text]).unwrap().remove(0)
    }

    fn say(scorer: &mut Scorer, service: &str, text: &str, severity_number: i32, second: u64) -> Option<Judgement> {
        let (key, time) = (TemplateKey::of(text), (1000 + second) * SECOND);
        scorer.observe(key, || Arc::from(text), Some(&embedding(text)), 1, time);
        let id = scorer.service(&Arc::from(service));
        scorer.record(key, id, severity_number, time)
    }

    /// A scorer that has learned from two services.
    fn learned() -> Scorer {
        static LEARNED: OnceLock<Scorer> = OnceLock::new();
        LEARNED.get_or_init(learn).clone()
    }

    fn learn() -> Scorer {
        let mut scorer = Scorer::new(Settings {
            warm_up_records: 400,
            ..Settings::default()
        });
        scorer.appoint(Committee::embed(&Letters).unwrap());
        for second in 0..400 {
            say(
                &mut scorer,
                "shop",
                ["order placed by <n>", "order shipped to <n>"][second as usize % 2],
                9,
                second,
            );
            say(&mut scorer, "bank", "payment received from <n>", 9, second);
        }
        let job = scorer.take_fit().unwrap();
        scorer.install(job.run());
        scorer
    }

    fn explain(scorer: &Scorer, template: &str, service: Option<&str>, severity_number: i32) -> Explanation {
        scorer.explain(&Hypothesis {
            key: TemplateKey::of(template),
            template,
            embedding: &embedding(template),
            service,
            severity_number,
        })
    }

    #[test]
    fn nothing_is_learned_and_the_verdict_is_what_the_record_would_get() {
        let mut scorer = learned();
        for (text, severity) in [(BROKEN[0], 17), ("order placed by <n>", 9), ("order lost by <n>", 9)] {
            let before = scorer.clone();
            let explanation = explain(&scorer, text, Some("shop"), severity);
            assert_eq!(scorer, before);
            let judgement = say(&mut scorer, "shop", text, severity, 399).unwrap();
            let verdict = explanation.verdict.unwrap();
            assert_eq!(verdict.log_odds, judgement.log_odds, "{text}");
            assert_eq!(
                verdict.outcome == Outcome::Anomalous,
                judgement.anomaly.is_some(),
                "{text}"
            );
            assert_eq!(
                verdict.reason.as_deref(),
                judgement.anomaly.as_deref().map(|anomaly| &*anomaly.reason)
            );
            if let Some(anomaly) = judgement.anomaly {
                assert_eq!((verdict.probability, verdict.p_value), (anomaly.score, anomaly.p_value));
            }
        }
    }

    #[test]
    fn the_contributions_add_up() {
        let verdict = explain(&learned(), BROKEN[0], Some("shop"), 17).verdict.unwrap();
        let sum: f64 = verdict.detectors.iter().map(|one| one.contribution).sum();
        assert!((verdict.bias + sum - verdict.news).abs() < 1e-9);
        for one in verdict.detectors {
            assert!((one.value * one.weight - one.contribution).abs() < 1e-9, "{one:?}");
        }
        let evidence = Evidence {
            news: verdict.news,
            complaint: verdict.complaint.unwrap(),
            ..Evidence::default()
        };
        assert!((evidence.log_odds(verdict.usual) - verdict.log_odds).abs() < 1e-9);
    }

    #[test]
    fn what_is_known_is_told_with_its_services_and_neighbours() {
        let explanation = explain(&learned(), "order placed by <n>", None, 9);
        let known = explanation.known.unwrap();
        assert_eq!((known.lines, known.usual), (200, true));
        assert_eq!(known.services, [("shop".to_owned(), 200)]);
        assert_eq!(explanation.service.as_deref(), Some("shop"));
        assert_eq!(explanation.nearest[0].template, "order shipped to <n>");
        assert_eq!(explanation.nearest.len(), 2);
        assert_eq!(explain(&learned(), "new", None, 9).service.as_deref(), Some("bank"));
    }

    #[test]
    fn without_anything_learned_there_are_the_shipped_priors() {
        let mut scorer = Scorer::new(Settings::default());
        scorer.appoint(Committee::embed(&Letters).unwrap());
        let explanation = explain(&scorer, BROKEN[0], None, 17);
        assert!(explanation.verdict.is_none() && explanation.known.is_none() && explanation.nearest.is_empty());
        let heard = explanation.failure.unwrap();
        assert_eq!(heard.failing[0].sentence, BROKEN[0]);
        assert!((heard.failing[0].cosine - 1.0).abs() < 1e-5 && heard.failing.len() == NEAREST);
    }

    #[test]
    fn words_that_the_model_does_not_know_say_nothing_and_the_rest_decides() {
        let mut scorer = learned();
        let explain = |scorer: &Scorer, unknown_share: f32| {
            scorer.explain(&Hypothesis {
                key: TemplateKey::of(BROKEN[0]),
                template: BROKEN[0],
                embedding: &embedding(BROKEN[0]).with_unknown_share(unknown_share),
                service: Some("shop"),
                severity_number: 17,
            })
        };
        let values = |unknown_share| -> Vec<f64> {
            let verdict = explain(&scorer, unknown_share).verdict.unwrap();
            verdict.detectors.iter().map(|one| one.value).collect()
        };
        let (known, half, unknown) = (values(0.0), values(0.5), values(1.0));
        for detector in [Detector::Autoencoder, Detector::Neighbour, Detector::Failure] {
            let at = detector.index();
            assert!(
                (unknown[at] - detector.neutral()).abs() < 1e-6,
                "{detector:?} {}",
                unknown[at]
            );
            assert!(
                (half[at] - (known[at] + unknown[at]) / 2.0).abs() < 1e-6,
                "{detector:?}"
            );
        }
        for detector in [Detector::Severity, Detector::Burst] {
            assert_eq!(known[detector.index()], unknown[detector.index()], "{detector:?}");
        }
        // The share comes back with the snapshot.
        let foreign = embedding("foreign").with_unknown_share(0.75);
        scorer.observe(
            TemplateKey::of("foreign"),
            || Arc::from("foreign"),
            Some(&foreign),
            1,
            0,
        );
        let restored = Scorer::restore(scorer.settings.clone(), scorer.export()).unwrap();
        let shares =
            |scorer: &Scorer| -> Vec<f32> { scorer.embeddings().map(|(_, one)| one.unknown_share()).collect() };
        assert_eq!(shares(&restored), shares(&scorer));
        assert!(shares(&restored).contains(&0.75));
    }

    #[test]
    fn a_spent_budget_is_told() {
        let mut scorer = learned();
        scorer.settings.max_episodes_per_hour = 1;
        assert!(say(&mut scorer, "shop", BROKEN[0], 17, 399).unwrap().anomaly.is_some());
        let verdict = explain(&scorer, BROKEN[1], Some("shop"), 17).verdict.unwrap();
        assert_eq!(verdict.outcome, Outcome::Suppressed);
        say(&mut scorer, "shop", BROKEN[1], 17, 399);
        assert_eq!((scorer.tally().over_budget, scorer.tally().released), (1, 0));
    }

    #[test]
    fn the_words_that_differ_are_told_in_order() {
        let piece = |of, words: &str| Piece {
            of,
            words: words.to_owned(),
        };
        assert_eq!(
            difference("a b <n> c", "a x <n> c d"),
            [
                piece(Side::Both, "a"),
                piece(Side::Known, "b"),
                piece(Side::Record, "x"),
                piece(Side::Both, "<n> c"),
                piece(Side::Record, "d"),
            ]
        );
    }
}
