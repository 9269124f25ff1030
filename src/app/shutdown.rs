//! The end of the agent, in order and in time.
//!
//! What enters: what runs, and `service.shutdown_timeout`. What leaves: nothing that was acknowledged, and a snapshot.
//! Promises: nothing more is accepted; what is in flight is finished, or its caller is told to send again; whatever hangs (a
//! next hop, a listener, a disk, whoever takes the agent's own telemetry) the end comes within the timeout; what queues cannot
//! deliver in time they keep; being told a second time ends it at once. Absent on purpose: why the agent ends.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    own_telemetry::{self, Sending},
    ways_out::{Listeners, WaysOut},
};
use crate::pipeline::{Pipeline, pass_through::PassThrough};

/// What is kept of the time for telling the callers of what hangs, for listeners and for the snapshot: at most this, and at
/// most half.
const LAST: Duration = Duration::from_secs(3);
/// How long callers may take to read that they should send again.
const ANSWERING: Duration = Duration::from_millis(500);

/// What is to be brought to an end.
pub(super) struct Running {
    /// Receivers, which have been told to stop.
    pub(super) serving: JoinSet<()>,
    pub(super) pipeline: Arc<Pipeline>,
    /// The ways past it.
    pub(super) passing: Vec<Arc<PassThrough>>,
    pub(super) listeners: Listeners,
    pub(super) ways_out: WaysOut,
    pub(super) own_telemetry: Sending,
}

/// Ends everything within `timeout`.
pub(super) async fn finish(running: Running, timeout: Duration) {
    let Running {
        mut serving,
        pipeline,
        passing,
        listeners,
        ways_out,
        own_telemetry,
    } = running;
    let end = Instant::now() + timeout;
    let work_until = end - LAST.min(timeout / 2);

    let answered = async { while serving.join_next().await.is_some() {} };
    if timeout_at(work_until, answered).await.is_err() {
        tracing::warn!(
            seconds = (timeout - LAST.min(timeout / 2)).as_secs_f64(),
            "requests are still in flight: their callers are told to send again"
        );
        pipeline.give_up();
        passing.iter().for_each(|way| way.give_up());
        let answered = async { while serving.join_next().await.is_some() {} };
        if timeout_at((Instant::now() + ANSWERING).min(end), answered)
            .await
            .is_err()
        {
            tracing::warn!("connections are cut: their callers do not read the answer");
            serving.shutdown().await;
        }
    }
    if timeout_at(work_until.max(Instant::now() + ANSWERING).min(end), pipeline.leave())
        .await
        .is_err()
    {
        tracing::warn!("the other agents were not told of the last incidents");
    }
    let listeners_until = work_until.max(Instant::now() + end.saturating_duration_since(Instant::now()) / 2);
    if timeout_at(listeners_until, listeners.finish()).await.is_err() {
        tracing::warn!("not everybody was told of all that happened to incidents");
    }
    let saving = tokio::task::spawn_blocking(move || pipeline.save());
    // After the listeners, whose events go the same way.
    let (saved, drained) = tokio::join!(timeout_at(end, saving), timeout_at(end, ways_out.drain(work_until)));
    if drained.is_err() {
        tracing::warn!("the disk of the queues does not answer: what was delivered last may be delivered again");
    }
    match saved {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => tracing::error!(%problem, "the snapshot ended by a bug; the last one stays"),
        Err(_) => tracing::error!("the disk takes too long for a snapshot: a restart goes on from the last one"),
    }
    // The last, so that it tells of all that.
    own_telemetry::finish(own_telemetry, end).await;
}
