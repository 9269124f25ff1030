//! What of the tenants is worth a line in the log.
//!
//! What enters: what the states note, and what concerns all of them. What leaves: sentences that name the tenant. Absent on purpose: the log.

use std::fmt;

use crate::engine::{score, tenant::Tenant};

/// Something worth one line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It is about one tenant.
    Of(Tenant, score::Note),
    /// A tenant came when all places were taken.
    TooMany {
        /// How many places there are.
        max_tenants: usize,
    },
    /// The machine's clock went back.
    ClockWentBack {
        /// By how many seconds.
        by_s: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(tenant, note) => match tenant.name() {
                None => note.fmt(out),
                Some(name) => write!(out, "tenant {name}: {note}"),
            },
            Self::TooMany { max_tenants } => write!(
                out,
                "more than {max_tenants} tenants: the records of further ones are judged together, without quotations; \
                 raise tenant.max_tenants to tell them apart"
            ),
            Self::ClockWentBack { by_s } => write!(
                out,
                "the clock of this machine went back by {by_s} s: open incidents are closed, and new ones begin by the new time"
            ),
        }
    }
}
