//! `${env:X}`, `${file:path}` and `${yaml:text}` in values, as the Collector (v0.159) reads them.
//!
//! What enters: a merged tree, a way to look environment variables up, and files. What leaves: the tree with values in place
//! and warnings about unset variables. Promises: a value that is one reference gets the type its text has as YAML, and its
//! text where a string is wanted; a reference within text becomes text; `$$` is `$`; keys and comments are never
//! touched, and places stay those of the reference; whatever refers to itself ends. Absent on purpose: `${http:…}`.
//!
//! Forms: `${env:X}`, `${X}`, `${env:X:-default}`, `${file:path}` (without its last line end), `${yaml:text}`, nested
//! references. An unset variable without default is empty.

use std::{fs::File, io::Read};

use super::{
    document::{Content, Expanded, Meaning, Node},
    finding::Finding,
    yaml,
};

/// Replacements in one value, so that a variable that refers to itself ends.
const MAX_ROUNDS: usize = 1000;
/// Sections out of references in sections out of references.
const MAX_DEPTH: usize = 16;
/// References in all.
const MAX_REFERENCES: usize = 10_000;
/// What a file may hold that stands for a value.
const MAX_FILE_BYTES: u64 = 1 << 20;
const ENDLESS: &str = "the references in this value refer to each other without end";

/// Looks an environment variable up.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands every value below `node`, which stands at `key`.
///
/// # Errors
/// The first reference that cannot be followed.
pub fn expand(
    node: &mut Node,
    key: &str,
    environment: Environment<'_>,
    warnings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let mut expansion = Expansion {
        environment,
        warnings,
        depth: 0,
        references: 0,
    };
    expansion.expand(node, key)
}

struct Expansion<'e> {
    environment: Environment<'e>,
    warnings: &'e mut Vec<Finding>,
    depth: usize,
    references: usize,
}

impl Expansion<'_> {
    fn expand(&mut self, node: &mut Node, key: &str) -> Result<(), Finding> {
        match &mut node.content {
            Content::Mapping(entries) => {
                for entry in entries {
                    let below = if key.is_empty() {
                        entry.key.clone()
                    } else {
                        format!("{key}.{}", entry.key)
                    };
                    self.expand(&mut entry.value, &below)?;
                }
            }
            Content::Sequence(nodes) => {
                for (index, node) in nodes.iter_mut().enumerate() {
                    self.expand(node, &format!("{key}[{index}]"))?;
                }
            }
            Content::Scalar { text, .. } => {
                if text.contains("${") {
                    self.scalar(node, key)?;
                }
                unescape(node);
            }
        }
        Ok(())
    }

    fn scalar(&mut self, node: &mut Node, key: &str) -> Result<(), Finding> {
        for _ in 0..MAX_ROUNDS {
            let Content::Scalar { text, .. } = &node.content else {
                return Ok(());
            };
            let Some((start, end)) = find(text) else {
                return Ok(());
            };
            self.references += 1;
            if self.references > MAX_REFERENCES {
                break;
            }
            let reference = text.get(start..end).unwrap_or_default().to_owned();
            let whole = reference.len() == text.len();
            let value = follow(&reference, self.environment).map_err(|message| finding(node, key, &message))?;
            let replacement = match &value {
                Value::Text(value) => value.clone(),
                Value::Unset(name) => {
                    let message = format!(
                        "the environment variable {name} is not set, so `{reference}` is empty; set it, or give a default: \
                         `${{env:{name}:-…}}`"
                    );
                    self.warnings.push(Finding::new(Some(node.place.clone()), key, message));
                    String::new()
                }
            };
            if let Content::Scalar { text, quoted } = &mut node.content
                && !whole
            {
                text.replace_range(start..end, &replacement);
                *quoted = true;
                continue;
            }
            let content = match value {
                // An empty default is an empty string, an unset variable is nothing.
                Value::Text(ref value) if value.is_empty() && reference.contains(":-") => None,
                _ => typed(&replacement),
            };
            let reference = node.expanded.take().map_or(reference, |earlier| earlier.reference);
            node.content = content.unwrap_or_else(|| Content::Scalar {
                text: replacement.clone(),
                quoted: true,
            });
            node.expanded = Some(Expanded {
                reference,
                text: replacement,
            });
            if !matches!(node.content, Content::Scalar { .. }) {
                place_all(node);
                if self.depth >= MAX_DEPTH {
                    break;
                }
                self.depth += 1;
                let outcome = self.expand(node, key);
                self.depth -= 1;
                return outcome;
            }
        }
        Err(finding(node, key, ENDLESS))
    }
}

fn finding(node: &Node, key: &str, message: &str) -> Finding {
    Finding::new(Some(node.place.clone()), key, message)
}

enum Value {
    Text(String),
    Unset(String),
}

/// The text `reference` stands for.
fn follow(reference: &str, environment: Environment<'_>) -> Result<Value, String> {
    let uri = reference
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or(reference);
    let (scheme, rest) = match uri.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        // As in the Collector, `${X:-default}` needs its `env:`.
        Some((name, rest)) => {
            return Err(format!("`{reference}` has no scheme; write `${{env:{name}:{rest}}}`"));
        }
        None => ("env", uri),
    };
    match scheme {
        "env" => {}
        "yaml" => return Ok(Value::Text(rest.to_owned())),
        "file" => return content(rest).map(Value::Text),
        _ => {
            return Err(if let Some(default) = rest.strip_prefix('-') {
                format!("`{reference}` has no scheme; write `${{env:{scheme}:-{default}}}`")
            } else {
                format!(
                    "`{reference}` asks for `{scheme}:`, which Harbinger does not expand: write `${{env:NAME}}`, \
                     `${{env:NAME:-default}}`, `${{file:PATH}}`, or `$${{…}}` for the text itself"
                )
            });
        }
    }
    let (name, default) = match rest.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (rest, None),
    };
    let valid = !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|part| part.is_ascii_alphanumeric() || part == '_');
    if !valid {
        return Err(format!(
            "`{name}` in `{reference}` is not the name of an environment variable (letters, digits and `_`, no digit \
             first); write `$${{…}}` for the text itself"
        ));
    }
    Ok(match environment(name).or_else(|| default.map(str::to_owned)) {
        Some(text) => Value::Text(text),
        None => Value::Unset(name.to_owned()),
    })
}

/// What a file holds, without the line end that editors put behind it.
fn content(path: &str) -> Result<String, String> {
    let unreadable = |problem: std::io::Error| format!("cannot read the file `{path}`: {problem}");
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(format!(
            "`{path}` is no file of at most {} MiB that could stand for a value",
            MAX_FILE_BYTES >> 20
        ));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}

fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|part| part.is_ascii_alphanumeric() || matches!(part, '+' | '.' | '-'))
}

/// What `text` is as YAML when it is not simply a string.
fn typed(text: &str) -> Option<Content> {
    let content = match yaml::parse("environment", text) {
        Ok(Some(node)) => node.content,
        Ok(None) => Content::Scalar {
            text: text.to_owned(),
            quoted: false,
        },
        Err(_) => return None,
    };
    match &content {
        Content::Scalar { quoted: true, .. } => None,
        Content::Scalar { text, quoted: false } if Meaning::of(text) == Meaning::String => None,
        _ => Some(content),
    }
}

/// Gives everything that came out of a variable the place of the reference.
fn place_all(node: &mut Node) {
    let place = node.place.clone();
    match &mut node.content {
        Content::Scalar { .. } => {}
        Content::Sequence(nodes) => {
            for below in nodes {
                below.place = place.clone();
                place_all(below);
            }
        }
        Content::Mapping(entries) => {
            for entry in entries {
                entry.place = place.clone();
                entry.value.place = place.clone();
                place_all(&mut entry.value);
            }
        }
    }
}

/// The innermost first reference in `text` that no `$` escapes, as a byte range.
fn find(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    loop {
        let rest = text.get(from..)?;
        let close = rest.find('}')?;
        if let Some(open) = rest.get(..close)?.rfind("${") {
            // Dollars before a reference pair up; an odd one escapes it.
            let before = text.get(..from + open)?;
            let dollars = before.len() - before.trim_end_matches('$').len();
            if dollars.is_multiple_of(2) {
                return Some((from + open, from + close + 1));
            }
        }
        from += close + 1;
    }
}

/// `$$` is `$`.
fn unescape(node: &mut Node) {
    if let Content::Scalar { text, .. } = &mut node.content
        && text.contains("$$")
    {
        *text = text.replace("$$", "$");
    }
    if let Some(expanded) = &mut node.expanded
        && expanded.text.contains("$$")
    {
        expanded.text = expanded.text.replace("$$", "$");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn environment(name: &str) -> Option<String> {
        Some(
            match name {
                "HOST" => "db.example",
                "PORT" => "4317",
                "ZEROS" => "0123",
                "EMPTY" => "",
                "LIST" => "[a, '${env:HOST}']",
                "BRACE" => "{not yaml",
                "QUOTED" => "'x'",
                "NAME" => "HOST",
                "AGAIN" => "${env:AGAIN}",
                "DOLLAR" => "a$$b",
                "DEEPER" => "[x, '${env:DEEPER}']",
                "WIDER" => "['${env:WIDER}', '${env:WIDER}']",
                _ => return None,
            }
            .to_owned(),
        )
    }

    fn expanded(value: &str) -> Node {
        let mut node = Node {
            content: Content::Scalar {
                text: value.to_owned(),
                quoted: false,
            },
            place: super::super::finding::Place::whole("c.yaml"),
            expanded: None,
        };
        expand(&mut node, "k", &environment, &mut Vec::new()).unwrap();
        node
    }

    fn refused(value: &str) -> String {
        let mut root = yaml::parse("c.yaml", &format!("k: '{value}'")).unwrap().unwrap();
        expand(&mut root, "", &environment, &mut Vec::new())
            .unwrap_err()
            .to_string()
    }

    fn text(value: &str) -> String {
        match expanded(value).content {
            Content::Scalar { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    /// The Collector's rules, one line each.
    #[test]
    fn references_become_what_the_collector_makes_of_them() {
        for (value, result) in [
            ("${env:HOST}", "db.example"),
            ("${HOST}", "db.example"),
            ("http://${env:HOST}:${env:PORT}/", "http://db.example:4317/"),
            ("${env:MISSING:-fallback}", "fallback"),
            ("${env:MISSING:-a:-b}", "a:-b"),
            ("${env:EMPTY:-fallback}", ""),
            ("${env:${env:NAME}}", "db.example"),
            ("$${env:HOST}", "${env:HOST}"),
            ("$$${env:HOST}", "$db.example"),
            ("$${env:PORT} ${env:PORT}", "${env:PORT} 4317"),
            ("$HOST", "$HOST"),
            ("pa$$word", "pa$word"),
            ("${env:BRACE}", "{not yaml"),
            ("${env:QUOTED}", "'x'"),
            ("${env:DOLLAR}", "a$b"),
            ("a ${ b", "a ${ b"),
            ("a } b", "a } b"),
        ] {
            assert_eq!(text(value), result, "{value}");
        }
    }

    #[test]
    fn a_whole_value_gets_the_type_of_its_text_and_part_of_a_value_is_text() {
        assert_eq!(expanded("${env:PORT}").meaning(), Some(Meaning::Unsigned(4317)));
        assert_eq!(expanded("${env:MISSING:-true}").meaning(), Some(Meaning::Bool(true)));
        assert_eq!(expanded("1${env:PORT}").meaning(), Some(Meaning::String));
        assert_eq!(expanded("${env:ZEROS}").expanded.unwrap().text, "0123");
        assert_eq!(expanded("${env:MISSING}").meaning(), Some(Meaning::Null));
        assert_eq!(expanded("${env:MISSING:-}").meaning(), Some(Meaning::String));
        let Content::Sequence(items) = expanded("${env:LIST}").content else {
            panic!()
        };
        assert_eq!(
            items[1].content,
            Content::Scalar {
                text: "db.example".to_owned(),
                quoted: true
            }
        );
    }

    #[test]
    fn an_unset_variable_warns() {
        let mut root = yaml::parse("c.yaml", "a:\n  b: ${env:MISSING}").unwrap().unwrap();
        let mut warnings = Vec::new();
        expand(&mut root, "", &environment, &mut warnings).unwrap();
        assert_eq!(
            warnings[0].to_string(),
            "c.yaml:2:6: a.b: the environment variable MISSING is not set, so `${env:MISSING}` is empty; \
             set it, or give a default: `${env:MISSING:-…}`"
        );
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        assert!(refused("${http://x/y}").contains("write `${env:NAME}`"));
        assert!(refused("${file:/nowhere/x.yaml}").contains("cannot read the file `/nowhere/x.yaml`"));
        assert!(refused("${file:/}").contains("no file of at most 1 MiB"));
        assert!(refused("${MISSING:-x}").contains("write `${env:MISSING:-x}`"));
        assert!(refused("${my_var:-x}").contains("write `${env:my_var:-x}`"));
        assert!(refused("${env:a b}").contains("is not the name of an environment variable"));
        assert!(refused("${env:AGAIN}").contains("without end"));
        assert!(refused("${env:DEEPER}").contains("without end"));
        assert!(refused("${env:WIDER}").contains("without end"));
    }

    /// A file stands for what is in it, a section as well as a word; `yaml:` for its own text.
    #[test]
    fn files_and_texts_stand_for_what_they_hold() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (word, section) = (
            file("token", "hunter2\r\n"),
            file("part.yaml", "a: [1, '${env:HOST}']\n"),
        );
        assert_eq!(text(&format!("${{file:{word}}}")), "hunter2");
        assert_eq!(text(&format!("Bearer ${{file:{word}}}!")), "Bearer hunter2!");
        let part = expanded(&format!("${{file:{section}}}"));
        let Content::Sequence(items) = &part.entry("a").unwrap().value.content else {
            panic!()
        };
        assert_eq!(items[0].meaning(), Some(Meaning::Unsigned(1)));
        assert_eq!(items[1].expanded.as_ref().unwrap().text, "db.example");
        assert_eq!(expanded("${yaml:250}").meaning(), Some(Meaning::Unsigned(250)));
        assert_eq!(text("${yaml:a word}"), "a word");
    }
}
