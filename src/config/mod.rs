//! What users write: YAML in the Collector's shape, defaults, checks, and what comes of them.
//!
//! What enters: `--config` and `--set` arguments and environment variables. What leaves: a [`Config`] (all that is
//! defined), [`Settings`] (what of it runs) and warnings, or a [`ConfigError`] that names every mistake with file, line,
//! column and key, and what to write instead. Promises: names and defaults are the Collector's (v0.159) where it has
//! them; nothing unknown is passed over. Absent on purpose: settings of the rooms (each owns its own) and everything that
//! only a start can show.
//!
//! The way of a configuration: `sources` (files to one tree, by `yaml`) → `expand` (`${env:X}`) → `resolve` (tree to
//! types, by `read`, with `advice`) → `settings`; `print` goes back, and `schema` tells editors.

mod advice;
mod changes;
mod component;
mod document;
mod endpoints;
mod engine;
mod expand;
mod finding;
mod guards;
mod preflight;
mod print;
mod read;
mod read_error;
mod resolve;
mod schema;
pub mod self_traces;
pub mod service;
mod settings;
mod sources;
mod yaml;

pub use changes::changes;
#[cfg(not(feature = "kafka"))]
pub use component::NO_KAFKA;
pub use component::{ComponentId, ComponentType, Components, Role, TYPES};
pub use engine::{Cluster, Detection, Embedding, Harbinger, Notifiers, State};
pub use expand::Environment;
pub use finding::{ConfigError, Finding, Place};
pub use preflight::preflight;
pub use print::{REDACTED, print};
pub use schema::schema;
pub use settings::{Config, Exporter, Extension, OtlpReceiver, Processor, Protocols, Queued, Receiver, Settings};

/// A configuration that can be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// All that is defined, with every default.
    pub config: Config,
    /// What runs.
    pub settings: Settings,
    /// What is probably not meant; say it and go on.
    pub warnings: Vec<Finding>,
}

/// Reads `configs` (paths, `file:PATH`, `env:NAME`, `yaml:a::b: c`) and `sets` (`a.b=c`), later ones over earlier ones.
///
/// # Errors
/// Every mistake that was found.
pub fn load(configs: &[String], sets: &[String], environment: Environment<'_>) -> Result<Loaded, ConfigError> {
    let mut root = sources::gather(configs, sets, environment)?;
    let mut warnings = Vec::new();
    expand::expand(&mut root, "", environment, &mut warnings)?;
    let (config, settings) = resolve::resolve(&root, &mut warnings)?;
    Ok(Loaded {
        config,
        settings,
        warnings,
    })
}
