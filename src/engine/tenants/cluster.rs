//! Tenants whose incidents are those of a cluster: entries for its log, and what its log says.
//!
//! What enters, one at a time: the log's entries in their order ([`Tenants::fold`]), what another agent wrote down
//! ([`Tenants::adopt`]), that the cluster does not answer ([`Tenants::go_alone`]) or all was read ([`Tenants::caught_up`]). What leaves:
//! entries of this agent ([`Tenants::entries`]), ids for what waited ([`Tenants::place`]), and how things stand, for who comes later
//! ([`Tenants::write_down`]). Promises: entries are bounded in size; what all agents read alike they fold alike. Absent on purpose: the
//! log itself, and time limits.

use std::{
    collections::{VecDeque, btree_map::Entry as Place},
    sync::Arc,
};

use prost::Message;

use super::{Committed, Phase, Tenants};
use crate::engine::{
    cluster::{Entry, Member, Members, Section},
    correlate::CorrelatorState,
    embed::Embedding,
    front::Batch,
    state::State,
    tenant::{Tenant, TenantName},
    tenants::Part,
    verdict::Verdicts,
};

/// An entry is closed once it has so many bytes; what one tenant reports adds as many at most.
const ENTRY_BYTES: usize = 400_000;
/// What is written down by this version, and read.
const VERSION: u32 = 1;

/// This agent's place in a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    agent: String,
    started_unix_nano: u64,
    /// Of the latest entry of this agent.
    number: u64,
    members: Members,
    /// The latest entry of the log that was folded.
    folded: Option<u64>,
    /// How often what waited was made entries, and the last entry of each time that is not folded yet.
    drains: u64,
    drained: VecDeque<(u64, u64)>,
}

/// How the incidents of a cluster stand.
#[derive(Clone, PartialEq, Message)]
struct WrittenDown {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// The latest entry that is in it.
    #[prost(uint64, tag = "2")]
    folded: u64,
    #[prost(message, repeated, tag = "3")]
    members: Vec<Member>,
    #[prost(fixed64, tag = "4")]
    now_unix_nano: u64,
    #[prost(message, repeated, tag = "5")]
    tenants: Vec<WrittenTenant>,
}

#[derive(Clone, PartialEq, Message)]
struct WrittenTenant {
    #[prost(message, optional, tag = "1")]
    tenant: Option<TenantName>,
    #[prost(message, optional, tag = "2")]
    correlator: Option<CorrelatorState>,
}

/// What was written down is of another version, or damaged: begin with the oldest entry there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what was written down of the cluster's incidents is damaged, or of another version")]
pub struct NotUnderstood;

impl Tenants {
    /// Is an agent of a cluster from now on, under this name. Until all of the log was read each tenant goes on alone.
    pub fn join(&mut self, agent: &str, started_unix_nano: u64) {
        self.cluster = Some(Cluster {
            agent: agent.to_owned(),
            started_unix_nano,
            number: 0,
            members: Members::default(),
            folded: None,
            drains: 0,
            drained: VecDeque::new(),
        });
        self.states.values_mut().for_each(State::share_incidents);
    }

    /// Who is there, and who of them speaks for all; nobody outside a cluster.
    pub fn members(&self) -> Option<&Members> {
        self.cluster.as_ref().map(|cluster| &cluster.members)
    }

    /// Takes note of what the other agents have seen, and of whether it is here that is trained: by the first of those who are there.
    pub fn look_around(&mut self) {
        let may_train = self.is_speaker();
        let Some(cluster) = &self.cluster else { return };
        let elsewhere = |tenant: &Tenant| cluster.members.records_elsewhere(tenant, &cluster.agent);
        let records = self.states.keys().map(|tenant| (tenant.clone(), elsewhere(tenant)));
        self.set_elsewhere(records.collect(), may_train);
    }

    /// Whether all wait for a tenant's first training here: how much others have seen is looked at more often.
    pub fn is_to_train_first(&self) -> bool {
        self.is_speaker() && self.warming_up().next().is_some()
    }

    /// Whether a tenant for whose first training all wait has had records of which the log does not know.
    pub fn has_warmed_up_further(&self) -> bool {
        let Some(Cluster { members, agent, .. }) = &self.cluster else {
            return false;
        };
        let mut warming = self.warming_up();
        warming.any(|(tenant, state)| state.records() > members.records_of(tenant, agent))
    }

    fn warming_up(&self) -> impl Iterator<Item = (&Tenant, &State)> {
        let shared = self.states.iter().filter(|(tenant, _)| **tenant != Tenant::Overflow);
        shared.filter(|(_, state)| matches!(state.phase(), Phase::WarmingUp { .. }))
    }

    /// Whether this agent speaks for all: also where it is in no cluster, or goes on alone.
    pub fn speaks(&self) -> bool {
        self.is_alone() || self.is_speaker()
    }

    /// Whether this agent writes down how things stand, and trains.
    pub fn is_speaker(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_none_or(|cluster| cluster.members.speaker().is_none_or(|first| first == cluster.agent))
    }

    /// Whether ids come from this agent alone, for some tenant.
    pub fn is_alone(&self) -> bool {
        self.states.values().any(State::is_alone)
    }

    /// Whether something should be told soon, though nobody waits for it.
    pub fn has_aliases(&self) -> bool {
        self.states.values().any(State::has_aliases)
    }

    /// What this agent has to tell, as entries with their numbers: what waits to be reported; with `present`, also that it is there and
    /// how far it has come.
    pub fn entries(&mut self, present: bool) -> Vec<(u64, Vec<u8>)> {
        let Some(cluster) = &mut self.cluster else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        loop {
            let number = cluster.number + 1;
            let (mut sections, mut bytes) = (Vec::new(), 0);
            for (tenant, state) in &mut self.states {
                if bytes >= ENTRY_BYTES {
                    break;
                }
                if !present && !state.has_to_report() {
                    continue;
                }
                let report = state.report(number, ENTRY_BYTES);
                if report.is_none() && !present {
                    continue;
                }
                let section = Section::new(tenant, report.unwrap_or_default(), state.records());
                bytes += section.encoded_len();
                sections.push(section);
            }
            if !sections.is_empty() || present && entries.is_empty() {
                cluster.number = number;
                let entry = Entry::new(&cluster.agent, cluster.started_unix_nano, number, sections);
                entries.push((number, entry.encode_to_vec()));
            }
            if !self.states.values().any(State::has_to_report) {
                cluster.drains += 1;
                cluster.drained.push_back((cluster.drains, cluster.number));
                return entries;
            }
        }
    }

    /// Takes the log's next entry. How many aliases it tells; `None` for what is not understood.
    pub fn fold(&mut self, offset: u64, time_unix_nano: u64, body: &[u8]) -> Option<u64> {
        let cluster = self.cluster.as_mut()?;
        cluster.folded = Some(offset);
        let entry = Entry::read(body)?;
        if !cluster.members.hear(&entry, time_unix_nano) {
            return Some(0);
        }
        let mut aliases = 0;
        let is_own = entry.agent == cluster.agent && entry.started_unix_nano == cluster.started_unix_nano;
        for section in &entry.sections {
            let Some(report) = &section.report else { continue };
            aliases += report.aliases.len() as u64;
            let tenant = self.place_of(&section.tenant());
            if !self.is_meant(&tenant) {
                continue;
            }
            let state = self.state_of(tenant.clone());
            state.fold(report, is_own.then_some(entry.number));
            let watermark = self.members().and_then(|members| members.watermark(&tenant));
            if let (Some(watermark), Some(state)) = (watermark, self.states.get_mut(&tenant)) {
                state.settle_until(watermark);
            }
        }
        Some(aliases)
    }

    /// What waits now is in the entries of so many calls of [`Tenants::entries`].
    pub fn ticket(&self) -> u64 {
        self.cluster.as_ref().map_or(0, |cluster| cluster.drains + 1)
    }

    /// The entries of so many calls of [`Tenants::entries`] were read back and folded.
    pub fn read_back(&mut self) -> u64 {
        let Some(cluster) = &mut self.cluster else { return 0 };
        let Cluster {
            members,
            agent,
            started_unix_nano,
            ..
        } = &*cluster;
        let is_read = |(_, number): &&(u64, u64)| members.has(agent, *started_unix_nano, *number);
        let read = cluster.drained.iter().take_while(is_read).count();
        // What is taken out is known by what is left.
        cluster.drained.drain(..read);
        cluster.drained.front().map_or(cluster.drains, |(drain, _)| drain - 1)
    }

    /// The cluster does not answer: ids come from this agent alone from now on.
    pub fn go_alone(&mut self) {
        self.states.values_mut().for_each(State::go_alone);
    }

    /// All of the log was read: ids are those of all agents again, for each tenant as soon as nothing of it is still to be read back.
    pub fn caught_up(&mut self) {
        self.states.values_mut().for_each(State::caught_up);
    }

    /// Gives the records of a batch that was committed the incidents they are in by now.
    pub fn place(&mut self, batch: &Batch, embeddings: &[Option<Embedding>], committed: &mut Committed) {
        let mut verdicts = Verdicts::clone(&committed.verdicts);
        if let [tenant] = batch.tenants.as_slice() {
            let tenant = self.place_of(tenant);
            if let Some(state) = self.states.get_mut(&tenant) {
                state.place(batch, embeddings, &mut verdicts);
            }
        } else {
            verdicts = self.place_parts(batch, embeddings, &verdicts);
        }
        committed.waits = false;
        committed.verdicts = Arc::new(verdicts);
        let said = Arc::clone(&committed.verdicts);
        self.retries.amend(batch.request_hash, said);
    }

    fn place_parts(&mut self, batch: &Batch, embeddings: &[Option<Embedding>], verdicts: &Verdicts) -> Verdicts {
        let mut all = Verdicts::default();
        for (tenant, part) in batch.tenants.iter().zip(Part::all(batch)) {
            let tenant = self.place_of(tenant);
            let Some(state) = self.states.get_mut(&tenant) else {
                continue;
            };
            let embeddings = part.embeddings(embeddings);
            let mut of_part = part.take_out(verdicts);
            state.place(&part.batch, &embeddings, &mut of_part);
            part.put_back(of_part, &mut all);
        }
        all.sort();
        all
    }

    /// How the cluster's incidents stand, for who comes later, and up to which entry; `None` before the first.
    pub fn write_down(&self) -> Option<(u64, Vec<u8>)> {
        let cluster = self.cluster.as_ref()?;
        let folded = cluster.folded?;
        let (members, now_unix_nano) = cluster.members.export();
        let tenants = self.states.iter().map(|(tenant, state)| WrittenTenant {
            tenant: Some(tenant.into()),
            correlator: Some(state.export_shared()),
        });
        let written = WrittenDown {
            version: VERSION,
            folded,
            members,
            now_unix_nano,
            tenants: tenants.collect(),
        };
        Some((folded, written.encode_to_vec()))
    }

    /// Goes on from what another agent wrote down; which entry was the latest in it.
    ///
    /// # Errors
    /// It is not understood; nothing has changed.
    pub fn adopt(&mut self, written: &[u8]) -> Result<u64, NotUnderstood> {
        let written = WrittenDown::decode(written).map_err(|_| NotUnderstood)?;
        if written.version != VERSION {
            return Err(NotUnderstood);
        }
        let Some(cluster) = &mut self.cluster else {
            return Err(NotUnderstood);
        };
        cluster.members = Members::restore(written.members, written.now_unix_nano);
        cluster.folded = Some(written.folded);
        for tenant in written.tenants {
            let name = tenant.tenant.as_ref().map(Tenant::from).unwrap_or_default();
            if self.is_meant(&name) {
                self.state_of(name).adopt(tenant.correlator);
            }
        }
        Ok(written.folded)
    }

    /// The state of a tenant, which begins if it is new.
    pub(super) fn state_of(&mut self, tenant: Tenant) -> &mut State {
        let cluster = self.cluster.as_ref();
        let is_alone = cluster.is_some_and(|cluster| cluster.folded.is_none() || self.is_alone());
        match self.states.entry(tenant) {
            Place::Occupied(state) => state.into_mut(),
            Place::Vacant(place) => {
                let mut state = self.beginning.state(place.key());
                if self.cluster.is_some() {
                    state.share_incidents();
                    if !is_alone {
                        state.caught_up();
                    }
                }
                place.insert(state)
            }
        }
    }
}
