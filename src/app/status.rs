//! The status pages: health for probes, metrics for Prometheus.
//!
//! What enters: settings that have been checked, then the agent at work. What leaves: bound ports, and what they answer.
//! Promises: liveness is red when a worker of the agent is dead, though the process answers; readiness is red until
//! receivers listen, from the moment that the agent stops, and while the disk of a queue refuses everything; detection has a
//! light of its own, because it never stops a log. Absent on purpose: how pages are served, which is [`health`]'s.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};

use crate::{
    config::{Extension, Settings},
    edge::health::{self, Pages},
    engine::score::Phase,
    pipeline::{Mode, Pipeline},
    telemetry::Metrics,
};

/// A kind of status page.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Health,
    Prometheus,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Prometheus => "metrics",
        }
    }

    pub(super) fn contents(self, status: &Arc<Status>, metrics: &Arc<Metrics>) -> Vec<health::Page> {
        let page = |path, answer: fn(&Status) -> health::Answer| -> health::Page {
            let status = Arc::clone(status);
            (path, Arc::new(move || answer(&status)))
        };
        match self {
            Self::Prometheus => {
                let metrics = Arc::clone(metrics);
                vec![(
                    "/metrics",
                    Arc::new(move || health::Answer::metrics(metrics.prometheus())),
                )]
            }
            Self::Health => vec![
                page("/", Status::readiness),
                page("/readyz", Status::readiness),
                page("/livez", Status::liveness),
                page("/detection", Status::detection),
            ],
        }
    }
}

/// How the agent is, as probes ask.
pub(super) struct Status {
    pipeline: Arc<Pipeline>,
    /// Why nothing can be queued, if nothing can.
    queue_trouble: Box<dyn Fn() -> Option<String> + Send + Sync>,
    is_serving: AtomicBool,
}

impl Status {
    /// Not serving yet.
    pub(super) fn new(
        pipeline: Arc<Pipeline>,
        queue_trouble: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            pipeline,
            queue_trouble: Box::new(queue_trouble),
            is_serving: AtomicBool::new(false),
        }
    }

    /// Receivers take requests from now on, or no longer.
    pub(super) fn set_serving(&self, is_serving: bool) {
        self.is_serving.store(is_serving, Ordering::Relaxed);
    }

    fn liveness(&self) -> health::Answer {
        self.answer(self.dead_worker())
    }

    fn readiness(&self) -> health::Answer {
        let away = (!self.is_serving.load(Ordering::Relaxed)).then(|| "it is starting or stopping".to_owned());
        self.answer(self.dead_worker().or(away).or_else(|| (self.queue_trouble)()))
    }

    fn dead_worker(&self) -> Option<String> {
        let dead = self.pipeline.dead_worker()?;
        Some(format!("its {dead} has ended by a bug; restart it"))
    }

    fn detection(&self) -> health::Answer {
        let red = !self.pipeline.model_healthy() && self.pipeline.mode() != Mode::Off;
        health::Answer::json(if red { 503 } else { 200 }, &self.document(None))
    }

    fn answer(&self, problem: Option<String>) -> health::Answer {
        let code = if problem.is_some() { 503 } else { 200 };
        health::Answer::json(code, &self.document(problem.as_deref()))
    }

    fn document(&self, problem: Option<&str>) -> serde_json::Value {
        let pipeline = &self.pipeline;
        let detection = match (pipeline.mode(), pipeline.model_healthy(), pipeline.phase()) {
            (Mode::Off, ..) => "off",
            (_, false, _) => "degraded",
            (_, true, Phase::Ready { .. }) => "ready",
            (_, true, _) => "warming_up",
        };
        let mut document = serde_json::json!({
            "status": if problem.is_none() { "Server available" } else { "Server not available" },
            "detection": { "status": detection, "detail": pipeline.describe() },
        });
        if let (Some(problem), Some(document)) = (problem, document.as_object_mut()) {
            document.insert("problem".to_owned(), problem.into());
        }
        document
    }
}

/// Takes the ports of all pages.
///
/// # Errors
/// A port is taken.
pub(super) async fn bind(settings: &Settings) -> Result<Vec<(Pages, Kind)>> {
    let mut pages = Vec::new();
    for (id, extension) in &settings.extensions {
        let Extension::HealthCheck(health) = extension else {
            continue;
        };
        let bound = Pages::bind(&health.endpoint).await;
        let context = || format!("extensions.{id}.endpoint: cannot listen on {}", health.endpoint);
        pages.push((bound.with_context(context)?, Kind::Health));
    }
    for reader in super::readers(settings) {
        if let Some(pull) = &reader.pull {
            let endpoint = pull.exporter.prometheus.endpoint();
            let context = || {
                format!(
                    "service.telemetry.metrics.readers: cannot serve metrics on {endpoint}; \
                     choose another port, or turn them off by `level: none`"
                )
            };
            pages.push((Pages::bind(&endpoint).await.with_context(context)?, Kind::Prometheus));
        }
    }
    Ok(pages)
}
