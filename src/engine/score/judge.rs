//! One record, judged: the path from a sighting to a verdict, and what is remembered of it.
//!
//! What enters: records in order, as templates of services. What leaves: [`Judgement`]s. Promises: a record changes what
//! is known only after it was judged; an anomalous episode is never un-marked by a budget. Absent on purpose: batches.

use std::{fmt, sync::Arc};

use super::{
    QUARANTINE_NANO, Scorer,
    calibration::Calibration,
    detector::{Detector, Evidence, Sighting},
    episode::Series,
    failure,
    fit::Fitted,
    opinion, rarity,
    service::{Service, ServiceId},
    severity,
    shared::Before,
};
use crate::engine::{opinions::Opinion, text::TemplateKey};

/// A service's own calibration is used once it rests on so many units.
pub(super) const MIN_UNITS: usize = 64;

/// What was said so often before its episode began is not kept anomalous by its words or severity.
const USUAL_RECORDS: f64 = 10.0;

/// An episode of plain words ends to be anomalous when its log-odds fall below this.
const RELEASED: f64 = -1.0;

/// Why an episode is anomalous.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// Probability, 0.5 to 1, that it is one, when it became one.
    pub score: f64,
    /// Share of this stream's records, 0 to 1, that begin a usual episode as strange.
    pub p_value: f64,
    /// The detector that said most; none where a person said it.
    pub detector: Option<Detector>,
    /// Why, in one short sentence.
    pub reason: Arc<str>,
    /// The episode's number.
    pub episode: u64,
}

/// What is thought of a record.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What each detector says.
    pub evidence: Evidence,
    /// What they say together: log-odds that the record is anomalous.
    pub log_odds: f64,
    /// The anomaly it is part of, if it is.
    pub anomaly: Option<Arc<Anomaly>>,
}

/// Something worth one line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A service has had all the anomalous episodes an hour may have.
    BudgetSpent {
        /// The service.
        service: Arc<str>,
        /// Its budget.
        episodes_per_hour: usize,
    },
    /// Many new, harmless lines at once.
    Release {
        /// The service they came from.
        service: Arc<str>,
    },
    /// What is usual has changed.
    Drift,
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BudgetSpent {
                service,
                episodes_per_hour,
            } => write!(
                out,
                "{service} has had {episodes_per_hour} anomalous episodes within an hour: further ones are counted and not marked; \
                 raise detection.max_episodes_per_hour to see them"
            ),
            Self::Release { service } => write!(
                out,
                "{service} says many new and harmless things at once, as after a release: they are learned and not marked"
            ),
            Self::Drift => write!(out, "what is usual has changed; training anew"),
        }
    }
}

/// A template's place among all that is remembered, for the records of a batch: until the next template is observed.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub(super) key: TemplateKey,
    /// Its place in the templates.
    pub(super) template: u32,
    /// The service of the record before, and the place of its series.
    pub(super) series: Option<(ServiceId, u32)>,
}

/// What is asked of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Everything that is thought of it.
    Judgement,
    /// Whether it is anomalous.
    Anomaly,
}

/// What a record does to the verdict of its episode.
pub(super) enum Change {
    /// It stays as it is.
    Stay,
    /// It became usual, or was so before.
    Release,
    /// The episode is anomalous from here on, if the budget allows.
    Open(Anomaly),
}

impl Scorer {
    /// Judges a record and learns from it; `None` without a judge yet, and for a template without an embedding, unless
    /// somebody said that it matters.
    pub fn record(
        &mut self,
        key: TemplateKey,
        id: ServiceId,
        severity_number: i32,
        time_unix_nano: u64,
    ) -> Option<Judgement> {
        let mut seat = self.seat(key);
        self.judge(seat.as_mut(), id, severity_number, time_unix_nano, Wanted::Judgement)
    }

    /// The same for the next record of a template that has a seat, where only its anomaly is asked for: of most records it is
    /// plain that they have none. What is remembered is the same to the bit.
    pub fn mark(
        &mut self,
        seat: Option<&mut Seat>,
        id: ServiceId,
        severity_number: i32,
        time_unix_nano: u64,
    ) -> Option<Arc<Anomaly>> {
        self.judge(seat, id, severity_number, time_unix_nano, Wanted::Anomaly)?
            .anomaly
    }

    fn judge(
        &mut self,
        seat: Option<&mut Seat>,
        id: ServiceId,
        severity_number: i32,
        time_unix_nano: u64,
        wanted: Wanted,
    ) -> Option<Judgement> {
        self.records += 1;
        let seat = seat?;
        let key = seat.key;
        let judge = self.judge.as_ref();
        let template = self.templates.by_key.at_mut(seat.template)?;
        let service = self.services.get_mut(id)?;
        let place = match seat.series {
            Some((of, place)) if of == id => place,
            _ => self.series.place_or_insert((key, id), Series::default),
        };
        seat.series = Some((id, place));
        let series = self.series.at_mut(place)?;
        let failing = f64::from(template.failing.unwrap_or(0.0));
        let grave = failing > failure::GRAVE || severity_number >= severity::ERROR;
        let first_sight = series.episode.number == 0;
        // Where nothing is shared nothing is noted either.
        let before = self.shared.as_ref().map(|_| Before::of(template, series, service));
        let begins = series.begins_episode(time_unix_nano, judge.is_some());
        if begins {
            if let (Some(judge), Some(embedding)) = (judge, &template.embedding)
                && template.assessment.generation != judge.generation
            {
                template.assessment = judge.assess(key, embedding);
            }
            self.episodes += 1;
            series.begin(
                self.episodes,
                time_unix_nano,
                judge.is_some(),
                self.records + self.shared.as_ref().map_or(0, |shared| shared.passed_records),
                &template.assessment,
            );
        }
        service.records += 1;
        service.unrest.fade(time_unix_nano);
        let level = service.unrest.level;
        series.last_seen_unix_nano = series.last_seen_unix_nano.max(time_unix_nano);
        series.window.count(time_unix_nano);

        let alpha = self.settings.alpha();
        let own = service.calibration.units.len() >= MIN_UNITS;
        let calibration = if own {
            &mut service.calibration
        } else {
            &mut self.calibration
        };
        let usual = calibration.usual(alpha);
        let sighting = Sighting {
            template,
            series,
            service,
            stream: &self.stream,
            severity_number,
            grave,
        };
        let surprise = rarity::surprise(series.episode.known, self.stream.records);
        let judged = judge.filter(|_| template.embedding.is_some());
        let said = self.opinions.of(key, &service.name, time_unix_nano);
        let episode = &series.episode;
        let goes_on = !begins && said.is_none() && episode.anomaly.is_none();
        let is_plain = wanted == Wanted::Anomaly
            && goes_on
            && (judged.is_none() || episode.suppressed || sighting.is_surely_normal(&self.on, usual, surprise));
        let (evidence, log_odds) = if is_plain {
            (Evidence::default(), f64::NEG_INFINITY)
        } else {
            let evidence = Evidence::of(&sighting, &self.on);
            let log_odds = evidence.log_odds(usual);
            (evidence, log_odds)
        };
        let change = match (said, judged) {
            (None, _) if is_plain => Change::Stay,
            (Some(said), _) => opinion::overrule(said),
            (None, None) => Change::Stay,
            (None, Some(judge)) => {
                let pool = if own { &service.calibration } else { &self.calibration };
                decide(&sighting, &evidence, usual, pool, judge)
            }
        };
        match change {
            Change::Stay => {}
            Change::Release => series.episode.turns += u32::from(series.episode.anomaly.take().is_some()),
            Change::Open(anomaly) => {
                let plain = !grave && severity::is_explicitly_low(severity_number);
                series.episode.turns += 1;
                let budget = self.settings.max_episodes_per_hour;
                let refused = if plain && service.is_release(time_unix_nano) {
                    Some(Note::Release {
                        service: Arc::clone(&service.name),
                    })
                } else if !service.spend(time_unix_nano, budget) {
                    Some(Note::BudgetSpent {
                        service: Arc::clone(&service.name),
                        episodes_per_hour: budget,
                    })
                } else {
                    None
                };
                match refused {
                    None => series.episode.anomaly = Some(Arc::new(anomaly)),
                    Some(note) => {
                        match note {
                            Note::Release { .. } => self.released += 1,
                            _ => self.over_budget += 1,
                        }
                        series.episode.suppressed = true;
                        if service.may_note(time_unix_nano) {
                            self.notes.push(note);
                        }
                    }
                }
            }
        }
        let anomaly = match said {
            Some(Opinion::Real) => Some(opinion::real(series.episode.number)),
            _ => series.episode.anomaly.clone(),
        };
        let is_learned = matches!(said, None | Some(Opinion::Normal));
        let in_quarantine = |since: u64| time_unix_nano.saturating_sub(since) < QUARANTINE_NANO;
        if is_learned && anomaly.is_some() && grave && template.flagged_unix_nano.is_none_or(in_quarantine) {
            template.flagged_unix_nano.get_or_insert(time_unix_nano);
        } else if is_learned {
            series.known += 1.0;
        }
        service.calibration.count();
        self.calibration.count();
        if matches!(said, None | Some(Opinion::Real)) {
            service.unrest.add(surprise, failing);
        }
        self.stream
            .count(time_unix_nano, first_sight && failing < failure::HARMLESS);
        if let (Some(shared), Some(before)) = (&mut self.shared, before) {
            let is_restless = service.unrest.level > level;
            shared.saw((key, id), &before, template, series, service, is_restless);
        }
        let is_judged = judged.is_some();
        // What may be an anomaly says nothing of what is usual; only the tail of the rest does.
        if begins && is_judged && is_learned && log_odds < 0.0 {
            self.take_unit(id, evidence.news);
        }
        (is_judged || anomaly.is_some()).then_some(Judgement {
            evidence,
            log_odds,
            anomaly,
        })
    }

    /// An episode that nobody complains of has begun with this score. Apart, for it is seldom where every record passes.
    #[inline(never)]
    fn take_unit(&mut self, id: ServiceId, news: f64) {
        if let Some(service) = self.services.get_mut(id) {
            service.calibration.push(news as f32);
        }
        if self.drift.takes_in(news, &mut self.calibration) {
            self.notes.push(Note::Drift);
            self.drifted = true;
        }
        if let Some(shared) = &mut self.shared {
            shared.began_unit(id, news as f32);
        }
    }

    /// What a judge that has just been trained would have made of its own templates when they were new: what is usual in
    /// this stream, before it had any episodes to learn that from.
    pub(super) fn calibrated(&self, fitted: &Fitted) -> Calibration {
        let service = Service::new(Arc::from(""));
        let units = fitted.held_out.iter().filter_map(|(key, assessment)| {
            let template = self.templates.by_key.get(key)?;
            let mut series = Series::default();
            series.begin(1, template.first_seen_unix_nano, true, self.records, assessment);
            let sighting = Sighting {
                template,
                series: &series,
                service: &service,
                stream: &self.stream,
                severity_number: 0,
                grave: true,
            };
            let evidence = Evidence::of(&sighting, &self.on);
            (evidence.log_odds(0.0) < 0.0).then_some(evidence.news as f32)
        });
        Calibration::of(units, self.all_records())
    }
}

fn decide(
    sighting: &Sighting<'_>,
    evidence: &Evidence,
    usual: f64,
    calibration: &Calibration,
    judge: &Fitted,
) -> Change {
    let log_odds = evidence.log_odds(usual);
    let episode = &sighting.series.episode;
    match &episode.anomaly {
        Some(_) if !(sighting.grave && episode.known < USUAL_RECORDS) && log_odds < RELEASED => Change::Release,
        None if log_odds > 0.0 && !episode.suppressed => {
            let detector = evidence.leading(usual);
            let nearest = episode.assessment.nearest.and_then(|key| judge.text(key));
            Change::Open(Anomaly {
                score: 1.0 / (1.0 + (-log_odds).exp()),
                p_value: calibration.p_value(evidence.news),
                detector: Some(detector),
                reason: Arc::from(detector.reason(sighting, nearest)),
                episode: episode.number,
            })
        }
        _ => Change::Stay,
    }
}
