//! Files, variables and flags to one tree.
//!
//! What enters: `--config` and `--set` arguments in their order. What leaves: one merged tree. Promises: later sources
//! win, sections are merged key by key and lists replaced, as in the Collector; every value remembers its source.
//! Absent on purpose: configurations by HTTP: an agent that cannot reach its configuration would not start, and one that
//! can be told by the network what to send where is nobody's wish.

use std::{fs, io::ErrorKind};

use super::{
    document::{Content, Entry, Node},
    expand::Environment,
    finding::{ConfigError, Finding, Place},
    yaml,
};

/// A configuration is read by people; one that is larger is another file given by mistake.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads and merges all sources.
///
/// # Errors
/// Everything that cannot be read.
pub fn gather(configs: &[String], sets: &[String], environment: Environment<'_>) -> Result<Node, ConfigError> {
    let mut findings = Vec::new();
    let mut root: Option<Node> = None;
    let read = configs
        .iter()
        .map(|config| source(config, environment))
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
        let source = configs
            .iter()
            .map(|config| named(config))
            .collect::<Vec<_>>()
            .join(", ");
        let message = "nothing is configured; copy config-examples/quickstart.yaml and change it";
        Finding::new(Some(Place::whole(&source)), "", message).into()
    })
}

/// A `--config` argument as it may be shown: the text of `yaml:` can hold secrets.
fn named(config: &str) -> &str {
    match config.split_once(':') {
        Some(("file", path)) => path,
        Some(("yaml", _)) => "--config yaml:",
        _ => config,
    }
}

/// What one `--config` argument names.
fn source(config: &str, environment: Environment<'_>) -> Result<Option<Node>, Finding> {
    let root = match config.split_once(':') {
        Some(("file", path)) => file(path)?,
        Some(("env", name)) => variable(config, name, environment)?,
        Some(("yaml", text)) => inline(named(config), text)?,
        Some((scheme @ ("http" | "https"), _)) => {
            let message = format!(
                "`--config {scheme}:…` is not supported, as an agent should start also when that server is away; fetch the \
                 configuration to a file before the start, and give its path"
            );
            return Err(Finding::new(None, "", message));
        }
        _ => file(config)?,
    };
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

/// The configuration that an environment variable holds.
fn variable(config: &str, name: &str, environment: Environment<'_>) -> Result<Option<Node>, Finding> {
    match environment(name) {
        Some(text) => yaml::parse(config, &text),
        None => {
            let message = format!("the environment variable {name} is not set; set it to the text of a configuration");
            Err(Finding::new(Some(Place::whole(config)), "", message))
        }
    }
}

/// Keys in one line: as in the Collector `::` leads into a section.
fn inline(source: &str, text: &str) -> Result<Option<Node>, Finding> {
    let place = Place::whole(source);
    let node = yaml::parse(source, text).map_err(|finding| Finding {
        place: Some(place.clone()),
        ..finding
    })?;
    let Some(mut node) = node else { return Ok(None) };
    at(&mut node, &place);
    let Content::Mapping(entries) = node.content else {
        return Ok(Some(node));
    };
    let mut root = Node::empty(place.clone());
    for Entry { key, value, .. } in entries {
        if key.split("::").any(|step| step.trim().is_empty()) {
            let message = format!("`{key}` holds an empty key; write `yaml:key::below: value`");
            return Err(Finding::new(Some(place), "", message));
        }
        let keys: Vec<&str> = key.split("::").collect();
        root.merge(below(keys.into_iter(), value, &place));
    }
    Ok(Some(root))
}

fn file(path: &str) -> Result<Option<Node>, Finding> {
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
    yaml::parse(path, &text)
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
    Ok(below(keys.split('.'), node, &place))
}

/// `value` below these keys, the outermost first.
fn below<'k>(keys: impl DoubleEndedIterator<Item = &'k str>, value: Node, place: &Place) -> Node {
    keys.rev().fold(value, |value, key| {
        let entry = Entry {
            key: key.trim().to_owned(),
            place: place.clone(),
            value,
        };
        Node {
            content: Content::Mapping(vec![entry]),
            ..Node::empty(place.clone())
        }
    })
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
