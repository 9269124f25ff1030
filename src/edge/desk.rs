//! The contract between the API and the pipeline behind it: what can be asked of incidents, templates and the agent.
//!
//! What enters: questions ([`WhichIncidents`], [`WhichTemplates`], an id, a sequence number). What leaves: answers as of
//! that moment, and what happens from then on ([`Watch`]). Promises: an answer is bounded by the question; whoever listens
//! too slowly is told that something is missing. Absent on purpose: how a question comes in, and how it is answered.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::broadcast::{self, error::RecvError};

use crate::engine::{
    correlate::{Change, Incident, IncidentId, Status},
    feedback::{Book, Entry, Feedback, Given, Refused, Unreadable},
    score::{KnownTemplate, Phase},
    tenant::Tenant,
    text::TemplateKey,
};

/// Answers questions about incidents, templates and the agent, and takes feedback. Calls return at once, but for those that
/// say that they block on the disk; none waits for the model.
pub trait Desk: Send + Sync + 'static {
    /// Incidents that match, newest first, at most `limit`; with `before`, those older than that id only.
    fn incidents(&self, which: &WhichIncidents, before: Option<IncidentId>, limit: usize) -> Vec<Told>;

    /// The incident of this id, or the one that it became part of.
    fn incident(&self, id: IncidentId) -> Option<Found>;

    /// What happens to incidents from now on; with `after`, preceded by what happened since that sequence number and is
    /// still kept.
    fn watch(&self, after: Option<u64>) -> Watch;

    /// Templates that match, those first seen most lately first, at most `limit`; with `before`, those behind that place.
    fn templates(
        &self,
        which: &WhichTemplates,
        before: Option<&TemplatePlace>,
        limit: usize,
    ) -> Vec<(Tenant, KnownTemplate)>;

    /// What the agent is and how far it has come.
    fn status(&self) -> AgentStatus;

    /// Takes what somebody says: the next record is judged by it. Blocks on the disk.
    ///
    /// # Errors
    /// See [`FeedbackError`]; then nothing has changed.
    fn give_feedback(&self, tenant: &Tenant, feedback: Feedback) -> Result<Given, FeedbackError>;

    /// Takes back what was said of a template: in one service, or for all that have no opinion of their own. Detectors
    /// decide again. Blocks on the disk.
    ///
    /// # Errors
    /// See [`FeedbackError`]; then nothing has changed.
    fn withdraw_feedback(
        &self,
        tenant: &Tenant,
        template: TemplateKey,
        service: Option<&str>,
    ) -> Result<Entry, FeedbackError>;

    /// What people said, as it is judged by.
    fn feedback(&self) -> Book;
}

/// Why feedback came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// It cannot be meant, or not any more.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The file that keeps it is not as Harbinger writes it. It stays as it is until somebody has mended it.
    #[error("feedback.yaml in the state directory, {0}: mend or remove it first; the file was not touched")]
    Unreadable(#[from] Unreadable),
    /// The file cannot be read or written.
    #[error("cannot keep feedback: {0}")]
    NotKept(#[from] std::io::Error),
}

/// Where a template stands in the list of all: when it was first seen, its key, whose it is. The greatest comes first.
pub type TemplatePlace = (u64, TemplateKey, Tenant);

/// An incident, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Whose.
    pub tenant: Tenant,
    /// The incident as it stands.
    pub incident: Arc<Incident>,
}

/// The answer to an id.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The incident that goes by the id now.
    pub told: Told,
    /// The one that was asked for, as it was, where it became part of the other and is still known itself.
    pub merged: Option<Arc<Incident>>,
}

/// A change of an incident, numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// One more than the notice before; never less, not even after a restart.
    pub sequence: u64,
    /// Whose incident it is.
    pub tenant: Tenant,
    /// What happened.
    pub change: Change,
}

/// Which incidents are meant: all that every field agrees to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhichIncidents {
    /// Open ones.
    pub open: bool,
    /// Closed ones.
    pub closed: bool,
    /// Ones that became part of another.
    pub merged: bool,
    /// Of this service.
    pub service: Option<String>,
    /// With a record of this time or later, Unix nanoseconds.
    pub since_unix_nano: Option<u64>,
    /// With a record earlier than this, Unix nanoseconds.
    pub until_unix_nano: Option<u64>,
    /// With a record of this severity number or a higher one.
    pub min_severity_number: i32,
    /// Also those that are not large enough to be told.
    pub unannounced: bool,
    /// With a text in which this stands, in any case.
    pub text_contains: Option<String>,
    /// Of the tenant of this name; the empty name is the tenant of records that name none.
    pub tenant: Option<String>,
}

impl WhichIncidents {
    /// Whether a tenant's incidents are meant at all.
    pub fn is_of(&self, tenant: &Tenant) -> bool {
        is_named(tenant, self.tenant.as_deref())
    }

    /// Whether this incident is meant.
    pub fn holds(&self, incident: &Incident) -> bool {
        let by_status = match incident.status {
            Status::Open => self.open,
            Status::Closed { .. } => self.closed,
            Status::Merged { .. } => self.merged,
        };
        let texts = || {
            let named = [&incident.leading_edge.text, &incident.worst.text];
            named
                .into_iter()
                .chain(incident.templates.iter().map(|template| &template.text))
        };
        by_status
            && (incident.announced || self.unannounced)
            && incident.worst.severity_number >= self.min_severity_number
            && self
                .since_unix_nano
                .is_none_or(|since| incident.last_time_unix_nano >= since)
            && self
                .until_unix_nano
                .is_none_or(|until| incident.first_time_unix_nano < until)
            && is_among(&incident.services, self.service.as_deref())
            && self
                .text_contains
                .as_deref()
                .is_none_or(|part| texts().any(|text| contains(text, part)))
    }
}

/// Which templates are meant: all that every field agrees to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhichTemplates {
    /// That this service has said.
    pub service: Option<String>,
    /// In whose text this stands, in any case.
    pub text_contains: Option<String>,
    /// Only those that count as anomalous.
    pub flagged_only: bool,
    /// Of the tenant of this name; the empty name is the tenant of records that name none.
    pub tenant: Option<String>,
}

impl WhichTemplates {
    /// Whether a tenant's templates are meant at all.
    pub fn is_of(&self, tenant: &Tenant) -> bool {
        is_named(tenant, self.tenant.as_deref())
    }

    /// Whether this template is meant.
    pub fn holds(&self, template: &KnownTemplate) -> bool {
        (template.flagged_unix_nano.is_some() || !self.flagged_only)
            && is_among(&template.services, self.service.as_deref())
            && self
                .text_contains
                .as_deref()
                .is_none_or(|part| contains(&template.text, part))
    }
}

fn is_named(tenant: &Tenant, name: Option<&str>) -> bool {
    name.is_none_or(|name| tenant.name().unwrap_or_default() == name)
}

fn is_among(services: &[Arc<str>], service: Option<&str>) -> bool {
    service.is_none_or(|service| services.iter().any(|known| **known == *service))
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

/// What is done with verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentMode {
    /// They are written on records.
    Mark,
    /// They are made and counted.
    Shadow,
    /// None are made.
    Off,
}

/// What the agent is and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStatus {
    /// When it started, Unix nanoseconds.
    pub started_unix_nano: u64,
    /// What is done with verdicts.
    pub mode: AgentMode,
    /// How far learning has come.
    pub phase: Phase,
    /// The same in words.
    pub detail: String,
    /// Whether there is a model and it works.
    pub model_healthy: bool,
    /// The model; empty when there is none.
    pub model_version: Arc<str>,
    /// Tenants that are told apart, and those of them that are judged.
    pub tenants: (usize, usize),
    /// Incidents that are open, those not announced included.
    pub open_incidents: usize,
    /// Incidents that are over and still known.
    pub past_incidents: usize,
    /// Of the last notice; 0 before the first.
    pub last_sequence: u64,
}

/// What a watcher hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Everything after this sequence number comes, in order.
    From {
        /// The number.
        sequence: u64,
        /// Something before it that should have come does not.
        missed: bool,
    },
    /// Something happened.
    Happened(Arc<Notice>),
}

/// What happens to incidents, for one who listens.
#[derive(Debug)]
pub struct Watch {
    kept: VecDeque<Heard>,
    live: broadcast::Receiver<Arc<Notice>>,
    sequence: u64,
}

impl Watch {
    /// Begins behind `sequence` with what is `kept`, then goes on `live`. `missed` says that something before is not kept.
    pub fn new(
        sequence: u64,
        missed: bool,
        kept: impl Iterator<Item = Arc<Notice>>,
        live: broadcast::Receiver<Arc<Notice>>,
    ) -> Self {
        let beginning = Heard::From { sequence, missed };
        Self {
            kept: [beginning].into_iter().chain(kept.map(Heard::Happened)).collect(),
            live,
            sequence,
        }
    }

    /// Waits for what comes next; first of all [`Heard::From`], and again whenever something was missed. `None` when
    /// nothing will happen any more.
    pub async fn next(&mut self) -> Option<Heard> {
        let heard = match self.kept.pop_front() {
            Some(heard) => heard,
            None => match self.live.recv().await {
                Ok(notice) => Heard::Happened(notice),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(missed)) => Heard::From {
                    sequence: self.sequence + missed,
                    missed: true,
                },
            },
        };
        self.sequence = match &heard {
            Heard::From { sequence, .. } => *sequence,
            Heard::Happened(notice) => notice.sequence,
        };
        Some(heard)
    }
}
