//! What people say of verdicts: the words in which they say it, and the book in which it is kept.
//!
//! What enters: [`Feedback`] on a template or an incident. What leaves: [`Given`], what it came to, and the [`Opinions`]
//! that the scorer asks. Promises: the latest on the same template and service wins; bounded, in number and in bytes;
//! what cannot be taken is refused with what to do. Absent on purpose: the model. Keys are hashes of texts, so that the
//! book outlives whatever was learned, and says the same to every model.

mod written;

use std::{collections::BTreeMap, sync::Arc};

pub use super::opinions::Opinion;
use super::{
    correlate::{Incident, IncidentId},
    opinions::Opinions,
    tenant::Tenant,
    text::TemplateKey,
};
pub use written::Unreadable;

/// Entries kept of a tenant.
pub const MAX_ENTRIES: usize = 10_000;
/// Bytes of a comment.
pub const MAX_COMMENT_BYTES: usize = 1024;
/// Bytes of an author's or a service's name.
pub const MAX_NAME_BYTES: usize = 256;

/// What feedback is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One template.
    Template(TemplateKey),
    /// Every anomalous template of an incident, by its id or an alias. Said to be normal or muted, it is closed.
    Incident(IncidentId),
}

/// What somebody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// What it is about.
    pub subject: Subject,
    /// In which service; `None` is in all that have no opinion of their own.
    pub service: Option<Arc<str>>,
    /// What they think of it.
    pub opinion: Opinion,
    /// Why, for whoever reads it later.
    pub comment: String,
    /// Who.
    pub author: String,
}

/// What feedback came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The templates that it decides from now on.
    pub templates: Vec<TemplateKey>,
    /// The incidents that it closed.
    pub incidents: Vec<IncidentId>,
    /// Whether it is on the disk; `false` where nothing is (`state.enabled: false`), and a restart forgets it.
    pub kept: bool,
}

/// Why feedback cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody has said the template.
    #[error("no template {0} has been said: copy the key of a template from an incident or from the list of templates")]
    UnknownTemplate(TemplateKey),
    /// There is no such incident any more, or there never was.
    #[error(
        "incident {0} is not known: it was never announced, or ended so long ago that it is forgotten; give the opinion by template"
    )]
    UnknownIncident(IncidentId),
    /// The incident has no anomalous template that is listed.
    #[error("incident {0} has no anomalous template: give the opinion by template")]
    NothingAnomalous(IncidentId),
    /// There is nothing to take back.
    #[error("no opinion was given on template {0} there: see `harbinger feedback list`")]
    NothingGiven(TemplateKey),
    /// The book is full.
    #[error("there are {MAX_ENTRIES} opinions already: withdraw some that are not needed any more")]
    TooMany,
    /// A comment or a name is too long.
    #[error("the {what} is longer than {max_bytes} bytes: shorten it")]
    TooLong {
        /// Which.
        what: &'static str,
        /// What fits.
        max_bytes: usize,
    },
}

/// An opinion as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What they think of it.
    pub opinion: Opinion,
    /// The template's text, for people; empty where texts are not kept.
    pub text: String,
    /// Why.
    pub comment: String,
    /// Who.
    pub author: String,
    /// When, Unix nanoseconds.
    pub given_at_unix_nano: u64,
}

/// What was said of a tenant's templates, by template and service.
pub type Entries = BTreeMap<(TemplateKey, Option<Arc<str>>), Entry>;

/// What feedback is about, once looked up in what is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meant {
    /// The templates with their texts; these are empty where texts are not kept.
    pub templates: Vec<(TemplateKey, String)>,
    /// The open incident that is meant as a whole, by the id it goes by now.
    pub incident: Option<IncidentId>,
}

impl Meant {
    /// What is meant by an open incident: its anomalous templates, as many as are listed, and, unless only a part of its
    /// services is meant, the incident.
    ///
    /// # Errors
    /// [`Refused::NothingAnomalous`].
    pub fn of(incident: &Incident, service: Option<&str>) -> Result<Self, Refused> {
        let is_whole = service.is_none_or(|service| incident.services.iter().all(|of| **of == *service));
        Ok(Self {
            incident: is_whole.then_some(incident.id),
            ..Self::of_past(incident)?
        })
    }

    /// What is meant by an incident that is over: its anomalous templates, as many as are listed.
    ///
    /// # Errors
    /// [`Refused::NothingAnomalous`].
    pub fn of_past(incident: &Incident) -> Result<Self, Refused> {
        let anomalous = incident.templates.iter().filter(|count| count.anomalous_records > 0);
        let templates: Vec<_> = anomalous
            .map(|count| (count.template, count.text.to_string()))
            .collect();
        if templates.is_empty() {
            return Err(Refused::NothingAnomalous(incident.id));
        }
        Ok(Self {
            templates,
            incident: None,
        })
    }
}

/// Everything that was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// By tenant; a tenant of whose templates nothing was said is not in it.
    pub tenants: BTreeMap<Tenant, Entries>,
}

impl Book {
    /// What the scorer of a tenant asks.
    pub fn opinions(&self, tenant: &Tenant) -> Opinions {
        let mut opinions = Opinions::default();
        for ((template, service), entry) in self.tenants.get(tenant).into_iter().flatten() {
            opinions.take(*template, service.as_ref(), entry.opinion);
        }
        opinions
    }

    /// Writes down what was said of these templates.
    ///
    /// # Errors
    /// [`Refused::TooLong`], [`Refused::TooMany`]; then nothing was written down.
    pub fn enter(
        &mut self,
        tenant: &Tenant,
        templates: &[(TemplateKey, String)],
        feedback: &Feedback,
        given_at_unix_nano: u64,
    ) -> Result<(), Refused> {
        let service = feedback.service.as_deref().unwrap_or_default();
        for (what, text, max_bytes) in [
            ("comment", feedback.comment.as_str(), MAX_COMMENT_BYTES),
            ("author's name", &feedback.author, MAX_NAME_BYTES),
            ("service's name", service, MAX_NAME_BYTES),
        ] {
            if text.len() > max_bytes {
                return Err(Refused::TooLong { what, max_bytes });
            }
        }
        let known = self.tenants.get(tenant);
        let is_new = |template: &TemplateKey| {
            known.is_none_or(|known| !known.contains_key(&(*template, feedback.service.clone())))
        };
        let more = templates.iter().filter(|(template, _)| is_new(template)).count();
        if known.map_or(0, BTreeMap::len) + more > MAX_ENTRIES {
            return Err(Refused::TooMany);
        }
        let entries = self.tenants.entry(tenant.clone()).or_default();
        for (template, text) in templates {
            let entry = Entry {
                opinion: feedback.opinion,
                text: text.clone(),
                comment: feedback.comment.clone(),
                author: feedback.author.clone(),
                given_at_unix_nano,
            };
            entries.insert((*template, feedback.service.clone()), entry);
        }
        Ok(())
    }

    /// Takes back what was said of a template: in one service, or for all that have no opinion of their own.
    ///
    /// # Errors
    /// [`Refused::NothingGiven`].
    pub fn withdraw(
        &mut self,
        tenant: &Tenant,
        template: TemplateKey,
        service: Option<&Arc<str>>,
    ) -> Result<Entry, Refused> {
        let entries = self.tenants.get_mut(tenant);
        let taken = entries.and_then(|entries| entries.remove(&(template, service.cloned())));
        self.tenants.retain(|_, entries| !entries.is_empty());
        taken.ok_or(Refused::NothingGiven(template))
    }

    /// How many opinions there are.
    pub fn len(&self) -> usize {
        self.tenants.values().map(BTreeMap::len).sum()
    }

    /// Whether nobody said anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps no text of these tenants' logs.
    pub fn drop_texts(&mut self, is_meant: impl Fn(&Tenant) -> bool) {
        let meant = self.tenants.iter_mut().filter(|(tenant, _)| is_meant(tenant));
        for entry in meant.flat_map(|(_, entries)| entries.values_mut()) {
            entry.text.clear();
        }
    }

    /// Empties every text and comment that `matches`: how many. The opinions stay; nothing can be read from a key.
    pub fn forget(&mut self, is_meant: impl Fn(&Tenant) -> bool, matches: impl Fn(&str) -> bool) -> usize {
        let meant = self.tenants.iter_mut().filter(|(tenant, _)| is_meant(tenant));
        let mut forgotten = 0;
        for entry in meant.flat_map(|(_, entries)| entries.values_mut()) {
            for text in [&mut entry.text, &mut entry.comment] {
                if !text.is_empty() && matches(text) {
                    text.clear();
                    forgotten += 1;
                }
            }
        }
        forgotten
    }
}
