//! Traces of the agent's own: a sampled request's way through the rooms.
//!
//! What enters: spans of requests, and the `traceparent` that a caller sent. What leaves: finished spans, in batches, to an
//! exporter that others bring. Promises: the decision falls once, when a request is received, and what is not sampled costs
//! nothing afterwards; a span in its queue holds nobody up, and one for which there is no room, or that cannot be sent, is
//! dropped and counted. Absent on purpose: `tracestate`, baggage, and any text of a log.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter, SpanProcessor,
    },
};

use super::Metrics;

pub use opentelemetry_sdk::trace::Sampler;

/// The header, and key of a request's metadata, that names the span a request belongs to.
pub const TRACEPARENT: &str = "traceparent";

/// How finished spans are batched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// From one batch to the next, unless one is full before.
    pub schedule_delay: Duration,
    /// Spans that wait at the same time; what comes beyond is dropped.
    pub max_queue_size: usize,
    /// Spans of one batch.
    pub max_export_batch_size: usize,
}

/// Where traces begin; by default nowhere.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Tracing>>);

#[derive(Debug)]
struct Tracing {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins traces that go to each of `exporters`. Inside a tokio runtime, if they want one.
    pub fn start<E: SpanExporter + 'static>(
        metrics: &Arc<Metrics>,
        exporters: impl IntoIterator<Item = (E, Batching)>,
        sampler: Sampler,
        resource: Resource,
    ) -> Self {
        let mut provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_resource(resource);
        for (exporter, batching) in exporters {
            let waiting = Arc::new(AtomicUsize::new(0));
            let sending = Sending {
                exporter,
                waiting: Arc::clone(&waiting),
                metrics: Arc::clone(metrics),
                is_failing: AtomicBool::new(false),
            };
            let config = BatchConfigBuilder::default()
                .with_scheduled_delay(batching.schedule_delay)
                .with_max_queue_size(batching.max_queue_size)
                .with_max_export_batch_size(batching.max_export_batch_size.min(batching.max_queue_size));
            let processor = BatchSpanProcessor::builder(sending).with_batch_config(config.build());
            provider = provider.with_span_processor(Bounded {
                batches: processor.build(),
                waiting,
                max_waiting: batching.max_queue_size,
                metrics: Arc::clone(metrics),
            });
        }
        let provider = provider.build();
        let tracer = provider.tracer("harbinger");
        Self(Some(Arc::new(Tracing { tracer, provider })))
    }

    /// The span of a request that was received: in the caller's trace, if it names one, else the first of a new one. The
    /// sampler decides whether there is anything to it.
    pub fn receive(&self, name: &str, traceparent: Option<&str>) -> Span {
        let Some(tracing) = &self.0 else {
            return Span(None);
        };
        let parent = traceparent.map_or_else(Context::new, read);
        tracing.span(name.to_owned().into(), SpanKind::Server, &parent)
    }

    /// The trace of a request that has been received, by what its span is called in the request's metadata.
    pub fn of(&self, traceparent: Option<&str>) -> Trace {
        let (Some(tracing), Some(traceparent)) = (&self.0, traceparent) else {
            return Trace(None);
        };
        let context = read(traceparent);
        let is_sampled = context.span().span_context().is_sampled();
        Trace(is_sampled.then(|| (Arc::clone(tracing), context)))
    }

    /// Sends what waits, for a bounded time, and ends. Blocks.
    pub fn finish(&self) {
        if let Some(tracing) = &self.0 {
            // What cannot be sent at the end is counted already, and there is nobody left to read that.
            let _ = tracing.provider.shutdown();
        }
    }
}

impl Tracing {
    fn span(&self, name: Cow<'static, str>, kind: SpanKind, parent: &Context) -> Span {
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        let span = self.tracer.build_with_context(builder, parent);
        Span(span.is_recording().then(|| Box::new(span)))
    }
}

/// A place in a sampled trace; or nothing, in one that is not sampled.
#[derive(Clone, Debug)]
pub struct Trace(Option<(Arc<Tracing>, Context)>);

impl Trace {
    /// A step of the agent's own, until it is dropped.
    pub fn step(&self, name: &'static str) -> Span {
        match &self.0 {
            Some((tracing, parent)) => tracing.span(name.into(), SpanKind::Internal, parent),
            None => Span(None),
        }
    }

    /// A call of another process, until it is dropped.
    pub fn call(&self, name: &str) -> Span {
        match &self.0 {
            Some((tracing, parent)) => tracing.span(name.to_owned().into(), SpanKind::Client, parent),
            None => Span(None),
        }
    }

    /// Whether anything is recorded.
    pub fn is_sampled(&self) -> bool {
        self.0.is_some()
    }
}

/// A span that ends when it is dropped; or nothing, in a trace that is not sampled.
#[derive(Debug)]
pub struct Span(Option<Box<opentelemetry_sdk::trace::Span>>);

impl Span {
    /// Notes something; never a text of a log.
    pub fn set(&mut self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Notes a count.
    pub fn count(&mut self, key: &'static str, count: u64) {
        self.set(key, i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes that it did not succeed: why, in a word out of few, and in full.
    pub fn fail(&mut self, error_type: &'static str, description: impl Into<Cow<'static, str>>) {
        self.set("error.type", error_type);
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(description));
        }
    }

    /// What it is called in the metadata of a request, in W3C's form.
    pub fn traceparent(&self) -> Option<String> {
        let context: &SpanContext = self.0.as_ref()?.span_context();
        Some(format!("00-{}-{}-01", context.trace_id(), context.span_id()))
    }
}

/// The span that a caller names. One that cannot be read is none.
fn read(traceparent: &str) -> Context {
    struct Header<'h>(&'h str);
    impl Extractor for Header<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            (key == TRACEPARENT).then_some(self.0)
        }

        fn keys(&self) -> Vec<&str> {
            vec![TRACEPARENT]
        }
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Header(traceparent))
}

/// Counts what there is no room for, which the SDK keeps to itself.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    /// Spans that have ended and that the exporter is not through with.
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
    metrics: Arc<Metrics>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut opentelemetry_sdk::trace::Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.max_waiting {
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.self_trace_dropped_spans.add(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what comes of sending, and says when that changes.
#[derive(Debug)]
struct Sending<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Sending<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let outcome = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let was_failing = self.is_failing.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Ok(()) => {
                self.metrics.self_trace_sent_spans.add(spans as u64);
                if was_failing {
                    tracing::info!("the agent's own traces are sent again");
                }
            }
            Err(problem) => {
                self.metrics.self_trace_dropped_spans.add(spans as u64);
                if !was_failing {
                    tracing::warn!(
                        spans,
                        "the agent's own traces cannot be sent and are dropped: {problem}"
                    );
                }
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
