//! The engine: OTLP bytes and time in, OTLP bytes with verdicts out. One room a step, in the order of the path:
//! `view` → `text` → `embed` → `score` → `correlate` → `annotate`; `tell` puts incidents into words, `snapshot` keeps what was
//! learned.
//!
//! [`front::Front`] is the parallel half: it reads a request and splices verdicts into its bytes, each a function of one
//! request. [`tenants::Tenants`] is the serial half, a [`state::State`] for each tenant: everything learned or remembered
//! changes in `commit` and its siblings, which are its sequenced inputs.
//!
//! Promises: no clock, file, socket, environment, thread or log call here; the same inputs in the same order give the
//! same output to the bit; a caller's identical retry gets the verdicts it got before and changes nothing.
//! Deliberately absent: how embeddings are made (they, or their absence, are input) and who waits for whom.

pub mod annotate;
pub mod cluster;
pub mod correlate;
pub mod embed;
pub mod feedback;
pub mod front;
pub mod opinions;
pub mod retries;
pub mod score;
mod slab;
pub mod snapshot;
pub mod state;
pub mod tell;
pub mod tenant;
pub mod tenants;
pub mod text;
pub mod verdict;
pub mod view;

/// Everything the engine can be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// How tenants are told apart.
    pub tenant: tenant::Settings,
    /// How the text of a record is read and masked.
    pub text: text::Settings,
    /// How templates are scored.
    pub score: score::Settings,
    /// How anomalous records become incidents.
    pub correlate: correlate::Settings,
    /// What is written on records, and under which names.
    pub annotate: annotate::Settings,
}

impl Settings {
    /// The parallel half.
    pub fn front(&self) -> front::Front {
        front::Front::new(self.text.clone(), self.annotate.clone()).with_tenants(&self.tenant)
    }

    /// The serial half, which has seen nothing.
    pub fn tenants(&self) -> tenants::Tenants {
        tenants::Tenants::new(
            self.tenant.clone(),
            self.text.store_text,
            self.score.clone(),
            self.correlate.clone(),
        )
    }

    /// The serial half for one tenant alone, which has seen nothing.
    pub fn state(&self) -> state::State {
        state::State::new(self.score.clone(), self.correlate.clone()).keeping_text(self.text.store_text)
    }
}
