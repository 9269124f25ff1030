//! What the pipeline answers when it is asked about incidents, templates and itself.
//!
//! What enters: questions, by [`Desk`]. What leaves: answers as of that moment. Promises: what is said of an incident is
//! what the engine thinks of it now, or what it was when it ended; the state is locked for one tenant's answer at a time.
//! Absent on purpose: the protocol that questions come by.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{Mode, Pipeline, lock};
use crate::{
    edge::{
        AgentMode, AgentStatus, Desk, FeedbackError, Found, TemplatePlace, Told, Watch, WhichIncidents, WhichTemplates,
    },
    engine::{
        correlate::{IncidentId, Status},
        feedback::{Book, Entry, Feedback, Given},
        score::{KnownTemplate, Phase},
        tenant::Tenant,
        text::TemplateKey,
    },
};

/// Merges that are followed from an id; each leads to an older incident.
const MAX_MERGES: usize = 64;
/// How long health says that the clock went back.
const CLOCK_JUMP_IS_NEWS: Duration = Duration::from_secs(15 * 60);

impl Pipeline {
    fn tenant_names(&self) -> Vec<Tenant> {
        lock(&self.state).names().cloned().collect()
    }

    /// The open incident of this id, or that this is an alias of.
    fn open_incident(&self, id: IncidentId) -> Option<Told> {
        self.tenant_names().into_iter().find_map(|tenant| {
            let incident = lock(&self.state).of(&tenant)?.incident(id)?;
            Some(Told {
                tenant,
                incident: Arc::new(incident),
            })
        })
    }

    /// The incident that is over and has this id, or that this is an alias of; the one that has it itself where there is one.
    fn past_incident(&self, id: IncidentId) -> Option<Told> {
        let past = self.incidents.past();
        let own = past.iter().find(|told| told.incident.id == id);
        own.or_else(|| past.iter().find(|told| told.incident.aliases.contains(&id)))
            .cloned()
    }

    /// How far detection has come, in words.
    pub fn describe(&self) -> String {
        let mut detection = self.describe_detection();
        let jump = *self.clock_jump.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, by_s)) = jump.filter(|(at, _)| at.elapsed() < CLOCK_JUMP_IS_NEWS) {
            detection = format!(
                "{detection}; this machine's clock went back by {by_s} s {} s ago, so open incidents were closed",
                at.elapsed().as_secs()
            );
        }
        match self.tenants() {
            (0 | 1, _) => detection,
            (tenants, ready) => {
                format!("{detection}; {ready} of {tenants} tenants are judged, the others still learned from")
            }
        }
    }

    fn describe_detection(&self) -> String {
        if self.mode() == Mode::Off {
            return "off (detection.mode); records pass untouched".to_owned();
        }
        if !self.model_healthy() {
            return "no working model; records pass with harbinger.verdict=degraded; see the log".to_owned();
        }
        match self.phase() {
            Phase::WarmingUp {
                records_seen,
                records_needed,
                templates_seen,
                templates_needed,
            } => {
                let estimate = self.warm_up_estimate().map_or_else(String::new, |estimate| {
                    format!("; enough in about {} s at this rate", estimate.as_secs().max(1))
                });
                format!(
                    "learning what is normal: {records_seen} of {records_needed} records, \
                     {templates_seen} of {templates_needed} templates{estimate}"
                )
            }
            Phase::Fitting => "learning what is normal: training the autoencoder".to_owned(),
            Phase::Ready { generation } => format!("judging by model generation {generation}"),
        }
    }
}

impl Desk for Pipeline {
    fn incidents(&self, which: &WhichIncidents, before: Option<IncidentId>, limit: usize) -> Vec<Told> {
        let mut found: BTreeMap<(Reverse<IncidentId>, Tenant), Told> = BTreeMap::new();
        let is_before = |id: IncidentId| before.is_none_or(|before| id < before);
        let mut put = |told: Told| {
            found.insert((Reverse(told.incident.id), told.tenant.clone()), told);
            if found.len() > limit {
                found.pop_last();
            }
        };
        // Open ones first: one that ends meanwhile is found among the past then, and that is what is true.
        let tenants = if which.open { self.tenant_names() } else { Vec::new() };
        for tenant in tenants.into_iter().filter(|tenant| which.is_of(tenant)) {
            let open = lock(&self.state).of(&tenant).map(|state| state.incidents());
            for incident in open.unwrap_or_default() {
                if is_before(incident.id) && which.holds(&incident) {
                    put(Told {
                        tenant: tenant.clone(),
                        incident: Arc::new(incident),
                    });
                }
            }
        }
        for told in self.incidents.past() {
            if is_before(told.incident.id) && which.is_of(&told.tenant) && which.holds(&told.incident) {
                put(told);
            }
        }
        found.into_values().collect()
    }

    fn incident(&self, id: IncidentId) -> Option<Found> {
        let past = self.incidents.past();
        let (mut goes_by, mut merged) = (id, None);
        for _ in 0..MAX_MERGES {
            let Some(told) = past.iter().find(|told| told.incident.id == goes_by) else {
                break;
            };
            let Status::Merged { into } = told.incident.status else {
                break;
            };
            merged.get_or_insert(told);
            goes_by = into;
        }
        let found = self.open_incident(goes_by).or_else(|| self.past_incident(goes_by));
        match (found, merged) {
            (Some(told), merged) => Some(Found {
                told,
                merged: merged.map(|told| Arc::clone(&told.incident)),
            }),
            // Whatever it became part of is forgotten.
            (None, Some(merged)) => Some(Found {
                told: merged.clone(),
                merged: None,
            }),
            (None, None) => None,
        }
    }

    fn watch(&self, after: Option<u64>) -> Watch {
        self.incidents.watch(after)
    }

    fn templates(
        &self,
        which: &WhichTemplates,
        before: Option<&TemplatePlace>,
        limit: usize,
    ) -> Vec<(Tenant, KnownTemplate)> {
        let mut found: BTreeMap<Reverse<TemplatePlace>, KnownTemplate> = BTreeMap::new();
        for tenant in self.tenant_names().into_iter().filter(|tenant| which.is_of(tenant)) {
            let state = lock(&self.state);
            for template in state.of(&tenant).into_iter().flat_map(|state| state.templates()) {
                let place = (template.first_seen_unix_nano, template.key, tenant.clone());
                if before.is_none_or(|before| place < *before) && which.holds(&template) {
                    found.insert(Reverse(place), template);
                    if found.len() > limit {
                        found.pop_last();
                    }
                }
            }
        }
        let named = found
            .into_iter()
            .map(|(Reverse((.., tenant)), template)| (tenant, template));
        named.collect()
    }

    fn status(&self) -> AgentStatus {
        let (_, open_incidents) = lock(&self.state).tally();
        let (past_incidents, last_sequence) = self.incidents.counts();
        AgentStatus {
            started_unix_nano: self.started_unix_nano,
            mode: match self.mode() {
                Mode::Mark => AgentMode::Mark,
                Mode::Shadow => AgentMode::Shadow,
                Mode::Off => AgentMode::Off,
            },
            phase: self.phase(),
            detail: self.describe(),
            model_healthy: self.model_healthy(),
            model_version: Arc::clone(&self.model_version),
            tenants: self.tenants(),
            open_incidents,
            past_incidents,
            last_sequence,
        }
    }

    fn give_feedback(&self, tenant: &Tenant, feedback: Feedback) -> Result<Given, FeedbackError> {
        self.give_feedback(tenant, feedback)
    }

    fn withdraw_feedback(
        &self,
        tenant: &Tenant,
        template: TemplateKey,
        service: Option<&str>,
    ) -> Result<Entry, FeedbackError> {
        self.withdraw_feedback(tenant, template, service)
    }

    fn feedback(&self) -> Book {
        self.feedback()
    }
}
