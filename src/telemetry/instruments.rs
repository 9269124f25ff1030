//! What counts: counters, gauges and histograms, alone or one for each set of labels.
//!
//! What enters: additions, from any thread. What leaves: values, whenever somebody reads. Promises: counting is a relaxed
//! atomic addition, in a histogram two; labels are looked up once, by who is wired, never where a record passes. Absent on
//! purpose: names and units, which are declared in one table ([`super::Metrics`]).

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::KeyValue;

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How often a value was how large.
    Histogram,
}

/// What an instrument shows when it is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Whole(u64),
    /// A time in seconds.
    Seconds(f64),
    /// How often a value was how large.
    Distribution {
        /// Upper bounds of the buckets; one more bucket holds what is larger.
        bounds: &'static [f64],
        /// Values in each bucket, not in those below.
        counts: Vec<u64>,
        /// All values together.
        sum: f64,
    },
}

/// Something that counts.
pub trait Instrument: Debug + Default + Send + Sync {
    /// How it behaves.
    const KIND: Kind;
    /// Upper bounds of the buckets of a histogram.
    const BOUNDS: &'static [f64] = &[];

    /// What it shows now.
    fn value(&self) -> Value;

    /// Whoever pushes histograms wants each value. Counters and gauges are read when they are due.
    fn push_to(&self, _pushed: Pushed) {}
}

/// A histogram as it is pushed, with its labels.
#[derive(Debug)]
pub struct Pushed {
    /// The instrument.
    pub histogram: opentelemetry::metrics::Histogram<f64>,
    /// Its labels.
    pub attributes: Vec<KeyValue>,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Sets the sum to one that is kept elsewhere.
    pub fn follow(&self, sum: u64) {
        self.0.store(sum, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Instrument for Counter {
    const KIND: Kind = Kind::Counter;

    fn value(&self) -> Value {
        Value::Whole(self.get())
    }
}

/// A time that only grows.
#[derive(Debug, Default)]
pub struct SecondsCounter(AtomicU64);

impl SecondsCounter {
    /// Sets the sum to one that is kept elsewhere.
    pub fn follow(&self, sum: Duration) {
        self.0.store(nanoseconds(sum), Ordering::Relaxed);
    }
}

impl Instrument for SecondsCounter {
    const KIND: Kind = Kind::Counter;

    fn value(&self) -> Value {
        Value::Seconds(seconds(self.0.load(Ordering::Relaxed)))
    }
}

/// A number that is what it is now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds one for as long as the guard lives.
    pub fn hold(&self) -> impl Drop + '_ {
        struct Held<'a>(&'a AtomicU64);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(&self.0)
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Instrument for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn value(&self) -> Value {
        Value::Whole(self.get())
    }
}

/// From a request that is only annotated to one that waits for its deadline.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// From one record to the largest batches.
const SIZES: &[f64] = &[
    1.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0,
];

/// How long something took.
#[derive(Debug)]
pub struct DurationHistogram(Buckets);

impl DurationHistogram {
    /// Counts one more.
    pub fn record(&self, took: Duration) {
        self.0.record(took.as_secs_f64(), nanoseconds(took));
    }
}

impl Default for DurationHistogram {
    fn default() -> Self {
        Self(Buckets::new(Self::BOUNDS))
    }
}

impl Instrument for DurationHistogram {
    const KIND: Kind = Kind::Histogram;
    const BOUNDS: &'static [f64] = SECONDS;

    fn value(&self) -> Value {
        self.0.value(seconds)
    }

    fn push_to(&self, pushed: Pushed) {
        self.0.push_to(pushed);
    }
}

/// How many there were.
#[derive(Debug)]
pub struct SizeHistogram(Buckets);

impl SizeHistogram {
    /// Counts one more.
    pub fn record(&self, size: u64) {
        self.0.record(size as f64, size);
    }
}

impl Default for SizeHistogram {
    fn default() -> Self {
        Self(Buckets::new(Self::BOUNDS))
    }
}

impl Instrument for SizeHistogram {
    const KIND: Kind = Kind::Histogram;
    const BOUNDS: &'static [f64] = SIZES;

    fn value(&self) -> Value {
        self.0.value(|sum| sum as f64)
    }

    fn push_to(&self, pushed: Pushed) {
        self.0.push_to(pushed);
    }
}

#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// Of whole numbers: nanoseconds, or what is counted.
    sum: AtomicU64,
    pushed: OnceLock<Pushed>,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::default()).collect(),
            sum: AtomicU64::default(),
            pushed: OnceLock::new(),
        }
    }

    fn record(&self, value: f64, amount: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(amount, Ordering::Relaxed);
        if let Some(Pushed { histogram, attributes }) = self.pushed.get() {
            histogram.record(value, attributes);
        }
    }

    fn value(&self, scaled: impl Fn(u64) -> f64) -> Value {
        Value::Distribution {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: scaled(self.sum.load(Ordering::Relaxed)),
        }
    }

    fn push_to(&self, pushed: Pushed) {
        // There is one provider for all readers, so nobody comes second.
        let _ = self.pushed.set(pushed);
    }
}

/// An instrument for each set of values of its labels.
#[derive(Debug, Default)]
pub struct Family<I, const LABELS: usize> {
    series: Mutex<BTreeMap<[Arc<str>; LABELS], Arc<I>>>,
    pushed: OnceLock<(opentelemetry::metrics::Histogram<f64>, &'static [&'static str])>,
}

impl<I: Instrument, const LABELS: usize> Family<I, LABELS> {
    /// The instrument with these values, to be kept by whoever counts.
    pub fn of(&self, values: [&str; LABELS]) -> Arc<I> {
        let values = values.map(Arc::<str>::from);
        let mut series = self.lock();
        if let Some(known) = series.get(&values) {
            return Arc::clone(known);
        }
        let instrument = Arc::new(I::default());
        if let Some((histogram, labels)) = self.pushed.get() {
            instrument.push_to(pushed(histogram, labels, &values));
        }
        series.insert(values, Arc::clone(&instrument));
        instrument
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[Arc<str>; LABELS], Arc<I>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pushed(histogram: &opentelemetry::metrics::Histogram<f64>, labels: &[&'static str], values: &[Arc<str>]) -> Pushed {
    let attributes = labels.iter().zip(values);
    Pushed {
        histogram: histogram.clone(),
        attributes: attributes
            .map(|(label, value)| KeyValue::new(*label, Arc::clone(value)))
            .collect(),
    }
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The values of its labels, in their declared order.
    pub labels: Vec<Arc<str>>,
    /// What it shows.
    pub value: Value,
}

/// A metric, with labels or without.
pub(super) trait Readable: Send + Sync {
    /// What it shows now, sorted by labels.
    fn read(&self) -> Vec<Series>;

    /// Upper bounds of the buckets of a histogram.
    fn bounds(&self) -> &'static [f64];

    /// Has every value recorded in `histogram` too, from now on.
    fn push_by(&self, histogram: opentelemetry::metrics::Histogram<f64>, labels: &'static [&'static str]);
}

impl<I: Instrument> Readable for I {
    fn read(&self) -> Vec<Series> {
        vec![Series {
            labels: Vec::new(),
            value: self.value(),
        }]
    }

    fn bounds(&self) -> &'static [f64] {
        I::BOUNDS
    }

    fn push_by(&self, histogram: opentelemetry::metrics::Histogram<f64>, _labels: &'static [&'static str]) {
        self.push_to(pushed(&histogram, &[], &[]));
    }
}

impl<I: Instrument, const LABELS: usize> Readable for Family<I, LABELS> {
    fn read(&self) -> Vec<Series> {
        let series = self.lock();
        let series = series.iter().map(|(labels, instrument)| Series {
            labels: labels.to_vec(),
            value: instrument.value(),
        });
        series.collect()
    }

    fn bounds(&self) -> &'static [f64] {
        I::BOUNDS
    }

    fn push_by(&self, histogram: opentelemetry::metrics::Histogram<f64>, labels: &'static [&'static str]) {
        let series = self.lock();
        for (values, instrument) in series.iter() {
            instrument.push_to(pushed(&histogram, labels, values));
        }
        // Under the lock, so that no series is made between.
        let _ = self.pushed.set((histogram, labels));
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}
