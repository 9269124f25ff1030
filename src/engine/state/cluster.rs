//! A state whose incidents are those of a cluster: folded from what all agents report, here as everywhere.
//!
//! What enters: batches, judged as always; reports of all agents in the order of the cluster's log; that the cluster does not answer
//! ([`State::go_alone`]), or that all of the log has been read ([`State::caught_up`]). What leaves: this agent's reports, and ids for its
//! records. Promises: while the cluster answers, ids are those of all agents; while it does not, they are those of a copy that goes on
//! alone, and each that turns out to be another's is reported as an alias once the cluster is back. Absent on purpose: time limits.

use std::collections::{BTreeMap, VecDeque};

use super::State;
use crate::engine::{
    correlate::{
        Change, Correlator, CorrelatorState, Direction, Event, Evidence, Incident, IncidentId, Learned, Merged, Node,
        Report, Run, first,
    },
    embed::Embedding,
    front::Batch,
    text::TemplateKey,
    verdict::Verdicts,
};

/// Aliases that wait to be reported; of further ones nobody hears.
const MAX_ALIASES: usize = 4096;
/// Runs that are kept while the cluster does not answer; what is given for further ones stays as it is.
const MAX_UNSENT: usize = 16_384;
/// Embeddings that came late, in one report.
const MAX_LEARNED: usize = 256;
/// Own reports that are kept until the log has them; the oldest are forgotten, and what was given for them stays as it is.
const MAX_REPORTED: usize = 65_536;

/// What a state has in a cluster.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Goes on alone: while the cluster does not answer, and until all of its log has been read.
    alone: Option<Correlator>,
    /// The ids that were given alone, by what is not read back yet.
    given: BTreeMap<(u64, u64, String), IncidentId>,
    /// Runs that the copy has taken, and that no entry has yet.
    unsent: Vec<Run>,
    /// Runs of own entries that are not read back yet, oldest first, with the number of the entry.
    reported: VecDeque<(u64, Report)>,
    /// What goes into the next report beside runs.
    aliases: Vec<Merged>,
    learned: Vec<Learned>,
    dismissed: Vec<u64>,
    /// A record has come since the last report.
    heard: bool,
    /// The last batch has records whose id has to wait.
    waits: bool,
    /// Events and changes of the copy that is no more.
    events: Vec<Event>,
    changes: Vec<Change>,
}

impl State {
    /// Shares its incidents from now on; until the cluster's log has been read it goes on alone, as it stands. Only where incidents are
    /// made by evidence.
    pub fn share_incidents(&mut self) {
        if !matches!(self.correlator, Correlator::Evidence(_)) || self.shared.is_some() {
            return;
        }
        let begun = self.beginning_correlator();
        self.shared = Some(Box::new(Shared {
            alone: Some(std::mem::replace(&mut self.correlator, begun)),
            ..Shared::default()
        }));
    }

    /// Goes on from what another agent wrote down of the cluster's incidents, or (`None`) from nothing.
    pub fn adopt(&mut self, written: Option<CorrelatorState>) {
        self.correlator = self.beginning_correlator();
        if let Some(mut written) = written {
            if self.instead_of_text.is_some() {
                written.drop_texts();
            }
            self.correlator = Correlator::restore(self.correlation.clone(), written);
            self.correlator.seed_ids(self.seed);
        }
        if let Correlator::Evidence(evidence) = &mut self.correlator {
            evidence.begin_own_part();
        }
    }

    fn beginning_correlator(&self) -> Correlator {
        let mut correlator = Correlator::new(self.correlation.clone());
        correlator.seed_ids(self.seed);
        correlator
    }

    /// The correlator that ids come from now.
    pub(super) fn current(&self) -> &Correlator {
        let alone = self.shared.as_ref().and_then(|shared| shared.alone.as_ref());
        alone.unwrap_or(&self.correlator)
    }

    /// Whether ids were given alone that turned out to be others'.
    pub fn has_aliases(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| !shared.aliases.is_empty())
    }

    /// Whether ids come from a copy that goes on alone.
    pub fn is_alone(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.alone.is_some())
    }

    /// Whether records of the last batch have to wait for their incident: see [`State::place`].
    pub fn waits(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.waits)
    }

    /// Gives the records of a batch that was judged the incidents they are in by now.
    pub fn place(&mut self, batch: &Batch, embeddings: &[Option<Embedding>], verdicts: &mut Verdicts) {
        self.take_alone();
        let is_ready = self.is_ready();
        let mut anomalies = verdicts.anomalies.iter().peekable();
        let mut placed = Vec::new();
        for (place, record) in (0_u32..).zip(&batch.records) {
            let anomaly = anomalies.next_if(|(at, _)| *at == place).map(|(_, anomaly)| anomaly);
            if !is_ready && anomaly.is_none() {
                continue;
            }
            let reason = anomaly.map(|anomaly| &*anomaly.reason);
            let text = self.instead_of_text.as_ref();
            let Some(node) = super::node(batch, embeddings, record, text, self.max_delay_nano, reason) else {
                continue;
            };
            let alone = self.shared.as_mut().and_then(|shared| shared.alone.as_mut());
            let id = match alone.unwrap_or(&mut self.correlator) {
                Correlator::Evidence(evidence) => evidence.id_of(&node),
                Correlator::Components(_) => None,
            };
            placed.extend(id.map(|id| (place, id)));
        }
        verdicts.incidents = placed;
    }

    /// Whether more is to be reported than how far this agent has come.
    pub fn has_to_report(&self) -> bool {
        let Correlator::Evidence(evidence) = &self.correlator else {
            return false;
        };
        self.shared.as_ref().is_some_and(|shared| {
            let told = shared.aliases.is_empty() && shared.learned.is_empty() && shared.dismissed.is_empty();
            !told || !shared.unsent.is_empty() || evidence.has_to_report()
        })
    }

    /// What is to be reported now, as the entry of this number, runs of so many bytes at most; nothing where there is nothing to tell.
    pub fn report(&mut self, number: u64, max_bytes: usize) -> Option<Report> {
        self.take_alone();
        let Correlator::Evidence(evidence) = &mut self.correlator else {
            return None;
        };
        let is_live = self
            .heard
            .is_some_and(|(arrival, latest)| arrival.saturating_sub(latest) <= super::LIVE_NANO);
        let shared = self.shared.as_mut()?;
        let mut report = evidence.drain_report(max_bytes);
        if report.runs.is_empty() {
            report.runs = first(&mut shared.unsent, max_bytes);
        }
        if !std::mem::take(&mut shared.heard) && !is_live {
            report.watermark_unix_nano = None;
        }
        report.aliases = std::mem::take(&mut shared.aliases);
        let most = shared.learned.len().min(MAX_LEARNED);
        report.learned = shared.learned.drain(..most).collect();
        report.dismissed = std::mem::take(&mut shared.dismissed);
        if report.is_empty() {
            return None;
        }
        if !report.runs.is_empty() || !report.aliases.is_empty() {
            let kept = Report {
                runs: report.runs.clone(),
                // Waited for, not needed.
                aliases: report.aliases.clone(),
                ..Report::default()
            };
            shared.reported.push_back((number, kept));
            if shared.reported.len() > MAX_REPORTED {
                shared.reported.pop_front();
            }
        }
        Some(report)
    }

    /// The cluster does not answer: ids are those of a copy from now on.
    pub fn go_alone(&mut self) {
        let Some(shared) = self.shared.as_mut().filter(|shared| shared.alone.is_none()) else {
            return;
        };
        let mut copy = self.correlator.clone();
        // What was made of it here is told here.
        copy.drain(&mut shared.events);
        copy.drain_changes(&mut shared.changes);
        self.correlator.drain(&mut Vec::new());
        self.correlator.drain_changes(&mut Vec::new());
        if let Correlator::Evidence(alone) = &mut copy {
            for (_, report) in &shared.reported {
                take_alone(alone, report, &mut shared.given);
            }
        }
        shared.alone = Some(copy);
        self.take_alone();
    }

    /// What goes on alone takes what waits to be reported.
    fn take_alone(&mut self) {
        let (Some(shared), Correlator::Evidence(evidence)) = (&mut self.shared, &mut self.correlator) else {
            return;
        };
        let Some(Correlator::Evidence(alone)) = &mut shared.alone else {
            return;
        };
        if evidence.has_to_report() {
            let mut report = evidence.drain_report(usize::MAX);
            take_alone(alone, &report, &mut shared.given);
            shared.unsent.append(&mut report.runs);
            shared.unsent.truncate(MAX_UNSENT);
        }
    }

    /// It is at least this late in this agent's part of the stream.
    pub(super) fn hear_of_time(&mut self, time_unix_nano: u64) {
        self.take_alone();
        let Correlator::Evidence(evidence) = &mut self.correlator else {
            return;
        };
        evidence.hear_of_time(time_unix_nano);
        // All agents settle together; who is alone settles alone.
        let watermark = evidence.own_watermark();
        if let Some(Correlator::Evidence(alone)) = self.shared.as_mut().and_then(|shared| shared.alone.as_mut()) {
            alone.settle_until(watermark);
        }
    }

    /// The next report of the cluster. Where it is this agent's own, `read_back` is the number of its entry.
    pub fn fold(&mut self, report: &Report, read_back: Option<u64>) {
        let Correlator::Evidence(evidence) = &mut self.correlator else {
            return;
        };
        let without_texts;
        let report = if self.instead_of_text.is_some() {
            without_texts = silent(report);
            &without_texts
        } else {
            report
        };
        evidence.take(report);
        let (Some(number), Some(shared)) = (read_back, self.shared.as_mut()) else {
            return;
        };
        while shared.reported.front().is_some_and(|(reported, _)| *reported <= number) {
            shared.reported.pop_front();
        }
        for run in &report.runs {
            let Some(given) = shared.given.remove(&key(run)) else {
                continue;
            };
            let into = evidence.id_of_run(run).filter(|into| *into != given);
            if let Some(into) = into.filter(|_| shared.aliases.len() < MAX_ALIASES) {
                let alias = Merged {
                    from: given.to_raw(),
                    into: into.to_raw(),
                };
                if !shared.aliases.contains(&alias) {
                    shared.aliases.push(alias);
                }
            }
        }
    }

    /// Nothing earlier is expected of any agent.
    pub fn settle_until(&mut self, watermark_unix_nano: u64) {
        if let Correlator::Evidence(evidence) = &mut self.correlator {
            evidence.settle_until(watermark_unix_nano);
        }
    }

    /// All of the log has been read. What went on alone ends, once what it reported has been read back; what it has not reported yet is by
    /// then, as everything is.
    pub fn caught_up(&mut self) {
        let Some(shared) = &mut self.shared else { return };
        if !shared.reported.is_empty() || !shared.aliases.is_empty() {
            return;
        }
        if shared.unsent.is_empty() {
            shared.given.clear();
        }
        let Some(mut alone) = shared.alone.take() else { return };
        alone.drain(&mut shared.events);
        alone.drain_changes(&mut shared.changes);
        if let (Correlator::Evidence(alone), Correlator::Evidence(of_all)) = (&alone, &self.correlator) {
            let unknown = alone.unknown_to(of_all).into_iter();
            // What is not read back yet is not lost.
            let to_come = |id: IncidentId| shared.given.values().any(|given| *given == id);
            shared
                .changes
                .extend(unknown.filter(|change| !to_come(change.incident.id)));
        }
    }

    /// Incidents that were given alone and became another's since the start.
    pub(super) fn drain_alone(&mut self, events: Option<&mut Vec<Event>>, changes: Option<&mut Vec<Change>>) {
        let Some(shared) = &mut self.shared else { return };
        if let Some(events) = events {
            events.append(&mut shared.events);
            shared.alone.iter_mut().for_each(|alone| alone.drain(events));
        }
        if let Some(changes) = changes {
            changes.append(&mut shared.changes);
            shared.alone.iter_mut().for_each(|alone| alone.drain_changes(changes));
        }
    }

    /// Takes note of an embedding that came late, and of an incident that is none, for all agents.
    pub(super) fn learn_for_all(&mut self, template: TemplateKey, embedding: &Embedding) {
        let (Some(shared), Correlator::Evidence(evidence)) = (&mut self.shared, &mut self.correlator) else {
            return;
        };
        if let Some(alone) = &mut shared.alone {
            alone.learn(template, embedding);
        }
        // What has not left yet leaves with it; what is on its way is told of it behind.
        let direction = Direction::from(embedding);
        evidence.learn_waiting(template, &direction);
        let without = |run: &Run| run.template == template.0 && run.embedding.is_none();
        for run in shared.unsent.iter_mut().filter(|run| without(run)) {
            run.embedding = Some(direction.clone());
        }
        if evidence.lacks(template)
            || shared
                .reported
                .iter()
                .any(|(_, report)| report.runs.iter().any(without))
        {
            shared.learned.push(Learned {
                template: template.0,
                embedding: Some(direction),
            });
        }
    }

    pub(super) fn dismiss_for_all(&mut self, incident: IncidentId) -> Option<Incident> {
        let meant = self.current().incident(incident)?;
        let shared = self.shared.as_mut()?;
        shared.dismissed.push(meant.id.to_raw());
        match &mut shared.alone {
            Some(alone) => alone.dismiss(incident),
            None => Some(meant),
        }
    }

    /// The correlator of all agents, for who comes later.
    pub fn export_shared(&self) -> CorrelatorState {
        self.correlator.export()
    }
}

impl Shared {
    /// The records of a batch, judged: noted for the next report.
    pub(super) fn note(&mut self, evidence: &mut Evidence, nodes: &[Node<'_>]) {
        self.heard = true;
        let begins = evidence.report_all(nodes);
        self.waits = begins || self.alone.is_some() && nodes.iter().any(|node| node.anomalous);
    }
}

type Key = (u64, u64, String);

fn key(run: &Run) -> Key {
    (run.template, run.first_time_unix_nano, run.service.clone())
}

/// The copy takes a report of its own, and what ids come of it is remembered until the report is read back.
fn take_alone(alone: &mut Evidence, report: &Report, given: &mut BTreeMap<Key, IncidentId>) {
    alone.take(report);
    if let Some(watermark) = report.watermark_unix_nano {
        alone.settle_until(watermark);
    }
    for run in &report.runs {
        if let Some(id) = alone.id_of_run(run) {
            given.insert(key(run), id);
        }
    }
}

/// Without the texts of logs.
fn silent(report: &Report) -> Report {
    let mut silent = report.clone();
    for run in &mut silent.runs {
        run.text.clear();
        run.reason.clear();
    }
    silent
}
