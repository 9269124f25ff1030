//! Files and `--set` flags to one tree.
//!
//! What enters: `--config` and `--set` arguments in their order. What leaves: one merged tree. Promises: later sources
//! win, sections are merged key by key and lists replaced, as in the Collector; every value remembers its source.
//! Absent on purpose: `env:`, `yaml:` and `http:` configurations.

use std::{fs, io::ErrorKind};

use super::{
    document::{Content, Entry, Node},
    finding::{ConfigError, Finding, Place},
    yaml,
};

/// A configuration is read by people; one that is larger is another file given by mistake.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads and merges all sources.
///
/// # Errors
/// Everything that cannot be read.
pub fn gather(configs: &[String], sets: &[String]) -> Result<Node, ConfigError> {
    let mut findings = Vec::new();
    let mut root: Option<Node> = None;
    let read = configs
        .iter()
        .map(|config| file(config))
        .chain(sets.iter().map(|set| assignment(set).map(Some)));
    for outcome in read {
        match outcome {
            Ok(None) => {}
            Ok(Some(node)) => match &mut root {
                Some(root) => root.merge(node),
                None => root = Some(node),
            },
            Err(finding) => findings.push(finding),
        }
    }
    if !findings.is_empty() {
        return Err(ConfigError(findings));
    }
    root.ok_or_else(|| {
        let source = configs.join(", ");
        let message = "nothing is configured; copy config-examples/quickstart.yaml and change it";
        Finding::new(Some(Place::whole(source.trim_start_matches("file:"))), "", message).into()
    })
}

/// The path that a `--config` argument names.
///
/// # Errors
/// What to write instead of a scheme that is not `file:`.
pub fn path_of(config: &str) -> Result<&str, String> {
    match config.split_once(':') {
        Some(("file", path)) => Ok(path),
        Some((scheme @ ("env" | "yaml" | "http" | "https"), _)) => Err(format!(
            "`--config {scheme}:…` is not supported; write the configuration to a file, with `${{env:NAME}}` for what \
             varies, and give its path"
        )),
        _ => Ok(config),
    }
}

fn file(config: &str) -> Result<Option<Node>, Finding> {
    let path = path_of(config).map_err(|message| Finding::new(None, "", message))?;
    let about = |message: String| Finding::new(Some(Place::whole(path)), "", message);
    let metadata = fs::metadata(path).map_err(|error| {
        about(match error.kind() {
            ErrorKind::NotFound => "no such file; give the path of a configuration by `--config`, or copy \
                                    config-examples/quickstart.yaml"
                .to_owned(),
            _ => format!("cannot be read: {error}"),
        })
    })?;
    if metadata.is_dir() {
        return Err(about("a directory; give the path of a YAML file in it".to_owned()));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(about(format!(
            "larger than {} MiB; is it a configuration?",
            MAX_FILE_BYTES >> 20
        )));
    }
    let bytes = fs::read(path).map_err(|error| about(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count();
        about(format!("not UTF-8 text in line {}; save the file as UTF-8", line + 1))
    })?;
    let root = yaml::parse(path, &text)?;
    match root {
        Some(Node {
            content: Content::Mapping(_),
            ..
        })
        | None => Ok(root),
        Some(node) => {
            let message = "not a configuration: expected sections such as `receivers:` and `service:`";
            Err(Finding::new(Some(node.place), "", message))
        }
    }
}

/// `a.b=c` as the tree `a: {b: c}`.
fn assignment(set: &str) -> Result<Node, Finding> {
    let Some((keys, value)) = set.split_once('=') else {
        let message = "no `=`; write `--set key.below=value`, as `--set processors.harbinger.detection.mode=shadow`";
        return Err(Finding::new(Some(Place::whole(&format!("--set {set}"))), "", message));
    };
    let keys = keys.trim();
    // The value may be a secret and is not shown.
    let source = format!("--set {keys}");
    let place = Place::whole(&source);
    if keys.split('.').any(|key| key.trim().is_empty()) {
        let message = "an empty key; write `--set key.below=value`";
        return Err(Finding::new(Some(place), "", message));
    }
    let value = yaml::parse(&source, value.trim()).map_err(|finding| {
        Finding::new(
            Some(place.clone()),
            "",
            format!("the value is not YAML ({}); put it in quotes", finding.message),
        )
    })?;
    let mut node = value.unwrap_or_else(|| Node {
        content: Content::Scalar {
            text: String::new(),
            quoted: false,
        },
        place: place.clone(),
        expanded: None,
    });
    at(&mut node, &place);
    for key in keys.rsplit('.') {
        let entry = Entry {
            key: key.trim().to_owned(),
            place: place.clone(),
            value: node,
        };
        node = Node {
            content: Content::Mapping(vec![entry]),
            place: place.clone(),
            expanded: None,
        };
    }
    Ok(node)
}

/// Positions in a flag's value mean nothing to the user.
fn at(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.content {
        Content::Scalar { .. } => {}
        Content::Sequence(nodes) => nodes.iter_mut().for_each(|node| at(node, place)),
        Content::Mapping(entries) => {
            for entry in entries {
                entry.place = place.clone();
                at(&mut entry.value, place);
            }
        }
    }
}
