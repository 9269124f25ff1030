//! Keeps a listener up to date: what happened to incidents, at the listener's pace.
//!
//! What enters: notices of incidents, and the time. What leaves: calls of one [`Listener`], and counts of what came of them.
//! Promises: the listener runs in a task of its own, so that no log ever waits for it; it hears all that is open when it
//! starts, and again when it was too slow to hear of every change; in modes other than `mark` it hears nothing, as no record
//! then carries an incident's id; nor while another agent of the cluster tells for all; at the end it gets [`DRAIN`] for what it still has to tell. Absent on purpose: what is told
//! and how.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
        watch,
    },
    time::{Instant, sleep_until},
};

use super::{Mode, Pipeline, incidents::Notice};
use crate::{
    edge::{Listener, Tellings},
    telemetry::{Counter, Metrics},
};

/// How long a listener is waited for when the agent stops.
pub const DRAIN: Duration = Duration::from_secs(5);

/// How often somebody who may hear nothing looks whether that has changed, and how often what is open is listed at most.
const SILENCE: Duration = Duration::from_secs(10);

/// Where it is counted what came of telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// As events.
    Events,
    /// As notifications.
    Notifications,
}

impl Counted {
    fn count(self, metrics: &Metrics, told: &Tellings) {
        let [sent, failed, dropped]: [&Counter; 3] = match self {
            Self::Events => [
                &metrics.incident_events_sent,
                &metrics.incident_events_failed,
                &metrics.incident_events_dropped,
            ],
            Self::Notifications => [
                &metrics.notifications_sent,
                &metrics.notifications_failed,
                &metrics.notifications_dropped,
            ],
        };
        sent.add(told.sent);
        failed.add(told.failed);
        dropped.add(told.dropped);
    }
}

/// A listener's task.
pub struct Telling {
    pipeline: Arc<Pipeline>,
    notices: Receiver<Arc<Notice>>,
    listener: Box<dyn Listener>,
    counted: Counted,
    /// Whether the listener knows what is open.
    informed: bool,
    /// When that was listed last.
    listed: Option<Instant>,
    /// When its next step is due.
    next: Option<Instant>,
}

impl Telling {
    /// Hears of every change from now on; runs once [`Telling::run`] is awaited.
    pub fn new(pipeline: Arc<Pipeline>, listener: Box<dyn Listener>, counted: Counted) -> Self {
        Self {
            notices: pipeline.incidents().subscribe(),
            pipeline,
            listener,
            counted,
            informed: false,
            listed: None,
            next: Some(Instant::now()),
        }
    }

    /// Tells until `stopped` turns true, and then what is left, for a while.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut ends = stopped.clone();
        let drained = async {
            // An error means that the sender is gone, which is a stop as well.
            let _ = ends.wait_for(|stop| *stop).await;
            tokio::time::sleep(DRAIN).await;
        };
        let in_time = tokio::select! {
            () = self.until(&mut stopped) => true,
            () = drained => false,
        };
        let waiting = self.listener.waiting();
        if waiting > 0 || !in_time {
            tracing::warn!(
                listener = self.listener.name(),
                waiting,
                "was not told of all that happened to incidents before the end; its other side was too slow"
            );
        }
    }

    async fn until(&mut self, stopped: &mut watch::Receiver<bool>) {
        loop {
            let due = self.next;
            let due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                heard = self.notices.recv() => {
                    self.hear(heard);
                    self.hear_all();
                }
                () = due => {}
            }
            self.step().await;
        }
        self.hear_all();
        let end = Instant::now() + DRAIN;
        while self.may_tell() {
            self.step().await;
            match self.next.filter(|next| *next < end) {
                Some(next) => sleep_until(next).await,
                None => break,
            }
        }
    }

    /// What has come meanwhile, so that it can be told together.
    fn hear_all(&mut self) {
        loop {
            match self.notices.try_recv() {
                Ok(notice) => self.hear(Ok(notice)),
                Err(TryRecvError::Lagged(missed)) => self.hear(Err(RecvError::Lagged(missed))),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
    }

    fn hear(&mut self, heard: Result<Arc<Notice>, RecvError>) {
        match heard {
            Ok(notice) if self.may_tell() => {
                self.inform();
                self.listener.hear(&notice.tenant, &notice.change);
            }
            // Hears what is open instead, once it may hear again.
            Ok(_) | Err(RecvError::Closed) => self.informed = false,
            Err(RecvError::Lagged(missed)) => {
                self.informed = false;
                let told = Tellings {
                    dropped: missed,
                    ..Tellings::default()
                };
                self.counted.count(&self.pipeline.metrics, &told);
            }
        }
    }

    /// Lists what is open, for a listener that needs it. That takes the engine's lock, so it is not done often.
    fn inform(&mut self) {
        if self.informed || self.listed.is_some_and(|listed| listed.elapsed() < SILENCE) {
            return;
        }
        self.informed = true;
        if self.listener.follows_open() {
            self.listed = Some(Instant::now());
            self.listener.hear_open(self.pipeline.open_incidents());
        }
    }

    fn may_tell(&self) -> bool {
        self.pipeline.mode() == Mode::Mark && self.pipeline.speaks()
    }

    async fn step(&mut self) {
        let later = Instant::now() + SILENCE;
        if !self.may_tell() {
            self.informed = false;
            self.next = Some(later);
            return;
        }
        self.inform();
        let told = self.listener.tell().await;
        self.counted.count(&self.pipeline.metrics, &told);
        let recount = (!self.informed).then_some(later);
        self.next = [told.next, recount].into_iter().flatten().min();
    }
}

impl std::fmt::Debug for Telling {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Telling")
            .field("listener", &self.listener.name())
            .finish_non_exhaustive()
    }
}
