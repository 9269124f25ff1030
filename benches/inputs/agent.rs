//! The engine as the pipeline drives it, in one thread and without waiting.
//!
//! In: requests. Out: the same with verdicts. Every step is a function of its own that is never inlined, so that a profile of
//! instructions has it by name. Promise: what the pipeline calls, in its order. Absent on purpose: metrics, traces, the journal.

use std::sync::Arc;

use anyhow::{Result, ensure};
use harbinger::engine::{
    Settings,
    annotate::Annotated,
    embed::{Embedder, Embedding, Memo},
    front::{Batch, BatchTemplate, Front},
    score::{Committee, Phase},
    snapshot::{self, Snapshot, TenantSection},
    tenants::{Committed, Tenants},
    view::View,
};

use super::Words;

/// See the module.
pub struct Agent {
    /// The parallel half.
    pub front: Front,
    /// The serial half.
    pub tenants: Tenants,
    /// Embeddings at hand.
    pub memo: Memo,
    model_version: Arc<str>,
}

/// What became of a request.
pub struct Verdict {
    /// The request as it was read.
    pub batch: Batch,
    /// What was said of it.
    pub committed: Committed,
    /// The bytes to send on.
    pub annotated: Annotated,
}

impl Agent {
    /// An agent that has seen nothing.
    pub fn new(settings: &Settings) -> Result<Self> {
        let mut tenants = settings.tenants();
        tenants.appoint(Committee::embed(&Words)?);
        Ok(Self {
            front: settings.front(),
            tenants,
            memo: Memo::new(1 << 20),
            model_version: Arc::from(Words.model_version()),
        })
    }

    /// An agent that goes on from what [`Agent::save`] wrote.
    pub fn restore(settings: &Settings, bytes: &[u8]) -> Result<Self> {
        let mut agent = Self::new(settings)?;
        for section in snapshot::decode(bytes, None)?.tenants {
            let (scorer, correlator) = section.states()?;
            agent.tenants.restore(section.tenant(), scorer, correlator)?;
        }
        agent.tenants.appoint(Committee::embed(&Words)?);
        for (key, embedding) in agent.tenants.embeddings() {
            agent.memo.insert(key, embedding.clone());
        }
        Ok(agent)
    }

    /// Everything learned, as bytes.
    pub fn save(&self) -> Vec<u8> {
        let export = self.tenants.export();
        let sections = export
            .iter()
            .map(|(tenant, scorer, correlator)| TenantSection::new(tenant, scorer, correlator));
        snapshot::encode(&Snapshot {
            model_version: self.model_version.to_string(),
            tenants: sections.collect(),
            ..Snapshot::default()
        })
    }

    /// Judges requests to learn from them, and trains as soon as that is due.
    pub fn learn(&mut self, requests: &[Vec<u8>]) -> Result<()> {
        for request in requests {
            self.pass(request)?;
            if let Some((tenant, job)) = self.tenants.take_fit() {
                self.tenants.install(&tenant, job.run());
            }
        }
        ensure!(matches!(self.tenants.phase(), Phase::Ready { .. }), "still learning");
        Ok(())
    }

    /// A request's way.
    #[inline(never)]
    pub fn pass(&mut self, request: &[u8]) -> Result<Verdict> {
        let view = self.view(request)?;
        let batch = self.prepare(&view);
        let embeddings = self.embed(&batch)?;
        let committed = self.commit(&batch, &embeddings);
        let annotated = self.annotate(&view, &batch, &committed)?;
        Ok(Verdict {
            batch,
            committed,
            annotated,
        })
    }

    /// The first step: one walk over the bytes.
    #[inline(never)]
    pub fn view<'r>(&self, request: &'r [u8]) -> Result<View<'r>> {
        Ok(View::parse(request)?)
    }

    /// The second: text, template and key of every record.
    #[inline(never)]
    pub fn prepare(&self, view: &View<'_>) -> Batch {
        // Nothing is in the future of the end of time.
        self.front.prepare(view, u64::MAX)
    }

    /// The third: embeddings of its templates.
    #[inline(never)]
    pub fn embed(&self, batch: &Batch) -> Result<Vec<Option<Embedding>>> {
        let embed = |template: &BatchTemplate| {
            if self.memo.get(template.key).is_none() {
                let embedding = Words.embed(&[&template.text])?.remove(0);
                self.memo.insert(template.key, embedding);
            }
            Ok(self.memo.get(template.key))
        };
        batch.templates.iter().map(embed).collect()
    }

    /// The fourth, which the pipeline does under its lock.
    #[inline(never)]
    pub fn commit(&mut self, batch: &Batch, embeddings: &[Option<Embedding>]) -> Committed {
        self.tenants.tally();
        let committed = self.tenants.commit(batch, embeddings);
        self.tenants.drain_events();
        self.tenants.drain_changes();
        self.tenants.drain_notes();
        self.tenants.tally();
        committed
    }

    /// The fifth: verdicts into the bytes.
    #[inline(never)]
    pub fn annotate(&self, view: &View<'_>, batch: &Batch, committed: &Committed) -> Result<Annotated> {
        Ok(self
            .front
            .annotate(view, batch, &committed.verdicts, &self.model_version)?)
    }
}
