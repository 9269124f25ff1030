//! The autoencoder 384-64-384: learns to reproduce what is usual, and so reproduces badly what is not.
//!
//! What enters: embeddings with weights. What leaves: weights of the network, and for an embedding the error of its
//! reconstruction. Promises: the same input and seed give the same bits; plain numbers, no threads. Absent on purpose:
//! what error is too large (`calibration`).
//!
//! Trained by Adam (Kingma and Ba, 2015) on the squared error, hidden layer ReLU, weights initialised uniformly after
//! Glorot and Bengio (2010).

use fastrand::Rng;
use matrixmultiply::sgemm;
use serde::{Deserialize, Serialize};

use crate::engine::embed::{DIMENSIONS, Embedding};

/// Units of the hidden layer.
pub const HIDDEN: usize = 64;

const BATCH: usize = 32;
const LEARNING_RATE: f32 = 1e-3;
const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
const EPSILON: f32 = 1e-7;

/// What the output layer does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Any number can be reproduced; inputs are centred on their mean.
    #[default]
    Linear,
    /// The notebook's: numbers between 0 and 1 only, so that negative ones never come back; inputs as they are.
    Sigmoid,
}

/// A trained network.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoencoder {
    activation: Activation,
    /// Subtracted from inputs; zero for sigmoid.
    mean: Vec<f32>,
    layers: Layers,
}

/// Weights, row-major: 384 × 64, 64, 64 × 384, 384.
#[derive(Clone, Debug, PartialEq)]
struct Layers {
    encode: Vec<f32>,
    encode_bias: Vec<f32>,
    decode: Vec<f32>,
    decode_bias: Vec<f32>,
}

/// Which rows make up each batch.
pub enum Schedule {
    /// This many batches, rows drawn with the probability of their weights.
    Steps(usize),
    /// Every row once an epoch, shuffled; weights play no role.
    Epochs(usize),
}

impl Autoencoder {
    /// Trains a network; `weights` go with `rows`. Without rows it reproduces nothing but the mean of nothing.
    pub fn fit(rows: &[&Embedding], weights: &[f64], activation: Activation, schedule: &Schedule, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mean = match activation {
            Activation::Linear => weighted_mean(rows, weights),
            Activation::Sigmoid => vec![0.0; DIMENSIONS],
        };
        let mut trainer = Trainer::new(Layers::random(&mut rng), activation);
        let mut inputs = vec![0f32; BATCH * DIMENSIONS];
        let mut train = |picked: &[usize]| {
            for (input, row) in inputs.chunks_exact_mut(DIMENSIONS).zip(picked) {
                let values = rows.get(*row).map(|row| row.as_slice()).unwrap_or_default();
                for ((input, value), mean) in input.iter_mut().zip(values).zip(&mean) {
                    *input = value - mean;
                }
            }
            let filled = inputs.get(..picked.len() * DIMENSIONS).unwrap_or_default();
            trainer.step(filled, picked.len());
        };
        match schedule {
            _ if rows.is_empty() => {}
            Schedule::Steps(steps) => {
                let cumulated = cumulated(weights);
                let total = cumulated.last().copied().unwrap_or(0.0);
                let mut picked = [0usize; BATCH];
                for _ in 0..*steps {
                    for slot in &mut picked {
                        let at = rng.f64() * total;
                        *slot = cumulated.partition_point(|sum| *sum <= at).min(rows.len() - 1);
                    }
                    train(&picked);
                }
            }
            Schedule::Epochs(epochs) => {
                let mut order: Vec<usize> = (0..rows.len()).collect();
                for _ in 0..*epochs {
                    rng.shuffle(&mut order);
                    order.chunks(BATCH).for_each(&mut train);
                }
            }
        }
        Self {
            activation,
            mean,
            layers: trainer.layers,
        }
    }

    /// Length of the difference between an embedding and its reconstruction: 0 is reproduced perfectly; 1 is the
    /// embedding's own length.
    pub fn error(&self, embedding: &Embedding) -> f32 {
        self.squared_error(&self.centred(embedding)).sqrt()
    }

    /// Mean squared difference over the dimensions, the notebook's error.
    pub fn mean_squared_error(&self, embedding: &Embedding) -> f32 {
        self.squared_error(&self.centred(embedding)) / DIMENSIONS as f32
    }

    fn centred(&self, embedding: &Embedding) -> Vec<f32> {
        embedding
            .as_slice()
            .iter()
            .zip(&self.mean)
            .map(|(value, mean)| value - mean)
            .collect()
    }

    fn squared_error(&self, input: &[f32]) -> f32 {
        let mut hidden = self.layers.encode_bias.clone();
        product(input, 1, false, &self.layers.encode, HIDDEN, false, 1.0, &mut hidden);
        for value in &mut hidden {
            *value = value.max(0.0);
        }
        let mut output = self.layers.decode_bias.clone();
        product(
            &hidden,
            1,
            false,
            &self.layers.decode,
            DIMENSIONS,
            false,
            1.0,
            &mut output,
        );
        self.activation.apply(&mut output);
        input
            .iter()
            .zip(&output)
            .map(|(input, output)| (output - input) * (output - input))
            .sum()
    }

    /// What its output layer does.
    pub(super) fn activation(&self) -> Activation {
        self.activation
    }

    /// The network as numbers, for a snapshot.
    pub(super) fn parts(&self) -> [&Vec<f32>; 5] {
        let Layers {
            encode,
            encode_bias,
            decode,
            decode_bias,
        } = &self.layers;
        [&self.mean, encode, encode_bias, decode, decode_bias]
    }

    /// The network of these numbers; `None` when they are not as many as they should be.
    pub(super) fn of_parts(activation: Activation, parts: [Vec<f32>; 5]) -> Option<Self> {
        let lengths = [DIMENSIONS, DIMENSIONS * HIDDEN, HIDDEN, HIDDEN * DIMENSIONS, DIMENSIONS];
        if parts.iter().zip(lengths).any(|(part, length)| part.len() != length) {
            return None;
        }
        let [mean, encode, encode_bias, decode, decode_bias] = parts;
        Some(Self {
            activation,
            mean,
            layers: Layers {
                encode,
                encode_bias,
                decode,
                decode_bias,
            },
        })
    }
}

impl Activation {
    fn apply(self, values: &mut [f32]) {
        if self == Self::Sigmoid {
            for value in values {
                *value = 1.0 / (1.0 + (-*value).exp());
            }
        }
    }
}

impl Layers {
    fn random(rng: &mut Rng) -> Self {
        let limit = (6.0 / (DIMENSIONS + HIDDEN) as f32).sqrt();
        let mut uniform = |count: usize| {
            (0..count)
                .map(|_| (rng.f32() * 2.0 - 1.0) * limit)
                .collect::<Vec<f32>>()
        };
        Self {
            encode: uniform(DIMENSIONS * HIDDEN),
            encode_bias: vec![0.0; HIDDEN],
            decode: uniform(HIDDEN * DIMENSIONS),
            decode_bias: vec![0.0; DIMENSIONS],
        }
    }

    fn zero() -> Self {
        Self {
            encode: vec![0.0; DIMENSIONS * HIDDEN],
            encode_bias: vec![0.0; HIDDEN],
            decode: vec![0.0; HIDDEN * DIMENSIONS],
            decode_bias: vec![0.0; DIMENSIONS],
        }
    }

    fn each_mut(&mut self) -> [&mut Vec<f32>; 4] {
        [
            &mut self.encode,
            &mut self.encode_bias,
            &mut self.decode,
            &mut self.decode_bias,
        ]
    }
}

/// The network in training, with Adam's moments.
struct Trainer {
    activation: Activation,
    layers: Layers,
    first: Layers,
    second: Layers,
    gradient: Layers,
    hidden: Vec<f32>,
    output: Vec<f32>,
    back: Vec<f32>,
    steps: i32,
}

impl Trainer {
    fn new(layers: Layers, activation: Activation) -> Self {
        Self {
            activation,
            layers,
            first: Layers::zero(),
            second: Layers::zero(),
            gradient: Layers::zero(),
            hidden: Vec::new(),
            output: Vec::new(),
            back: Vec::new(),
            steps: 0,
        }
    }

    /// One batch of `rows` inputs.
    fn step(&mut self, input: &[f32], rows: usize) {
        repeat_into(&self.layers.encode_bias, rows, &mut self.hidden);
        product(
            input,
            rows,
            false,
            &self.layers.encode,
            HIDDEN,
            false,
            1.0,
            &mut self.hidden,
        );
        for value in &mut self.hidden {
            *value = value.max(0.0);
        }
        repeat_into(&self.layers.decode_bias, rows, &mut self.output);
        product(
            &self.hidden,
            rows,
            false,
            &self.layers.decode,
            DIMENSIONS,
            false,
            1.0,
            &mut self.output,
        );
        self.activation.apply(&mut self.output);

        // The output becomes the gradient of the loss with respect to what went into the activation.
        let scale = 2.0 / rows as f32;
        for (output, input) in self.output.iter_mut().zip(input) {
            let slope = match self.activation {
                Activation::Linear => 1.0,
                Activation::Sigmoid => *output * (1.0 - *output),
            };
            *output = (*output - input) * scale * slope;
        }
        self.back.clear();
        self.back.resize(rows * HIDDEN, 0.0);
        product(
            &self.output,
            rows,
            false,
            &self.layers.decode,
            HIDDEN,
            true,
            0.0,
            &mut self.back,
        );
        for (back, hidden) in self.back.iter_mut().zip(&self.hidden) {
            if *hidden <= 0.0 {
                *back = 0.0;
            }
        }
        product(
            input,
            DIMENSIONS,
            true,
            &self.back,
            HIDDEN,
            false,
            0.0,
            &mut self.gradient.encode,
        );
        product(
            &self.hidden,
            HIDDEN,
            true,
            &self.output,
            DIMENSIONS,
            false,
            0.0,
            &mut self.gradient.decode,
        );
        column_sums(&self.back, &mut self.gradient.encode_bias);
        column_sums(&self.output, &mut self.gradient.decode_bias);
        self.adam();
    }

    fn adam(&mut self) {
        self.steps = self.steps.saturating_add(1);
        let correct_1 = 1.0 / (1.0 - BETA_1.powi(self.steps));
        let correct_2 = 1.0 / (1.0 - BETA_2.powi(self.steps));
        let moments = self.first.each_mut().into_iter().zip(self.second.each_mut());
        let parameters = self.layers.each_mut().into_iter().zip(self.gradient.each_mut());
        for ((parameters, gradients), (firsts, seconds)) in parameters.zip(moments) {
            let moments = firsts.iter_mut().zip(seconds);
            for ((parameter, gradient), (first, second)) in parameters.iter_mut().zip(gradients).zip(moments) {
                *first = BETA_1 * *first + (1.0 - BETA_1) * *gradient;
                *second = BETA_2 * *second + (1.0 - BETA_2) * *gradient * *gradient;
                *parameter -= LEARNING_RATE * (*first * correct_1) / ((*second * correct_2).sqrt() + EPSILON);
            }
        }
    }
}

/// `out = left · right + keep · out`; either factor transposed if its flag says so. `rows` × `columns` is the shape of
/// `out`; the inner length follows from `left`. Does nothing when the lengths do not fit.
#[expect(
    clippy::too_many_arguments,
    reason = "a matrix product has two factors, two flags and a shape"
)]
fn product(
    left: &[f32],
    rows: usize,
    left_transposed: bool,
    right: &[f32],
    columns: usize,
    right_transposed: bool,
    keep: f32,
    out: &mut [f32],
) {
    let inner = left.len() / rows.max(1);
    if left.len() != rows * inner || right.len() != inner * columns || out.len() != rows * columns {
        return;
    }
    let strides = |transposed: bool, height: usize, width: usize| {
        if transposed {
            (1, height as isize)
        } else {
            (width as isize, 1)
        }
    };
    let (left_row, left_column) = strides(left_transposed, rows, inner);
    let (right_row, right_column) = strides(right_transposed, inner, columns);
    // Sound: the lengths were just checked against the shapes, and `out` is borrowed for itself alone.
    #[expect(
        unsafe_code,
        reason = "matrixmultiply takes pointers; the alternatives train ten times slower"
    )]
    unsafe {
        sgemm(
            rows,
            inner,
            columns,
            1.0,
            left.as_ptr(),
            left_row,
            left_column,
            right.as_ptr(),
            right_row,
            right_column,
            keep,
            out.as_mut_ptr(),
            columns as isize,
            1,
        );
    }
}

fn repeat_into(row: &[f32], times: usize, out: &mut Vec<f32>) {
    out.clear();
    for _ in 0..times {
        out.extend_from_slice(row);
    }
}

fn column_sums(rows: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    for row in rows.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

fn weighted_mean(rows: &[&Embedding], weights: &[f64]) -> Vec<f32> {
    let total: f64 = weights.iter().sum();
    let mut mean = vec![0f64; DIMENSIONS];
    for (row, weight) in rows.iter().zip(weights) {
        for (mean, value) in mean.iter_mut().zip(row.as_slice()) {
            *mean += weight * f64::from(*value);
        }
    }
    mean.into_iter()
        .map(|sum| if total > 0.0 { (sum / total) as f32 } else { 0.0 })
        .collect()
}

fn cumulated(weights: &[f64]) -> Vec<f64> {
    weights
        .iter()
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    /// Embeddings near a plane of two directions.
    fn plane(count: usize) -> Vec<Embedding> {
        let mut rng = Rng::with_seed(7);
        (0..count)
            .map(|_| {
                let mut values: Vec<f32> = (0..DIMENSIONS).map(|_| (rng.f32() - 0.5) * 0.004).collect();
                values[0] += rng.f32();
                values[1] += rng.f32();
                Embedding::new(values).unwrap()
            })
            .collect()
    }

    fn axis(index: usize) -> Embedding {
        let mut values = vec![0.0; DIMENSIONS];
        values[index] = 1.0;
        Embedding::new(values).unwrap()
    }

    #[test]
    fn what_it_has_seen_comes_back_and_what_it_has_not_does_not() {
        let rows = plane(60);
        let rows: Vec<&Embedding> = rows.iter().collect();
        let network = Autoencoder::fit(&rows, &[1.0; 60], Activation::Linear, &Schedule::Steps(600), 1);
        let seen = rows.iter().map(|row| network.error(row)).fold(0.0, f32::max);
        assert!(seen < 0.3 && network.error(&axis(300)) > 0.8, "{seen}");
    }

    #[test]
    fn the_same_seed_gives_the_same_bits() {
        let rows = plane(20);
        let rows: Vec<&Embedding> = rows.iter().collect();
        for activation in [Activation::Linear, Activation::Sigmoid] {
            let fit = |seed| Autoencoder::fit(&rows, &[1.0; 20], activation, &Schedule::Epochs(3), seed);
            assert_eq!(fit(1), fit(1));
            assert_ne!(fit(1), fit(2));
        }
    }

    #[test]
    fn its_gradient_is_the_slope_of_the_loss() {
        let rows = plane(4);
        let input: Vec<f32> = rows.iter().flat_map(|row| row.as_slice().to_vec()).collect();
        for activation in [Activation::Linear, Activation::Sigmoid] {
            let layers = Layers::random(&mut Rng::with_seed(3));
            let loss = |layers: &Layers| -> f64 {
                let network = Autoencoder {
                    activation,
                    mean: vec![0.0; DIMENSIONS],
                    layers: layers.clone(),
                };
                rows.iter()
                    .map(|row| f64::from(network.squared_error(row.as_slice())))
                    .sum::<f64>()
                    / 4.0
            };
            let mut trainer = Trainer::new(layers.clone(), activation);
            trainer.step(&input, 4);
            for (part, index) in [(0, 70), (1, 5), (2, 1000), (3, 17)] {
                let (mut up, mut down) = (layers.clone(), layers.clone());
                up.each_mut()[part][index] += 1e-2;
                down.each_mut()[part][index] -= 1e-2;
                let slope = (loss(&up) - loss(&down)) / 2e-2;
                let gradient = f64::from(trainer.gradient.each_mut()[part][index]);
                assert!(
                    (slope - gradient).abs() < 2e-3 + 0.05 * slope.abs(),
                    "{activation:?} {part}: {slope} {gradient}"
                );
            }
        }
    }
}
