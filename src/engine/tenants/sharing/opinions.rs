//! What people said of templates, shared: given to one agent, it holds for all.
//!
//! What enters: the book whenever it is another, and opinions of other agents. What leaves: opinions that were given or taken back here, and a book with
//! those of the others. Promises: the later counts, whether something was said or taken back; bounded: beyond [`MAX_WITHDRAWN`] the earliest withdrawals are
//! forgotten here, but not in the memory. Absent on purpose: a clock. What is taken back is so just after it was said, and what is changed without
//! a new time just after what was there; so an opinion that is taken back while the agent does not run comes again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Tenants;
use crate::engine::{
    feedback::{Book, Entry, MAX_COMMENT_BYTES, MAX_ENTRIES, MAX_NAME_BYTES, Opinion},
    score::{OpinionFact, SaidFact},
    tenant::Tenant,
    text::TemplateKey,
};

/// Withdrawals that are remembered.
const MAX_WITHDRAWN: usize = 10_000;

/// Tenants of whose templates something may have been said: more are not taken from other agents.
const MAX_TENANTS: usize = 4096;

/// What something is said of.
type Of = (Tenant, TemplateKey, Option<Arc<str>>);

/// When what is in the book was said, as agents count it, and what was taken back.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    said: BTreeMap<Of, u64>,
    withdrawn: BTreeMap<Of, u64>,
    /// The same, the earliest first.
    by_time: BTreeSet<(u64, Of)>,
    untold: BTreeSet<Of>,
}

impl Ledger {
    /// What is in the book now was said, and what is not any more was taken back.
    pub(super) fn note_changes(&mut self, book: &Book) {
        self.note_book(&Book::default(), book);
    }

    fn note_book(&mut self, before: &Book, after: &Book) {
        for (of, entry) in entries(after) {
            let was = before.tenants.get(&of.0).and_then(|all| all.get(&(of.1, of.2.clone())));
            if was == Some(entry) {
                continue;
            }
            let known = self.said.get(&of).or_else(|| self.withdrawn.get(&of)).copied();
            let after_known = known.map_or(0, |known| known.saturating_add(1));
            self.set(&of, entry.given_at_unix_nano.max(after_known), true);
            self.untold.insert(of);
        }
        for (of, entry) in entries(before) {
            if after
                .tenants
                .get(&of.0)
                .is_none_or(|all| !all.contains_key(&(of.1, of.2.clone())))
            {
                let said = self.said.get(&of).copied().unwrap_or(entry.given_at_unix_nano);
                self.set(&of, said.saturating_add(1), false);
                self.untold.insert(of);
            }
        }
    }

    fn set(&mut self, of: &Of, time_unix_nano: u64, is_said: bool) {
        self.said.remove(of);
        if let Some(time) = self.withdrawn.remove(of) {
            self.by_time.remove(&(time, of.clone()));
        }
        if is_said {
            self.said.insert(of.clone(), time_unix_nano);
            return;
        }
        self.withdrawn.insert(of.clone(), time_unix_nano);
        self.by_time.insert((time_unix_nano, of.clone()));
        if self.withdrawn.len() > MAX_WITHDRAWN
            && let Some((_, of)) = self.by_time.pop_first()
        {
            self.withdrawn.remove(&of);
            self.untold.remove(&of);
        }
    }

    /// What is known of something, in this book.
    fn fact(&self, book: &Book, of: &Of) -> Option<OpinionFact> {
        let said = self.said.get(of);
        let entry = said.and_then(|_| book.tenants.get(&of.0)?.get(&(of.1, of.2.clone())));
        Some(OpinionFact {
            template: of.1.0,
            service: of.2.as_deref().map(str::to_owned),
            time_unix_nano: *said.or_else(|| self.withdrawn.get(of))?,
            said: entry.map(said_of),
        })
    }

    /// What was not told yet.
    pub(super) fn drain(&mut self, book: &Book, max: usize) -> Vec<(Tenant, OpinionFact)> {
        let mut facts = Vec::new();
        while facts.len() < max
            && let Some(of) = self.untold.pop_first()
        {
            facts.extend(self.fact(book, &of).map(|fact| (of.0.clone(), fact)));
        }
        facts
    }
}

fn entries(book: &Book) -> impl Iterator<Item = (Of, &Entry)> {
    let named = book.tenants.iter().filter(|(tenant, _)| **tenant != Tenant::Overflow);
    named.flat_map(|(tenant, entries)| {
        let of =
            move |(template, service): &(TemplateKey, Option<Arc<str>>)| (tenant.clone(), *template, service.clone());
        entries.iter().map(move |(place, entry)| (of(place), entry))
    })
}

fn said_of(entry: &Entry) -> SaidFact {
    let (opinion, until_unix_nano) = match entry.opinion {
        Opinion::Normal => (1, 0),
        Opinion::MuteUntil { time_unix_nano } => (2, time_unix_nano),
        Opinion::Real => (3, 0),
    };
    SaidFact {
        opinion,
        until_unix_nano,
        text: entry.text.clone(),
        comment: entry.comment.clone(),
        author: entry.author.clone(),
        given_at_unix_nano: entry.given_at_unix_nano,
    }
}

/// The entry of an opinion; `None` where it cannot be taken.
fn entry_of(said: SaidFact, keeps_text: bool) -> Option<Entry> {
    let opinion = match said.opinion {
        1 => Opinion::Normal,
        2 => Opinion::MuteUntil {
            time_unix_nano: said.until_unix_nano,
        },
        3 => Opinion::Real,
        _ => return None,
    };
    let fits = said.comment.len() <= MAX_COMMENT_BYTES && said.author.len() <= MAX_NAME_BYTES;
    fits.then(|| Entry {
        opinion,
        text: if keeps_text { said.text } else { String::new() },
        comment: said.comment,
        author: said.author,
        given_at_unix_nano: said.given_at_unix_nano,
    })
}

impl Tenants {
    /// The book is about to be this one.
    pub(in crate::engine::tenants) fn note_opinions(&mut self, book: &Book) {
        if let Some(sharing) = &mut self.beginning.sharing {
            sharing.ledger.note_book(&self.beginning.book, book);
        }
    }

    /// Another agent was given an opinion, or it was taken back there: whether the book has changed; `None` where it cannot be taken.
    pub(super) fn hear_opinion(&mut self, tenant: &Tenant, mut heard: OpinionFact) -> Option<bool> {
        let keeps_text = self.beginning.keeps_text(tenant);
        if let Some(said) = heard.said.as_mut().filter(|_| !keeps_text) {
            said.text.clear();
        }
        let service: Option<Arc<str>> = heard.service.as_deref().map(Arc::from);
        let of: Of = (tenant.clone(), TemplateKey(heard.template), service.clone());
        let (ledger, book) = match &mut self.beginning.sharing {
            Some(sharing) => (&mut sharing.ledger, &mut self.beginning.book),
            None => return None,
        };
        if let Some(own) = ledger.fact(book, &of)
            && own.rank() >= heard.rank()
        {
            if own.rank() == heard.rank() {
                ledger.untold.remove(&of);
            } else {
                ledger.untold.insert(of);
            }
            return Some(false);
        }
        let time_unix_nano = heard.time_unix_nano;
        let entry = match heard.said {
            Some(said) => Some(entry_of(said, keeps_text)?),
            None => None,
        };
        let opinion = entry.as_ref().map(|entry| entry.opinion);
        let place = (of.1, service.clone());
        let changed = match entry {
            Some(entry) => {
                let is_full = book.tenants.len() >= MAX_TENANTS && !book.tenants.contains_key(tenant);
                let entries = (!is_full).then(|| book.tenants.entry(tenant.clone()).or_default())?;
                if entries.len() >= MAX_ENTRIES && !entries.contains_key(&place) {
                    return None;
                }
                entries.insert(place, entry.clone()) != Some(entry)
            }
            None => {
                let removed = book.tenants.get_mut(tenant).and_then(|entries| entries.remove(&place));
                book.tenants.retain(|_, entries| !entries.is_empty());
                removed.is_some()
            }
        };
        ledger.set(&of, time_unix_nano, opinion.is_some());
        ledger.untold.remove(&of);
        if let Some(state) = self.states.get_mut(tenant) {
            state.scorer().change_opinion(of.1, service.as_ref(), opinion);
        }
        Some(changed)
    }
}
