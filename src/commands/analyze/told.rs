//! What the engine told of incidents while it judged, put aside until it is known what each of them goes by.
//!
//! What enters: what was told with each request, and what is open at the end. What leaves: the episodes of one incident at a
//! time, in the order of the list, and the incident as it was told last. Promises: what an episode was tied to is kept as it
//! was told then; memory does not grow with episodes. Absent on purpose: how many records an episode has, which the rows
//! themselves say, and incidents that go on.

use std::{io, path::Path};

use anyhow::Result;
use prost::Message;

use super::{
    listing::{Grouped, Listing},
    sorted::Sorter,
    spool::Spool,
};
use crate::{
    commands::lineage::Heard,
    edge::api::{answers, proto},
    engine::{
        correlate::{Event, Happened, Incident, LinkState},
        state::State,
        tenant::Tenant,
    },
};

/// The attribute that carries an incident's id, as the agent writes it.
const INCIDENT_ID: &str = "incident_id";

/// An episode that began, and why it belongs where it does.
#[derive(Clone, PartialEq, Message)]
pub struct Episode {
    /// The incident, under the number it had then.
    #[prost(fixed64, tag = "1")]
    pub incident: u64,
    /// Time of its first record.
    #[prost(fixed64, tag = "2")]
    pub first_unix_nano: u64,
    /// Key of its template.
    #[prost(fixed64, tag = "3")]
    pub template: u64,
    /// Its service.
    #[prost(string, tag = "4")]
    pub service: String,
    /// Whether it opened the incident.
    #[prost(bool, tag = "5")]
    pub opened: bool,
    /// What it was tied to; none where it opened, and by the notebook's rule.
    #[prost(message, optional, tag = "6")]
    pub link: Option<LinkState>,
    /// Why it is anomalous.
    #[prost(string, tag = "7")]
    pub reason: String,
}

impl Episode {
    fn of(event: &Event) -> Option<Self> {
        let (incident, origin, opened, link) = match event {
            Event::Opened(it) => (it.id, &it.origin, true, None),
            Event::Joined(it) => (it.id, &it.origin, false, it.link.clone()),
            Event::Merged(_) | Event::Extended(_) | Event::Closed(_) => return None,
        };
        let origin = origin.as_ref()?;
        Some(Self {
            incident,
            first_unix_nano: origin.time_unix_nano,
            template: origin.template,
            service: origin.service.clone(),
            opened,
            link,
            reason: origin.reason.clone(),
        })
    }
}

/// An incident that is over, or open at the end.
#[derive(Clone, PartialEq, Message)]
struct Over {
    #[prost(fixed64, tag = "1")]
    number: u64,
    #[prost(message, optional, tag = "2")]
    incident: Option<proto::Incident>,
}

/// What came of one request.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    episodes: Vec<Episode>,
    #[prost(message, repeated, tag = "2")]
    incidents: Vec<Over>,
}

/// What was told of the incidents of the list, by their places.
#[derive(Debug)]
pub struct ByIncident {
    /// What was said in them.
    pub episodes: Grouped<Episode>,
    /// They themselves, the latest last.
    pub incidents: Grouped<proto::Incident>,
}

/// What was told so far.
#[derive(Debug)]
pub struct Told {
    spool: Spool,
}

impl Told {
    /// Nothing yet; it goes to this directory.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            spool: Spool::new(directory)?,
        })
    }

    /// Takes what was told while a request was judged.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn note(&mut self, heard: &Heard) -> io::Result<()> {
        let over = heard
            .changes
            .iter()
            .filter(|change| change.happened == Happened::Closed);
        self.append(&Request {
            episodes: heard.events.iter().filter_map(Episode::of).collect(),
            incidents: over.map(|change| Over::of(&change.incident)).collect(),
        })
    }

    /// Takes what is open at the end.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn note_open(&mut self, state: &State) -> io::Result<()> {
        self.append(&Request {
            episodes: Vec::new(),
            incidents: state.incidents().iter().map(Over::of).collect(),
        })
    }

    fn append(&mut self, request: &Request) -> io::Result<()> {
        if *request != Request::default() {
            self.spool.append(&request.encode_to_vec())?;
        }
        Ok(())
    }

    /// That was all: by incident.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn by_incident(self, listing: &Listing, directory: &Path) -> Result<ByIncident> {
        let mut frames = self.spool.frames();
        drop(self.spool);
        let (mut episodes, mut incidents) = (Sorter::new(directory), Sorter::new(directory));
        let (mut frame, mut count) = (Vec::new(), 0);
        while frames.next(&mut frame)? {
            let request = Request::decode(frame.as_slice())?;
            for episode in request.episodes {
                count += 1;
                if let Some(place) = listing.place(episode.incident) {
                    episodes.push([place as u64, episode.first_unix_nano, count], episode.encode_to_vec())?;
                }
            }
            for over in request.incidents {
                count += 1;
                if let (Some(place), Some(incident)) = (listing.place(over.number), over.incident) {
                    incidents.push([place as u64, count, 0], incident.encode_to_vec())?;
                }
            }
        }
        Ok(ByIncident {
            episodes: Grouped::of(episodes)?,
            incidents: Grouped::of(incidents)?,
        })
    }
}

impl Over {
    fn of(incident: &Incident) -> Self {
        Self {
            number: incident.id.to_raw(),
            // A file's records have neither a tenant nor an attribute of ours.
            incident: Some(answers::incident(&Tenant::default(), incident, INCIDENT_ID)),
        }
    }
}
