//! How much a text sounds like failure, whatever the stream: two committees of sentences, one that tells of things that
//! are broken, one that tells of things that go well or that somebody outside did wrong. Many phrasings, so that no one
//! word decides.
//!
//! What enters: the committees' embeddings, and that of a text. What leaves: the log-odds of a kernel classifier,
//! `ln mean exp(κ cos(text, failing)) − ln mean exp(κ cos(text, fine))`: each committee is a density of von Mises–Fisher
//! kernels (Hall, Watson and Cabrera, 1987). Around 0 is undecided; −1.5 to 1.7 is what logs show. Absent on purpose: anything learned
//! from the stream.

use super::detector::Sighting;
use crate::engine::embed::{EmbedError, Embedder, Embedding};

/// Concentration κ of the kernels: how alike a text must be to be moved by a sentence.
const CONCENTRATION: f64 = 10.0;

const FAILING: &str = include_str!("failing.txt");
const FINE: &str = include_str!("fine.txt");

/// Score above which a text is grave: repetition alone does not make it usual.
pub(super) const GRAVE: f64 = 0.6;

/// Score up to which a new text is harmless news.
pub(super) const HARMLESS: f64 = 0.2;

/// The embedded sentences.
#[derive(Clone, Debug, PartialEq)]
pub struct Committee {
    failing: Vec<Embedding>,
    fine: Vec<Embedding>,
}

impl Committee {
    /// Embeds the sentences; half a second of work, once a start.
    ///
    /// # Errors
    /// The model failed.
    pub fn embed(embedder: &dyn Embedder) -> Result<Self, EmbedError> {
        let embed = |text| embedder.embed(&sentences(text).collect::<Vec<&str>>());
        Ok(Self {
            failing: embed(FAILING)?,
            fine: embed(FINE)?,
        })
    }

    /// How much a text sounds like failure; of a text that the model knows in part, that part of it.
    pub(super) fn hear(&self, text: &Embedding) -> f32 {
        let density = |committee: &[Embedding]| {
            let sum: f64 = committee
                .iter()
                .map(|sentence| (CONCENTRATION * f64::from(sentence.cosine(text))).exp())
                .sum();
            (sum / committee.len().max(1) as f64).ln()
        };
        (density(&self.failing) - density(&self.fine)) as f32 * (1.0 - text.unknown_share())
    }

    /// Every sentence, of failure and fine, with the cosine to a text.
    pub(super) fn voices(&self, text: &Embedding) -> [Vec<(&'static str, f32)>; 2] {
        [(FAILING, &self.failing), (FINE, &self.fine)].map(|(words, committee)| {
            let cosines = committee.iter().map(|sentence| sentence.cosine(text));
            sentences(words).zip(cosines).collect()
        })
    }
}

fn sentences(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

pub(super) fn value(sighting: &Sighting<'_>) -> f64 {
    f64::from(sighting.template.failing.unwrap_or(0.0))
}

pub(super) fn reason(sighting: &Sighting<'_>) -> String {
    match sighting.series.episode.known {
        known if known < 1.0 => "speaks of failure, and was never said before",
        _ => "speaks of failure",
    }
    .to_owned()
}
