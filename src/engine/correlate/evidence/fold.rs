//! Incidents, folded over the log: episode after episode, in the order of their first records.
//!
//! In: episodes. Out: for each the group it belongs to, and what that changed ([`Step`]). Promises: a function of the
//! episodes and their order, whatever came between; bounded. Absent on purpose: names, counts for people, and how much of
//! the log may still change.

use std::collections::BTreeMap;

use super::super::incident::{Ending, Link, Tie};
use super::companions::Companions;
use super::episode::{Episode, Place};
use super::group::{Group, Weight, silence};
use super::rhythm::Rhythm;

/// Ids whose carrier is remembered; then all are forgotten at once.
const MAX_CARRIERS: usize = 4096;
/// Voices remembered: who spoke last in a service, for a request.
const MAX_VOICES: usize = 4096;

/// An incident is a fragment while it says so few things, and is so young (nanoseconds).
const FRAGMENT_KINDS: usize = 3;
const FRAGMENT_NANO: u64 = 30 * 1_000_000_000;

/// What bounds a fold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Silence that ends an incident, nanoseconds.
    pub idle: u64,
    /// Longest life, nanoseconds.
    pub life: u64,
    /// Groups at a time.
    pub groups: usize,
}

/// A service speaking for one request (its first id, 0 without): what it says without a pause is one utterance.
type Voice = (u64, u64);

/// See the module. Groups are known by the place of the episode that opened them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fold {
    pub groups: BTreeMap<Place, Group>,
    pub rhythm: Rhythm,
    pub companions: Companions,
    /// The group of an utterance, and when it was last heard.
    pub voices: BTreeMap<Voice, (Place, u64)>,
    /// Which service last carried an id.
    pub carriers: BTreeMap<u64, u64>,
}

/// What an episode did.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// The group it belongs to.
    pub group: Place,
    /// It opened that group.
    pub opened: bool,
    /// Why it belongs to it; `None` where it opened it.
    pub link: Option<Link>,
    /// Groups that turned out to be part of that group.
    pub merged: Vec<Place>,
    /// Groups that ended, but for silence.
    pub ended: Vec<(Place, Ending)>,
}

impl Fold {
    /// Takes the next episodes, by place. Those that begin at once are taken in the order of how little is known of them: what
    /// no incident ever said tells more than a line that is in every stack trace.
    pub fn take_all<'a>(
        &mut self,
        episodes: impl Iterator<Item = (Place, &'a Episode)>,
        limits: &Limits,
    ) -> Vec<(Place, Step)> {
        let episodes: Vec<(Place, &Episode)> = episodes.collect();
        let mut steps = Vec::with_capacity(episodes.len());
        for at_once in episodes.chunk_by(|(one, _), (other, _)| one.first == other.first) {
            let mut order: Vec<(u32, Place, &Episode)> = (at_once.iter())
                .map(|(place, episode)| (self.companions.incidents_of(place.kind), *place, *episode))
                .collect();
            order.sort_by_key(|(known, place, _)| (*known, *place));
            for (_, place, episode) in order {
                steps.push((place, self.take(place, episode, limits)));
            }
        }
        steps
    }

    /// Takes the next episode.
    fn take(&mut self, place: Place, episode: &Episode, limits: &Limits) -> Step {
        let now = place.first;
        self.rhythm.begin(now, episode.last);
        let mut step = Step {
            group: place,
            opened: false,
            link: None,
            merged: Vec::new(),
            ended: Vec::new(),
        };
        let voice = (place.kind.1, episode.ids.first().copied().unwrap_or_default());
        let speaking = self.voices.get(&voice).filter(|(group, heard)| {
            silence(*heard, now) == 0 && self.groups.get(group).is_some_and(|group| joinable(group, now, limits))
        });
        let found = match speaking.map(|(group, _)| *group) {
            Some(group) => {
                let rate = self.rhythm.rate;
                step.link = self.groups.get(&group).and_then(|group| group.breath(place.kind, rate));
                Some((group, Tie::Time))
            }
            None => self.find(place, episode, limits, &mut step),
        };
        match found {
            Some((group, tie)) => {
                step.group = group;
                if let Some(tally) = self
                    .groups
                    .get_mut(&group)
                    .and_then(|group| group.ties.get_mut(tie as usize))
                {
                    *tally += 1;
                }
            }
            None => {
                step.opened = true;
                // Silent ones do not count: when they are taken out must not matter here.
                let open = || (self.groups.iter()).filter(|(_, group)| silence(group.last, now) < limits.idle);
                if open().count() >= limits.groups
                    && let Some(quietest) = open().min_by_key(|(place, group)| (group.begun, **place))
                {
                    let quietest = *quietest.0;
                    self.close(quietest);
                    step.ended.push((quietest, Ending::Bound));
                }
                self.groups.entry(place).or_insert_with(|| Group::new(None, now));
            }
        }
        self.join(step.group, place, episode);
        self.remember(voice, step.group, episode.last, now);
        step
    }

    /// The group an episode belongs to by evidence. One that has lived long enough gets a child instead.
    fn find(&mut self, place: Place, episode: &Episode, limits: &Limits, step: &mut Step) -> Option<(Place, Tie)> {
        let now = place.first;
        let mut best: Option<(Place, Weight)> = None;
        let mut sharing: Vec<Place> = Vec::new();
        let open = self.groups.values().filter(|group| joinable(group, now, limits));
        let elsewhere = open
            .map(|group| group.episodes_of(place.kind))
            .max()
            .unwrap_or_default();
        for (opener, group) in &self.groups {
            if group.ended || silence(group.last, now) >= limits.idle {
                continue;
            }
            if episode.ids.iter().any(|id| group.ids.contains(id)) && now.saturating_sub(group.first) <= limits.life {
                sharing.push(*opener);
            }
            let bar = best.map_or(self.rhythm.rate.ln(), |(_, best)| best.score);
            if let Some(weight) = group.weigh(place, episode, &self.companions, elsewhere, bar) {
                best = Some((*opener, weight));
            }
        }
        let (mut opener, weight) = best?;
        let group = self.groups.get(&opener)?;
        if now.saturating_sub(group.first) > limits.life {
            let mut child = Group::new(Some(opener), now);
            // It knows what its parent said, so that the outage goes on in one child.
            child.core.clone_from(&group.core);
            child.ids.clone_from(&group.ids);
            child.novel = group.novel;
            if let Some(parent) = self.groups.get_mut(&opener) {
                parent.ended = true;
            }
            step.ended.push((opener, Ending::Life));
            step.opened = true;
            self.groups.insert(place, child);
            return Some((place, weight.tie));
        }
        step.link = group.link(weight, self.rhythm.rate);
        // One id in two incidents, and not in more: they are one.
        if let [one, other] = sharing.as_slice()
            && (opener == *one || opener == *other)
            && self.is_fragment(*one.max(other), now)
        {
            let (older, younger) = (*one.min(other), *one.max(other));
            if let Some(absorbed) = self.groups.remove(&younger)
                && let Some(kept) = self.groups.get_mut(&older)
            {
                kept.absorb(absorbed);
                self.voices
                    .values_mut()
                    .filter(|(group, _)| *group == younger)
                    .for_each(|voice| voice.0 = older);
                step.merged.push(younger);
                opener = older;
            }
        }
        Some((opener, weight.tie))
    }

    /// Whether an incident has hardly begun: an older one is too much of its own to be only a part.
    fn is_fragment(&self, group: Place, now: u64) -> bool {
        let group = self.groups.get(&group);
        group
            .is_some_and(|group| group.core.len() <= FRAGMENT_KINDS && now.saturating_sub(group.first) <= FRAGMENT_NANO)
    }

    fn join(&mut self, group: Place, place: Place, episode: &Episode) {
        let Some(group) = self.groups.get_mut(&group) else {
            return;
        };
        if self.carriers.len() > MAX_CARRIERS {
            self.carriers.clear();
        }
        for id in &episode.ids {
            let before = self.carriers.insert(*id, place.kind.1);
            if let Some(before) = before {
                self.companions.share(before, place.kind.1);
            }
        }
        if group.take(place, episode) {
            let others = group
                .core
                .iter()
                .map(|said| said.kind)
                .filter(|kind| *kind != place.kind);
            self.companions.meet(place.kind, others);
        }
    }

    fn remember(&mut self, voice: Voice, group: Place, heard: u64, now: u64) {
        if self.voices.len() >= MAX_VOICES {
            self.voices.retain(|_, (_, heard)| silence(*heard, now) == 0);
        }
        let full = self.voices.len() >= MAX_VOICES;
        match self.voices.get_mut(&voice) {
            Some((of, latest)) if *of == group => *latest = heard.max(*latest),
            Some(known) => *known = (group, heard),
            None if !full => {
                self.voices.insert(voice, (group, heard));
            }
            None => {}
        }
    }

    /// One more record of an episode that was taken.
    pub fn touch(&mut self, group: Place, place: Place, first_id: u64, time: u64, records: u64) {
        self.rhythm.touch(time);
        if let Some(group) = self.groups.get_mut(&group) {
            group.touch(place.kind, time, records);
        }
        if let Some((of, heard)) = self.voices.get_mut(&(place.kind.1, first_id))
            && *of == group
        {
            *heard = time.max(*heard);
        }
    }

    /// Forgets a group that is over. Nothing else: what comes must be decided the same whether this has happened yet or not.
    pub fn close(&mut self, group: Place) {
        self.groups.remove(&group);
    }
}

fn joinable(group: &Group, now: u64, limits: &Limits) -> bool {
    !group.ended && silence(group.last, now) < limits.idle && now.saturating_sub(group.first) <= limits.life
}
