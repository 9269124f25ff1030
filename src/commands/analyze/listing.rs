//! Which incidents are listed, in which order, and their records gathered from all over the input, one incident at a time.
//!
//! What enters: tallies by number, and the rows that carry one. What leaves: for a row's number the incident it goes by,
//! and incidents in order of time with all their records. Promises: what annotated.csv and incidents.csv say is the same;
//! the records of one incident are in memory at a time. Absent on purpose: what is written of them, see `incident_list`.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    marker::PhantomData,
    path::Path,
};

use anyhow::Result;
use prost::Message;

use super::{
    judging::Tally,
    rows,
    sorted::{Key, Sorted, Sorter},
    verdicts::Verdict,
};
use crate::{
    commands::digest::{Digest, Member},
    engine::text::TemplateKey,
};

/// An incident that is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The number it goes by in the end.
    pub number: u64,
    /// Its id as it is written.
    pub name: String,
    /// Its rows.
    pub rows: usize,
}

/// The list, and where a number leads.
#[derive(Debug, Default)]
pub struct Listing {
    /// In order.
    pub entries: Vec<Entry>,
    place_of: HashMap<u64, usize>,
}

/// How incidents are told apart and ordered.
pub struct Order<'a> {
    /// The number that an incident goes by in the end.
    pub last: &'a dyn Fn(u64) -> u64,
    /// How that is written.
    pub name: &'a dyn Fn(u64) -> String,
    /// By number, not by time.
    pub by_number: bool,
    /// Incidents with fewer rows are not listed.
    pub min_size: usize,
}

impl Listing {
    /// Lists incidents: by the time of their first row, those without times last, equals as they come in the input.
    pub fn of(tallies: &BTreeMap<u64, Tally>, order: &Order<'_>) -> Self {
        let mut merged: BTreeMap<u64, Tally> = BTreeMap::new();
        for (number, tally) in tallies {
            let known = merged.entry((order.last)(*number));
            known.and_modify(|known| *known = known.and(*tally)).or_insert(*tally);
        }
        let mut listed: Vec<(u64, Tally)> = merged.into_iter().collect();
        listed.retain(|(_, tally)| tally.rows >= order.min_size);
        if !order.by_number {
            listed.sort_by_key(|(_, tally)| (tally.first_unix_nano.unwrap_or(u64::MAX), tally.first_place));
        }
        let places: HashMap<u64, usize> = (0..)
            .zip(&listed)
            .map(|(place, (number, _))| (*number, place))
            .collect();
        let place_of = |number: &u64| Some((*number, *places.get(&(order.last)(*number))?));
        Self {
            place_of: tallies.keys().filter_map(place_of).collect(),
            entries: listed
                .iter()
                .map(|(number, tally)| Entry {
                    number: *number,
                    name: (order.name)(*number),
                    rows: tally.rows,
                })
                .collect(),
        }
    }

    /// Where the incident of this number stands in the list, if it does.
    pub fn place(&self, number: u64) -> Option<usize> {
        self.place_of.get(&number).copied()
    }
}

/// A row of an incident, kept until all of it are found.
#[derive(Clone, PartialEq, Message)]
pub struct Kept {
    /// Nanoseconds since the Unix epoch and one; 0 is none.
    #[prost(fixed64, tag = "1")]
    time: u64,
    /// What emitted it.
    #[prost(string, tag = "2")]
    pub service: String,
    /// OTLP severity number, 0 when unknown.
    #[prost(sint32, tag = "3")]
    pub severity_number: i32,
    /// What it says.
    #[prost(string, tag = "4")]
    pub message: String,
    /// Whether it is anomalous.
    #[prost(bool, tag = "5")]
    pub is_anomaly: bool,
    /// Key of its template; the notebook has none.
    #[prost(fixed64, optional, tag = "6")]
    pub template: Option<u64>,
}

/// What was put aside of incidents, each under the incident's place in the list: one incident at a time.
#[derive(Debug)]
pub struct Grouped<M> {
    sorted: Sorted,
    next: Option<(Key, Vec<u8>)>,
    kind: PhantomData<M>,
}

impl<M: Message + Default> Grouped<M> {
    /// All are there; the first number of a key is the place of its incident.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn of(sorter: Sorter) -> io::Result<Self> {
        let mut sorted = sorter.sorted()?;
        Ok(Self {
            next: sorted.next()?,
            sorted,
            kind: PhantomData,
        })
    }

    /// What there is of the next incident, in order of its keys. Ask for places in their order, and for none twice.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn take(&mut self, place: usize) -> Result<Vec<M>> {
        let mut all = Vec::new();
        while let Some((_, bytes)) = self.next.take_if(|(key, _)| key.first() == Some(&(place as u64))) {
            all.push(M::decode(bytes.as_slice())?);
            self.next = self.sorted.next()?;
        }
        Ok(all)
    }
}

/// Collects the rows of incidents.
#[derive(Debug)]
pub struct Members {
    sorter: Sorter,
    anomalies_lead: bool,
}

impl Members {
    /// None yet; what does not fit into memory goes to this directory. `anomalies_lead`: an anomalous record leads an
    /// incident before others.
    pub fn new(directory: &Path, anomalies_lead: bool) -> Self {
        Self {
            sorter: Sorter::new(directory),
            anomalies_lead,
        }
    }

    /// Takes a row of the incident at this place of the list.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn push(&mut self, incident: usize, place: u64, row: &rows::PutAside<'_>, verdict: &Verdict) -> io::Result<()> {
        let kept = Kept {
            time: row.time_unix_nano.map_or(0, |time| time.saturating_add(1)),
            service: row.service.to_owned(),
            severity_number: row.severity_number,
            message: row.message().to_owned(),
            is_anomaly: verdict.is_anomaly,
            template: verdict.template.map(|template| template.0),
        };
        let time = row.time_unix_nano.unwrap_or(u64::MAX);
        self.sorter.push([incident as u64, time, place], kept.encode_to_vec())
    }

    /// All are there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn gathered(self) -> io::Result<Gathered> {
        Ok(Gathered {
            rows: Grouped::of(self.sorter)?,
            anomalies_lead: self.anomalies_lead,
        })
    }
}

/// The rows of incidents, in the order of the list.
#[derive(Debug)]
pub struct Gathered {
    rows: Grouped<Kept>,
    anomalies_lead: bool,
}

/// An incident, all of it.
pub struct Whole<'a> {
    /// Where it stands in the list.
    pub place: usize,
    /// What the list says of it.
    pub entry: &'a Entry,
    /// Its rows, by time.
    pub rows: &'a [Kept],
    /// The same for people.
    pub digest: &'a Digest<'a>,
}

impl Gathered {
    /// Shows the incidents one after the other.
    ///
    /// # Errors
    /// Those of the disk, and of whoever looks.
    pub fn each(mut self, listing: &Listing, mut show: impl FnMut(&Whole<'_>) -> Result<()>) -> Result<()> {
        for (place, entry) in listing.entries.iter().enumerate() {
            let rows = self.rows.take(place)?;
            let digest = Digest {
                incident_id: entry.name.clone(),
                members: rows.iter().map(|row| row.member(self.anomalies_lead)).collect(),
            };
            show(&Whole {
                place,
                entry,
                rows: &rows,
                digest: &digest,
            })?;
        }
        Ok(())
    }
}

impl Kept {
    /// When it happened, if it says so legibly.
    pub fn time_unix_nano(&self) -> Option<u64> {
        self.time.checked_sub(1)
    }

    fn member(&self, anomalies_lead: bool) -> Member<'_> {
        Member {
            time_unix_nano: self.time_unix_nano(),
            service: &self.service,
            severity_number: self.severity_number,
            message: &self.message,
            is_anomaly: self.is_anomaly && anomalies_lead,
            template: self.template.map(TemplateKey),
        }
    }
}

#[cfg(test)]
impl Kept {
    /// A row for tests.
    pub fn of(time_unix_nano: Option<u64>, service: &str, template: Option<u64>, is_anomaly: bool) -> Self {
        Self {
            time: time_unix_nano.map_or(0, |time| time + 1),
            service: service.to_owned(),
            severity_number: 9,
            message: String::new(),
            is_anomaly,
            template,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(rows: usize, first_unix_nano: Option<u64>, first_place: u64) -> Tally {
        Tally {
            rows,
            first_unix_nano,
            first_place,
        }
    }

    #[test]
    fn merged_incidents_are_one_and_small_ones_are_not_listed() {
        let tallies = BTreeMap::from([
            (1, tally(2, Some(50), 9)),
            (2, tally(3, Some(40), 7)),
            (3, tally(1, Some(10), 0)),
            (4, tally(2, None, 3)),
            (5, tally(2, Some(40), 2)),
        ]);
        let order = Order {
            last: &|number| if number == 2 { 1 } else { number },
            name: &|number| format!("incident {number}"),
            by_number: false,
            min_size: 2,
        };
        let listing = Listing::of(&tallies, &order);
        let told: Vec<_> = listing
            .entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.rows))
            .collect();
        assert_eq!(told, [("incident 5", 2), ("incident 1", 5), ("incident 4", 2)]);
        assert_eq!(
            [1, 2, 3, 4, 5].map(|number| listing.place(number)),
            [Some(1), Some(1), None, Some(2), Some(0)]
        );
        let listing = Listing::of(
            &tallies,
            &Order {
                by_number: true,
                ..order
            },
        );
        assert_eq!(listing.entries.first().map(|entry| entry.rows), Some(5));
    }
}
