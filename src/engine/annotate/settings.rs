//! What our attributes are called, and who wins when a record already has one of that name.
//!
//! Enters: the YAML section `attributes`. Leaves: checked names. Deliberately absent: which attributes a record gets,
//! that is the engine's decision.

use serde::{Deserialize, Serialize};

use super::{COUNT, ORIGINAL};

/// The YAML section `attributes`: names of the attributes that are written, in the order they are written in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Boolean: the record is anomalous.
    pub is_anomaly: String,
    /// String: the incident that the record belongs to.
    pub incident_id: String,
    /// String: why there is no full verdict, `warming_up` or `degraded`.
    pub verdict: String,
    /// Double, 0 to 1: how unusual the record is.
    pub score: String,
    /// Double, 0 to 1: share of the stream's records that begin a usual episode as unusual.
    pub p_value: String,
    /// String: what made an anomalous record stand out.
    pub reason: String,
    /// String: the record's template.
    pub template: String,
    /// String: the model that judged.
    pub model_version: String,
    /// What happens to an attribute that comes in under one of these names.
    pub on_conflict: OnConflict,
}

/// What happens to an attribute that comes in under one of our names. Each is counted.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// It is removed, so that the name always means what Harbinger says.
    #[default]
    Replace,
    /// It stays, and ours of that name is not written.
    Keep,
    /// It is renamed to `<name>.original`; if the record has that already, it is removed.
    Rename,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            is_anomaly: "is_anomaly".into(),
            incident_id: "incident_id".into(),
            verdict: "harbinger.verdict".into(),
            score: "harbinger.anomaly.score".into(),
            p_value: "harbinger.anomaly.p_value".into(),
            reason: "harbinger.anomaly.reason".into(),
            template: "harbinger.template".into(),
            model_version: "harbinger.model.version".into(),
            on_conflict: OnConflict::Replace,
        }
    }
}

/// Longest name allowed, bytes.
const MAX_NAME_BYTES: usize = 256;

impl Settings {
    /// Checks that every name is there, is told apart from the others, and is of a sane length.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        let keys = [
            "is_anomaly",
            "incident_id",
            "verdict",
            "score",
            "p_value",
            "reason",
            "template",
            "model_version",
        ];
        let names = self.names();
        for (index, (key, name)) in keys.iter().zip(names).enumerate() {
            if name.trim().is_empty() {
                return Err(format!(
                    "{key}: the name is empty; leave the key out for the default name"
                ));
            }
            if name.len() > MAX_NAME_BYTES {
                return Err(format!(
                    "{key}: the name has {} bytes; use at most {MAX_NAME_BYTES}",
                    name.len()
                ));
            }
            for (other_key, other) in keys.iter().zip(names).take(index) {
                if name == other {
                    return Err(format!(
                        "{key}: {name:?} is the name of {other_key} already; use another one"
                    ));
                }
            }
            let taken = names.iter().find(|other| other.strip_suffix(ORIGINAL) == Some(name));
            if let (OnConflict::Rename, Some(taken)) = (self.on_conflict, taken) {
                return Err(format!(
                    "{key}: on_conflict: rename would rename an inbound {name:?} to {taken:?}, which is a name of ours"
                ));
            }
        }
        Ok(())
    }

    /// The names in the order of `Annotation::values`.
    pub(super) fn names(&self) -> [&str; COUNT] {
        [
            &self.is_anomaly,
            &self.incident_id,
            &self.verdict,
            &self.score,
            &self.p_value,
            &self.reason,
            &self.template,
            &self.model_version,
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    /// The README's attribute reference holds.
    #[test]
    fn default_names() {
        let expected = [
            "is_anomaly",
            "incident_id",
            "harbinger.verdict",
            "harbinger.anomaly.score",
            "harbinger.anomaly.p_value",
            "harbinger.anomaly.reason",
            "harbinger.template",
            "harbinger.model.version",
        ];
        assert_eq!(Settings::default().names(), expected);
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    /// A section may name what differs only, and nothing unknown.
    #[test]
    fn reads_yaml() {
        let settings: Settings = serde_yaml::from_str("incident_id: case\non_conflict: rename").unwrap();
        assert_eq!(settings.incident_id, "case");
        assert_eq!(settings.on_conflict, OnConflict::Rename);
        assert_eq!(settings.is_anomaly, "is_anomaly");
        assert!(serde_yaml::from_str::<Settings>("incident: case").is_err());
    }

    /// Each senseless choice is told with its key and a way out.
    #[test]
    fn refuses_senseless_names() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().unwrap_err()
        };
        assert!(refused(|s| s.score = String::new()).starts_with("score: the name is empty"));
        assert!(refused(|s| s.reason = " ".into()).starts_with("reason: the name is empty"));
        assert!(refused(|s| s.template = "x".repeat(257)).contains("at most 256"));
        assert!(refused(|s| s.verdict = "incident_id".into()).contains("is the name of incident_id already"));
        let clash = |s: &mut Settings| {
            s.template = "is_anomaly.original".into();
            s.on_conflict = OnConflict::Rename;
        };
        assert!(refused(clash).contains("which is a name of ours"));
    }
}
