//! What survives a restart: the journal of incidents as they happen, and snapshots of everything now and then.
//!
//! What enters: events of each commit, and the state and incidents that are over when they are to be saved. What leaves: bytes to the [`Store`].
//! Promises: the journal has the order of the commits; every event is in the saved snapshot or in a journal that outlives
//! it; a disk that fails costs memory, never a record. Absent on purpose: when to save, which others decide.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::{feedback::FeedbackError, incidents::Incidents, lock, now_unix_nano};
use crate::{
    edge::Store,
    engine::{
        correlate::Event,
        feedback::Book,
        snapshot::{self, JournalEntry, Snapshot, TenantSection},
        tenant::Tenant,
        tenants::Tenants,
    },
    telemetry::Metrics,
};

/// Journal and snapshots.
pub struct Memory {
    store: Option<Arc<dyn Store>>,
    model_version: String,
    /// Epoch of the journal being written; held while a snapshot is made, so that there is one at a time.
    epoch: Mutex<u64>,
    journal_failing: AtomicBool,
    /// Held from reading the file of opinions until it is written: one opinion at a time.
    opinions: Mutex<()>,
    metrics: Arc<Metrics>,
    incidents: Arc<Incidents>,
}

impl Memory {
    /// Begins the journal of `epoch` in `store`; without a store nothing survives.
    pub fn new(
        store: Option<Arc<dyn Store>>,
        epoch: u64,
        model_version: String,
        metrics: Arc<Metrics>,
        incidents: Arc<Incidents>,
    ) -> Self {
        let memory = Self {
            store,
            model_version,
            epoch: Mutex::new(epoch),
            journal_failing: AtomicBool::new(false),
            opinions: Mutex::new(()),
            metrics,
            incidents,
        };
        if let Some(store) = &memory.store {
            memory.told("begin a journal", store.begin_epoch(epoch));
        }
        memory
    }

    /// Appends the events of one commit. Called while the state is locked: the journal's order is the commits'.
    pub fn journal(&self, events: &[(Tenant, Vec<Event>)]) {
        let Some(store) = &self.store else { return };
        if events.is_empty() {
            return;
        }
        let mut frame = Vec::new();
        for (tenant, events) in events {
            JournalEntry::new(tenant, events.clone(), &self.model_version).frame(&mut frame);
        }
        self.told("write to the journal", store.append_journal(&frame, false));
    }

    /// The book as the file of opinions has it now, which people may have edited; `None` where nothing is kept.
    pub fn load_book(&self) -> Option<Result<Book, FeedbackError>> {
        let read = self.store.as_ref()?.load_feedback();
        Some(match read {
            Ok(text) => Book::from_yaml(text.as_deref().unwrap_or_default()).map_err(FeedbackError::from),
            Err(problem) => Err(problem.into()),
        })
    }

    /// Writes the file of opinions; whether there is one.
    pub fn save_book(&self, book: &Book) -> Result<bool, FeedbackError> {
        let Some(store) = &self.store else { return Ok(false) };
        store.save_feedback(&book.to_yaml()?)?;
        Ok(true)
    }

    /// To be held from reading the file of opinions until it is written.
    pub fn lock_book(&self) -> MutexGuard<'_, ()> {
        self.opinions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same as [`Memory::sync_journal`], but blocks.
    pub fn sync_journal_now(&self) {
        if let Some(store) = &self.store {
            self.told("sync the journal", store.sync_journal());
        }
    }

    /// Returns once everything appended is on the disk, or the disk has failed.
    pub async fn sync_journal(self: Arc<Self>) {
        if let Some(store) = self.store.clone() {
            let synced = tokio::task::spawn_blocking(move || store.sync_journal()).await;
            self.told(
                "sync the journal",
                synced.unwrap_or_else(|gone| Err(std::io::Error::other(gone))),
            );
        }
    }

    /// Saves everything, and begins a new journal at the very moment that the state is exported. Blocks on the disk.
    pub fn save(&self, state: &Mutex<Tenants>) {
        let Some(store) = &self.store else { return };
        let mut epoch = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        let next = *epoch + 1;
        let (states, past) = {
            let state = lock(state);
            if !self.told("begin a journal", store.begin_epoch(next)) {
                return;
            }
            (state.export(), self.incidents.past())
        };
        *epoch = next;
        let bytes = snapshot::encode(&Snapshot {
            model_version: self.model_version.clone(),
            journal_epoch: next,
            saved_at_unix_nano: now_unix_nano(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            // One tenant's state after the other becomes bytes, and is no more.
            tenants: states
                .into_iter()
                .map(|(tenant, scorer, correlator)| {
                    let own = past.iter().filter(|told| told.tenant == tenant);
                    TenantSection::new(&tenant, &scorer, &correlator).with_past(own.map(|told| &*told.incident))
                })
                .collect(),
            ..Snapshot::default()
        });
        match store.save_snapshot(&bytes).and_then(|()| store.prune_journal(next)) {
            Ok(()) => self.metrics.snapshots.add(1),
            Err(problem) => {
                self.metrics.snapshot_failed_writes.add(1);
                tracing::error!(%problem, "cannot write the snapshot: a restart would go on from the last one");
            }
        }
    }

    /// Counts and logs a journal write that failed, the log once until it works again. Returns whether it worked.
    fn told(&self, what: &str, outcome: std::io::Result<()>) -> bool {
        match outcome {
            Ok(()) => self.journal_failing.store(false, Ordering::Relaxed),
            Err(problem) => {
                self.metrics.journal_failed_writes.add(1);
                if !self.journal_failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%problem, "cannot {what}: records flow on, but a crash now may rename open incidents");
                }
                return false;
            }
        }
        true
    }
}
