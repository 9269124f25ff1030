//! Runs fits in the background, one at a time, and gives their results to the state.
//!
//! What enters: the state, whenever something was committed, or heard of other agents. What leaves: the finished fit, installed as one more
//! sequenced input, and a snapshot of it. Promises: a fit never holds a log up; a fit that panics leaves the model that
//! was there. Absent on purpose: when a fit is due, which the engine decides.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use super::{Memory, embedding::NICENESS, lock};
use crate::{
    engine::{score::FitJob, tenant::Tenant, tenants::Tenants},
    telemetry::Metrics,
};

/// The thread that fits.
pub struct Fitting {
    jobs: SyncSender<(Tenant, FitJob)>,
    thread: thread::JoinHandle<()>,
}

impl Fitting {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(state: Arc<Mutex<Tenants>>, memory: Arc<Memory>, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        // One place is enough: the engine has at most one fit under way.
        let (jobs, due) = sync_channel::<(Tenant, FitJob)>(1);
        let thread = thread::Builder::new().name("fitting".to_owned()).spawn(move || {
            for (tenant, job) in due {
                let Some(fitted) = nicely(|| job.run()) else {
                    tracing::error!(
                        "training the autoencoder panicked, or has got no thread; the model that was there stays"
                    );
                    lock(&state).abandon_fit();
                    continue;
                };
                tracing::info!(tenant = tenant.name(), summary = %fitted.summary(), "trained the autoencoder");
                metrics.fits.add(1);
                lock(&state).install(&tenant, fitted);
                memory.save(&state);
            }
        })?;
        Ok(Self { jobs, thread })
    }

    /// Whether the thread has ended, which only a bug can bring about.
    pub fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }

    /// Starts the fit that is due, if one is.
    pub fn offer(&self, state: &mut Tenants) {
        if let Some(due) = state.take_fit() {
            // Full cannot be: there is one fit at most. Disconnected means that the program is ending.
            let _ = self.jobs.try_send(due);
        }
    }
}

/// Does the work in a thread that steps back wherever CPUs are short, which the one that takes the lock afterwards must not.
fn nicely<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let nice = thread::Builder::new().name("training".to_owned());
        let nice = nice.spawn_scoped(scope, || {
            // Refused nowhere we know of.
            let _ = rustix::process::nice(NICENESS);
            work()
        });
        nice.ok()?.join().ok()
    })
}
