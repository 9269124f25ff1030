//! The notebook's verdicts: a sigmoid autoencoder trained on the very rows it judges, 100 epochs, and the 95th
//! percentile of its own errors.
//!
//! What enters: one embedding a row. What leaves: the mean squared error of each row, and whether it exceeds the
//! percentile (linearly interpolated, strictly). Absent on purpose: any calibration; 5 % are anomalous by construction.

use super::autoencoder::{Activation, Autoencoder, Schedule};
use crate::engine::embed::Embedding;

const EPOCHS: usize = 100;
const PERCENTILE: f64 = 95.0;

/// Error and verdict of every row.
pub fn notebook_verdicts(rows: &[Embedding], seed: u64) -> Vec<(f64, bool)> {
    let borrowed: Vec<&Embedding> = rows.iter().collect();
    let network = Autoencoder::fit(&borrowed, &[], Activation::Sigmoid, &Schedule::Epochs(EPOCHS), seed);
    let errors: Vec<f64> = rows
        .iter()
        .map(|row| f64::from(network.mean_squared_error(row)))
        .collect();
    let threshold = percentile(&errors, PERCENTILE);
    errors.into_iter().map(|error| (error, error > threshold)).collect()
}

/// The `percent` percentile, interpolated linearly between the two nearest values (numpy's default).
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut ascending = values.to_vec();
    ascending.sort_by(f64::total_cmp);
    let place = percent / 100.0 * ascending.len().saturating_sub(1) as f64;
    let at = |place: f64| ascending.get(place as usize).copied().unwrap_or(f64::INFINITY);
    let (below, above) = (at(place.floor()), at(place.ceil()));
    below + (above - below) * (place - place.floor())
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_numpys() {
        // numpy.percentile([1, 2, 3, 4], [95, 50]) is [3.85, 2.5].
        assert!((percentile(&[4.0, 1.0, 3.0, 2.0], 95.0) - 3.85).abs() < 1e-12);
        assert!((percentile(&[4.0, 1.0, 3.0, 2.0], 50.0) - 2.5).abs() < 1e-12);
        assert!(percentile(&[1.0], 95.0) == 1.0);
    }
}
