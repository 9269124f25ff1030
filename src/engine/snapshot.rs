//! What was learned, as bytes that can be trusted after a restart: the snapshot, and the journal of what came after it.
//!
//! In: the rooms' states for each tenant. Out: one checksummed block of bytes, and back. A snapshot is
//! `HRBGRSNP`, format version (u32), payload length (u64), xxh3-64 of all that and the payload (u64), payload: a protobuf
//! message; numbers little-endian. These 28 bytes are the same in every version to come. A journal is a row of frames:
//! length (u32), xxh3-64 of length and payload (u64), payload.
//!
//! Promises: what decodes is what was encoded; anything else is told apart (no snapshot, damaged, of another version, of
//! another model) and never a panic; a journal gives its entries up to the first damaged one. Absent on purpose: files
//! (`edge::store`), and knowledge of what the rooms' bytes mean.

use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use super::{
    correlate::{CorrelatorState, Event, EventMessage, Incident, PastIncident},
    score::{Learned, ScorerState},
    tenant::{Tenant, TenantName},
};

/// The format this version writes. 1 knew no tenants, 2 one rule of correlation only. What can be added as a protobuf field
/// needs no new format.
pub const FORMAT: u32 = 3;
/// The oldest format it reads: from 3 on, each version reads the format before its own (`tests/all/upgrading.rs`).
pub const OLDEST_FORMAT: u32 = 3;
const MAGIC: &[u8; 8] = b"HRBGRSNP";
const HEADER_BYTES: usize = 28;
const FRAME_HEADER_BYTES: usize = 12;

/// What is kept over a restart. A room's bytes are its own protobuf message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Snapshot {
    /// Version of the model that made the embeddings; without that model they mean nothing.
    #[prost(string, tag = "1")]
    pub model_version: String,
    /// Journals of this epoch and later come after this snapshot.
    #[prost(uint64, tag = "2")]
    pub journal_epoch: u64,
    /// A hash of the settings in force, so that a change can be told.
    #[prost(fixed64, tag = "3")]
    pub config_fingerprint: u64,
    /// When it was made, Unix nanoseconds.
    #[prost(fixed64, tag = "4")]
    pub saved_at_unix_nano: u64,
    /// Version of the program that made it, for people.
    #[prost(string, tag = "5")]
    pub program_version: String,
    /// What was learned of each tenant.
    #[prost(message, repeated, tag = "13")]
    pub tenants: Vec<TenantSection>,
    /// Requests answered lately, so that a retry is not judged twice.
    #[prost(bytes = "vec", tag = "12")]
    pub answered_requests: Vec<u8>,
}

/// What was learned of one tenant.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TenantSection {
    #[prost(message, optional, tag = "1")]
    tenant: Option<TenantName>,
    /// The scorer: autoencoder, calibration, templates with embeddings.
    #[prost(bytes = "vec", tag = "2")]
    scorer: Vec<u8>,
    /// The correlator: open incidents, aliases, ids given.
    #[prost(bytes = "vec", tag = "3")]
    correlator: Vec<u8>,
    /// Incidents that were told and are over, in the order they ended.
    #[prost(message, repeated, tag = "4")]
    pub past: Vec<PastIncident>,
}

impl Snapshot {
    /// How much was learned, summed over tenants, and how many incidents are open.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`].
    pub fn learned(&self) -> Result<(Learned, usize), SnapshotError> {
        let (mut all, mut open_incidents) = (Learned::default(), 0);
        for section in &self.tenants {
            let (scorer, correlator) = section.states()?;
            let learned = scorer.learned();
            all.records += learned.records;
            all.templates += learned.templates;
            all.generation = all.generation.max(learned.generation);
            open_incidents += correlator.open_incidents();
        }
        Ok((all, open_incidents))
    }

    /// Keeps no text of a log; whether there was one.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`].
    pub fn drop_texts(&mut self) -> Result<bool, SnapshotError> {
        let before = self.encoded_len();
        for section in &mut self.tenants {
            let (mut scorer, mut correlator) = section.states()?;
            scorer.drop_texts();
            correlator.drop_texts();
            section.past.iter_mut().for_each(PastIncident::drop_texts);
            section.set_states(&scorer, &correlator);
        }
        Ok(self.encoded_len() != before)
    }
}

impl TenantSection {
    /// The section of this tenant.
    pub fn new(tenant: &Tenant, scorer: &ScorerState, correlator: &CorrelatorState) -> Self {
        Self {
            tenant: Some(TenantName::from(tenant)),
            scorer: scorer.encode_to_vec(),
            correlator: correlator.encode_to_vec(),
            past: Vec::new(),
        }
    }

    /// Replaces the states in it.
    pub fn set_states(&mut self, scorer: &ScorerState, correlator: &CorrelatorState) {
        self.scorer = scorer.encode_to_vec();
        self.correlator = correlator.encode_to_vec();
    }

    /// What was learned is taken from `other` instead; incidents and their ids stay.
    pub fn relearn(&mut self, other: &Self) {
        self.scorer.clone_from(&other.scorer);
    }

    /// The same, with incidents that are over, in the order they ended.
    pub fn with_past<'a>(self, past: impl Iterator<Item = &'a Incident>) -> Self {
        Self {
            past: past.map(PastIncident::from).collect(),
            ..self
        }
    }

    /// Whose it is.
    pub fn tenant(&self) -> Tenant {
        self.tenant.as_ref().map(Tenant::from).unwrap_or_default()
    }

    /// The states in it.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`] when there are none.
    pub fn states(&self) -> Result<(ScorerState, CorrelatorState), SnapshotError> {
        Ok((
            section(&self.scorer, "scorer")?,
            section(&self.correlator, "correlator")?,
        ))
    }
}

/// Why bytes are not a snapshot that can be used. Every one of them leaves the agent able to start clean.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Another file lies in its place.
    #[error("not a Harbinger snapshot: check that the state directory is Harbinger's alone; the file is set aside")]
    NotASnapshot,
    /// Cut short or altered.
    #[error("the snapshot is damaged ({0}): it is set aside and what was learned is learned anew")]
    Corrupt(String),
    /// Written by an older version of the program, in a format that is not read any more.
    #[error(
        "the snapshot has format {found}, this version reads {OLDEST_FORMAT} and later: it is set aside and what was learned is learned anew; \
         to keep it, let each version in between run once"
    )]
    OlderVersion {
        /// The format found.
        found: u32,
    },
    /// Written by a newer version of the program.
    #[error(
        "the snapshot has format {found}, this version reads up to {supported}: run the newer version again to keep what it learned; here the snapshot is set aside"
    )]
    NewerVersion {
        /// The format found.
        found: u32,
        /// The newest format that can be read.
        supported: u32,
    },
    /// Made with another embedding model.
    #[error(
        "the snapshot was made with model {found}, this is model {expected}: point the model directory at {found} to keep what was learned; otherwise the snapshot is set aside and warm-up begins anew"
    )]
    OtherModel {
        /// The model it was made with.
        found: String,
        /// The model in use.
        expected: String,
    },
}

/// The snapshot as bytes.
pub fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let payload_bytes = snapshot.encoded_len();
    let mut out = Vec::with_capacity(HEADER_BYTES + payload_bytes);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&(payload_bytes as u64).to_le_bytes());
    let (header_end, payload_start) = (out.len(), HEADER_BYTES);
    out.resize(payload_start, 0);
    // Into the one buffer, so that what was learned is not in memory once more. A `Vec` has room for everything.
    snapshot.encode_raw(&mut out);
    let sum = {
        let (header, payload) = out.split_at(payload_start.min(out.len()));
        checksum(header.get(..header_end).unwrap_or_default(), payload)
    };
    if let Some(place) = out.get_mut(header_end..payload_start) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    out
}

/// The snapshot in these bytes. With `model_version`, one made with another model is refused.
///
/// # Errors
/// See [`SnapshotError`].
pub fn decode(bytes: &[u8], model_version: Option<&str>) -> Result<Snapshot, SnapshotError> {
    if !bytes.starts_with(MAGIC) {
        return Err(SnapshotError::NotASnapshot);
    }
    let damaged = |what: &str| SnapshotError::Corrupt(what.to_owned());
    let (header, payload) = bytes
        .split_at_checked(HEADER_BYTES)
        .ok_or_else(|| damaged("cut within its header"))?;
    let (covered, stated) = header
        .split_at_checked(HEADER_BYTES - 8)
        .ok_or_else(|| damaged("no header"))?;
    let format = number(covered.get(8..12)) as u32;
    let length = number(covered.get(12..20));
    if length != payload.len() as u64 {
        return Err(SnapshotError::Corrupt(format!("{} bytes of {length}", payload.len())));
    }
    if checksum(covered, payload) != number(Some(stated)) {
        return Err(damaged("its checksum does not fit"));
    }
    if format > FORMAT {
        return Err(SnapshotError::NewerVersion {
            found: format,
            supported: FORMAT,
        });
    }
    if format == 0 {
        return Err(damaged("format 0 was never written"));
    }
    if format < OLDEST_FORMAT {
        return Err(SnapshotError::OlderVersion { found: format });
    }
    let snapshot: Snapshot = section(payload, "snapshot")?;
    match model_version {
        Some(expected) if expected != snapshot.model_version => Err(SnapshotError::OtherModel {
            found: snapshot.model_version,
            expected: expected.to_owned(),
        }),
        _ => Ok(snapshot),
    }
}

/// A room's message from its bytes in a snapshot; `room` names it in the error.
///
/// # Errors
/// [`SnapshotError::Corrupt`] when they are not that message: the room starts clean.
fn section<M: Message + Default>(bytes: &[u8], room: &str) -> Result<M, SnapshotError> {
    M::decode(bytes).map_err(|error| SnapshotError::Corrupt(format!("{room}: {error}")))
}

/// What one commit tells the journal of a tenant; all of it or nothing comes back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct JournalEntry {
    /// What happened to incidents, in order.
    #[prost(message, repeated, tag = "1")]
    events: Vec<EventMessage>,
    /// Version of the model that made the embeddings in it.
    #[prost(string, tag = "2")]
    pub model_version: String,
    /// Whose incidents they are; the tenant of records that name none where it is missing.
    #[prost(message, optional, tag = "3")]
    tenant: Option<TenantName>,
}

impl JournalEntry {
    /// An entry that tells these events of a tenant.
    pub fn new(tenant: &Tenant, events: Vec<Event>, model_version: &str) -> Self {
        Self {
            tenant: Some(TenantName::from(tenant)).filter(|written| *written != TenantName::default()),
            events: events
                .into_iter()
                .map(|event| EventMessage { event: Some(event) })
                .collect(),
            model_version: model_version.to_owned(),
        }
    }

    /// Whose incidents they are.
    pub fn tenant(&self) -> Tenant {
        self.tenant.as_ref().map(Tenant::from).unwrap_or_default()
    }

    /// The events, to be changed.
    pub fn events_mut(&mut self) -> impl Iterator<Item = &mut Event> {
        self.events.iter_mut().filter_map(|message| message.event.as_mut())
    }

    /// The events, in order, without those of a kind this version does not know.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter_map(|message| message.event.as_ref())
    }

    /// Appends the entry to `out` as one frame.
    pub fn frame(&self, out: &mut Vec<u8>) {
        let payload = self.encode_to_vec();
        let length = (payload.len() as u32).to_le_bytes();
        out.extend_from_slice(&length);
        out.extend_from_slice(&checksum(&length, &payload).to_le_bytes());
        out.extend_from_slice(&payload);
    }
}

/// The entries of a journal, in order, up to the first that is cut short or altered.
#[derive(Clone, Debug)]
pub struct Journal<'a> {
    rest: &'a [u8],
    /// Entries that are whole but not understood: skipped.
    pub unreadable_entries: u64,
}

impl<'a> Journal<'a> {
    /// Reads `bytes`, one journal file from its start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            unreadable_entries: 0,
        }
    }

    /// Bytes that were ignored: after the last entry has been read, a torn tail. 0 when all is well.
    pub fn ignored_bytes(&self) -> usize {
        self.rest.len()
    }

    fn payload(&mut self) -> Option<&'a [u8]> {
        let (header, rest) = self.rest.split_at_checked(FRAME_HEADER_BYTES)?;
        let (length, stated) = header.split_at_checked(4)?;
        let (payload, rest) = rest.split_at_checked(number(Some(length)) as usize)?;
        if checksum(length, payload) != number(Some(stated)) {
            return None;
        }
        self.rest = rest;
        Some(payload)
    }
}

impl Iterator for Journal<'_> {
    type Item = JournalEntry;

    fn next(&mut self) -> Option<JournalEntry> {
        loop {
            match JournalEntry::decode(self.payload()?) {
                Ok(entry) => return Some(entry),
                Err(_) => self.unreadable_entries += 1,
            }
        }
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(header);
    hash.update(payload);
    hash.digest()
}

/// Up to eight little-endian bytes as a number.
fn number(bytes: Option<&[u8]>) -> u64 {
    bytes
        .unwrap_or_default()
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::super::correlate::{Closed, Merged, Opened, Origin};
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            model_version: "minilm-int8".into(),
            journal_epoch: 7,
            config_fingerprint: 42,
            saved_at_unix_nano: 1_731_924_000_000_000_000,
            program_version: "0.1.0".into(),
            tenants: [Tenant::default(), Tenant::named("acme"), Tenant::Overflow]
                .iter()
                .map(|tenant| TenantSection::new(tenant, &ScorerState::default(), &CorrelatorState::default()))
                .collect(),
            answered_requests: Vec::new(),
        }
    }

    fn entry(id: u64) -> JournalEntry {
        let events = vec![
            Event::Merged(Merged { from: id, into: id + 1 }),
            Event::Closed(Closed {
                id: id + 1,
                ..Closed::default()
            }),
        ];
        JournalEntry::new(&Tenant::named("acme"), events, "minilm-int8")
    }

    fn journal(entries: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        (0..entries).for_each(|id| entry(id).frame(&mut bytes));
        bytes
    }

    #[test]
    fn comes_back_as_it_was() {
        let bytes = encode(&snapshot());
        assert_eq!(decode(&bytes, Some("minilm-int8")), Ok(snapshot()));
        assert_eq!(decode(&bytes, None), Ok(snapshot()));
    }

    #[test]
    fn tenants_come_back_as_they_were() {
        let decoded = decode(&encode(&snapshot()), None).unwrap();
        let tenants: Vec<Tenant> = decoded.tenants.iter().map(TenantSection::tenant).collect();
        assert_eq!(tenants, [Tenant::default(), Tenant::named("acme"), Tenant::Overflow]);
        assert!(decoded.tenants.iter().all(|section| section.states().is_ok()));
        let bytes = journal(1);
        assert_eq!(Journal::new(&bytes).next().unwrap().tenant(), Tenant::named("acme"));
    }

    #[test]
    fn an_event_can_be_told_without_its_text() {
        let mut event = Event::Opened(Opened {
            id: 1,
            origin: Some(Origin {
                text: "card declined".to_owned(),
                embedding: vec![1.0],
                ..Origin::default()
            }),
        });
        assert!(!event.forget(|text| text.contains("other")));
        assert!(event.forget(|text| text.contains("card")));
        let Event::Opened(Opened {
            origin: Some(origin), ..
        }) = event
        else {
            return;
        };
        assert!(origin.text.is_empty() && origin.embedding.is_empty());
    }

    /// Bytes written by format 3 stay readable: they are pinned here.
    #[test]
    fn the_format_on_disk_is_pinned() {
        let small = Snapshot {
            model_version: "m".into(),
            journal_epoch: 3,
            ..Snapshot::default()
        };
        let pinned = [
            b"HRBGRSNP".as_slice(),
            &[3, 0, 0, 0],
            &[5, 0, 0, 0, 0, 0, 0, 0],
            &checksum(
                &[b"HRBGRSNP".as_slice(), &[3, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]].concat(),
                &[10, 1, b'm', 16, 3],
            )
            .to_le_bytes(),
            &[10, 1, b'm', 16, 3],
        ]
        .concat();
        assert_eq!(encode(&small), pinned);
        assert_eq!(decode(&pinned, None), Ok(small));
    }

    #[test]
    fn each_kind_of_trouble_has_its_own_error() {
        assert_eq!(decode(b"", None), Err(SnapshotError::NotASnapshot));
        assert_eq!(decode(b"id,message\n1,boom\n", None), Err(SnapshotError::NotASnapshot));
        assert!(matches!(decode(MAGIC, None), Err(SnapshotError::Corrupt(_))));
        let error = decode(&encode(&snapshot()), Some("other")).unwrap_err();
        assert_eq!(
            error,
            SnapshotError::OtherModel {
                found: "minilm-int8".into(),
                expected: "other".into()
            }
        );

        let mut newer = encode(&snapshot());
        newer[8] = 4;
        assert!(
            matches!(decode(&newer, None), Err(SnapshotError::Corrupt(_))),
            "an altered version is damage"
        );
        let sum = checksum(&newer[..20], &newer[28..]).to_le_bytes();
        newer[20..28].copy_from_slice(&sum);
        assert_eq!(
            decode(&newer, None),
            Err(SnapshotError::NewerVersion { found: 4, supported: 3 })
        );
        let mut older = encode(&snapshot());
        older[8] = 1;
        let sum = checksum(&older[..20], &older[28..]).to_le_bytes();
        older[20..28].copy_from_slice(&sum);
        let error = decode(&older, None).unwrap_err();
        assert_eq!(error, SnapshotError::OlderVersion { found: 1 });
        assert!(error.to_string().contains("set aside"), "{error}");
    }

    /// A crash in the middle of a write costs the entry that was being written, no other.
    #[test]
    fn a_torn_last_entry_is_ignored_and_those_before_it_are_used() {
        let whole = journal(3);
        let two = journal(2).len();
        for cut in two..whole.len() {
            let mut reader = Journal::new(&whole[..cut]);
            assert_eq!(reader.by_ref().count(), 2);
            assert_eq!(reader.ignored_bytes(), cut - two);
        }
        let mut reader = Journal::new(&whole);
        assert_eq!(reader.by_ref().collect::<Vec<_>>(), [entry(0), entry(1), entry(2)]);
        assert_eq!(reader.ignored_bytes(), 0);
        // A tail of zeros, as some file systems leave, is no entry.
        let zeros = [whole.as_slice(), &[0; 64]].concat();
        assert_eq!(Journal::new(&zeros).count(), 3);
    }

    #[test]
    fn an_entry_that_is_whole_but_not_understood_is_skipped() {
        let mut bytes = journal(1);
        let strange = [0xffu8; 3];
        let length = 3u32.to_le_bytes();
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&checksum(&length, &strange).to_le_bytes());
        bytes.extend_from_slice(&strange);
        bytes.extend(journal(1));
        let mut reader = Journal::new(&bytes);
        assert_eq!(reader.by_ref().count(), 2);
        assert_eq!((reader.unreadable_entries, reader.ignored_bytes()), (1, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(12), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, None);
            Journal::new(&bytes).for_each(drop);
            let _ = decode(&[MAGIC.as_slice(), &bytes].concat(), None);
            // The same behind a checksum that fits: only the protobuf decoder stands between.
            let mut framed = [MAGIC.as_slice(), &FORMAT.to_le_bytes(), &(bytes.len() as u64).to_le_bytes()].concat();
            let sum = checksum(&framed, &bytes);
            framed.extend_from_slice(&sum.to_le_bytes());
            framed.extend_from_slice(&bytes);
            let _ = decode(&framed, None);
        }

        /// Every single-bit error anywhere is noticed.
        #[test]
        fn a_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encode(&snapshot());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes, None).is_err());
            let mut bytes = journal(3);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let mut reader = Journal::new(&bytes);
            let read: Vec<_> = reader.by_ref().collect();
            prop_assert!(read.len() < 3 && reader.ignored_bytes() > 0);
            prop_assert!(read.iter().zip(0..).all(|(read, id)| *read == entry(id)));
        }
    }
}
