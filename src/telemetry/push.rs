//! Metrics by OTLP, at an interval.
//!
//! What enters: the metrics, and an exporter for each reader of the configuration. What leaves: the same metrics as on the
//! Prometheus page: names, labels, units and buckets. Promise: counters and gauges are read when they are due and cost
//! nothing before; only a histogram's values are given to the SDK as they come, one a request. Absent on purpose: how they
//! are sent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use opentelemetry::{KeyValue, metrics::MeterProvider};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider, exporter::PushMetricExporter},
};

use super::{DECLARATIONS, Declaration, Kind, Metrics, PREFIX, Series, Value};

/// Who says all this: `service.name` and `service.version`, and what the configuration adds.
pub fn resource(attributes: &BTreeMap<String, String>) -> Resource {
    let attributes = attributes
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder()
        .with_service_name("harbinger")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(attributes)
        .build()
}

/// Sends every metric by OTLP at an interval; ends when dropped.
#[derive(Debug)]
pub struct Push(SdkMeterProvider);

impl Push {
    /// Starts sending `metrics` by each of `exporters`, at its interval.
    pub fn start<E: PushMetricExporter>(
        metrics: &Arc<Metrics>,
        exporters: impl IntoIterator<Item = (E, Duration)>,
        resource: Resource,
    ) -> Self {
        let mut provider = SdkMeterProvider::builder().with_resource(resource);
        for (exporter, interval) in exporters {
            provider = provider.with_reader(PeriodicReader::builder(exporter).with_interval(interval).build());
        }
        let provider = provider.build();
        let meter = provider.meter("harbinger");
        for (index, declared) in DECLARATIONS.iter().enumerate() {
            let Declaration {
                name,
                kind,
                unit,
                description,
                ..
            } = *declared;
            let name = format!("{PREFIX}{name}");
            let metrics = Arc::clone(metrics);
            // The instruments live in the provider; the handles are not needed.
            match (kind, unit) {
                (Kind::Counter, "s") => {
                    let counter = meter.f64_observable_counter(name).with_description(description);
                    let counter = counter.with_unit(unit).with_callback(move |observer| {
                        metrics.observe(index, |value, labels| {
                            if let Value::Seconds(seconds) = value {
                                observer.observe(seconds, labels);
                            }
                        });
                    });
                    counter.build();
                }
                (Kind::Counter, _) => {
                    let counter = meter.u64_observable_counter(name).with_description(description);
                    let counter = counter.with_unit(unit).with_callback(move |observer| {
                        metrics.observe(index, |value, labels| {
                            if let Value::Whole(count) = value {
                                observer.observe(count, labels);
                            }
                        });
                    });
                    counter.build();
                }
                (Kind::Gauge, _) => {
                    let gauge = meter.u64_observable_gauge(name).with_description(description);
                    let gauge = gauge.with_unit(unit).with_callback(move |observer| {
                        metrics.observe(index, |value, labels| {
                            if let Value::Whole(count) = value {
                                observer.observe(count, labels);
                            }
                        });
                    });
                    gauge.build();
                }
                (Kind::Histogram, _) => {
                    if let Some(metric) = metrics.readable().get(index) {
                        let histogram = meter.f64_histogram(name).with_description(description).with_unit(unit);
                        let histogram = histogram.with_boundaries(metric.bounds().to_vec()).build();
                        metric.push_by(histogram, declared.labels);
                    }
                }
            }
        }
        Self(provider)
    }
}

impl Metrics {
    /// Gives `see` each value of the metric at `index`, with its labels.
    fn observe(&self, index: usize, mut see: impl FnMut(Value, &[KeyValue])) {
        self.bring_up_to_date();
        let (Some(declared), Some(metric)) = (DECLARATIONS.get(index), self.readable().get(index).copied()) else {
            return;
        };
        for Series { labels, value } in metric.read() {
            let labels = declared.labels.iter().zip(labels);
            let labels: Vec<KeyValue> = labels.map(|(label, value)| KeyValue::new(*label, value)).collect();
            see(value, &labels);
        }
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        // A destination that is gone at the end is no news.
        let _ = self.0.shutdown();
    }
}
