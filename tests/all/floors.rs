//! The house stays the house: reads the sources and fails on an import against the floors, a file without a header,
//! a file too long to read, or a clock, file, thread or socket inside the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const MAX_LINES: usize = 500;

/// Rooms of the engine, each of which may import the ones before it.
const ROOMS: [&str; 17] = [
    "slab",
    "view",
    "tenant",
    "text",
    "embed",
    "opinions",
    "score",
    "correlate",
    "tell",
    "feedback",
    "verdict",
    "annotate",
    "retries",
    "cluster",
    "front",
    "state",
    "tenants",
];

/// What no room of the engine may touch.
const IMPURE: [&str; 16] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "std::io",
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime",
    "Instant",
    "tokio",
    "tracing",
    "tonic",
    "ort",
    "thread_local",
    "println",
];

struct Source {
    /// Path below `src/`, e.g. `engine/score/mod.rs`.
    path: String,
    /// Whole text.
    text: String,
}

impl Source {
    /// The lines before the unit tests.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or(&self.text)
    }

    /// The code without comments.
    fn bare(&self) -> String {
        self.code()
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// `engine`, `edge`, …
    fn floor(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    /// The second step of the path: `score` of `engine/score/mod.rs`.
    fn room(&self) -> &str {
        self.path.split(['/', '.']).nth(1).unwrap_or_default()
    }

    /// Module path of this file, e.g. `["engine", "score"]`.
    fn module(&self) -> Vec<String> {
        let mut parts: Vec<String> = self
            .path
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        if parts
            .last()
            .is_some_and(|last| last == "mod" || last == "lib" || last == "main")
        {
            parts.pop();
        }
        parts
    }

    /// Every path below the crate that this file names, as `engine::score::Settings`.
    fn imports(&self) -> Vec<String> {
        let bare = self.bare();
        let mut found = Vec::new();
        for statement in statements(&bare) {
            for path in expand(&statement) {
                found.extend(self.resolve(&path));
            }
        }
        found
    }

    fn resolve(&self, path: &str) -> Option<String> {
        let mut steps: Vec<&str> = path.split("::").collect();
        let mut base = self.module();
        match *steps.first()? {
            "crate" | "harbinger" => {
                steps.remove(0);
                base.clear();
            }
            "super" => {
                while steps.first() == Some(&"super") {
                    steps.remove(0);
                    base.pop();
                }
            }
            "self" => {
                steps.remove(0);
            }
            _ => return None,
        }
        base.extend(steps.into_iter().map(str::to_owned));
        Some(base.join("::"))
    }
}

/// `use` statements and inline paths that begin with `crate`, `super` or `harbinger`.
fn statements(bare: &str) -> Vec<String> {
    let mut found = Vec::new();
    for piece in bare.split("use ").skip(1) {
        if let Some(end) = piece.find(';') {
            found.push(piece[..end].split_whitespace().collect::<String>());
        }
    }
    for root in ["crate::", "super::", "harbinger::"] {
        for (at, _) in bare.match_indices(root) {
            let path: String = bare[at..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
                .collect();
            // The head of a statement that was taken apart above, or a visibility.
            if !path.ends_with(':') && !bare[..at].ends_with("(in ") {
                found.push(path);
            }
        }
    }
    found
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(statement: &str) -> Vec<String> {
    let Some(open) = statement.find('{') else {
        return vec![statement.to_owned()];
    };
    let (prefix, rest) = statement.split_at(open);
    let inner = rest.trim_start_matches('{').trim_end_matches('}');
    let inner = if rest.ends_with('}') {
        &rest[1..rest.len() - 1]
    } else {
        inner
    };
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .flat_map(|part| expand(&format!("{prefix}{part}")))
        .collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![root.clone()];
    let mut found = BTreeMap::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found.into_iter().map(|(path, text)| Source { path, text }).collect()
}

fn none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_file_says_why_it_exists() {
    none(
        sources()
            .iter()
            .filter(|s| !s.text.starts_with("//! "))
            .map(|s| format!("{}: no //! header", s.path))
            .collect(),
    );
}

#[test]
fn every_file_can_be_read_in_one_sitting() {
    let long = |s: &Source| (s.code().lines().count(), s.path.clone());
    none(
        sources()
            .iter()
            .map(long)
            .filter(|(lines, _)| *lines > MAX_LINES)
            .map(|(lines, path)| format!("{path}: {lines} lines without tests, at most {MAX_LINES}"))
            .collect(),
    );
}

#[test]
fn imports_go_down_the_floors() {
    let mut broken = Vec::new();
    let sources = sources();
    // What `edge/mod.rs` itself holds, the contracts, is everything there that is no module; `edge::cluster` is one with a name of its own.
    let edges: BTreeSet<&str> = sources
        .iter()
        .filter(|s| s.floor() == "edge")
        .map(|s| s.room())
        .filter(|room| *room != "cluster")
        .collect();
    for source in &sources {
        for import in source.imports() {
            let mut steps = import.split("::");
            let (floor, room) = (steps.next().unwrap_or_default(), steps.next().unwrap_or_default());
            let own = floor == source.floor() && room == source.room();
            let allowed = match source.floor() {
                "engine" => floor == "engine" && (source.room() == "mod" || own || earlier_room(room, source.room())),
                "edge" => {
                    let shared = room == "transport" || !edges.contains(room);
                    floor == "engine" || (floor == "edge" && (source.room() == "mod" || own || shared))
                }
                "telemetry" => floor == "telemetry",
                "pipeline" => {
                    let contract = floor == "edge" && !edges.contains(room);
                    matches!(floor, "engine" | "pipeline" | "telemetry") || contract
                }
                "config" => {
                    let words = ["Settings", "Mode", "edge::Signal"];
                    floor == "config" || words.iter().any(|word| import.ends_with(word)) || floor.is_empty()
                }
                "app" | "commands" => floor != "cli",
                _ => true,
            };
            if !allowed {
                broken.push(format!("src/{} imports {import}", source.path));
            }
        }
    }
    none(broken);
}

/// A room may import the rooms before it; `snapshot` stands after `correlate` and encodes what came before.
fn earlier_room(imported: &str, importing: &str) -> bool {
    let place = |room: &str| ROOMS.iter().position(|known| *known == room);
    match (place(imported), place(importing)) {
        (Some(imported), Some(importing)) => imported < importing,
        (Some(_), None) => importing == "snapshot",
        _ => false,
    }
}

#[test]
fn the_engine_is_pure() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.floor() == "engine") {
        for (number, line) in source.bare().lines().enumerate() {
            for impure in IMPURE {
                let whole = |at: usize| {
                    let before = line[..at].chars().next_back();
                    let after = line[at + impure.len()..].chars().next();
                    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                    !word(before) && !word(after)
                };
                if line.match_indices(impure).any(|(at, _)| whole(at)) {
                    broken.push(format!("src/{}:{}: {impure}", source.path, number + 1));
                }
            }
        }
    }
    none(broken);
}

#[test]
fn the_test_itself_sees_imports() {
    let source = Source {
        path: "engine/view.rs".to_owned(),
        text: "use super::{text::{self, Reader}, embed};\nfn f() { crate::edge::files::open() }".to_owned(),
    };
    let imports = source.imports();
    for expected in [
        "engine::text::self",
        "engine::text::Reader",
        "engine::embed",
        "edge::files::open",
    ] {
        assert!(imports.contains(&expected.to_owned()), "{expected} in {imports:?}");
    }
}
