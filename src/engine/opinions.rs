//! What people think of templates, as the scorer asks for it: record by record, without knowing who said it, or when.
//!
//! What enters: opinions of a template in one service, or in all. What leaves: the one that counts for a record.
//! Promises: a service's own opinion beats the one for all; a mute that is over counts as none, and lets the one for all
//! count again; nothing is decided by a clock. Absent on purpose: authors, comments and texts (`feedback`), and what
//! follows from an opinion (`score`).

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::text::TemplateKey;

/// What somebody thinks of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Opinion {
    /// It is usual: not anomalous, and learned from.
    Normal,
    /// It is known and does not matter for now: not anomalous, and not learned from.
    MuteUntil {
        /// The first event time at which this counts no more, Unix nanoseconds.
        time_unix_nano: u64,
    },
    /// It matters whenever it is said: always anomalous, and never learned from.
    Real,
}

impl Opinion {
    /// Whether it counts for a record of this time.
    pub fn holds_at(self, time_unix_nano: u64) -> bool {
        !matches!(self, Self::MuteUntil { time_unix_nano: until } if until <= time_unix_nano)
    }
}

/// The opinions of one tenant's templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opinions {
    by_template: BTreeMap<TemplateKey, Said>,
}

/// What was said of a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    /// For all services that have no opinion of their own.
    everywhere: Option<Opinion>,
    services: BTreeMap<Arc<str>, Opinion>,
}

impl Opinions {
    /// Takes an opinion; a later one of the same template and service replaces it.
    pub fn take(&mut self, template: TemplateKey, service: Option<&Arc<str>>, opinion: Opinion) {
        let said = self.by_template.entry(template).or_default();
        match service {
            None => said.everywhere = Some(opinion),
            Some(service) => {
                said.services.insert(Arc::clone(service), opinion);
            }
        }
    }

    /// Takes an opinion back.
    pub fn drop(&mut self, template: TemplateKey, service: Option<&Arc<str>>) {
        let Some(said) = self.by_template.get_mut(&template) else {
            return;
        };
        match service {
            None => said.everywhere = None,
            Some(service) => {
                said.services.remove(service);
            }
        }
        if *said == Said::default() {
            self.by_template.remove(&template);
        }
    }

    /// The opinion that counts for a record of a service at a time.
    pub fn of(&self, template: TemplateKey, service: &str, time_unix_nano: u64) -> Option<Opinion> {
        let said = self.by_template.get(&template)?;
        let holds = |opinion: &Opinion| opinion.holds_at(time_unix_nano);
        let own = said.services.get(service).copied().filter(holds);
        own.or_else(|| said.everywhere.filter(holds))
    }

    /// Whether anything was said of a template at all.
    pub fn knows(&self, template: TemplateKey) -> bool {
        self.by_template.contains_key(&template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_own_opinion_beats_the_one_for_all_while_it_lasts() {
        let (key, checkout) = (TemplateKey(1), Arc::from("checkout"));
        let mut opinions = Opinions::default();
        assert_eq!(opinions.of(key, "checkout", 0), None);
        opinions.take(key, None, Opinion::Real);
        opinions.take(key, Some(&checkout), Opinion::MuteUntil { time_unix_nano: 10 });
        assert_eq!(opinions.of(key, "basket", 0), Some(Opinion::Real));
        assert!(matches!(
            opinions.of(key, "checkout", 9),
            Some(Opinion::MuteUntil { .. })
        ));
        assert_eq!(opinions.of(key, "checkout", 10), Some(Opinion::Real));
        opinions.take(key, Some(&checkout), Opinion::Normal);
        assert_eq!(opinions.of(key, "checkout", 10), Some(Opinion::Normal));
        assert!(opinions.knows(key) && !opinions.knows(TemplateKey(2)));
    }
}
