//! What happened to incidents, for whoever watches or asks: events, notifiers, the API.
//!
//! What enters: the changes of each commit, in the order of the commits. What leaves: numbered [`Notice`]s to every
//! subscriber, the latest of them once more to who resumes, and incidents that are over ([`past`]). Promises: telling never
//! waits and never fails; a subscriber that is too slow misses the oldest and is told how many; everything kept is bounded.
//! Absent on purpose: who the subscribers are, and open incidents, which the engine knows.

mod past;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast;

pub use crate::edge::Notice;
use crate::{
    edge::{Told, Watch},
    engine::{
        correlate::{Change, Happened, Incident},
        tenant::Tenant,
    },
};
use past::Past;

/// Notices kept for a subscriber that is behind or comes back.
const BEHIND: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Incidents {
    notices: broadcast::Sender<Arc<Notice>>,
    kept: Mutex<Kept>,
}

/// What was told.
#[derive(Debug)]
struct Kept {
    /// Of the last notice.
    sequence: u64,
    /// The latest, oldest first.
    notices: VecDeque<Arc<Notice>>,
    past: Past,
}

impl Default for Incidents {
    fn default() -> Self {
        Self::after(0)
    }
}

impl Incidents {
    /// Nothing was told yet; the first notice has the number after `sequence`.
    ///
    /// A start that passes its time in microseconds numbers above every process before it: none tells a million a second.
    pub fn after(sequence: u64) -> Self {
        Self {
            notices: broadcast::channel(BEHIND).0,
            kept: Mutex::new(Kept {
                sequence,
                notices: VecDeque::new(),
                past: Past::default(),
            }),
        }
    }

    /// Every notice from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }

    /// Every notice from now on; with `after`, preceded by those after that number that are still kept.
    pub fn watch(&self, after: Option<u64>) -> Watch {
        let kept = self.kept();
        // Under the lock, so that nothing is told between what is kept and what comes.
        let live = self.notices.subscribe();
        let Some(after) = after else {
            return Watch::new(kept.sequence, false, [].into_iter(), live);
        };
        let before_oldest = kept.sequence - kept.notices.len() as u64;
        let missed = !(before_oldest..=kept.sequence).contains(&after);
        let from = if missed { before_oldest } else { after };
        let since = kept.notices.iter().filter(|notice| notice.sequence > from);
        Watch::new(from, missed, since.cloned(), live)
    }

    /// Tells the changes of one commit. Called while the state is locked: their order is the commits'.
    pub fn tell(&self, changes: Vec<(Tenant, Vec<Change>)>) {
        if changes.is_empty() {
            return;
        }
        let mut kept = self.kept();
        for (tenant, changes) in changes {
            for change in changes.into_iter().filter(|change| change.incident.announced) {
                if matches!(change.happened, Happened::Merged | Happened::Closed) {
                    kept.past.add(&tenant, Arc::new(change.incident.clone()));
                }
                kept.sequence += 1;
                let notice = Arc::new(Notice {
                    sequence: kept.sequence,
                    tenant: tenant.clone(),
                    change,
                });
                if kept.notices.len() == BEHIND {
                    kept.notices.pop_front();
                }
                kept.notices.push_back(Arc::clone(&notice));
                // An error means that nobody watches.
                let _ = self.notices.send(notice);
            }
        }
    }

    /// Takes up incidents that were over before this process began, in the order they ended.
    pub fn remember(&self, past: Vec<(Tenant, Incident)>) {
        let mut kept = self.kept();
        for (tenant, incident) in past {
            kept.past.add(&tenant, Arc::new(incident));
        }
    }

    /// Incidents that are over, in the order they ended, for each tenant.
    pub fn past(&self) -> Vec<Told> {
        self.kept().past.all().collect()
    }

    /// How many incidents that are over are known, and the number of the last notice; 0 before the first.
    pub fn counts(&self) -> (usize, u64) {
        let kept = self.kept();
        let last = kept.notices.back().map_or(0, |notice| notice.sequence);
        (kept.past.len(), last)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here panics half way.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
