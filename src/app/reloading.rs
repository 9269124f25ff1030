//! The configuration read again in a running agent: what can change does, what cannot is told.
//!
//! What enters: an order to reread. What leaves: a pipeline, a limiter and a log that go by the new settings, and a line in the
//! log for every key that is not as it was. Promises: a configuration with mistakes changes nothing, and each mistake is
//! told; no id, nothing that was learned and no record under way is touched. Absent on purpose: which settings of a room can
//! change, which each room says itself (`ADJUSTABLE`).

use std::sync::Arc;

use anyhow::Result;

use super::{Reload, engine_of, level_of};
use crate::{
    config::{Config, ConfigError, Loaded, Settings, changes},
    edge::{
        memory_limiter::{MemoryLimiter, Settings as MemoryLimiterSettings},
        now_unix_nano,
    },
    engine::{
        correlate::Settings as CorrelateSettings, score::Settings as ScoreSettings, text::Settings as TextSettings,
    },
    pipeline::Pipeline,
    telemetry::{Metrics, SetLevel},
};

/// The key of the log's level.
const LEVEL: &str = "service.telemetry.logs.level";

/// A running agent, as far as it can be changed.
pub(super) struct Reloading<'a> {
    pub(super) reread: Reload<'a>,
    /// What it was started with.
    pub(super) started: Loaded,
    /// What was read last.
    pub(super) latest: Config,
    pub(super) set_level: SetLevel,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) limiter: Option<Arc<MemoryLimiter>>,
    pub(super) metrics: Arc<Metrics>,
}

impl Reloading<'_> {
    /// Rereads the configuration and the opinions.
    pub(super) fn reload(&mut self) {
        let outcome = (self.reread)().and_then(|loaded| self.apply(loaded));
        tell_success(&self.metrics, outcome.is_ok());
        if let Err(problem) = outcome {
            match problem.downcast_ref() {
                Some(ConfigError(findings)) => {
                    for finding in findings {
                        tracing::error!("{finding}");
                    }
                }
                None => tracing::error!("{problem:#}"),
            }
            tracing::error!("the configuration on disk is not usable: nothing changes");
        }
        match self.pipeline.reread_feedback() {
            Ok(opinions) => tracing::info!(opinions, "feedback.yaml reread"),
            Err(problem) => tracing::error!("the opinions that were in force stay: {problem}"),
        }
    }

    fn apply(&mut self, loaded: Loaded) -> Result<()> {
        let adjustable = adjustable(&self.started.settings);
        let is_adjustable = |key: &String| adjustable.contains(key);
        let applied: Vec<String> = changes(&self.latest, &loaded.config)?;
        let pending = changes(&self.started.config, &loaded.config)?;
        let settings = &loaded.settings;
        // First, as it is the one that can be refused.
        if let (Some(limiter), Some((_, limits))) = (&self.limiter, same_limiter(&self.started.settings, settings)) {
            limiter.adjust(limits)?;
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        if settings.processor == self.started.settings.processor {
            self.pipeline.set_mode(settings.harbinger.detection.mode);
            self.pipeline.adjust(&engine_of(&settings.harbinger));
        }
        (self.set_level)(level_of(settings));
        for key in applied.iter().filter(|key| is_adjustable(key)) {
            tracing::info!("`{key}` changed: in force now");
        }
        for key in pending.iter().filter(|key| !is_adjustable(key)) {
            tracing::warn!("`{key}` changed: takes effect at the next start");
        }
        if applied.is_empty() && pending.is_empty() {
            tracing::info!("configuration reread: nothing has changed");
        }
        self.latest = loaded.config;
        Ok(())
    }
}

/// Notes whether the configuration could be used when it was read last.
pub(super) fn tell_success(metrics: &Metrics, is_usable: bool) {
    metrics.config_reload_success.set(u64::from(is_usable));
    if is_usable {
        let seconds = now_unix_nano() / 1_000_000_000;
        metrics.config_reload_success_time.set(seconds);
    }
}

/// The limits, if it is the same limiter that runs.
fn same_limiter<'s>(
    started: &Settings,
    settings: &'s Settings,
) -> Option<&'s (crate::config::ComponentId, MemoryLimiterSettings)> {
    let (id, _) = started.memory_limiter.as_ref()?;
    settings.memory_limiter.as_ref().filter(|(new, _)| new == id)
}

/// The keys that can change in the agent that was started so.
fn adjustable(started: &Settings) -> Vec<String> {
    let engine = |section: &str, keys: &[&str]| -> Vec<String> {
        let key = |key: &&str| format!("processors.{}.{section}.{key}", started.processor);
        keys.iter().map(key).collect()
    };
    let limits = started.memory_limiter.iter().flat_map(|(id, _)| {
        MemoryLimiterSettings::ADJUSTABLE
            .iter()
            .map(move |key| format!("processors.{id}.{key}"))
    });
    let mut keys = vec![LEVEL.to_owned()];
    keys.extend(engine("detection", &["mode"]));
    keys.extend(engine("detection", &ScoreSettings::ADJUSTABLE));
    keys.extend(engine("text", &TextSettings::ADJUSTABLE));
    keys.extend(engine("correlation", &CorrelateSettings::ADJUSTABLE));
    keys.extend(limits);
    keys
}
