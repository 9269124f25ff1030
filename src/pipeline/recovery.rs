//! The start after an end: what the last process left becomes the state to go on from.
//!
//! What enters: the bytes of a snapshot and of the journals after it. What leaves: [`Tenants`], incidents that are over, and
//! what to tell about it. Promises: never fails; bytes that cannot be used are named, with what to do, and the state starts clean.
//! Absent on purpose: files, which the caller reads and sets aside.

use crate::engine::{
    self,
    correlate::{Ending, Event, Incident, IncidentId, Status},
    score::Scorer,
    snapshot::{self, Journal, Snapshot, SnapshotError},
    tenant::Tenant,
    tenants::Tenants,
};

/// Incidents and whose they were.
pub type Past = Vec<(Tenant, Incident)>;

/// What could be recovered.
#[derive(Debug)]
pub struct Recovered {
    /// The state to go on from.
    pub state: Tenants,
    /// Incidents that are over, in the order they ended.
    pub past: Past,
    /// The model the state's embeddings were made with, where there was a snapshot.
    pub from_snapshot: bool,
    /// Incident events that were replayed from the journals.
    pub replayed_events: u64,
    /// Bytes at the end of journals that were cut short.
    pub torn_bytes: u64,
    /// Why the snapshot could not be used.
    pub problem: Option<SnapshotError>,
}

/// Reads a snapshot, then replays the journals since, oldest first.
///
/// Without a model (`model_version` is `None`) nothing can be judged, and any snapshot is taken as it is.
pub fn recover(
    settings: &engine::Settings,
    snapshot: Option<&[u8]>,
    journals: &[(u64, Vec<u8>)],
    model_version: Option<&str>,
) -> Recovered {
    let (snapshot, mut problem) = match snapshot.map(|bytes| snapshot::decode(bytes, model_version)) {
        None => (None, None),
        Some(Ok(snapshot)) => (Some(snapshot), None),
        Some(Err(problem)) => (None, Some(problem)),
    };
    let since_epoch = snapshot.as_ref().map_or(0, |snapshot| snapshot.journal_epoch);
    let mut from_snapshot = false;
    let mut state = settings.tenants();
    match snapshot.as_ref().map(|snapshot| restored(settings, snapshot)) {
        None => {}
        Some(Ok(restored)) => (state, from_snapshot) = (restored, true),
        Some(Err(damaged)) => problem = Some(damaged),
    }
    let (mut replayed_events, mut torn_bytes) = (0, 0);
    let mut past = snapshot
        .iter()
        .flat_map(|snapshot| past_of(&state, snapshot))
        .collect::<Vec<_>>();
    for (_, bytes) in journals.iter().filter(|(epoch, _)| *epoch >= since_epoch) {
        let mut journal = Journal::new(bytes);
        for entry in journal.by_ref() {
            // Embeddings of another model would join what is not alike.
            if model_version.is_some_and(|model| model != entry.model_version) {
                continue;
            }
            let tenant = entry.tenant();
            for event in entry.events() {
                past.extend(ended_by(event, &state, &tenant).map(|incident| (tenant.clone(), incident)));
                replayed_events += u64::from(state.replay(&tenant, event));
            }
        }
        torn_bytes += journal.ignored_bytes() as u64;
    }
    Recovered {
        state,
        past,
        from_snapshot,
        replayed_events,
        torn_bytes,
        problem,
    }
}

fn restored(settings: &engine::Settings, snapshot: &Snapshot) -> Result<Tenants, SnapshotError> {
    let mut tenants = settings.tenants();
    for section in &snapshot.tenants {
        let (scorer, correlator) = section.states()?;
        tenants
            .restore(section.tenant(), scorer, correlator)
            .map_err(|problem| SnapshotError::Corrupt(format!("scorer: {problem}")))?;
    }
    tenants.heard_until(snapshot.saved_at_unix_nano);
    Ok(tenants)
}

fn past_of(state: &Tenants, snapshot: &Snapshot) -> impl Iterator<Item = (Tenant, Incident)> {
    snapshot.tenants.iter().flat_map(|section| {
        let tenant = section.tenant();
        let told = section.past.iter().filter_map(|past| state.past(&tenant, past.clone()));
        told.map(|incident| (section.tenant(), incident)).collect::<Vec<_>>()
    })
}

/// The announced incident that this event will end, as it will have been.
fn ended_by(event: &Event, state: &Tenants, tenant: &Tenant) -> Option<Incident> {
    let (raw, status) = match event {
        Event::Closed(closed) if closed.dismissed => (closed.id, Status::Closed { by: Ending::Dismissed }),
        Event::Closed(closed) if closed.outlived => (closed.id, Status::Closed { by: Ending::Life }),
        Event::Closed(closed) if closed.evicted => (closed.id, Status::Closed { by: Ending::Bound }),
        Event::Closed(closed) => (closed.id, Status::Closed { by: Ending::Silence }),
        Event::Merged(merged) => {
            let into = IncidentId::from_raw(merged.into);
            (merged.from, Status::Merged { into })
        }
        _ => return None,
    };
    let id = IncidentId::from_raw(raw);
    let mut incident = state.of(tenant)?.incident(id)?;
    incident.announced |= matches!(status, Status::Closed { by: Ending::Dismissed });
    if incident.id != id || !incident.announced {
        return None;
    }
    incident.status = status;
    if let Event::Closed(closed) = event {
        // The journal knows counts only of what is over.
        (incident.records, incident.anomalous_records) = (closed.records, closed.anomalous_records);
        incident.first_time_unix_nano = closed.first_time_unix_nano;
        incident.last_time_unix_nano = closed.last_time_unix_nano;
    }
    Some(incident)
}

/// The scorer of a tenant that a snapshot holds; `None` where it holds nothing of that tenant.
///
/// # Errors
/// Its bytes are damaged.
pub fn scorer(
    settings: &engine::Settings,
    snapshot: &Snapshot,
    tenant: &Tenant,
) -> Result<Option<Scorer>, SnapshotError> {
    let Some(section) = snapshot.tenants.iter().find(|section| section.tenant() == *tenant) else {
        return Ok(None);
    };
    let (scorer, _) = section.states()?;
    Scorer::restore(settings.score.clone(), scorer)
        .map(Some)
        .map_err(|problem| SnapshotError::Corrupt(format!("scorer: {problem}")))
}
