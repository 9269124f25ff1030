//! What agents of a cluster write to their log, and who of them is there.
//!
//! In: reports of one agent's tenants; entries of all agents as the log has them, with its time. Out: entries as bytes; which entry was
//! folded already; who is alive, who speaks for all, and how far all streams have come. Promises: a function of the entries and
//! their order; an entry that the log has twice counts once; what a newer version writes is passed over, never an error; bounded. Absent
//! on purpose: incidents (`correlate`), and any clock: time is the log's.

use std::collections::BTreeMap;

use prost::Message;

use super::{
    correlate::Report,
    tenant::{Tenant, TenantName},
};

/// What this version writes and reads. Fields that are added need no new one.
const VERSION: u32 = 1;
/// Who has written nothing for so long is not there, and is not waited for; nanoseconds of the log's time.
const PRESENT_NANO: u64 = 10 * 1_000_000_000;
/// Who has written nothing for so long is forgotten.
const REMEMBERED_NANO: u64 = 3600 * 1_000_000_000;
/// Agents that are remembered.
const MAX_MEMBERS: usize = 1024;

/// What one agent writes at a time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// Whose it is.
    #[prost(string, tag = "2")]
    pub agent: String,
    /// When that agent started, by its own clock: numbers begin anew then.
    #[prost(fixed64, tag = "3")]
    pub started_unix_nano: u64,
    /// Counts the agent's entries.
    #[prost(uint64, tag = "4")]
    pub number: u64,
    /// What it tells.
    #[prost(message, repeated, tag = "5")]
    pub sections: Vec<Section>,
}

/// What an agent tells of a tenant.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Section {
    #[prost(message, optional, tag = "1")]
    tenant: Option<TenantName>,
    /// Of its incidents.
    #[prost(message, optional, tag = "2")]
    pub report: Option<Report>,
    /// Records of the tenant that the agent has learned from.
    #[prost(uint64, tag = "3")]
    pub records: u64,
}

impl Section {
    /// What is told of this tenant.
    pub fn new(tenant: &Tenant, report: Report, records: u64) -> Self {
        Self {
            tenant: Some(tenant.into()),
            report: Some(report),
            records,
        }
    }

    /// Whom it is about.
    pub fn tenant(&self) -> Tenant {
        self.tenant.as_ref().map(Tenant::from).unwrap_or_default()
    }
}

impl Entry {
    /// An entry of this agent.
    pub fn new(agent: &str, started_unix_nano: u64, number: u64, sections: Vec<Section>) -> Self {
        Self {
            version: VERSION,
            agent: agent.to_owned(),
            started_unix_nano,
            number,
            sections,
        }
    }

    /// Reads one; `None` for what is none, or of a newer version.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok().filter(|entry| entry.version == VERSION)
    }
}

/// An agent, as its entries tell of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Member {
    #[prost(string, tag = "1")]
    agent: String,
    #[prost(fixed64, tag = "2")]
    started_unix_nano: u64,
    /// Its latest entry.
    #[prost(uint64, tag = "3")]
    number: u64,
    /// When that was written, by the log's clock.
    #[prost(fixed64, tag = "4")]
    heard_unix_nano: u64,
    #[prost(message, repeated, tag = "5")]
    parts: Vec<Part>,
}

/// A member's part of a tenant's stream.
#[derive(Clone, PartialEq, prost::Message)]
struct Part {
    #[prost(message, optional, tag = "1")]
    tenant: Option<TenantName>,
    #[prost(uint64, tag = "2")]
    records: u64,
    /// Nothing earlier is expected of it, as told last, and when that was.
    #[prost(fixed64, optional, tag = "3")]
    watermark_unix_nano: Option<u64>,
    #[prost(fixed64, tag = "4")]
    told_unix_nano: u64,
}

/// The agents of a cluster, as the log tells of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    by_agent: BTreeMap<String, Member>,
    /// The log's time.
    now_unix_nano: u64,
}

impl Members {
    /// Takes note of the log's next entry; whether it is new.
    pub fn hear(&mut self, entry: &Entry, time_unix_nano: u64) -> bool {
        self.now_unix_nano = self.now_unix_nano.max(time_unix_nano);
        let now = self.now_unix_nano;
        let member = self.by_agent.entry(entry.agent.clone()).or_insert_with(|| Member {
            agent: entry.agent.clone(),
            ..Member::default()
        });
        // By the agent's own clock, which may have been set back between two starts.
        let is_new = entry.started_unix_nano != member.started_unix_nano || entry.number > member.number;
        if !is_new {
            return false;
        }
        (member.started_unix_nano, member.number) = (entry.started_unix_nano, entry.number);
        member.heard_unix_nano = now;
        for section in &entry.sections {
            let told = Part {
                tenant: section.tenant.clone(),
                records: section.records,
                watermark_unix_nano: section.report.as_ref().and_then(|report| report.watermark_unix_nano),
                told_unix_nano: now,
            };
            match member.parts.iter_mut().find(|part| part.tenant == section.tenant) {
                Some(part) => {
                    part.records = told.records;
                    if told.watermark_unix_nano.is_some() {
                        *part = told;
                    }
                }
                None => member.parts.push(told),
            }
        }
        self.by_agent
            .retain(|_, member| now.saturating_sub(member.heard_unix_nano) <= REMEMBERED_NANO);
        while self.by_agent.len() > MAX_MEMBERS {
            let quietest = self.by_agent.values().min_by_key(|member| member.heard_unix_nano);
            let Some(quietest) = quietest.map(|member| member.agent.clone()) else {
                break;
            };
            self.by_agent.remove(&quietest);
        }
        true
    }

    /// Those who are there, by name.
    pub fn present(&self) -> impl Iterator<Item = &str> {
        self.here().map(|member| member.agent.as_str())
    }

    /// Who speaks for all: tells of incidents, trains, and writes down how things stand. The first by name.
    pub fn speaker(&self) -> Option<&str> {
        self.present().next()
    }

    /// Nothing earlier is expected of the tenant's stream: of none of those who are there and have told lately how far they are.
    pub fn watermark(&self, tenant: &Tenant) -> Option<u64> {
        let tenant = TenantName::from(tenant);
        let parts = self.here().filter_map(|member| member.part(&tenant));
        let lately = parts.filter(|part| self.now_unix_nano.saturating_sub(part.told_unix_nano) <= PRESENT_NANO);
        lately.filter_map(|part| part.watermark_unix_nano).min()
    }

    /// Records of a tenant that agents other than this one have learned from.
    pub fn records_elsewhere(&self, tenant: &Tenant, agent: &str) -> u64 {
        let tenant = TenantName::from(tenant);
        let others = self.by_agent.values().filter(|member| member.agent != agent);
        others.map(|member| member.records(&tenant)).sum()
    }

    /// Records of a tenant that this agent has learned from, as far as the log knows.
    pub fn records_of(&self, tenant: &Tenant, agent: &str) -> u64 {
        let member = self.by_agent.get(agent);
        member.map_or(0, |member| member.records(&TenantName::from(tenant)))
    }

    /// Whether the log has this entry of the agent, or a later one.
    pub fn has(&self, agent: &str, started_unix_nano: u64, number: u64) -> bool {
        let member = self.by_agent.get(agent);
        member.is_some_and(|member| member.started_unix_nano == started_unix_nano && member.number >= number)
    }

    /// As it is written.
    pub(super) fn export(&self) -> (Vec<Member>, u64) {
        (self.by_agent.values().cloned().collect(), self.now_unix_nano)
    }

    /// As it was written.
    pub(super) fn restore(members: Vec<Member>, now_unix_nano: u64) -> Self {
        Self {
            by_agent: members
                .into_iter()
                .map(|member| (member.agent.clone(), member))
                .collect(),
            now_unix_nano,
        }
    }

    fn here(&self) -> impl Iterator<Item = &Member> {
        let is_here = |member: &&Member| self.now_unix_nano.saturating_sub(member.heard_unix_nano) <= PRESENT_NANO;
        self.by_agent.values().filter(is_here)
    }
}

impl Member {
    fn part(&self, tenant: &TenantName) -> Option<&Part> {
        self.parts.iter().find(|part| part.tenant.as_ref() == Some(tenant))
    }

    fn records(&self, tenant: &TenantName) -> u64 {
        self.part(tenant).map_or(0, |part| part.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn entry(agent: &str, number: u64, watermark: u64) -> Entry {
        let report = Report {
            watermark_unix_nano: Some(watermark),
            ..Report::default()
        };
        Entry::new(
            agent,
            1,
            number,
            vec![Section::new(&Tenant::default(), report, 10 * number)],
        )
    }

    #[test]
    fn an_entry_that_the_log_has_twice_counts_once() {
        let mut members = Members::default();
        assert!(members.hear(&entry("a", 1, 5), 0));
        assert!(!members.hear(&entry("a", 1, 5), SECOND));
        assert!(members.has("a", 1, 1) && !members.has("a", 1, 2));
        for started in [2, 0] {
            let anew = Entry::new("a", started, 1, Vec::new());
            assert!(
                members.hear(&anew, SECOND),
                "an agent that starts again counts anew, whatever its clock says"
            );
        }
    }

    #[test]
    fn the_slowest_of_those_who_are_there_is_waited_for() {
        let (mut members, tenant) = (Members::default(), Tenant::default());
        members.hear(&entry("b", 1, 50), 0);
        members.hear(&entry("a", 1, 90), SECOND);
        assert_eq!((members.watermark(&tenant), members.speaker()), (Some(50), Some("a")));
        assert_eq!(members.records_elsewhere(&tenant, "a"), 10);
        members.hear(&entry("a", 2, 95), PRESENT_NANO + 1);
        assert_eq!(members.watermark(&tenant), Some(95), "one that has gone is not");
        assert_eq!(members.present().count(), 1);
        members.hear(&entry("b", 2, 60), PRESENT_NANO + 2);
        assert_eq!(members.watermark(&tenant), Some(60));
        let (all, now) = members.export();
        assert_eq!(Members::restore(all, now), members);
    }

    #[test]
    fn what_is_no_entry_is_passed_over() {
        assert_eq!(Entry::read(b"\xff\xff"), None);
        let newer = Entry {
            version: VERSION + 1,
            ..entry("a", 1, 1)
        };
        assert_eq!(Entry::read(&newer.encode_to_vec()), None);
    }
}
