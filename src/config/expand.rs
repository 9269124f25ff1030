//! `${env:X}` in values, as the Collector (v0.159) reads it.
//!
//! What enters: a merged tree and a way to look environment variables up. What leaves: the tree with values in place and
//! warnings about unset variables. Promises: a value that is one reference gets the type its text has as YAML, and its
//! text where a string is wanted; a reference within text becomes text; `$$` is `$`; keys and comments are never
//! touched, and places stay those of the reference. Absent on purpose: `${file:…}` and other schemes.
//!
//! Forms: `${env:X}`, `${X}`, `${env:X:-default}`, nested references. An unset variable without default is empty.

use super::{
    document::{Content, Expanded, Meaning, Node},
    finding::Finding,
    yaml,
};

/// Replacements in one value, so that a variable that refers to itself ends.
const MAX_ROUNDS: usize = 1000;

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
    match &mut node.content {
        Content::Mapping(entries) => {
            for entry in entries {
                let below = if key.is_empty() {
                    entry.key.clone()
                } else {
                    format!("{key}.{}", entry.key)
                };
                expand(&mut entry.value, &below, environment, warnings)?;
            }
        }
        Content::Sequence(nodes) => {
            for (index, node) in nodes.iter_mut().enumerate() {
                expand(node, &format!("{key}[{index}]"), environment, warnings)?;
            }
        }
        Content::Scalar { text, .. } => {
            if text.contains("${") {
                scalar(node, key, environment, warnings)?;
            }
            unescape(node);
        }
    }
    Ok(())
}

fn scalar(
    node: &mut Node,
    key: &str,
    environment: Environment<'_>,
    warnings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    for _ in 0..MAX_ROUNDS {
        let Content::Scalar { text, .. } = &node.content else {
            return Ok(());
        };
        let Some((start, end)) = find(text) else {
            return Ok(());
        };
        let reference = text.get(start..end).unwrap_or_default().to_owned();
        let whole = reference.len() == text.len();
        let value = follow(&reference, environment).map_err(|message| finding(node, key, &message))?;
        let replacement = match &value {
            Value::Text(value) => value.clone(),
            Value::Unset(name) => {
                let message = format!(
                    "the environment variable {name} is not set, so `{reference}` is empty; set it, or give a default: \
                     `${{env:{name}:-…}}`"
                );
                warnings.push(Finding::new(Some(node.place.clone()), key, message));
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
            return expand(node, key, environment, warnings);
        }
    }
    Err(finding(
        node,
        key,
        "the environment variables in this value refer to each other without end",
    ))
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
    if scheme != "env" {
        return Err(if let Some(default) = rest.strip_prefix('-') {
            format!("`{reference}` has no scheme; write `${{env:{scheme}:-{default}}}`")
        } else {
            format!(
                "`{reference}` asks for `{scheme}:`, and Harbinger expands environment variables only: write \
                 `${{env:NAME}}`, `${{env:NAME:-default}}`, or `$${{…}}` for the text itself"
            )
        });
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
        assert!(refused("${file:x.yaml}").contains("write `${env:NAME}`"));
        assert!(refused("${MISSING:-x}").contains("write `${env:MISSING:-x}`"));
        assert!(refused("${my_var:-x}").contains("write `${env:my_var:-x}`"));
        assert!(refused("${env:a b}").contains("is not the name of an environment variable"));
        assert!(refused("${env:AGAIN}").contains("without end"));
    }
}
