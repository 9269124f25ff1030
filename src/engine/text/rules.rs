//! The user's own rules: patterns, placeholders and matchers, as they stand in the configuration and as they run.
//!
//! Enters: strings of the configuration; later a record, its resource and its text. Leaves: whether a matcher meets them,
//! and texts with the user's placeholders in them.
//!
//! Promises: what was read runs: a pattern that is wrong, too large or empty is refused when it is read, with what to
//! write instead. Matching takes time linear in the text, however a pattern is written (no back-references, no
//! look-around). Absent on purpose: what is done with a record that is met, see [`super::Treatment`].

use std::borrow::Cow;

use regex::{NoExpand, Regex, RegexBuilder};
use serde::{Deserialize, Serialize, de::Error as _};

use crate::engine::view::{Record, Resource, Value};

/// Largest compiled pattern in bytes: large enough for thousands of alternatives, small enough for a list of them.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// Longest placeholder, brackets included.
const MAX_PLACEHOLDER_BYTES: usize = 32;
/// Longest body that a pattern is searched in as it came.
const MAX_BODY_BYTES: usize = 65_536;

/// A regular expression, searched anywhere in a text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let compiled = RegexBuilder::new(&text)
            .size_limit(MAX_PATTERN_BYTES)
            .dfa_size_limit(MAX_PATTERN_BYTES)
            .nest_limit(64)
            .build();
        match compiled {
            Ok(regex) if regex.is_match("") => Err(format!(
                "`{text}` matches the empty text, and so everything; write `+` instead of `*`, or name what must be there"
            )),
            Ok(regex) => Ok(Pattern(regex)),
            Err(regex::Error::CompiledTooBig(_)) => Err(format!(
                "`{text}` is too large once compiled; write smaller repetitions, as `x+` instead of `x{{1,9999}}`"
            )),
            Err(error) => Err(format!(
                "`{text}` is no regular expression: {}; write one in single quotes, as 'order-\\d+' (look-around and \
                 back-references do not exist)",
                reason(&error.to_string())
            )),
        }
    }
}

/// The last line of what the parser says: before it come the pattern and a mark, in lines of their own.
fn reason(message: &str) -> &str {
    let last = message.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last)
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0.as_str().to_owned()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// What stands in a template for a value: a word in angle brackets, as `<order>`. Masking never changes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Placeholder(String);

impl TryFrom<String> for Placeholder {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let word = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
        let letters = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        match word {
            Some(word) if word.starts_with(|first: char| first.is_ascii_lowercase()) && letters(word) => {
                if text.len() > MAX_PLACEHOLDER_BYTES {
                    return Err(format!(
                        "`{text}` is too long; write at most {MAX_PLACEHOLDER_BYTES} bytes"
                    ));
                }
                Ok(Placeholder(text))
            }
            _ => Err(format!(
                "`{text}` is no placeholder; write a word of small letters in angle brackets, as \"<order>\""
            )),
        }
    }
}

impl From<Placeholder> for String {
    fn from(placeholder: Placeholder) -> String {
        placeholder.0
    }
}

/// One of `masking_rules`: what the pattern finds becomes the placeholder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskingRule {
    /// What varies.
    pub pattern: Pattern,
    /// What is written in its place.
    pub replacement: Placeholder,
}

/// Lays the rules over the text, each over what the one before it left.
pub(super) fn masked<'t>(rules: &[MaskingRule], text: &'t str) -> Cow<'t, str> {
    let mut text = Cow::Borrowed(text);
    for MaskingRule { pattern, replacement } in rules {
        let replaced = pattern.0.replace_all(&text, NoExpand(&replacement.0));
        if let Cow::Owned(replaced) = replaced {
            text = Cow::Owned(replaced);
        }
    }
    text
}

/// A value or a family of them: `*` stands for anything, `?` for one character, all else for itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob {
    text: String,
    regex: Regex,
}

impl TryFrom<String> for Glob {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let escaped = regex::escape(&text).replace(r"\*", ".*").replace(r"\?", ".");
        let regex = RegexBuilder::new(&format!("^(?s:{escaped})$"))
            .size_limit(MAX_PATTERN_BYTES)
            .build()
            .map_err(|_| "the value is too long; write a shorter one with `*` in it".to_owned())?;
        Ok(Glob { text, regex })
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> String {
        glob.text
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Glob {}

impl Glob {
    /// Does the attribute's value meet it, numbers and booleans by how they are written?
    fn meets(&self, value: Value<'_>) -> bool {
        match value {
            Value::String(bytes) => self.regex.is_match(&String::from_utf8_lossy(bytes)),
            Value::Int(number) => self.regex.is_match(&number.to_string()),
            Value::Double(number) => self.regex.is_match(&number.to_string()),
            Value::Bool(flag) => self.regex.is_match(if flag { "true" } else { "false" }),
            _ => false,
        }
    }
}

/// One of `ignore` or `exclude`: the records that are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Matcher {
    /// Records that say something the pattern finds: in the body as it came if it is a string, or in what is read of it.
    Text(Pattern),
    /// Records with this attribute of this value, on themselves or on their resource.
    Attribute {
        /// The attribute's key.
        name: String,
        /// What its value must be.
        value: Glob,
    },
}

/// A matcher as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pattern: Option<Pattern>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attribute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Glob>,
}

impl TryFrom<Written> for Matcher {
    type Error = serde::de::value::Error;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written {
                pattern: Some(pattern),
                attribute: None,
                value: None,
            } => Ok(Matcher::Text(pattern)),
            Written {
                pattern: None,
                attribute: Some(name),
                value: Some(value),
            } if !name.is_empty() => Ok(Matcher::Attribute { name, value }),
            _ => Err(Self::Error::custom(
                "expected one pattern, or one attribute with its value; write `pattern: 'GET /health'` or \
                 `{attribute: service.name, value: \"audit-*\"}`",
            )),
        }
    }
}

impl From<Matcher> for Written {
    fn from(matcher: Matcher) -> Written {
        match matcher {
            Matcher::Text(pattern) => Written {
                pattern: Some(pattern),
                attribute: None,
                value: None,
            },
            Matcher::Attribute { name, value } => Written {
                pattern: None,
                attribute: Some(name),
                value: Some(value),
            },
        }
    }
}

impl Matcher {
    /// Does it depend on what a record says?
    pub(super) fn reads_text(&self) -> bool {
        matches!(self, Matcher::Text(_))
    }

    /// Are all records of the resource meant?
    pub(super) fn meets_resource(&self, resource: &Resource<'_>) -> bool {
        match self {
            Matcher::Text(_) => false,
            Matcher::Attribute { name, value } => resource.attribute(name).is_some_and(|found| value.meets(found)),
        }
    }

    /// Is the record meant by an attribute of its own?
    pub(super) fn meets_attribute(&self, record: &Record<'_>) -> bool {
        match self {
            Matcher::Text(_) => false,
            Matcher::Attribute { name, value } => record.attribute(name).is_some_and(|found| value.meets(found)),
        }
    }

    /// Is the record meant by what it says? `canonical` is what was read of it.
    pub(super) fn meets_text(&self, record: &Record<'_>, canonical: &str) -> bool {
        let Matcher::Text(pattern) = self else { return false };
        if pattern.0.is_match(canonical) {
            return true;
        }
        let Value::String(body) = record.body else { return false };
        body != canonical.as_bytes() && {
            let body = body.get(..MAX_BODY_BYTES).unwrap_or(body);
            pattern.0.is_match(&String::from_utf8_lossy(body))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn rule(pattern: &str, replacement: &str) -> MaskingRule {
        MaskingRule {
            pattern: pattern.to_owned().try_into().unwrap(),
            replacement: replacement.to_owned().try_into().unwrap(),
        }
    }

    /// Rules run in their order, and a `$` in a text is nothing special.
    #[test]
    fn rules_run_in_order() {
        let rules = [rule(r"order-\w+", "<order>"), rule(r"(?i)customer \S+", "<customer>")];
        assert_eq!(
            masked(&rules, "order-a$1 of Customer Ann, order-b"),
            "<order>$1 of <customer> <order>"
        );
        assert!(matches!(masked(&rules, "nothing"), Cow::Borrowed("nothing")));
    }

    /// What cannot work is refused with a way out.
    #[test]
    fn senseless_rules_are_refused() {
        let pattern = |text: &str| Pattern::try_from(text.to_owned()).unwrap_err();
        assert!(pattern("a(b").contains("unclosed group; write one in single quotes"));
        assert!(pattern("(?=x)y").contains("look-around"), "{}", pattern("(?=x)y"));
        assert!(pattern("a*").contains("matches the empty text"));
        assert!(pattern("").contains("matches the empty text"));
        assert!(pattern(r"\w{9999}").contains("too large"));
        assert!(pattern(&"(".repeat(100_000)).contains("no regular expression"));
        for wrong in ["order", "<>", "<Order>", "<order1>", "<_x>", "<a b>", "<a>b", "<é>"] {
            assert!(
                Placeholder::try_from(wrong.to_owned())
                    .unwrap_err()
                    .contains("as \"<order>\""),
                "{wrong}"
            );
        }
        assert!(
            Placeholder::try_from(format!("<{}>", "x".repeat(40)))
                .unwrap_err()
                .contains("too long")
        );
    }

    /// A matcher is either of two shapes, and is printed as it was written.
    #[test]
    fn matchers_have_two_shapes() {
        let read = |text: &str| serde_yaml::from_str::<Matcher>(text);
        for written in ["pattern: GET /health\n", "attribute: service.name\nvalue: audit-*\n"] {
            assert_eq!(serde_yaml::to_string(&read(written).unwrap()).unwrap(), written);
        }
        for wrong in [
            "{}",
            "{attribute: a}",
            "{value: b}",
            "{pattern: x, attribute: a, value: b}",
            "{attribute: '', value: b}",
        ] {
            assert!(
                read(wrong)
                    .unwrap_err()
                    .to_string()
                    .contains("expected one pattern, or one attribute"),
                "{wrong}"
            );
        }
        assert!(read("{patern: x}").is_err());
    }

    /// A glob is the whole value, with its two signs; what means something to a regular expression means nothing here.
    #[test]
    fn globs_stand_for_whole_values() {
        let glob = |text: &str| Glob::try_from(text.to_owned()).unwrap();
        for (text, meets, misses) in [
            ("audit", "audit", "audits"),
            ("audit-*", "audit-\n.x", "xaudit-1"),
            ("a?c", "aéc", "ac"),
            ("a.(c", "a.(c", "ax(c"),
            ("", "", "x"),
        ] {
            assert!(glob(text).meets(Value::String(meets.as_bytes())), "{text}");
            assert!(!glob(text).meets(Value::String(misses.as_bytes())), "{text}");
        }
        assert!(
            glob("5*").meets(Value::Int(503))
                && glob("true").meets(Value::Bool(true))
                && !glob("*").meets(Value::Empty)
        );
    }
}
