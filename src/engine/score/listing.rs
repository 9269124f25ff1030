//! What is known of templates, for people to look at.
//!
//! What enters: a scorer. What leaves: a [`KnownTemplate`] for each template it remembers. Promise: looking changes
//! nothing. Absent on purpose: which of them anybody wants to see.

use std::sync::Arc;

use super::{Scorer, ServiceId};
use crate::engine::{opinions::Opinion, text::TemplateKey};

/// Services listed of a template.
const MAX_SERVICES: usize = 16;

/// What is known of a template, over all services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTemplate {
    /// Its key.
    pub key: TemplateKey,
    /// Its text; empty where texts are not kept.
    pub text: Arc<str>,
    /// Records of it so far.
    pub records: u64,
    /// Its first record, Unix nanoseconds.
    pub first_seen_unix_nano: u64,
    /// Its latest, Unix nanoseconds.
    pub last_seen_unix_nano: u64,
    /// Services that said it, sorted, at most 16.
    pub services: Vec<Arc<str>>,
    /// Since when it counts as anomalous and is kept apart from what is usual, Unix nanoseconds; `None` when it does not.
    pub flagged_unix_nano: Option<u64>,
    /// In one service at least its last episode is anomalous, or somebody said that it always is.
    pub anomalous: bool,
    /// In one service at least its last episode would be anomalous, but for the budget or because it is a release.
    pub suppressed: bool,
}

impl Scorer {
    /// The templates that are remembered, in order of their keys.
    pub fn known_templates(&self) -> impl Iterator<Item = KnownTemplate> {
        self.templates.by_key.iter().map(|(key, template)| {
            let all = (*key, ServiceId(0))..=(*key, ServiceId(u32::MAX));
            let (mut services, mut anomalous, mut suppressed) = (Vec::new(), false, false);
            for ((_, service), series) in self.series.range(all) {
                let service = self.services.all.get(service.0 as usize);
                let said = service.and_then(|service| self.opinion(*key, &service.name));
                anomalous |= match said {
                    Some(said) => said == Opinion::Real,
                    None => series.episode.anomaly.is_some(),
                };
                suppressed |= said.is_none() && series.episode.suppressed;
                if services.len() < MAX_SERVICES {
                    services.extend(service.map(|service| Arc::clone(&service.name)));
                }
            }
            services.sort_unstable();
            KnownTemplate {
                key: *key,
                text: Arc::clone(&template.text),
                records: template.lines,
                first_seen_unix_nano: template.first_seen_unix_nano,
                last_seen_unix_nano: template.last_seen_unix_nano,
                services,
                flagged_unix_nano: template.flagged_unix_nano,
                anomalous,
                suppressed,
            }
        })
    }
}
