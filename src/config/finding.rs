//! What is wrong with a configuration, where, and what to write instead.
//!
//! What enters: places and messages from every step of reading. What leaves: errors and warnings that print as
//! `config.yaml:7:5: processors.harbinger.detecton: unknown key; …`. Promises: a finding names its place as exactly as
//! it is known, and never shows a secret. Absent on purpose: severity, which is told by where a finding is returned.

use std::{fmt, sync::Arc};

/// A place in what the user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named, or `--set key`.
    pub source: Arc<str>,
    /// Line and column, both from 1; `None` where there are none (command line) or the whole source is meant.
    pub position: Option<(usize, usize)>,
}

impl Place {
    /// The whole of `source`.
    pub fn whole(source: &str) -> Self {
        Self {
            source: Arc::from(source),
            position: None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        match self.position {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// One thing that is wrong, or worth a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it was written, if it was written anywhere.
    pub place: Option<Place>,
    /// The key it is about, as `processors.harbinger.detection.mode`; empty when it is about the whole.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Finding {
    /// A finding about `key` at `place`.
    pub fn new(place: Option<Place>, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place,
            key: key.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// The configuration cannot be used: correct every finding and start again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfigError(pub Vec<Finding>);

impl From<Finding> for ConfigError {
    fn from(finding: Finding) -> Self {
        Self(vec![finding])
    }
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
