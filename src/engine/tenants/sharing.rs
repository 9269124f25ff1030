//! What agents of a cluster share of each tenant: what its scorer knows, and what people said of it.
//!
//! What enters: records of a memory that all agents read ([`Tenants::hear`]), how much the others have seen, and whether it is here that is
//! trained ([`Tenants::set_elsewhere`]). What leaves: records for that memory, each with its key ([`Tenants::drain_knowledge`]), and what
//! became of what was heard. Promises: nothing is shared before [`Tenants::share`]; nothing of the overflow is, as its tenants are others in every agent; an
//! opinion that was given or taken back here is so everywhere, in the order of the times at which that was done. Absent on purpose: the memory itself, and
//! what a scorer does with what it hears (`score`).

mod opinions;

use std::collections::BTreeMap;

use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::{Beginning, Tenants};
use crate::engine::{
    embed::Embedding,
    score::{Fact, Knowledge},
    state::State,
    tenant::Tenant,
    text::TemplateKey,
};
use opinions::Ledger;

/// How what is learned is shared.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Hashes of this agent's name and of its sentence model's version.
    agent: u64,
    model: u64,
    ledger: Ledger,
    may_train: bool,
    /// Records that the other agents have seen, by tenant.
    elsewhere_records: BTreeMap<Tenant, u64>,
    /// The tenant whose knowledge was drained last: the next time it begins behind it.
    last_drained: Tenant,
    /// Records of the memory so far that could not be used.
    ignored: u64,
}

/// A record for the memory that agents share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shareable {
    /// Its key: the memory keeps the latest record of each.
    pub key: Vec<u8>,
    /// What is known.
    pub record: Vec<u8>,
}

/// What became of a record of the memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// An embedding that was not known to the tenant's state: nobody needs to make it any more.
    pub embedding: Option<(TemplateKey, Embedding)>,
    /// A tenant is judged by another agent's training from now on: its generation.
    pub adopted: Option<(Tenant, u32)>,
    /// The book has changed: keep it ([`Tenants::book`]).
    pub book_changed: bool,
    /// It could not be used: of a later version, of another sentence model, or of a tenant that has no place here.
    pub ignored: bool,
}

impl Beginning {
    /// A state of this tenant shares what it knows, where that is shared.
    pub(super) fn share(&self, tenant: &Tenant, state: &mut State) {
        if let Some(sharing) = self.sharing.as_ref().filter(|_| *tenant != Tenant::Overflow) {
            state.share(sharing.agent);
            let records = sharing.elsewhere_records.get(tenant).copied().unwrap_or_default();
            state.scorer().set_elsewhere(records, sharing.may_train);
        }
    }
}

impl Tenants {
    /// Shares from now on what is learned, as the agent of this name, with others of the same sentence model. To be called once, after
    /// what was kept was restored and before anything is heard.
    pub fn share(&mut self, agent: &str, model_version: &str) {
        let mut ledger = Ledger::default();
        ledger.note_changes(&self.beginning.book);
        self.beginning.sharing = Some(Sharing {
            agent: xxh3_64(agent.as_bytes()),
            model: xxh3_64(model_version.as_bytes()),
            ledger,
            may_train: false,
            elsewhere_records: BTreeMap::new(),
            last_drained: Tenant::default(),
            ignored: 0,
        });
        for (tenant, state) in &mut self.states {
            self.beginning.share(tenant, state);
        }
    }

    /// The other live agents have seen so many records of each tenant, and it is here that is trained or not: before the first call nothing
    /// is. To be called every few seconds.
    pub fn set_elsewhere(&mut self, records: BTreeMap<Tenant, u64>, may_train: bool) {
        let Some(sharing) = &mut self.beginning.sharing else {
            return;
        };
        for (tenant, state) in self
            .states
            .iter_mut()
            .filter(|(tenant, _)| **tenant != Tenant::Overflow)
        {
            let records = records.get(tenant).copied().unwrap_or_default();
            state.scorer().set_elsewhere(records, may_train);
        }
        sharing.may_train = may_train;
        sharing.elsewhere_records = records;
    }

    /// Records of each tenant that were seen here, for [`Tenants::set_elsewhere`] of the others.
    pub fn records(&self) -> BTreeMap<Tenant, u64> {
        let named = self.states.iter().filter(|(tenant, _)| **tenant != Tenant::Overflow);
        named.map(|(tenant, state)| (tenant.clone(), state.records())).collect()
    }

    /// What is known here and was not told yet, the most newsworthy of each tenant first, as records for the memory: no more than so many.
    pub fn drain_knowledge(&mut self, max_records: usize) -> Vec<Shareable> {
        let Some(sharing) = &mut self.beginning.sharing else {
            return Vec::new();
        };
        let mut drained = Vec::new();
        let model = sharing.model;
        let shareable = |tenant: &Tenant, fact: Fact| {
            let knowledge = Knowledge::new(tenant, model, fact)?;
            Some(Shareable {
                key: knowledge.key(),
                record: knowledge.encode_to_vec(),
            })
        };
        for (tenant, opinion) in sharing.ledger.drain(&self.beginning.book, max_records) {
            drained.extend(shareable(&tenant, Fact::Opinion(opinion)));
        }
        // In a circle, so that no tenant waits for ever behind one that has much to tell.
        let behind: Vec<Tenant> = self
            .states
            .keys()
            .filter(|it| **it > sharing.last_drained)
            .cloned()
            .collect();
        let before: Vec<Tenant> = self
            .states
            .keys()
            .filter(|it| **it <= sharing.last_drained)
            .cloned()
            .collect();
        for tenant in behind.into_iter().chain(before) {
            let room = max_records.saturating_sub(drained.len());
            let Some(state) = self.states.get_mut(&tenant).filter(|_| room > 0) else {
                break;
            };
            let facts = state.scorer().drain_knowledge(room);
            drained.extend(facts.into_iter().filter_map(|fact| shareable(&tenant, fact)));
            sharing.last_drained = tenant;
        }
        drained
    }

    /// Whether a key of the memory is of a record for [`Tenants::hear`].
    pub fn is_knowledge(key: &[u8]) -> bool {
        Knowledge::has_key(key)
    }

    /// Whether such a key is of what somebody said: then the book may change.
    pub fn is_opinion(key: &[u8]) -> bool {
        Knowledge::has_key_of_opinion(key)
    }

    /// Takes note of a record of the memory. One's own change nothing.
    pub fn hear(&mut self, record: &[u8]) -> Heard {
        let heard = self.hear_record(record);
        if let Some(sharing) = &mut self.beginning.sharing {
            sharing.ignored += u64::from(heard.ignored);
        }
        heard
    }

    fn hear_record(&mut self, record: &[u8]) -> Heard {
        let ignored = Heard {
            ignored: true,
            ..Heard::default()
        };
        let (Some(sharing), Some(knowledge)) = (&mut self.beginning.sharing, Knowledge::read(record)) else {
            return ignored;
        };
        let tenant = knowledge.tenant();
        let is_mine = knowledge.is_of(sharing.model);
        let Some(fact) = knowledge.into_fact().filter(|_| is_mine) else {
            return ignored;
        };
        if tenant == Tenant::Overflow || !self.is_meant(&tenant) {
            return ignored;
        }
        if let Fact::Opinion(opinion) = fact {
            return self
                .hear_opinion(&tenant, opinion)
                .map_or(ignored, |book_changed| Heard {
                    book_changed,
                    ..Heard::default()
                });
        }
        if !self.has_place(&tenant) {
            return ignored;
        }
        let heard = self.state_of(tenant.clone()).hear(fact);
        Heard {
            embedding: heard.embedding,
            adopted: heard.generation.map(|generation| (tenant, generation)),
            ..Heard::default()
        }
    }

    /// All that was in the memory was heard: models whose templates are not there wait no longer. Which tenants are judged by them now.
    pub fn remembered(&mut self) -> Vec<(Tenant, u32)> {
        let states = self.states.iter_mut();
        states
            .filter_map(|(tenant, state)| Some((tenant.clone(), state.scorer().remembered()?)))
            .collect()
    }

    /// How much there is to look through for [`Tenants::drain_knowledge`], and records of the memory so far that could not be used.
    pub fn shared(&self) -> (usize, u64) {
        let untold = self.states.values().map(State::untold).sum();
        let ignored = self.beginning.sharing.as_ref().map_or(0, |sharing| sharing.ignored);
        (untold, ignored)
    }
}
