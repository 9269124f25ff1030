//! The states of all tenants behind the calls of one: nothing that one tenant said is learned for, or quoted to, another.
//!
//! What enters, one at a time: a batch with its embeddings ([`Tenants::commit`]), an embedding that came late
//! ([`Tenants::supply`]), a finished fit ([`Tenants::install`]), what people say ([`Tenants::hold`], [`Tenants::dismiss`]), other
//! settings ([`Tenants::adjust`]). What leaves: verdicts, a fit that is due, events and notes,
//! each with its tenant. A batch of several tenants is judged part by part; with one tenant it passes as it is.
//!
//! Promises: a tenant's verdicts are those it would get alone, to the bit; bounded: beyond `max_tenants` further ones share
//! the overflow's state, where no text is kept, so that none is quoted; nothing depends on the order of a hash map.
//! Absent on purpose: what a state does with a batch (`state`), and embeddings, which depend on nothing but the text.

mod cluster;
mod feedback;
mod note;
mod part;
mod sharing;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::{
    correlate::{self, Change, CorrelatorState, Event, Incident, PastIncident},
    embed::Embedding,
    feedback::Book,
    front::{Batch, BatchTemplate},
    retries::Retries,
    score::{self, Committee, FitJob, Fitted, Phase, ScorerState, UnusableState},
    state::State,
    tenant::{self, Tenant},
    text::TemplateKey,
    verdict::Verdicts,
};
use cluster::Cluster;
pub use cluster::NotUnderstood;
pub use note::Note;
use part::Part;
use sharing::Sharing;
pub use sharing::{Heard, Shareable};

/// What a batch came to.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The verdicts of the batch.
    pub verdicts: Arc<Verdicts>,
    /// The batch was an identical retry: these are the verdicts it got before, and nothing changed.
    pub repeated: bool,
    /// Records of the batch that were judged with the overflow.
    pub overflow_records: u64,
    /// In a cluster: records of it get their incident by [`Tenants::place`] only.
    pub waits: bool,
}

/// Batches that wait for each other, and a clock that is set right by a little, are no news.
const CLOCK_TOLERANCE_NANO: u64 = 60_000_000_000;

/// How a tenant's state begins.
#[derive(Debug)]
struct Beginning {
    scoring: score::Settings,
    correlation: correlate::Settings,
    store_text: bool,
    committee: Option<Committee>,
    /// What people said, also of tenants that have not come yet.
    book: Book,
    /// How it is shared with other agents; none where there is one.
    sharing: Option<Sharing>,
}

impl Beginning {
    fn state(&self, tenant: &Tenant) -> State {
        let mut state = State::new(self.scoring.clone(), self.correlation.clone())
            .keeping_text(self.keeps_text(tenant))
            .seeded(tenant.seed());
        if let Some(committee) = &self.committee {
            state.appoint(committee.clone());
        }
        state.hold(self.book.opinions(tenant));
        self.share(tenant, &mut state);
        state
    }

    /// Whoever shares a state must not read there what another said.
    fn keeps_text(&self, tenant: &Tenant) -> bool {
        self.store_text && *tenant != Tenant::Overflow
    }
}

/// Everything the engine remembers.
#[derive(Debug)]
pub struct Tenants {
    settings: tenant::Settings,
    beginning: Beginning,
    states: BTreeMap<Tenant, State>,
    retries: Retries,
    /// Whose training is under way: there is one at a time.
    fitting: Option<Tenant>,
    /// Whose training was the last: the next is looked for behind it, so that each has its turn.
    last_fitted: Tenant,
    noted_too_many: bool,
    notes: Vec<Note>,
    /// The latest arrival of a batch.
    arrival_unix_nano: u64,
    /// Where incidents are those of a cluster.
    cluster: Option<Cluster>,
}

impl Tenants {
    /// States that have seen nothing; with `store_text` off no text of a log is kept in them.
    pub fn new(
        settings: tenant::Settings,
        store_text: bool,
        scoring: score::Settings,
        correlation: correlate::Settings,
    ) -> Self {
        Self {
            settings,
            beginning: Beginning {
                scoring,
                correlation,
                store_text,
                committee: None,
                book: Book::default(),
                sharing: None,
            },
            states: BTreeMap::new(),
            retries: Retries::default(),
            fitting: None,
            last_fitted: Tenant::default(),
            noted_too_many: false,
            notes: Vec::new(),
            arrival_unix_nano: 0,
            cluster: None,
        }
    }

    /// Goes on with a tenant from what a snapshot held.
    ///
    /// # Errors
    /// The state is not one that was exported.
    pub fn restore(
        &mut self,
        tenant: Tenant,
        mut scorer: ScorerState,
        mut correlator: CorrelatorState,
    ) -> Result<(), UnusableState> {
        if !self.is_meant(&tenant) {
            return Ok(());
        }
        let Beginning {
            scoring, correlation, ..
        } = &self.beginning;
        let keeps_text = self.beginning.keeps_text(&tenant);
        if !keeps_text {
            scorer.drop_texts();
            correlator.drop_texts();
        }
        let state = State::restored(scoring.clone(), correlation.clone(), scorer, correlator)?;
        let mut state = state.keeping_text(keeps_text).seeded(tenant.seed());
        state.hold(self.beginning.book.opinions(&tenant));
        self.beginning.share(&tenant, &mut state);
        self.states.insert(tenant, state);
        Ok(())
    }

    /// Replays what a journal tells of a tenant; whether it was for one of these.
    pub fn replay(&mut self, tenant: &Tenant, event: &Event) -> bool {
        let is_meant = self.is_meant(tenant);
        if is_meant {
            let state = self.states.entry(tenant.clone());
            state.or_insert_with(|| self.beginning.state(tenant)).replay(event);
        }
        is_meant
    }

    /// An incident of a tenant that is over, as it may be told here; `None` where what was learned of the tenant is left
    /// behind.
    pub fn past(&self, tenant: &Tenant, mut past: PastIncident) -> Option<Incident> {
        if !self.beginning.keeps_text(tenant) {
            past.drop_texts();
        }
        self.is_meant(tenant).then(|| past.told())
    }

    /// While tenants are not told apart there is only one; what was learned of others is left behind.
    fn is_meant(&self, tenant: &Tenant) -> bool {
        self.settings.enabled() || *tenant == Tenant::default()
    }

    /// It was this late already, as one knows who has read when a snapshot was saved.
    pub fn heard_until(&mut self, unix_nano: u64) {
        self.arrival_unix_nano = self.arrival_unix_nano.max(unix_nano);
    }

    /// A clock that goes back would leave everything that comes too late to be an incident until it has caught up.
    fn look_at_clock(&mut self, arrival_unix_nano: u64) {
        let back_nano = self.arrival_unix_nano.saturating_sub(arrival_unix_nano);
        if back_nano <= CLOCK_TOLERANCE_NANO {
            self.arrival_unix_nano = self.arrival_unix_nano.max(arrival_unix_nano);
            return;
        }
        self.arrival_unix_nano = arrival_unix_nano;
        self.states.values_mut().for_each(State::turn_back);
        self.notes.push(Note::ClockWentBack {
            by_s: back_nano / 1_000_000_000,
        });
    }

    /// Learns from a batch and judges it. `embeddings` go with `batch.templates`; a missing one degrades the verdict.
    pub fn commit(&mut self, batch: &Batch, embeddings: &[Option<Embedding>]) -> Committed {
        self.look_at_clock(batch.arrival_unix_nano);
        if let Some(verdicts) = self.retries.recall(batch.request_hash, batch.arrival_unix_nano) {
            return Committed {
                verdicts,
                repeated: true,
                overflow_records: 0,
                waits: false,
            };
        }
        let (mut overflow_records, mut waits) = (0, false);
        let verdicts = if let [tenant] = batch.tenants.as_slice() {
            self.judge(tenant, batch, embeddings, &mut overflow_records, &mut waits)
        } else {
            let mut all = Verdicts::default();
            for (tenant, part) in batch.tenants.iter().zip(Part::all(batch)) {
                let embeddings = part.embeddings(embeddings);
                let verdicts = self.judge(tenant, &part.batch, &embeddings, &mut overflow_records, &mut waits);
                part.put_back(verdicts, &mut all);
            }
            all.sort();
            all
        };
        let verdicts = Arc::new(verdicts);
        self.retries
            .remember(batch.request_hash, batch.arrival_unix_nano, Arc::clone(&verdicts));
        let mut committed = Committed {
            verdicts,
            repeated: false,
            overflow_records,
            waits,
        };
        if self.cluster.is_some() && !waits {
            self.place(batch, embeddings, &mut committed);
        }
        committed
    }

    fn judge(
        &mut self,
        tenant: &Tenant,
        batch: &Batch,
        embeddings: &[Option<Embedding>],
        overflow_records: &mut u64,
        waits: &mut bool,
    ) -> Verdicts {
        let tenant = self.place_of(tenant);
        if tenant == Tenant::Overflow {
            *overflow_records += batch.records.len() as u64;
        }
        let state = self.state_of(tenant);
        let verdicts = state.mark(batch, embeddings);
        *waits |= state.waits();
        verdicts
    }

    /// The tenant itself where it has a place; the overflow otherwise.
    fn place_of(&mut self, tenant: &Tenant) -> Tenant {
        if self.has_place(tenant) {
            return tenant.clone();
        } else if *tenant != Tenant::Overflow && !std::mem::replace(&mut self.noted_too_many, true) {
            let max_tenants = self.settings.max_tenants;
            self.notes.push(Note::TooMany { max_tenants });
        }
        Tenant::Overflow
    }

    /// Whether a tenant has a place of its own, or there is one left.
    fn has_place(&self, tenant: &Tenant) -> bool {
        let own = |known: &&Tenant| **known != Tenant::Overflow && **known != Tenant::default();
        self.states.contains_key(tenant)
            || *tenant == Tenant::default()
            || (*tenant != Tenant::Overflow && self.states.keys().filter(own).count() < self.settings.max_tenants)
    }

    /// Goes on by these settings from the next batch on, as far as they can change, see [`State::adjust`].
    pub fn adjust(&mut self, scoring: &score::Settings, correlation: &correlate::Settings) {
        self.beginning.scoring.adjust(scoring);
        self.beginning.correlation.adjust(correlation);
        for state in self.states.values_mut() {
            state.adjust(scoring, correlation);
        }
    }

    /// Hears how much texts sound like failure by this committee from now on.
    pub fn appoint(&mut self, committee: Committee) {
        for state in self.states.values_mut() {
            state.appoint(committee.clone());
        }
        self.beginning.committee = Some(committee);
    }

    /// Whether there is a committee to hear how much texts sound like failure.
    pub fn has_committee(&self) -> bool {
        self.beginning.committee.is_some()
    }

    /// What is worth a line in the log since the last call.
    pub fn drain_notes(&mut self) -> Vec<Note> {
        let mut notes = std::mem::take(&mut self.notes);
        for (tenant, state) in &mut self.states {
            let of_tenant = state.drain_notes().into_iter();
            notes.extend(of_tenant.map(|note| Note::Of(tenant.clone(), note)));
        }
        notes
    }

    /// An embedding that came after its batch was committed: for whoever has said that template, and nobody else.
    pub fn supply(&mut self, template: &BatchTemplate, embedding: &Embedding) {
        for state in self.states.values_mut().filter(|state| state.knows(template.key)) {
            state.supply(template, embedding);
        }
    }

    /// The fit that is due, if one is, and whose; at most one is under way.
    pub fn take_fit(&mut self) -> Option<(Tenant, FitJob)> {
        if self.fitting.is_some() {
            return None;
        }
        // In a circle, beginning behind whoever was last.
        let later = (Bound::Excluded(self.last_fitted.clone()), Bound::Unbounded);
        let mut due = |range: (Bound<Tenant>, Bound<Tenant>)| {
            let mut states = self.states.range_mut(range);
            states.find_map(|(tenant, state)| Some((tenant.clone(), state.take_fit()?)))
        };
        let (tenant, job) =
            due(later).or_else(|| due((Bound::Unbounded, Bound::Included(self.last_fitted.clone()))))?;
        self.fitting = Some(tenant.clone());
        self.last_fitted = tenant.clone();
        Some((tenant, job))
    }

    /// A fit is finished: judge its tenant by it from now on.
    pub fn install(&mut self, tenant: &Tenant, fitted: Fitted) {
        self.fitting = None;
        if let Some(state) = self.states.get_mut(tenant) {
            state.install(fitted);
        }
    }

    /// The fit under way will not be finished. Its tenant is not trained again; the others are.
    pub fn abandon_fit(&mut self) {
        self.fitting = None;
    }

    /// What the states have counted, and how many incidents are open, in all.
    pub fn tally(&self) -> (score::Tally, usize) {
        let tallies = self.states.values().map(State::tally);
        tallies.fold(Default::default(), |(sum, open), (tally, more)| {
            (sum + tally, open + more)
        })
    }

    /// How far learning has come: as far as with the tenant that is furthest, the counts of warm-up summed over all.
    pub fn phase(&self) -> Phase {
        let mut states = self.states.values();
        let Some(first) = states.next() else {
            return self.beginning.state(&Tenant::default()).phase();
        };
        states.fold(first.phase(), |all, state| further(all, state.phase()))
    }

    /// Tenants that are told apart, and those of them that are judged.
    pub fn count(&self) -> (usize, usize) {
        let is_ready = |state: &&State| matches!(state.phase(), Phase::Ready { .. });
        (self.states.len(), self.states.values().filter(is_ready).count())
    }

    /// Time passes also where nothing is said, see [`State::pass`].
    pub fn pass(&mut self, now_unix_nano: u64) {
        for state in self.states.values_mut() {
            state.pass(now_unix_nano);
        }
    }

    /// What happened to incidents since the last call, in order for each tenant; to be written to the journal before the
    /// records leave.
    pub fn drain_events(&mut self) -> Vec<(Tenant, Vec<Event>)> {
        let mut all = Vec::new();
        for (tenant, state) in &mut self.states {
            let mut events = Vec::new();
            state.drain_events(&mut events);
            if !events.is_empty() {
                all.push((tenant.clone(), events));
            }
        }
        all
    }

    /// What there is to tell of incidents since the last call, in order for each tenant.
    pub fn drain_changes(&mut self) -> Vec<(Tenant, Vec<Change>)> {
        let mut all = Vec::new();
        for (tenant, state) in &mut self.states {
            let mut changes = Vec::new();
            state.drain_changes(&mut changes);
            if !changes.is_empty() {
                all.push((tenant.clone(), changes));
            }
        }
        all
    }

    /// Open incidents, oldest first for each tenant.
    pub fn incidents(&self) -> impl Iterator<Item = (&Tenant, Vec<Incident>)> {
        self.states.iter().map(|(tenant, state)| (tenant, state.incidents()))
    }

    /// Those who have a state, in order.
    pub fn names(&self) -> impl Iterator<Item = &Tenant> {
        self.states.keys()
    }

    /// The state of a tenant, to look at.
    pub fn of(&self, tenant: &Tenant) -> Option<&State> {
        self.states.get(tenant)
    }

    /// Everything that a snapshot holds.
    pub fn export(&self) -> Vec<(Tenant, ScorerState, CorrelatorState)> {
        let export = |(tenant, state): (&Tenant, &State)| {
            let (scorer, correlator) = state.export();
            (tenant.clone(), scorer, correlator)
        };
        self.states.iter().map(export).collect()
    }

    /// The templates whose embeddings are known, in a fixed order; one that several tenants have said comes several times.
    pub fn embeddings(&self) -> impl Iterator<Item = (TemplateKey, &Embedding)> {
        self.states.values().flat_map(State::embeddings)
    }
}

fn further(one: Phase, other: Phase) -> Phase {
    match (one, other) {
        (Phase::Ready { generation: one }, Phase::Ready { generation: other }) => Phase::Ready {
            generation: one.max(other),
        },
        (ready @ Phase::Ready { .. }, _) | (_, ready @ Phase::Ready { .. }) => ready,
        (Phase::Fitting, _) | (_, Phase::Fitting) => Phase::Fitting,
        (
            Phase::WarmingUp {
                records_seen,
                records_needed,
                templates_seen,
                templates_needed,
            },
            Phase::WarmingUp {
                records_seen: more_records_seen,
                records_needed: more_records_needed,
                templates_seen: more_templates_seen,
                templates_needed: more_templates_needed,
            },
        ) => Phase::WarmingUp {
            records_seen: records_seen + more_records_seen,
            records_needed: records_needed + more_records_needed,
            templates_seen: templates_seen + more_templates_seen,
            templates_needed: templates_needed + more_templates_needed,
        },
    }
}
