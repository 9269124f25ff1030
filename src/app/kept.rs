//! What lies in a state directory, for commands that look at it and for a start that tidies it.
//!
//! What enters: a directory. What leaves: what was learned, and what people said. Promise: looking disturbs no agent.
//! Absent on purpose: what the agent itself goes on from (`recovery`).

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{
    edge::{
        Store,
        store::{self, StateDirectory},
    },
    engine::{
        self,
        feedback::Book,
        opinions::Opinions,
        score::Scorer,
        snapshot::{self, Snapshot, TenantSection},
        state::State,
        tenant::Tenant,
    },
    pipeline::recovery,
};

/// What the last snapshot in a state directory says was learned, read beside the agent that may be using it; `None` when
/// there is no snapshot, or nothing of that tenant in it.
///
/// # Errors
/// The directory cannot be read, or its snapshot is damaged or was made with another model.
pub fn learned(
    directory: &Path,
    settings: &engine::Settings,
    model_version: &str,
    tenant: &Tenant,
) -> Result<Option<Scorer>> {
    let peeked = StateDirectory::peek(directory);
    let Some(bytes) = peeked.with_context(|| format!("cannot read a snapshot from {}", directory.display()))? else {
        return Ok(None);
    };
    snapshot::decode(&bytes, Some(model_version))
        .and_then(|snapshot| recovery::scorer(settings, &snapshot, tenant))
        .with_context(|| format!("cannot use the snapshot in {}", directory.display()))
}

/// What people said of a tenant's templates, as it stands in the state directory.
///
/// # Errors
/// The file cannot be read, or is not understood.
pub fn opinions(directory: &Path, tenant: &Tenant) -> Result<Opinions> {
    let text = store::read_feedback(directory)?.unwrap_or_default();
    let book =
        Book::from_yaml(&text).with_context(|| format!("cannot use feedback.yaml in {}", directory.display()))?;
    Ok(book.opinions(tenant))
}

/// Takes the texts of logs out of snapshots that were kept before they were unwanted.
pub(super) fn drop_texts(directory: &StateDirectory) {
    let rewrite = |name: &str| -> Result<()> {
        let mut snapshot = snapshot::decode(&directory.read_kept(name)?, None)?;
        if snapshot.drop_texts()? {
            directory.rewrite_kept(name, &snapshot::encode(&snapshot))?;
        }
        Ok(())
    };
    let names = match directory.kept() {
        Ok(kept) => kept.into_iter().map(|kept| kept.name),
        Err(problem) => return tracing::error!("texts may be left in kept snapshots: {problem}"),
    };
    for name in names {
        if let Err(problem) = rewrite(&name) {
            tracing::error!("texts may be left in {name}, remove it: {problem:#}");
        }
    }
}

/// Leaves what was learned where `run` with this `state.directory` finds it.
///
/// # Errors
/// The directory is in use, holds a snapshot already, or cannot be written.
pub fn save_snapshot(directory: &Path, state: &State, model_version: &str) -> Result<()> {
    let store = StateDirectory::open(directory).with_context(|| format!("cannot use {}", directory.display()))?;
    if store.load()?.snapshot.is_some() {
        bail!(
            "{} holds a snapshot already: name an empty folder, or remove it",
            directory.display()
        );
    }
    let (scorer, correlator) = state.export();
    store.save_snapshot(&snapshot::encode(&Snapshot {
        model_version: model_version.to_owned(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        tenants: vec![TenantSection::new(&Tenant::default(), &scorer, &correlator)],
        ..Snapshot::default()
    }))?;
    Ok(())
}
