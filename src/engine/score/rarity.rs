//! How seldom a template is said in its service, against everything that is said.
//!
//! The surprise `−ln((n + 1) / (N + 2))` (Laplace's rule of succession) over decayed counts, bounded by the surprise of
//! something new in this stream: where every fiftieth line is new (the unseen mass of Good, 1953), new is not surprising.

use super::{detector::Sighting, severity};

/// Nothing is more surprising than this, or a long stream would call everything rare an anomaly.
pub(super) const MAX_SURPRISE: f64 = 10.0;

/// What a plain line of a young service can be surprising at most, at its first record; grows with the logarithm of its records.
const YOUNG_SERVICE: f64 = 2.0;

/// Surprise in nats, 0 to [`MAX_SURPRISE`].
pub(super) fn value(sighting: &Sighting<'_>) -> f64 {
    let series = sighting.series;
    // What speaks of failure stays as rare as when the episode began; anything else becomes usual by being said.
    let known = if sighting.grave {
        series.episode.known
    } else {
        series.known
    };
    let surprise = surprise(known, sighting.stream.records).min(sighting.stream.news_surprise() + 1.0);
    if !sighting.grave && severity::is_explicitly_low(sighting.severity_number) {
        surprise.min(YOUNG_SERVICE + (sighting.service.records as f64 + 1.0).ln())
    } else {
        surprise
    }
}

/// Surprise of something said `known` times in `records`.
pub(super) fn surprise(known: f64, records: f64) -> f64 {
    (-((known + 1.0) / (records + 2.0)).ln()).clamp(0.0, MAX_SURPRISE)
}

pub(super) fn reason(sighting: &Sighting<'_>) -> String {
    let episode = &sighting.series.episode;
    match episode.quiet_nano {
        0 if episode.known < 1.0 => "never said before".to_owned(),
        quiet if quiet >= 3600 * 1_000_000_000 => format!("first return in {}", worded(quiet)),
        _ => format!("rare: {:.0} of {:.0} records", episode.known, sighting.stream.records),
    }
}

/// A duration as one would say it: `9 d`, `5 h`.
fn worded(nanos: u64) -> String {
    let hours = nanos / (3600 * 1_000_000_000);
    if hours >= 48 {
        format!("{} d", hours / 24)
    } else {
        format!("{hours} h")
    }
}
