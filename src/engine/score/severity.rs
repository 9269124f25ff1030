//! The severity an author gave a record: one vote among others, never a gate, for INFO lines fail too.

use super::detector::Sighting;

/// OTLP severity number of ERROR.
pub(super) const ERROR: i32 = 17;

/// Largest OTLP severity number of INFO.
const INFO_MAX: i32 = 12;

/// 2 for ERROR and above, −1 for INFO and below, 0 for WARN and where there is none.
pub(super) fn vote(severity_number: i32) -> f64 {
    match severity_number {
        ERROR.. => 2.0,
        1..=INFO_MAX => -1.0,
        _ => 0.0,
    }
}

/// Whether the author said that it is no error: some severity, and one below ERROR.
pub(super) fn is_explicitly_low(severity_number: i32) -> bool {
    (1..ERROR).contains(&severity_number)
}

pub(super) fn reason(sighting: &Sighting<'_>) -> String {
    match sighting.severity_number {
        21.. => "a fatal error",
        _ => "an error",
    }
    .to_owned()
        + ", and not a usual one here"
}
