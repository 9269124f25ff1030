//! What the rooms did, as metrics.
//!
//! What enters: batches that were judged, changes of incidents, the state. What leaves: additions to metrics. Promise: once
//! a request, never once a record. Absent on purpose: verdicts by service, see `judged`.

use std::sync::Arc;

use super::{Pipeline, lock};
use crate::engine::{
    correlate::{Change, Ending, Event, Happened, Status},
    front::Batch,
    score::{Phase, Tally},
    tenant::Tenant,
    tenants::{Committed, Tenants},
};

impl Pipeline {
    /// What changed in the state's own counts; a restored state's past is not counted again.
    pub(super) fn count_since(&self, before: Tally, state: &Tenants) {
        let (metrics, (now, open_incidents)) = (&self.metrics, state.tally());
        metrics.templates.set(now.templates);
        metrics.open_incidents.set(open_incidents as u64);
        metrics
            .evicted_templates
            .add(now.evicted_templates - before.evicted_templates);
        metrics.over_budget_episodes.add(now.over_budget - before.over_budget);
        metrics.released_episodes.add(now.released - before.released);
        metrics.cluster_first_sight_races.follow(now.first_sight_races);
    }

    pub(super) fn count(&self, batch: &Batch, committed: &Committed, events: &[(Tenant, Vec<Event>)]) {
        let metrics = &self.metrics;
        metrics.odd_log_records.add(batch.odd_records);
        metrics.repeated_requests.add(u64::from(committed.repeated));
        metrics.overflow_tenant_log_records.add(committed.overflow_records);
        for event in events.iter().flat_map(|(_, events)| events) {
            match event {
                Event::Opened(_) => metrics.opened_incidents.add(1),
                Event::Merged(_) => metrics.merged_incidents.add(1),
                _ => {}
            }
        }
    }

    pub(super) fn count_changes(&self, changes: &[(Tenant, Vec<Change>)]) {
        let metrics = &self.metrics;
        for change in changes.iter().flat_map(|(_, changes)| changes) {
            match (change.happened, change.incident.status) {
                (Happened::Opened, _) => metrics.announced_incidents.add(1),
                (Happened::Closed, Status::Closed { by }) => match by {
                    Ending::Silence => metrics.incidents_closed_by_silence.add(1),
                    Ending::Life => metrics.incidents_closed_by_max_life.add(1),
                    Ending::Bound => metrics.incidents_closed_by_bound.add(1),
                    Ending::Dismissed => metrics.incidents_closed_by_dismissal.add(1),
                },
                _ => {}
            }
        }
    }

    /// Has the gauges about learning tell how it stands whenever metrics are read, also while nothing comes.
    pub fn show_phase(self: &Arc<Self>) {
        let pipeline = Arc::downgrade(self);
        self.metrics.follow(move |_| {
            if let Some(pipeline) = pipeline.upgrade() {
                pipeline.observe_phase();
            }
        });
    }

    fn observe_phase(&self) {
        let (phase, (tenants, _)) = {
            let state = lock(&self.state);
            (state.phase(), state.count())
        };
        self.metrics.tenants.set(tenants as u64);
        self.metrics
            .detection_ready
            .set(u64::from(matches!(phase, Phase::Ready { .. }) && self.model_healthy()));
        self.metrics.warm_up_remaining_log_records.set(match phase {
            Phase::WarmingUp {
                records_seen,
                records_needed,
                ..
            } => records_needed.saturating_sub(records_seen),
            _ => 0,
        });
    }
}
