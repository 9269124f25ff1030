//! What of a record is its text, as users write it.
//!
//! Enters: the YAML section `text`. Leaves: checked settings, for all services or for one. Absent on purpose: the work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rules::{MaskingRule, Matcher};

/// Most rules of one list: each is tried on every record.
const MAX_RULES: usize = 64;
/// Most services with settings of their own.
const MAX_SERVICES: usize = 1024;

/// What of a record is its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Replace what varies (numbers, ids, addresses, times) and what is nobody's business (e-mail addresses, passwords,
    /// tokens) by placeholders. Off: the template is the text as it stands, secrets included.
    pub masking: bool,
    /// Patterns and what is written in their place, before and beside the built-in masking.
    pub masking_rules: Vec<MaskingRule>,
    /// Fields of a map body, or of a string body that is a JSON object or logfmt, that hold the message: the first one
    /// that is there and not empty. Case is ignored; `a.b` is also `b` within `a`. Without any of them the text is the
    /// whole body as JSON with sorted keys.
    pub body_fields: Vec<String>,
    /// Longest text in bytes; what is longer is cut at a character.
    pub max_text_bytes: usize,
    /// Whether log text (templates, and words quoted from them) may be written to attributes and disk. Off: the front
    /// writes no `template` attribute; whoever keeps or quotes templates (reasons, snapshot, journal) must leave the text
    /// out, too, and keep their keys and embeddings only. In memory a template's text lives until it is embedded.
    pub store_text: bool,
    /// Records that are marked normal, and neither learned from nor judged.
    pub ignore: Vec<Matcher>,
    /// Records that leave byte for byte as they came, unmarked: audit logs, for example. Asked before `ignore`.
    pub exclude: Vec<Matcher>,
    /// What is different for a service, by its `service.name`.
    pub services: BTreeMap<String, ServiceSettings>,
}

/// What of [`Settings`] a service has its own of; what it leaves out is as for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSettings {
    /// Instead of [`Settings::masking`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masking: Option<bool>,
    /// Instead of [`Settings::masking_rules`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masking_rules: Option<Vec<MaskingRule>>,
    /// Instead of [`Settings::body_fields`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_fields: Option<Vec<String>>,
}

impl Default for Settings {
    fn default() -> Self {
        let fields = [
            "message",
            "msg",
            "short_message",
            "@mt",
            "@m",
            "body",
            "log",
            "textPayload",
            "jsonPayload",
            "event",
        ];
        Settings {
            masking: true,
            masking_rules: Vec::new(),
            body_fields: fields.map(String::from).to_vec(),
            max_text_bytes: 2048,
            store_text: true,
            ignore: Vec::new(),
            exclude: Vec::new(),
            services: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// The keys that [`Settings::adjust`] takes over: they choose records, and change no template.
    pub const ADJUSTABLE: [&'static str; 2] = ["ignore", "exclude"];

    /// From now on as these say, as far as that can change in a running engine. Whether anything did.
    pub(in crate::engine) fn adjust(&mut self, to: &Self) -> bool {
        let changes = self.ignore != to.ignore || self.exclude != to.exclude;
        self.ignore.clone_from(&to.ignore);
        self.exclude.clone_from(&to.exclude);
        changes
    }

    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// A sentence that names the key, what is wrong, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if !(64..=65_536).contains(&self.max_text_bytes) {
            let given = self.max_text_bytes;
            return Err(format!(
                "max_text_bytes is {given}; write a number of bytes from 64 to 65536 (2048 is usual)"
            ));
        }
        let services = self.services.values();
        let mut body_fields = services.clone().filter_map(|service| service.body_fields.as_ref());
        if body_fields.any(|fields| has_empty(fields)) {
            return Err("services: body_fields holds an empty name; remove it".to_owned());
        }
        if has_empty(&self.body_fields) {
            return Err("body_fields holds an empty name; remove it".to_owned());
        }
        if self.services.len() > MAX_SERVICES {
            return Err(format!(
                "services: more than {MAX_SERVICES}; set for all what most of them share"
            ));
        }
        let own_rules = services
            .filter_map(|service| service.masking_rules.as_ref())
            .map(Vec::len);
        let lists = [
            ("masking_rules", self.masking_rules.len()),
            ("ignore", self.ignore.len()),
            ("exclude", self.exclude.len()),
            ("services", own_rules.max().unwrap_or_default()),
        ];
        match lists.into_iter().find(|(_, rules)| *rules > MAX_RULES) {
            Some((key, rules)) => Err(format!(
                "{key}: {rules} rules in one list; join patterns by `|` until there are at most {MAX_RULES}"
            )),
            None => Ok(()),
        }
    }

    /// What a record of this service is read by, if that is anything of its own.
    pub fn of_service(&self, name: &str) -> Option<Settings> {
        let own = self.services.get(name)?;
        let mut settings = self.clone();
        settings.services.clear();
        settings.masking = own.masking.unwrap_or(self.masking);
        if let Some(rules) = &own.masking_rules {
            settings.masking_rules.clone_from(rules);
        }
        if let Some(fields) = &own.body_fields {
            settings.body_fields.clone_from(fields);
        }
        Some(settings)
    }
}

fn has_empty(fields: &[String]) -> bool {
    fields.iter().any(String::is_empty)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn senseless_settings_are_refused() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().unwrap_err()
        };
        let rule = || serde_yaml::from_str::<MaskingRule>("{pattern: x, replacement: <x>}").unwrap();
        assert!(refused(|s| s.max_text_bytes = 3).starts_with("max_text_bytes"));
        assert!(refused(|s| s.body_fields = vec![String::new()]).starts_with("body_fields"));
        let mut settings = Settings {
            masking_rules: vec![rule(); 65],
            ..Settings::default()
        };
        assert!(settings.validate().unwrap_err().starts_with("masking_rules: 65 rules"));
        settings.masking_rules.clear();
        let own = ServiceSettings {
            body_fields: Some(vec![String::new()]),
            ..ServiceSettings::default()
        };
        settings.services.insert("cart".to_owned(), own);
        assert!(settings.validate().unwrap_err().starts_with("services: body_fields"));
    }

    /// A service's settings lie over the general ones, key by key.
    #[test]
    fn services_differ_in_what_they_say() {
        let yaml =
            "{max_text_bytes: 100, body_fields: [a], services: {cart: {masking: false}, shop: {body_fields: [b]}}}";
        let settings: Settings = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(settings.of_service("other"), None);
        let (cart, shop) = (
            settings.of_service("cart").unwrap(),
            settings.of_service("shop").unwrap(),
        );
        assert_eq!(
            (cart.masking, cart.max_text_bytes, &*cart.body_fields),
            (false, 100, &["a".to_owned()][..])
        );
        assert_eq!((shop.masking, &*shop.body_fields), (true, &["b".to_owned()][..]));
    }
}
