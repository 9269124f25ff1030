//! What is remembered of a service, and of the stream as a whole: how much is said, how much of it is new, how restless it
//! is, and how many anomalous episodes it had lately.
//!
//! Promises: bounded; beyond [`MAX_SERVICES`] further services share one place. Absent on purpose: templates.

use std::{collections::VecDeque, sync::Arc};

use super::{calibration::Calibration, company::Unrest, episode::DECAY};

/// Services that are told apart.
const MAX_SERVICES: usize = 4096;

/// Records after which news counts for a third.
const NEWS_FADING_RECORDS: f64 = 5000.0;

const HOUR_NANO: u64 = 3600 * 1_000_000_000;

/// Plain news openings within so long are looked at together.
const RELEASE_NANO: u64 = 300 * 1_000_000_000;

/// More plain news than this within [`RELEASE_NANO`] is a release, not an incident.
const RELEASE_OPENINGS: usize = 3;

/// A service, as the place of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceId(pub(super) u32);

/// What is remembered of a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Service {
    pub(super) name: Arc<str>,
    pub(super) records: u64,
    pub(super) unrest: Unrest,
    pub(super) calibration: Calibration,
    /// When anomalous episodes were opened within the last hour.
    pub(super) openings: VecDeque<u64>,
    /// When episodes of plain news were about to be opened within the last minutes.
    pub(super) plain_openings: VecDeque<u64>,
    /// When the last note about it was made; 0 is never.
    pub(super) noted_unix_nano: u64,
}

/// The services, in order of first sight.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Services {
    pub(super) all: Vec<Service>,
}

impl Services {
    /// The service of this name; made if it is new.
    pub(super) fn of(&mut self, name: &Arc<str>) -> ServiceId {
        if let Some(known) = self.all.iter().position(|service| service.name == *name) {
            return ServiceId(known as u32);
        }
        if self.all.len() < MAX_SERVICES {
            self.all.push(Service::new(Arc::clone(name)));
        }
        ServiceId(self.all.len().saturating_sub(1) as u32)
    }

    pub(super) fn get_mut(&mut self, id: ServiceId) -> Option<&mut Service> {
        self.all.get_mut(id.0 as usize)
    }
}

impl Service {
    /// A service that said nothing yet.
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            records: 0,
            unrest: Unrest::default(),
            calibration: Calibration::default(),
            openings: VecDeque::new(),
            plain_openings: VecDeque::new(),
            noted_unix_nano: 0,
        }
    }

    /// Whether one more anomalous episode may be opened under the hourly budget; counts it if so.
    pub(super) fn spend(&mut self, now_unix_nano: u64, max_an_hour: usize) -> bool {
        forget_far(&mut self.openings, now_unix_nano, HOUR_NANO);
        let granted = self.openings.len() < max_an_hour;
        if granted {
            self.openings.push_back(now_unix_nano);
        }
        granted
    }

    /// Counts an episode that is news and nothing worse; whether there are so many that it is a release.
    pub(super) fn is_release(&mut self, now_unix_nano: u64) -> bool {
        forget_far(&mut self.plain_openings, now_unix_nano, RELEASE_NANO);
        self.plain_openings.push_back(now_unix_nano);
        if self.plain_openings.len() > RELEASE_OPENINGS + 1 {
            self.plain_openings.pop_front();
        }
        self.plain_openings.len() > RELEASE_OPENINGS
    }

    /// Whether it is time for a note about the service: one an hour.
    pub(super) fn may_note(&mut self, now_unix_nano: u64) -> bool {
        let due = self.noted_unix_nano == 0 || now_unix_nano.saturating_sub(self.noted_unix_nano) > HOUR_NANO;
        if due {
            self.noted_unix_nano = now_unix_nano;
        }
        due
    }
}

/// Forgets what is longer ago than `within_nano`, and what lies as far ahead: a clock that was wrong has been set right.
fn forget_far(times: &mut VecDeque<u64>, now_unix_nano: u64, within_nano: u64) {
    while times
        .front()
        .is_some_and(|at| *at < now_unix_nano.saturating_sub(within_nano))
    {
        times.pop_front();
    }
    while times
        .back()
        .is_some_and(|at| *at > now_unix_nano.saturating_add(within_nano))
    {
        times.pop_back();
    }
}

/// The stream as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stream {
    /// Records, decayed.
    pub(super) records: f64,
    /// Time of the first record.
    pub(super) first_unix_nano: u64,
    /// Harmless first sights, and records, both fading.
    pub(super) news: f64,
    pub(super) news_records: f64,
}

impl Stream {
    /// Counts a record; `harmless_news` is one whose template is new and does not sound like failure.
    pub(super) fn count(&mut self, time_unix_nano: u64, harmless_news: bool) {
        if self.records == 0.0 {
            self.first_unix_nano = time_unix_nano;
        }
        self.records = self.records * DECAY + 1.0;
        let fading = 1.0 - 1.0 / NEWS_FADING_RECORDS;
        self.news = self.news * fading + f64::from(u8::from(harmless_news));
        self.news_records = self.news_records * fading + 1.0;
    }

    /// The surprise of something new, in nats: small where there is always something new.
    pub(super) fn news_surprise(&self) -> f64 {
        -((self.news + 1.0) / (self.news_records + 1.0)).ln()
    }
}
