//! What happened to incidents, for whoever watches: events, notifiers, the API.
//!
//! What enters: the changes of each commit, in the order of the commits. What leaves: numbered [`Notice`]s to every
//! subscriber. Promises: telling never waits and never fails; a subscriber that is too slow misses the oldest and is told
//! how many. Absent on purpose: who the subscribers are.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::broadcast;

use crate::engine::{correlate::Change, tenant::Tenant};

/// Notices kept for a subscriber that is behind.
const BEHIND: usize = 1024;

/// A change of an incident, numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Counts the notices of this process from 1.
    pub sequence: u64,
    /// Whose incident it is.
    pub tenant: Tenant,
    /// What happened.
    pub change: Change,
}

/// See the module.
#[derive(Debug)]
pub struct Incidents {
    sequence: AtomicU64,
    notices: broadcast::Sender<Arc<Notice>>,
}

impl Default for Incidents {
    fn default() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            notices: broadcast::channel(BEHIND).0,
        }
    }
}

impl Incidents {
    /// Every notice from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }

    /// Tells the changes of one commit. Called while the state is locked: their order is the commits'.
    pub fn tell(&self, changes: Vec<(Tenant, Vec<Change>)>) {
        for (tenant, changes) in changes {
            for change in changes {
                let notice = Notice {
                    sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
                    tenant: tenant.clone(),
                    change,
                };
                // An error means that nobody watches.
                let _ = self.notices.send(Arc::new(notice));
            }
        }
    }
}
