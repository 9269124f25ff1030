//! Whose records they are: the tenant, as a resource attribute or the caller's header names it.
//!
//! What enters: the YAML section `tenant`, and names. What leaves: a [`Tenant`], which keys everything that is learned.
//! Promises: two names are never taken for one; a name that cannot be told (too long, no text, several at once) is the
//! overflow's, where nothing is quoted. Absent on purpose: what is learned of a tenant (`tenants`).

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::view::Value;

/// A longer name is no name: it would be kept with everything that is written down of its tenant.
const MAX_NAME_BYTES: usize = 256;

/// More would be no bound: each tenant has its own autoencoder, templates and incidents.
const MOST_TENANTS: usize = 4096;

/// How tenants are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The resource attribute that names the tenant of its records.
    pub resource_attribute: Option<String>,
    /// The caller's header that names the tenant of all records of the request; receivers keep headers only with
    /// `include_metadata: true`.
    pub from_context: Option<String>,
    /// Tenants that are told apart; the records of further ones are learned from and judged together, and nothing is
    /// quoted there.
    pub max_tenants: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            resource_attribute: None,
            from_context: None,
            max_tenants: 64,
        }
    }
}

impl Settings {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if self.resource_attribute.is_some() && self.from_context.is_some() {
            return Err(
                "from_context: a tenant is named by `resource_attribute` or by `from_context`, not by both; remove one"
                    .to_owned(),
            );
        }
        for (key, name, example) in [
            ("resource_attribute", &self.resource_attribute, "tenant.id"),
            ("from_context", &self.from_context, "X-Scope-OrgID"),
        ] {
            if name.as_ref().is_some_and(String::is_empty) {
                return Err(format!(
                    "{key}: empty; write a name such as {example}, or leave the key out"
                ));
            }
        }
        if !(1..=MOST_TENANTS).contains(&self.max_tenants) {
            return Err(format!(
                "max_tenants: {} is not between 1 and {MOST_TENANTS}; write 64",
                self.max_tenants
            ));
        }
        Ok(())
    }

    /// Whether records have tenants at all.
    pub fn enabled(&self) -> bool {
        self.resource_attribute.is_some() || self.from_context.is_some()
    }
}

/// Whose a record is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tenant {
    /// The tenant of this name; the empty name is the tenant of all records that name none.
    Named(Arc<str>),
    /// All that have no place of their own.
    Overflow,
}

impl Default for Tenant {
    fn default() -> Self {
        Self::Named(Arc::default())
    }
}

impl Tenant {
    /// The tenant of this name.
    pub fn named(name: &str) -> Self {
        if name.len() > MAX_NAME_BYTES {
            return Self::Overflow;
        }
        Self::Named(Arc::from(name))
    }

    /// The tenant that an attribute names.
    pub fn of_value(value: Option<Value<'_>>) -> Self {
        match value {
            None => Self::default(),
            Some(Value::String(name)) => std::str::from_utf8(name).map_or(Self::Overflow, Self::named),
            Some(Value::Int(number)) => Self::named(&number.to_string()),
            Some(_) => Self::Overflow,
        }
    }

    /// The tenant that the values of a header name.
    pub fn of_values<'a>(mut values: impl Iterator<Item = &'a str>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::default(),
            (Some(name), None) => Self::named(name),
            (Some(_), Some(_)) => Self::Overflow,
        }
    }

    /// Its name for people; `None` for the tenant of records that name none.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(&**name).filter(|name| !name.is_empty()),
            Self::Overflow => Some("(overflow)"),
        }
    }

    /// Makes hashes of one tenant differ from those of another; 0 for the tenant of records that name none.
    pub fn seed(&self) -> u64 {
        match self {
            Self::Named(name) if name.is_empty() => 0,
            Self::Named(name) => xxh3_64(name.as_bytes()),
            Self::Overflow => xxh3_64_with_seed(b"overflow", 1),
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name().unwrap_or("(unnamed)"))
    }
}

/// A tenant as it is written.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TenantName {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    overflow: bool,
}

impl From<&Tenant> for TenantName {
    fn from(tenant: &Tenant) -> Self {
        match tenant {
            Tenant::Named(name) => Self {
                name: name.to_string(),
                overflow: false,
            },
            Tenant::Overflow => Self {
                name: String::new(),
                overflow: true,
            },
        }
    }
}

impl From<&TenantName> for Tenant {
    fn from(written: &TenantName) -> Self {
        if written.overflow {
            Self::Overflow
        } else {
            Self::named(&written.name)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_told_apart_or_not_told_at_all() {
        let of = |bytes: &'static [u8]| Tenant::of_value(Some(Value::String(bytes)));
        assert_eq!(of(b"acme"), Tenant::named("acme"));
        assert_eq!(Tenant::of_value(Some(Value::Int(7))), Tenant::named("7"));
        assert_eq!(Tenant::of_value(None), Tenant::default());
        assert_eq!(of(b""), Tenant::default());
        assert_eq!(of(b"\xff"), Tenant::Overflow, "two broken names must not become one");
        assert_eq!(Tenant::named(&"x".repeat(257)), Tenant::Overflow);
        assert_eq!(Tenant::of_values(["a"].into_iter()), Tenant::named("a"));
        assert_eq!(Tenant::of_values(["a", "b"].into_iter()), Tenant::Overflow);
        assert_eq!(Tenant::default().seed(), 0);
        assert_ne!(Tenant::named("a").seed(), Tenant::named("b").seed());
    }

    #[test]
    fn senseless_settings_are_refused() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let refused = |yaml: &str| serde_yaml::from_str::<Settings>(yaml).unwrap().validate().unwrap_err();
        assert!(refused("{resource_attribute: a, from_context: b}").contains("not by both"));
        assert!(refused("{from_context: ''}").starts_with("from_context: empty"));
        assert!(refused("{max_tenants: 0}").starts_with("max_tenants: 0"));
    }
}
