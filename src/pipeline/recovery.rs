//! The start after an end: what the last process left becomes the state to go on from.
//!
//! What enters: the bytes of a snapshot and of the journals after it. What leaves: [`Tenants`], and what to tell about
//! it. Promises: never fails; bytes that cannot be used are named, with what to do, and the state starts clean.
//! Absent on purpose: files, which the caller reads and sets aside.

use crate::engine::{
    self,
    score::Scorer,
    snapshot::{self, Journal, Snapshot, SnapshotError},
    tenant::Tenant,
    tenants::Tenants,
};

/// What could be recovered.
#[derive(Debug)]
pub struct Recovered {
    /// The state to go on from.
    pub state: Tenants,
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
    match snapshot.map(|snapshot| restored(settings, &snapshot)) {
        None => {}
        Some(Ok(restored)) => (state, from_snapshot) = (restored, true),
        Some(Err(damaged)) => problem = Some(damaged),
    }
    let (mut replayed_events, mut torn_bytes) = (0, 0);
    for (_, bytes) in journals.iter().filter(|(epoch, _)| *epoch >= since_epoch) {
        let mut journal = Journal::new(bytes);
        for entry in journal.by_ref() {
            // Embeddings of another model would join what is not alike.
            if model_version.is_some_and(|model| model != entry.model_version) {
                continue;
            }
            let tenant = entry.tenant();
            for event in entry.events() {
                replayed_events += u64::from(state.replay(&tenant, event));
            }
        }
        torn_bytes += journal.ignored_bytes() as u64;
    }
    Recovered {
        state,
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
    Ok(tenants)
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
