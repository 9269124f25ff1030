//! Distance from the nearest template that counts as usual, as it was when the episode began.

use super::detector::Sighting;

/// Euclidean distance of the unit vectors, 0 to 2; 0 for a template that is itself usual.
pub(super) fn value(sighting: &Sighting<'_>) -> f64 {
    f64::from(sighting.series.episode.assessment.distance)
}

pub(super) fn reason(sighting: &Sighting<'_>, nearest: Option<&str>) -> String {
    let assessment = &sighting.series.episode.assessment;
    let cosine = cosine(assessment.distance);
    match (nearest, assessment.nearest) {
        (Some(text), _) => format!(
            "unlike anything usual: nearest known \"{}\" at {cosine:.2}",
            shortened(text)
        ),
        (None, Some(_)) => format!("unlike anything usual: nearest known at {cosine:.2}"),
        (None, None) => "unlike anything usual".to_owned(),
    }
}

/// The cosine of two unit vectors this far apart.
fn cosine(distance: f32) -> f32 {
    1.0 - distance * distance / 2.0
}

/// A quotation that leaves room for the rest of a sentence.
pub(super) fn shortened(text: &str) -> &str {
    const LONGEST_BYTES: usize = 80;
    let mut end = text.len().min(LONGEST_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
