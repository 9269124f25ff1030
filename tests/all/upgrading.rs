//! What an earlier version has left on the disk is read by this one.
//!
//! `kept/format-N.snapshot` and `kept/format-N.journal` are as the version that introduced format N wrote them; nobody writes
//! them again. Guarantees: this format and the one before it (from 3 on) are both there and both are gone on from, with
//! what was learned and with the ids that were given. A new format is kept by `HARBINGER_KEEP=1 cargo test --test all upgrading`.

use std::{fs, path::PathBuf};

use harbinger::{
    engine::snapshot::{FORMAT, OLDEST_FORMAT},
    pipeline::recovery,
};

use super::tenants::{hearing, on_disk, send, settings, taught};

/// The first line that the kept agent had marked, said again.
const FAULT: usize = 17;

fn kept(format: u32, what: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/all/kept/format-{format}.{what}"))
}

#[test]
fn this_format_and_the_one_before_are_gone_on_from() {
    const { assert!(OLDEST_FORMAT == FORMAT || OLDEST_FORMAT + 1 == FORMAT) };
    let settings = settings(3, true);
    if std::env::var_os("HARBINGER_KEEP").is_some() && !kept(FORMAT, "snapshot").exists() {
        let (mut tenants, _) = taught(&settings, 1);
        let (snapshot, journal) = on_disk(&mut tenants);
        fs::write(kept(FORMAT, "snapshot"), zstd::bulk::compress(&snapshot, 19).unwrap()).unwrap();
        fs::write(kept(FORMAT, "journal"), journal).unwrap();
    }
    for format in OLDEST_FORMAT..=FORMAT {
        let compressed = fs::read(kept(format, "snapshot")).expect("kept as the head of this file says");
        let snapshot = zstd::bulk::decompress(&compressed, 16 << 20).unwrap();
        let journal = fs::read(kept(format, "journal")).unwrap();
        let from_snapshot = recovery::recover(&settings, Some(&snapshot), &[], Some("words"));
        assert!(
            from_snapshot.from_snapshot && from_snapshot.problem.is_none(),
            "{:?}",
            from_snapshot.problem
        );
        let from_journal = recovery::recover(&settings, None, &[(0, journal)], Some("words"));
        assert!(from_journal.replayed_events > 0 && from_journal.torn_bytes == 0);
        let mut tenants = hearing(from_snapshot.state);
        let given: Vec<_> = tenants
            .incidents()
            .flat_map(|(_, open)| open.iter().map(|one| one.id).collect::<Vec<_>>())
            .collect();
        let replayed = from_journal
            .state
            .incidents()
            .flat_map(|(_, open)| open.iter().map(|one| one.id).collect::<Vec<_>>());
        assert_eq!(replayed.collect::<Vec<_>>(), given, "format {format}");
        let said = send(&settings, &mut tenants, 101, &[(0, FAULT), (0, 3)]);
        let [(anomaly, incident, _), (usual, none, unjudged)] = said.as_slice() else {
            panic!("two lines, two verdicts");
        };
        assert!(
            anomaly.is_some() && given.contains(&incident.unwrap()),
            "format {format}"
        );
        assert!(
            usual.is_none() && none.is_none() && unjudged.is_none(),
            "what was learned is known"
        );
    }
}
