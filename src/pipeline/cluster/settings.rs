//! How agents share incidents: the keys of the section `cluster` that do not say where.
//!
//! What enters: what users write. What leaves: settings, and the name that this agent has among the others. Promise: a name that others
//! could not tell apart or spell is refused. Absent on purpose: where the log and the memory are, which the edge's settings say.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest name.
const MAX_ID_BYTES: usize = 64;
/// The shortest wait that a broker nearby can keep, and the longest that a sender should have to.
const DEADLINES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(5)];

/// `cluster`: how agents share incidents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether they do.
    pub enabled: bool,
    /// The name of this agent among them; left out, the host's. No two agents have one.
    pub agent_id: Option<String>,
    /// How long a request with anomalous records waits for the cluster's answer before it goes on with an incident of its own.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            agent_id: None,
            deadline: Duration::from_millis(250),
        }
    }
}

impl Settings {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(id) = self.agent_id.as_deref().filter(|id| !is_id(id)) {
            return Err(format!(
                "agent_id: `{id}` is none: write letters, digits, `.`, `_` and `-`, at most {MAX_ID_BYTES}, as agent-1"
            ));
        }
        let [least, most] = DEADLINES;
        if !(least..=most).contains(&self.deadline) {
            return Err("deadline: must lie between 10ms and 5s; write 250ms".to_owned());
        }
        Ok(())
    }

    /// The name of this agent, on the host of that name.
    ///
    /// # Errors
    /// There is none that can be used; and what to write.
    pub fn agent_id(&self, host_name: Option<&str>) -> Result<String, String> {
        match (&self.agent_id, host_name) {
            (Some(id), _) => Ok(id.clone()),
            (None, Some(name)) if is_id(name) => Ok(name.to_owned()),
            (None, _) => Err(format!(
                "`agent_id` is left out, and the host's name ({}) cannot stand for it; write one, as agent-1",
                host_name.unwrap_or("unknown")
            )),
        }
    }
}

fn is_id(text: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_called_as_it_is_written_or_as_its_host() {
        let named = |id: &str| Settings {
            agent_id: Some(id.to_owned()),
            ..Settings::default()
        };
        assert_eq!(named("a-1").agent_id(Some("host")), Ok("a-1".to_owned()));
        assert_eq!(
            Settings::default().agent_id(Some("host.local")),
            Ok("host.local".to_owned())
        );
        assert!(Settings::default().agent_id(Some("no host")).is_err());
        assert!(Settings::default().agent_id(None).is_err());
        assert!(named("a-1").validate().is_ok());
        for id in ["", "a b", "ä", &"a".repeat(65)] {
            assert!(named(id).validate().is_err(), "{id}");
        }
    }

    #[test]
    fn a_deadline_can_be_kept_and_waited_for() {
        for (millis, is_one) in [(9, false), (10, true), (5_000, true), (5_001, false)] {
            let settings = Settings {
                deadline: Duration::from_millis(millis),
                ..Settings::default()
            };
            assert_eq!(settings.validate().is_ok(), is_one, "{millis}");
        }
    }
}
