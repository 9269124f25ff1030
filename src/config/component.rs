//! The components a configuration can name: their ids, and the types there are.
//!
//! What enters: ids as users write them, `type` or `type/name`. What leaves: parsed ids and the one table of types that
//! `harbinger components` prints and error messages quote. Promise: a type that is not in the table is refused with what
//! to write instead. Absent on purpose: what a component can be set to.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::advice;

/// What a component does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes logs in.
    Receiver,
    /// Works on them.
    Processor,
    /// Sends them on.
    Exporter,
    /// Serves the agent itself.
    Extension,
}

impl Role {
    /// All roles, in the order of the path.
    pub const ALL: [Self; 4] = [Self::Receiver, Self::Processor, Self::Exporter, Self::Extension];

    /// The section in which components of this role are defined, `receivers`.
    pub fn section(self) -> &'static str {
        match self {
            Self::Receiver => "receivers",
            Self::Processor => "processors",
            Self::Exporter => "exporters",
            Self::Extension => "extensions",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.section().trim_end_matches('s'))
    }
}

/// A type of component that Harbinger has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentType {
    /// What it does in the pipeline.
    pub role: Role,
    /// The name it is written by.
    pub name: &'static str,
    /// An older name that is accepted too.
    pub old_name: Option<&'static str>,
    /// `stable`, `beta` or `development`, in the Collector's words.
    pub stability: &'static str,
    /// One sentence.
    pub description: &'static str,
}

/// The processor that judges.
pub const HARBINGER: &str = "harbinger";
/// The processor that stands before it.
pub const MEMORY_LIMITER: &str = "memory_limiter";

/// What is said of the type `kafka` by a build that has only its settings.
pub const NO_KAFKA: &str = "this build cannot speak to Kafka: build it with `make build FEATURES=kafka`, or take the release archive, which \
                            can";

/// Every type there is.
pub const TYPES: &[ComponentType] = &[
    ComponentType {
        role: Role::Receiver,
        name: "otlp",
        old_name: None,
        stability: "beta",
        description: "takes OTLP by gRPC and HTTP; answers once the next hop has it",
    },
    ComponentType {
        role: Role::Receiver,
        name: "kafka",
        old_name: None,
        stability: "development",
        description: "reads Kafka's topics; commits what the next hop has (in builds with the feature kafka)",
    },
    ComponentType {
        role: Role::Processor,
        name: HARBINGER,
        old_name: None,
        stability: "beta",
        description: "marks anomalous records and groups incidents; changes nothing else",
    },
    ComponentType {
        role: Role::Processor,
        name: MEMORY_LIMITER,
        old_name: None,
        stability: "beta",
        description: "refuses requests, for now, while the process is near its memory limit",
    },
    ComponentType {
        role: Role::Exporter,
        name: "otlp_grpc",
        old_name: Some("otlp"),
        stability: "beta",
        description: "sends OTLP by gRPC, with retries within the sender's deadline",
    },
    ComponentType {
        role: Role::Exporter,
        name: "otlp_http",
        old_name: Some("otlphttp"),
        stability: "beta",
        description: "sends OTLP by HTTP, with retries within the sender's deadline",
    },
    ComponentType {
        role: Role::Exporter,
        name: "kafka",
        old_name: None,
        stability: "development",
        description: "writes Kafka's topics, acknowledged by every replica (in builds with the feature kafka)",
    },
    ComponentType {
        role: Role::Exporter,
        name: "file",
        old_name: None,
        stability: "beta",
        description: "appends OTLP JSON lines to a file",
    },
    ComponentType {
        role: Role::Exporter,
        name: "debug",
        old_name: None,
        stability: "development",
        description: "prints what passes by, readable, to standard output",
    },
    ComponentType {
        role: Role::Extension,
        name: "health_check",
        old_name: None,
        stability: "beta",
        description: "answers health probes over HTTP",
    },
    ComponentType {
        role: Role::Extension,
        name: "harbinger_api",
        old_name: None,
        stability: "development",
        description: "answers questions about incidents by gRPC, on this machine",
    },
    ComponentType {
        role: Role::Extension,
        name: "harbinger_page",
        old_name: None,
        stability: "development",
        description: "shows incidents in a browser, and takes feedback there",
    },
    ComponentType {
        role: Role::Extension,
        name: "bearertokenauth",
        old_name: None,
        stability: "beta",
        description: "knows callers, and shows who we are, by tokens",
    },
    ComponentType {
        role: Role::Extension,
        name: "basicauth",
        old_name: None,
        stability: "beta",
        description: "knows callers, and shows who we are, by user name and password",
    },
    ComponentType {
        role: Role::Extension,
        name: "file_storage",
        old_name: None,
        stability: "beta",
        description: "a directory in which sending queues survive a restart",
    },
];

/// The type `name` of `role`, if Harbinger has it.
pub fn component_type(role: Role, name: &str) -> Option<&'static ComponentType> {
    TYPES
        .iter()
        .find(|known| known.role == role && (known.name == name || known.old_name == Some(name)))
}

/// An id as it is written in the configuration: `otlp` or `otlp/second`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId {
    /// The type, as it was written.
    pub kind: String,
    /// What tells two of one type apart.
    pub name: Option<String>,
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        match &self.name {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

impl FromStr for ComponentId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        let valid = kind.starts_with(|first: char| first.is_ascii_alphabetic())
            && kind.chars().all(|part| part.is_ascii_alphanumeric() || part == '_')
            && name.is_none_or(|name| !name.trim().is_empty());
        if !valid {
            return Err(format!(
                "`{text}` is not a component id; write `type` or `type/name`, as `otlp` or `otlp/second`"
            ));
        }
        Ok(Self {
            kind: kind.to_owned(),
            name: name.map(str::to_owned),
        })
    }
}

impl Serialize for ComponentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ComponentId {
    /// Reads the id of a component of `role`, whose type must be known.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead.
    pub fn of(role: Role, text: &str) -> Result<(Self, &'static ComponentType), String> {
        let id: Self = text.parse()?;
        match component_type(role, &id.kind) {
            Some(known) => Ok((id, known)),
            None => Err(advice::unknown_type(role, &id.kind)),
        }
    }
}

/// Components of one role in the order they were defined; printed as a section.
#[derive(Clone, Debug, PartialEq)]
pub struct Components<T>(pub Vec<(ComponentId, T)>);

impl<T> Default for Components<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Components<T> {
    /// The component with this id.
    pub fn get(&self, id: &ComponentId) -> Option<&T> {
        self.0
            .iter()
            .find(|(known, _)| known == id)
            .map(|(_, component)| component)
    }
}

impl<T: Serialize> Serialize for Components<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(id, component)| (id, component)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_a_type_and_perhaps_a_name() {
        assert_eq!(
            "otlp/a/b".parse(),
            Ok(ComponentId {
                kind: "otlp".to_owned(),
                name: Some("a/b".to_owned())
            })
        );
        for bad in ["", "/x", "otlp/", "otlp/ ", "9otlp", "ot-lp"] {
            assert!(bad.parse::<ComponentId>().is_err(), "{bad:?}");
        }
    }
}
