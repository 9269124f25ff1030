//! What an agent does with what the cluster's log and memory say.
//!
//! What enters: records of the memory, entries of the log, in their order. What leaves: a state that has folded them, what happened to
//! incidents by that, and requests that need wait no longer. Promises: a panic in the engine costs one entry here; what is not understood
//! is passed over. Absent on purpose: where entries come from.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    super::{guarded, lock},
    Sharing, written,
};
use crate::{
    edge::cluster::{Follower, Logged},
    engine::{tenant::Tenant, tenants::Tenants},
};

/// The cluster may be silent for so long before ids are this agent's own, also where no request has found that out.
const SILENCE: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Following(pub(super) Arc<Sharing>);

impl Following {
    /// Something that another agent knows.
    fn hear(&self, key: &[u8], record: &[u8]) {
        let sharing = &self.0;
        // Held as by whoever gives an opinion: the file is read before it is written, so that nobody's edit is lost.
        let _alone = Tenants::is_opinion(key).then(|| {
            let alone = sharing.memory.lock_book();
            self.reread_book();
            alone
        });
        let heard = lock(&sharing.state).hear(record);
        sharing.metrics.cluster_records_heard.add(1);
        if let Some((template, embedding)) = heard.embedding {
            (sharing.remember)(template, embedding);
        }
        if let Some((tenant, generation)) = heard.adopted {
            say_adopted(&tenant, generation);
        }
        if heard.book_changed {
            let book = lock(&sharing.state).book().clone();
            if let Err(problem) = sharing.memory.save_book(&book) {
                tracing::error!(
                    "what was said to another agent holds here too, but not after a restart without it: {problem}"
                );
            }
        }
    }

    /// What people have written into the file since it was read last.
    fn reread_book(&self) {
        match self.0.memory.load_book() {
            None => {}
            Some(Ok(book)) => {
                let mut state = lock(&self.0.state);
                if *state.book() != book {
                    state.hold(book);
                }
            }
            Some(Err(problem)) => tracing::error!("an opinion of another agent is judged by, but not kept: {problem}"),
        }
    }
}

fn say_adopted(tenant: &Tenant, generation: u32) {
    tracing::info!(
        tenant = tenant.name(),
        generation,
        "judges by what another agent was trained on"
    );
}

impl Follower for Following {
    fn remember(&self, key: &[u8], record: Option<&[u8]>) {
        if key.starts_with(written::PREFIX)
            && let Some(pieces) = self.0.pieces().as_mut()
        {
            pieces.remember(key, record);
        } else if Tenants::is_knowledge(key)
            && let Some(record) = record
        {
            guarded("hearing of what others know", || self.hear(key, record));
        }
    }

    fn begin(&self) -> Option<u64> {
        for (tenant, generation) in lock(&self.0.state).remembered() {
            say_adopted(&tenant, generation);
        }
        let written = self.0.pieces().take().and_then(|pieces| pieces.latest())?;
        match lock(&self.0.state).adopt(&written) {
            Ok(folded) => {
                tracing::info!(
                    entry = folded,
                    "goes on with the cluster's incidents as they were written down"
                );
                Some(folded)
            }
            Err(problem) => {
                tracing::warn!("{problem}: all of the log is read instead");
                None
            }
        }
    }

    fn take(&self, entry: Logged) {
        let sharing = &self.0;
        let read = guarded("folding", || {
            let mut state = lock(&sharing.state);
            match state.fold(entry.offset, entry.time_unix_nano, &entry.body) {
                Some(aliases) => sharing.metrics.cluster_aliases.add(aliases),
                None => sharing.metrics.cluster_unread_entries.add(1),
            }
            sharing.tell(&mut state);
            if state.has_aliases() {
                sharing.report_soon();
            }
            state.read_back()
        });
        sharing.metrics.cluster_entries_folded.add(1);
        if let Some(read) = read {
            sharing
                .read_back
                .send_if_modified(|known| std::mem::replace(known, read) != read);
        }
    }

    fn missed(&self, before: u64) {
        tracing::warn!(
            before,
            "the cluster's log no longer has what this agent has not read: its incidents may differ from others' until they are over; \
             keep the log longer (`retention.ms` of the topic) than an agent can be away"
        );
    }

    fn caught_up(&self) {
        let sharing = &self.0;
        let mut state = lock(&sharing.state);
        let was_alone = state.is_alone();
        state.caught_up();
        if was_alone && !state.is_alone() {
            tracing::info!("incidents are those of the cluster");
        }
        sharing.tell(&mut state);
        sharing.caught_up.store(true, Ordering::Relaxed);
        sharing.knows_all.store(true, Ordering::Relaxed);
    }

    fn alone(&self, since: Duration) {
        let sharing = &self.0;
        sharing.caught_up.store(false, Ordering::Relaxed);
        if since < SILENCE {
            return;
        }
        sharing.knows_all.store(true, Ordering::Relaxed);
        let mut state = lock(&sharing.state);
        if !state.is_alone() {
            tracing::warn!(
                "the cluster has not answered for {} s: incidents are this agent's own until it does",
                since.as_secs()
            );
            state.go_alone();
        }
        sharing.tell(&mut state);
    }
}
