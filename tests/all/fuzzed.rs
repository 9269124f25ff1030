//! Guarantees that every input kept by fuzzing, and every one that ever broke a promise, breaks none.

use std::{fs, path::Path};

#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn nothing_that_was_ever_found_is_open() {
    for (name, target) in targets::TARGETS {
        let mut inputs = 0;
        for kind in ["corpus", "finds"] {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(name);
            // A target without finds has no directory for them.
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                    panic!("{name} breaks on {}", path.display());
                }
                inputs += 1;
            }
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}
