//! The book as a person reads and edits it: YAML.
//!
//! What enters: a [`Book`], or the text of one. What leaves: the other. Promises: what is read back is what was written;
//! what cannot be understood is told with line and column and what to write, and nothing of it is used.
//! Absent on purpose: files, and YAML comments, which are not kept: a comment of an opinion is one of its fields.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Book, Entry, Opinion};
use crate::engine::{tenant::Tenant, text::TemplateKey};

const HEADER: &str = "\
# What people said of log templates; Harbinger judges by it. Edit it, then send the agent SIGHUP.
# A template is named by its key, the hash of its text; `text` is for people. Without `service` an opinion is for every
# service that has none of its own. `opinion` is one of
#   normal   usual: not marked, and learned from
#   mute     not marked before the time of `until`, and not learned from
#   real     always marked, never learned from
# Harbinger writes this file anew with each opinion that it is given: write remarks as `comment:`, these lines are not kept.
";

/// Why a text is no book.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unreadable {
    /// Line, from 1; 0 where it is not known.
    pub line: usize,
    /// Column, from 1; 0 where it is not known.
    pub column: usize,
    /// What is wrong, and what to write.
    pub problem: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.problem),
            line => write!(f, "line {line}, column {}: {}", self.column, self.problem),
        }
    }
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tenants: Vec<Section>,
}

/// What was said of one tenant's templates.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    /// Missing for the tenant of records that name none.
    #[serde(skip_serializing_if = "String::is_empty")]
    tenant: String,
    /// True for all that have no place of their own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    overflow: bool,
    opinions: Vec<Said>,
}

/// One opinion.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
struct Said {
    template: TemplateKey,
    service: Option<Arc<str>>,
    entry: Entry,
}

/// One opinion, field by field.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    template: Key,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    opinion: Word,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    author: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given_at: Option<Time>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Normal,
    Mute,
    Real,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Key(TemplateKey);

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        TemplateKey::from_str(&written)
            .map(Self)
            .map_err(|refusal| refusal.to_string())
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0.to_string()
    }
}

/// A time, as Unix nanoseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Time(u64);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        let since_epoch = Timestamp::from_str(&written)
            .ok()
            .and_then(|time| u64::try_from(time.as_nanosecond()).ok());
        since_epoch
            .map(Self)
            .ok_or_else(|| format!("\"{written}\" is no time: write it with its zone, as 2026-11-23T06:00:00Z"))
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        // Every such number is a time before the year 2555.
        Timestamp::from_nanosecond(i128::from(time.0))
            .unwrap_or(Timestamp::MAX)
            .to_string()
    }
}

impl TryFrom<Fields> for Said {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let opinion = match (fields.opinion, fields.until) {
            (Word::Normal, None) => Opinion::Normal,
            (Word::Real, None) => Opinion::Real,
            (Word::Mute, Some(Time(time_unix_nano))) => Opinion::MuteUntil { time_unix_nano },
            (Word::Mute, None) => {
                return Err("`opinion: mute` without an end: write `until: 2026-11-23T06:00:00Z` below it".to_owned());
            }
            (_, Some(_)) => {
                return Err("`until` is for `opinion: mute` only: remove it, or write `opinion: mute`".to_owned());
            }
        };
        Ok(Self {
            template: fields.template.0,
            service: fields.service.map(Arc::from),
            entry: Entry {
                opinion,
                text: fields.text,
                comment: fields.comment,
                author: fields.author,
                given_at_unix_nano: fields.given_at.map_or(0, |time| time.0),
            },
        })
    }
}

impl From<Said> for Fields {
    fn from(said: Said) -> Self {
        let (opinion, until) = match said.entry.opinion {
            Opinion::Normal => (Word::Normal, None),
            Opinion::Real => (Word::Real, None),
            Opinion::MuteUntil { time_unix_nano } => (Word::Mute, Some(Time(time_unix_nano))),
        };
        Self {
            template: Key(said.template),
            text: said.entry.text,
            service: said.service.as_deref().map(str::to_owned),
            opinion,
            until,
            comment: said.entry.comment,
            author: said.entry.author,
            given_at: (said.entry.given_at_unix_nano > 0).then_some(Time(said.entry.given_at_unix_nano)),
        }
    }
}

impl Section {
    fn tenant(&self) -> Tenant {
        match self.overflow {
            true => Tenant::Overflow,
            false => Tenant::named(&self.tenant),
        }
    }
}

impl Book {
    /// The book as YAML.
    ///
    /// # Errors
    /// The YAML library's; no book is known that it refuses.
    pub fn to_yaml(&self) -> Result<String, Unreadable> {
        let section = |(tenant, entries): (&Tenant, &super::Entries)| Section {
            tenant: match tenant {
                Tenant::Named(name) => name.to_string(),
                Tenant::Overflow => String::new(),
            },
            overflow: *tenant == Tenant::Overflow,
            opinions: entries
                .iter()
                .map(|((template, service), entry)| Said {
                    template: *template,
                    service: service.clone(),
                    entry: entry.clone(),
                })
                .collect(),
        };
        let file = File {
            tenants: self.tenants.iter().map(section).collect(),
        };
        Ok(format!("{HEADER}{}", serde_yaml::to_string(&file)?))
    }

    /// The book that this text is; an empty text is an empty book.
    ///
    /// # Errors
    /// [`Unreadable`] says where, and what to write.
    pub fn from_yaml(text: &str) -> Result<Self, Unreadable> {
        let is_empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        if text.lines().all(is_empty) {
            return Ok(Self::default());
        }
        let file: File = serde_yaml::from_str(text)?;
        let mut book = Self::default();
        for section in file.tenants {
            let tenant = section.tenant();
            for Said {
                template,
                service,
                entry,
            } in section.opinions
            {
                let entries = book.tenants.entry(tenant.clone()).or_default();
                if entries.insert((template, service.clone()), entry).is_some() {
                    return Err(Unreadable::twice(text, template, service.as_deref()));
                }
            }
        }
        Ok(book)
    }
}

impl Unreadable {
    /// Of two opinions, one cannot be meant; told where the key stands last.
    fn twice(text: &str, template: TemplateKey, service: Option<&str>) -> Self {
        let key = template.to_string();
        let found = (1..).zip(text.lines()).filter_map(|(line, text)| {
            let column = text.to_ascii_lowercase().find(&key)? + 1;
            Some((line, column))
        });
        let (line, column) = found.last().unwrap_or_default();
        let place = service.map_or_else(|| "for all services".to_owned(), |name| format!("in service {name}"));
        Self {
            line,
            column,
            problem: format!("there are two opinions on template {key} {place}: remove one of them"),
        }
    }
}

impl From<serde_yaml::Error> for Unreadable {
    fn from(error: serde_yaml::Error) -> Self {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let told = error.to_string();
        // The place is told once, in front.
        let problem = told.split(" at line ").next().unwrap_or(&told).to_owned();
        Self { line, column, problem }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let opinion = prop_oneof![
            Just(Opinion::Normal),
            Just(Opinion::Real),
            any::<u64>().prop_map(|time_unix_nano| Opinion::MuteUntil { time_unix_nano }),
        ];
        (opinion, ".{0,20}", "[ -~\n#:'\"-]{0,20}", "\\PC{0,8}", any::<u64>()).prop_map(
            |(opinion, text, comment, author, given_at_unix_nano)| Entry {
                opinion,
                text,
                comment,
                author,
                given_at_unix_nano,
            },
        )
    }

    fn book() -> impl Strategy<Value = Book> {
        let tenant = prop_oneof![
            Just(Tenant::default()),
            Just(Tenant::Overflow),
            Just(Tenant::named("(overflow)")),
            "[a-z0-9~]{1,4}".prop_map(|name| Tenant::named(&name)),
        ];
        let place = (any::<u64>(), proptest::option::of("\\PC{0,6}"));
        let place = place.prop_map(|(key, service)| (TemplateKey(key), service.map(Arc::<str>::from)));
        let entries = proptest::collection::btree_map(place, entry(), 1..5);
        proptest::collection::btree_map(tenant, entries, 0..4).prop_map(|tenants| Book { tenants })
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(12), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_written_is_read_back(book in book()) {
            let yaml = book.to_yaml().unwrap();
            prop_assert_eq!(Book::from_yaml(&yaml), Ok(book), "{}", yaml);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}|[a-z:\n -]{0,60}") {
            let _ = Book::from_yaml(&text);
        }
    }

    #[test]
    fn a_person_can_write_little_and_is_told_where_it_is_wrong() {
        let book =
            Book::from_yaml("tenants:\n- opinions:\n  - template: 00000000000000ff\n    opinion: normal\n").unwrap();
        assert_eq!(
            book.opinions(&Tenant::default()).of(TemplateKey(255), "any", 0),
            Some(Opinion::Normal)
        );
        assert_eq!(Book::from_yaml("# nothing yet\n"), Ok(Book::default()));

        let refused = |entry: &str| {
            let text = format!("tenants:\n- opinions:\n  - template: 00000000000000ff\n{entry}");
            Book::from_yaml(&text).unwrap_err().to_string()
        };
        for (wrong, told) in [
            (
                "    opinon: real",
                "line 4, column 5: tenants[0].opinions[0]: unknown field `opinon`",
            ),
            ("    opinion: mute", "write `until: 2026-11-23T06:00:00Z` below it"),
            (
                "    opinion: mute\n    until: tomorrow",
                "\"tomorrow\" is no time: write it with its zone",
            ),
            (
                "    opinion: real\n    until: 2026-11-23T06:00:00Z",
                "`until` is for `opinion: mute` only",
            ),
            (
                "    opinion: dull",
                "unknown variant `dull`, expected one of `normal`, `mute`, `real`",
            ),
            ("    opinion: real\n   service: shop", "line 5"),
            (
                "    opinion: real\n  - template: 00000000000000FF\n    opinion: real",
                "line 5, column 15: there are two opinions on template 00000000000000ff for all services",
            ),
        ] {
            let error = refused(wrong);
            assert!(error.contains(told) && error.starts_with("line "), "{error}");
        }
        let key = Book::from_yaml("tenants:\n- opinions:\n  - {template: 12, opinion: real}\n").unwrap_err();
        assert!(key.to_string().contains("template"), "{key}");
    }
}
