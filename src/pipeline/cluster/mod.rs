//! Incidents of several agents as those of one.
//!
//! What enters: settings. What leaves: settings; the rest is to come. Absent on purpose: what carries entries ([`crate::edge::cluster`]).

mod settings;

pub use settings::Settings;
