//! What is remembered of a service, and of the stream as a whole: how much is said, how much of it is new, how restless it
//! is, and how many anomalous episodes it had lately.
//!
//! Promises: bounded; beyond [`MAX_SERVICES`] further services share one place. Absent on purpose: templates.

use std::{collections::VecDeque, sync::Arc};

use super::{
    calibration::Calibration,
    company::Unrest,
    episode::{DECAY, decay},
};

/// Services that are told apart.
const MAX_SERVICES: usize = 4096;

/// Records after which news counts for a third.
const NEWS_FADING_RECORDS: f64 = 5000.0;

const HOUR_NANO: u64 = 3600 * 1_000_000_000;

/// Plain news openings within so long are looked at together.
const RELEASE_NANO: u64 = 300 * 1_000_000_000;

/// More plain news than this within [`RELEASE_NANO`] is a release, not an incident.
const RELEASE_OPENINGS: usize = 3;

/// Openings of plain news that are remembered.
pub(super) const LATEST_PLAIN_OPENINGS: usize = RELEASE_OPENINGS + 1;

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

    /// The service of this name, which was heard of: made if it is new and has a place of its own.
    pub(super) fn heard_of(&mut self, name: &str) -> Option<ServiceId> {
        if let Some(known) = self.all.iter().position(|service| *service.name == *name) {
            return Some(ServiceId(known as u32));
        }
        (self.all.len() < MAX_SERVICES).then(|| self.of(&Arc::from(name)))
    }

    /// What is usual in each.
    pub(super) fn calibrations(&self) -> impl Iterator<Item = (ServiceId, &Calibration)> {
        let all = self.all.iter().enumerate();
        all.map(|(place, service)| (ServiceId(place as u32), &service.calibration))
    }

    pub(super) fn get(&self, id: ServiceId) -> Option<&Service> {
        self.all.get(id.0 as usize)
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
        if self.plain_openings.len() > LATEST_PLAIN_OPENINGS {
            self.plain_openings.pop_front();
        }
        self.plain_openings.len() > RELEASE_OPENINGS
    }

    /// Takes note of an anomalous episode that was opened elsewhere: the budget is that of the service, wherever it speaks.
    pub(super) fn heard_opening(&mut self, at_unix_nano: u64) {
        if let Err(place) = self.openings.binary_search(&at_unix_nano) {
            self.openings.insert(place, at_unix_nano);
        }
        let latest = self.openings.back().copied().unwrap_or_default();
        forget_far(&mut self.openings, latest, HOUR_NANO);
    }

    /// Takes note of plain news that was about to be opened elsewhere.
    pub(super) fn heard_plain_openings(&mut self, at_unix_nano: &[u64]) {
        self.plain_openings.extend(at_unix_nano);
        self.plain_openings.make_contiguous().sort_unstable();
        let mut before = None;
        self.plain_openings.retain(|at| before.replace(*at) != Some(*at));
        let surplus = self.plain_openings.len().saturating_sub(LATEST_PLAIN_OPENINGS);
        self.plain_openings.drain(..surplus);
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

/// What so many records count for after the last of them, decayed.
pub(super) fn said(records: u64) -> f64 {
    (1.0 - decay(records as f64)) / (1.0 - DECAY)
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

    /// As many records were said elsewhere. What of them was new is told one by one ([`Stream::heard_news`]).
    pub(super) fn pass(&mut self, records: u64) {
        self.records = self.records * decay(records as f64) + said(records);
        let fading = (records as f64 * (1.0 - 1.0 / NEWS_FADING_RECORDS).ln()).exp();
        self.news *= fading;
        self.news_records = self.news_records * fading + (1.0 - fading) * NEWS_FADING_RECORDS;
    }

    /// Something harmless was new elsewhere.
    pub(super) fn heard_news(&mut self) {
        self.news += 1.0;
    }

    /// The surprise of something new, in nats: small where there is always something new.
    pub(super) fn news_surprise(&self) -> f64 {
        -((self.news + 1.0) / (self.news_records + 1.0)).ln()
    }
}
