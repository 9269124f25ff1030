//! Templates in two dimensions: what means the same lies close together, as far as two dimensions can tell.
//!
//! What enters: embeddings. What leaves: a point for each, and the share of their variance that each axis shows. Promises:
//! the same embeddings give the same points, mirrored the same way; seconds for thousands. Absent on purpose: distances
//! that could be read off; two axes of 384 show a part of what sets texts apart, and the report says how large a part.
//!
//! Principal components: smartcore finds the axes of the covariance. Its own `PCA` would decompose the embeddings themselves
//! wherever there are more of them than dimensions, which takes far longer.

use anyhow::{Result, anyhow};
use smartcore::linalg::{
    basic::{arrays, matrix::DenseMatrix},
    traits::evd::EVDDecomposable,
};

use crate::engine::embed::{DIMENSIONS, Embedding};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    /// In order of the embeddings.
    pub points: Vec<[f64; 2]>,
    /// Shares of the variance, 0 to 1.
    pub explained: [f64; 2],
}

impl Map {
    /// The map of these embeddings.
    ///
    /// # Errors
    /// The decomposition did not converge.
    pub fn of(embeddings: &[&Embedding]) -> Result<Self> {
        let count = embeddings.len();
        if count < 2 {
            return Ok(Self {
                points: vec![[0.0; 2]; count],
                explained: [0.0; 2],
            });
        }
        let mut mean = vec![0.0; DIMENSIONS];
        for embedding in embeddings {
            for (mean, value) in mean.iter_mut().zip(embedding.as_slice()) {
                *mean += f64::from(*value) / count as f64;
            }
        }
        let centred: Vec<f64> = (embeddings.iter())
            .flat_map(|embedding| embedding.as_slice().iter().zip(&mean))
            .map(|(value, mean)| f64::from(*value) - mean)
            .collect();
        let covariance = covariance(&centred, count);
        let total: f64 = covariance.iter().step_by(DIMENSIONS + 1).sum();
        let matrix = DenseMatrix::new(DIMENSIONS, DIMENSIONS, covariance, false).map_err(|error| anyhow!("{error}"))?;
        let decomposed = matrix.evd(true).map_err(|error| anyhow!("{error}"))?;
        let mut order: Vec<usize> = (0..decomposed.d.len()).collect();
        let variance = |axis: usize| decomposed.d.get(axis).copied().unwrap_or(0.0);
        order.sort_by(|one, other| variance(*other).total_cmp(&variance(*one)));
        let axes = [0, 1].map(|place| {
            let axis = order.get(place).copied().unwrap_or(0);
            let values: Vec<f64> = (0..DIMENSIONS).map(|row| at(&decomposed.V, row, axis)).collect();
            (oriented(values), variance(axis))
        });
        let on = |row: &[f64], axis: &[f64]| row.iter().zip(axis).map(|(value, axis)| value * axis).sum::<f64>();
        Ok(Self {
            points: (centred.chunks_exact(DIMENSIONS))
                .map(|row| axes.each_ref().map(|(axis, _)| on(row, axis)))
                .collect(),
            explained: axes.each_ref().map(|(_, variance)| {
                if total > 0.0 {
                    (variance / total).clamp(0.0, 1.0)
                } else {
                    0.0
                }
            }),
        })
    }
}

/// A number of a matrix; the trait is not imported, for it would hide the methods of slices.
fn at(matrix: &DenseMatrix<f64>, row: usize, column: usize) -> f64 {
    *arrays::Array::get(matrix, (row, column))
}

/// The axis the way round in which its largest part is positive.
fn oriented(mut axis: Vec<f64>) -> Vec<f64> {
    let largest = axis
        .iter()
        .copied()
        .reduce(|one, other| if other.abs() > one.abs() { other } else { one });
    if largest.is_some_and(|largest| largest < 0.0) {
        axis.iter_mut().for_each(|value| *value = -*value);
    }
    axis
}

/// Mean product of each two dimensions.
fn covariance(centred: &[f64], count: usize) -> Vec<f64> {
    let mut products = vec![0.0; DIMENSIONS * DIMENSIONS];
    for row in centred.chunks_exact(DIMENSIONS) {
        // A row of products at a time, from its diagonal on, so that the machine can do several at once.
        for ((place, value), line) in row.iter().enumerate().zip(products.chunks_exact_mut(DIMENSIONS)) {
            for (product, other) in line.iter_mut().zip(row).skip(place) {
                *product += value * other / count as f64;
            }
        }
    }
    for row in 0..DIMENSIONS {
        for column in row + 1..DIMENSIONS {
            if let Some(product) = products.get(row * DIMENSIONS + column).copied()
                && let Some(mirrored) = products.get_mut(column * DIMENSIONS + row)
            {
                *mirrored = product;
            }
        }
    }
    products
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use smartcore::decomposition::pca::{PCA, PCAParameters};

    use super::*;

    fn embedding(values: impl Fn(usize) -> f32) -> Embedding {
        Embedding::new((0..DIMENSIONS).map(values).collect()).unwrap()
    }

    #[test]
    fn what_differs_most_is_told_apart_first() {
        // Along one dimension by 10, along another by 1, and nothing else.
        let some: Vec<Embedding> = [(0.0, 0.0), (10.0, 0.0), (0.0, 1.0), (10.0, 1.0)]
            .map(|(far, near)| embedding(|place| [far, near].get(place).copied().unwrap_or(3.0)))
            .to_vec();
        let map = Map::of(&some.iter().collect::<Vec<_>>()).unwrap();
        // Embeddings are as long as 1, so all of it is scaled, and bent a little.
        let [far, near] = [map.points[1][0], map.points[2][1]];
        assert!(far > 0.08 && near > 0.008 && near < 0.009, "{map:?}");
        let expected = [[-far, -near], [far, -near], [-far, near], [far, near]];
        for (point, expected) in map.points.iter().zip(expected) {
            let apart = point.iter().zip(expected).map(|(one, other)| (one - other).abs());
            assert!(apart.fold(0.0, f64::max) < 2e-4, "{map:?}");
        }
        assert!((map.explained[0] - 0.99).abs() < 1e-3 && (map.explained[1] - 0.01).abs() < 1e-3);
    }

    #[test]
    fn it_is_what_smartcore_s_principal_components_are_but_for_their_signs() {
        let mut rng = fastrand::Rng::with_seed(4);
        let some: Vec<Embedding> = (0..40)
            .map(|_| {
                let values: Vec<f32> = (0..DIMENSIONS).map(|place| rng.f32() / (1.0 + place as f32)).collect();
                Embedding::new(values).unwrap()
            })
            .collect();
        let map = Map::of(&some.iter().collect::<Vec<_>>()).unwrap();
        let rows: Vec<Vec<f64>> = some
            .iter()
            .map(|it| it.as_slice().iter().map(|value| f64::from(*value)).collect())
            .collect();
        let matrix = DenseMatrix::from_2d_vec(&rows).unwrap();
        let pca = PCA::fit(&matrix, PCAParameters::default()).unwrap();
        let expected = pca.transform(&matrix).unwrap();
        for axis in [0, 1] {
            let sign = (map.points[0][axis] * at(&expected, 0, axis)).signum();
            for (row, point) in map.points.iter().enumerate() {
                assert!((point[axis] - sign * at(&expected, row, axis)).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn nothing_and_what_is_all_alike_have_a_map_too() {
        let one = embedding(|_| 1.0);
        assert_eq!(Map::of(&[]).unwrap(), Map::default());
        assert_eq!(Map::of(&[&one]).unwrap().points, [[0.0; 2]]);
        let alike = Map::of(&[&one, &one, &one]).unwrap();
        assert!(alike.points.iter().flatten().all(|value| value.abs() < 1e-9) && alike.explained == [0.0; 2]);
    }
}
