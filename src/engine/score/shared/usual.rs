//! How strong news has to be in a service, by what all agents have had of it.
//!
//! What enters: the units of calibrations, one by one, here; what other agents say of theirs. What leaves: what this agent adds, for the
//! others. Promises: no unit counts twice in any agent's calibration of the service, and all count but the earliest of more than
//! [`MAX_UNITS`] at a time, so that with a part of the stream the bar is that of the whole, and a change of the whole is noticed; what
//! is kept is a few numbers for each service and each name that an agent ever had. Absent on purpose: the bar itself (`calibration`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    super::{Note, Scorer, ServiceId, calibration::Calibration},
    Rank, Shared, Subject, has_grown_by,
    messages::UsualFact,
};

/// Units that are told at a time: the latest.
const MAX_UNITS: usize = 32;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Usual {
    /// What this agent has added, by service.
    own: BTreeMap<ServiceId, Own>,
    /// Units and records that other agents have told.
    heard: BTreeMap<(ServiceId, u64), (u64, u64)>,
    /// Services whose calibration was kept: it has most of what others had told by then.
    kept: BTreeSet<ServiceId>,
    /// Records in each calibration that were kept or heard of: the others were said here since.
    not_here: BTreeMap<ServiceId, u64>,
}

/// What this agent has added to the calibration of a service.
#[derive(Clone, Debug, Default, PartialEq)]
struct Own {
    units: VecDeque<f32>,
    unit_count: u64,
    /// Records before it was started, as the memory had them.
    records_before: u64,
    /// Units and records of it that the memory has.
    told: (u64, u64),
    /// What the memory had of it before it was started is in it.
    is_whole: bool,
}

impl Usual {
    /// Begins with these calibrations, which were kept.
    pub(super) fn of<'a>(services: impl Iterator<Item = (ServiceId, &'a Calibration)>) -> Self {
        let kept = services.map(|(id, kept)| (id, kept.record_count));
        let not_here: BTreeMap<ServiceId, u64> = kept.filter(|(_, records)| *records > 0).collect();
        Self {
            kept: not_here.keys().copied().collect(),
            not_here,
            ..Self::default()
        }
    }
}

impl Shared {
    /// A record that was judged here began a unit of this score.
    pub(in crate::engine::score) fn began_unit(&mut self, id: ServiceId, score: f32) {
        let own = self.usual.own.entry(id).or_default();
        own.unit_count += 1;
        if own.units.len() == MAX_UNITS {
            own.units.pop_front();
        }
        own.units.push_back(score);
        self.queue.note(Subject::Usual(id), Rank::Episodes);
    }
}

impl Scorer {
    /// What this agent adds to what is usual in a service; `None` where that was told.
    pub(super) fn usual_fact(&self, shared: &mut Shared, id: ServiceId) -> Option<UsualFact> {
        let service = self.services.get(id)?;
        let not_here = shared.usual.not_here.get(&id).copied().unwrap_or_default();
        let own = shared.usual.own.entry(id).or_default();
        let here = service.calibration.record_count.saturating_sub(not_here);
        let record_count = own.records_before.saturating_add(here);
        let (units, records) = own.told;
        if own.unit_count <= units && !has_grown_by(records, record_count) {
            return None;
        }
        own.told = (own.unit_count, record_count);
        Some(UsualFact {
            service: service.name.to_string(),
            agent: shared.agent,
            units: own.units.iter().copied().collect(),
            unit_count: own.unit_count,
            record_count,
        })
    }

    pub(super) fn hear_usual(&mut self, heard: &UsualFact) {
        let Some(id) = self.services.heard_of(&heard.service) else {
            return;
        };
        let (Some(shared), Some(service)) = (&mut self.shared, self.services.get_mut(id)) else {
            return;
        };
        let usual = &mut shared.usual;
        let mut before = None;
        if heard.agent == shared.agent {
            let own = usual.own.entry(id).or_default();
            if std::mem::replace(&mut own.is_whole, true) || heard.unit_count <= own.told.0 {
                return;
            }
            own.unit_count = own.unit_count.saturating_add(heard.unit_count);
            own.records_before = heard.record_count;
            own.told = (heard.unit_count, heard.record_count);
        } else {
            before = usual.heard.get(&(id, heard.agent)).copied();
            let (units, records) = before.unwrap_or_default();
            let counted = (units.max(heard.unit_count), records.max(heard.record_count));
            usual.heard.insert((id, heard.agent), counted);
        }
        if before.is_none() && usual.kept.contains(&id) {
            return;
        }
        let (units, records) = before.unwrap_or_default();
        let more_records = heard.record_count.saturating_sub(records);
        let more = heard.unit_count.saturating_sub(units);
        let latest = usize::try_from(more).unwrap_or(usize::MAX).min(heard.units.len());
        let latest = heard.units.get(heard.units.len() - latest..).unwrap_or_default();
        let unsaid = more - latest.len() as u64;
        let not_here = usual.not_here.entry(id).or_default();
        *not_here = not_here.saturating_add(more_records);
        latest.iter().for_each(|unit| service.calibration.push(*unit));
        service.calibration.add_counts(unsaid, more_records);
        // Whoever is new has what was usual in the stream as a whole from what is told of that.
        if before.is_some() {
            for unit in latest {
                if self.drift.takes_in(f64::from(*unit), &mut self.calibration) {
                    self.notes.push(Note::Drift);
                    self.drifted = true;
                }
            }
            self.calibration.add_counts(unsaid, more_records);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::super::super::Settings;
    use super::super::Fact;
    use super::*;

    fn agent(name: u64) -> Scorer {
        let mut scorer = Scorer::new(Settings::default());
        scorer.services.of(&Arc::from("shop"));
        scorer.share(name, true);
        scorer
    }

    /// As the judge counts a record that begins a unit.
    fn unit(scorer: &mut Scorer, score: f32) {
        let id = ServiceId(0);
        let service = scorer.services.get_mut(id).unwrap();
        service.calibration.push(score);
        service.calibration.count();
        scorer.drifted |= scorer.drift.takes_in(f64::from(score), &mut scorer.calibration);
        scorer.calibration.count();
        scorer.shared.as_mut().unwrap().began_unit(id, score);
    }

    fn told(agents: &mut [Scorer]) -> Vec<Fact> {
        let told: Vec<Fact> = agents.iter_mut().flat_map(|agent| agent.drain_knowledge(99)).collect();
        for fact in &told {
            agents.iter_mut().for_each(|agent| drop(agent.hear(fact.clone())));
        }
        told
    }

    fn bar(scorer: &Scorer) -> (u64, u64, Vec<f32>) {
        let calibration = &scorer.services.get(ServiceId(0)).unwrap().calibration;
        let mut units: Vec<f32> = calibration.units.iter().copied().collect();
        units.sort_by(f32::total_cmp);
        (calibration.unit_count, calibration.record_count, units)
    }

    /// Three agents, `count` units dealt to them; and the facts that a memory has afterwards.
    fn three(count: u16) -> (Vec<Scorer>, Vec<Fact>) {
        let mut agents: Vec<Scorer> = (1..=3).map(agent).collect();
        let mut kept = Vec::new();
        for n in 0..count {
            unit(agents.get_mut(usize::from(n % 3)).unwrap(), f32::from(n));
            kept.extend(told(&mut agents));
        }
        (agents, kept)
    }

    #[test]
    fn the_bar_of_a_part_is_that_of_the_whole() {
        let (agents, _) = three(90);
        let whole: Vec<f32> = (0..90u8).map(f32::from).collect();
        for agent in &agents {
            assert_eq!(bar(agent), (90, 90, whole.clone()));
            assert_eq!(
                agent.shared.as_ref().unwrap().queue.len(),
                0,
                "nothing heard is told back"
            );
        }
    }

    /// Of 15 strange units each of three agents has had five, which alone would be no reason.
    #[test]
    fn a_change_of_the_whole_is_noticed_by_all() {
        let mut agents: Vec<Scorer> = (1..=3).map(agent).collect();
        let mut rng = fastrand::Rng::with_seed(1);
        for n in 0..315 {
            let strangeness = if n < 300 { 0.0 } else { 2.0 };
            let drifted = agents.iter().filter(|agent| agent.drifted).count();
            assert!(n > 300 || drifted == 0);
            unit(agents.get_mut(n % 3).unwrap(), strangeness + rng.f32());
            told(&mut agents);
        }
        assert!(agents.iter().all(|agent| agent.drifted));
    }

    /// Whoever is new takes the latest of everybody; whoever comes back with what it kept counts nothing again, and what it adds then is
    /// heard by all.
    #[test]
    fn comings_and_returns_count_nothing_twice() {
        let (agents, kept) = three(150);
        let hear_all = |scorer: &mut Scorer| {
            // What is kept of each key is the latest, but in whatever order.
            kept.iter()
                .rev()
                .take(3)
                .for_each(|fact| drop(scorer.hear(fact.clone())));
        };
        let mut new = agent(4);
        hear_all(&mut new);
        let (unit_count, record_count, units) = bar(&new);
        assert_eq!((unit_count, record_count, units.len()), (150, 150, 3 * MAX_UNITS));
        let mut lost = agent(1);
        hear_all(&mut lost);
        assert_eq!(bar(&lost), bar(&new), "it had its own part, and lost it");

        let first = agents.first().unwrap();
        let mut back = first.clone();
        back.share(1, true);
        hear_all(&mut back);
        assert_eq!(bar(&back), bar(first));
        for mut returned in [back, lost] {
            let before = bar(&new).0;
            unit(&mut returned, 1000.0);
            let mut both = [returned, new.clone()];
            told(&mut both);
            let [_, (unit_count, _, units)] = both.each_ref().map(bar);
            assert_eq!((unit_count, units.last()), (before + 1, Some(&1000.0)));
        }
    }
}
