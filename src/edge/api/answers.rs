//! What the desk answers, as messages of the API.
//!
//! What enters: incidents, notices, templates and the agent's status. What leaves: their messages. Promise: nothing told of
//! an incident is left out. Absent on purpose: which of them was asked for.

use prost_types::Timestamp;

use super::{proto, query};
use crate::{
    edge::{AgentMode, AgentStatus, Heard},
    engine::{
        correlate::{
            Course, Ending, Happened, Incident, IncidentId, KeyRecord, ServiceCount, Status, TemplateCount, Tie,
        },
        score::{KnownTemplate, Phase},
        tenant::Tenant,
        text::TemplateKey,
        view::severity_name,
    },
};

/// A time as the API says it.
pub fn timestamp(time_unix_nano: u64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: (time_unix_nano / 1_000_000_000) as i64,
        nanos: (time_unix_nano % 1_000_000_000) as i32,
    })
}

/// A time that may not be known: an older version did not keep it, and 0 stands for it.
fn known(time_unix_nano: u64) -> Option<Timestamp> {
    timestamp(time_unix_nano).filter(|_| time_unix_nano > 0)
}

/// A template's key as the API writes it.
pub fn hex(key: TemplateKey) -> String {
    format!("{:016x}", key.0)
}

/// The name of a tenant; empty for the one of records that name none.
pub fn name_of(tenant: &Tenant) -> String {
    tenant.name().unwrap_or_default().to_owned()
}

/// An incident.
pub fn incident(tenant: &Tenant, told: &Incident, incident_attribute: &str) -> proto::Incident {
    let (state, ending, merged_into) = match told.status {
        Status::Open => (proto::IncidentState::Open, None, None),
        Status::Closed { by } => (proto::IncidentState::Closed, Some(by), None),
        Status::Merged { into } => (proto::IncidentState::Merged, None, Some(into)),
    };
    let written = |id: Option<IncidentId>| id.map(|id| id.to_string()).unwrap_or_default();
    let ties = Tie::ALL.iter().zip(told.ties).filter(|(_, episodes)| *episodes > 0);
    proto::Incident {
        id: told.id.to_string(),
        tenant: name_of(tenant),
        aliases: told.aliases.iter().map(ToString::to_string).collect(),
        parent_incident_id: written(told.parent),
        state: state.into(),
        ending: ending.map_or(proto::IncidentEnding::Unspecified, ending_of).into(),
        merged_into: written(merged_into),
        announced: told.announced,
        leading_edge: Some(record(&told.leading_edge)),
        worst: Some(record(&told.worst)),
        records: told.records,
        anomalous_records: told.anomalous_records,
        first_time: timestamp(told.first_time_unix_nano),
        last_time: timestamp(told.last_time_unix_nano),
        services: told.services.iter().map(ToString::to_string).collect(),
        records_of_other_services: told.records_of_other_services,
        templates: (told.templates.iter())
            .map(|template| count(template, &told.course))
            .collect(),
        records_of_other_templates: told.records_of_other_templates,
        ties: ties
            .map(|(tie, episodes)| proto::TieCount {
                tie: tie.word().to_owned(),
                episodes,
            })
            .collect(),
        logql: Some(query::by_id(told, incident_attribute)),
        logql_before: Some(query::by_time(told)),
        service_counts: told.service_counts.iter().map(service).collect(),
        course: course(&told.course),
    }
}

fn ending_of(ending: Ending) -> proto::IncidentEnding {
    match ending {
        Ending::Silence => proto::IncidentEnding::Silence,
        Ending::Life => proto::IncidentEnding::MaxLife,
        Ending::Bound => proto::IncidentEnding::Bound,
        Ending::Dismissed => proto::IncidentEnding::Dismissed,
    }
}

fn record(record: &KeyRecord) -> proto::KeyRecord {
    proto::KeyRecord {
        time: timestamp(record.time_unix_nano),
        service: record.service.to_string(),
        template_key: hex(record.template),
        text: record.text.to_string(),
        severity_number: record.severity_number,
        severity: severity_name(record.severity_number).unwrap_or_default().to_owned(),
        reason: record.reason.to_string(),
    }
}

fn count(count: &TemplateCount, whole: &Course) -> proto::TemplateCount {
    let link = count.first_episode.as_ref().and_then(|first| first.link.as_ref());
    proto::TemplateCount {
        template_key: hex(count.template),
        text: count.text.to_string(),
        records: count.records,
        anomalous_records: count.anomalous_records,
        first_time: known(count.first_time_unix_nano),
        link: link.map(|link| proto::Link {
            tie: link.tie.word().to_owned(),
            weight: link.weight,
            template_key: hex(link.template),
            service: link.service.to_string(),
        }),
        course: count.course.within(whole),
        service: count.service.to_string(),
        severity_number: count.severity_number,
    }
}

fn service(count: &ServiceCount) -> proto::ServiceCount {
    proto::ServiceCount {
        service: count.service.to_string(),
        records: count.records,
        first_time: known(count.first_time_unix_nano),
    }
}

fn course(course: &Course) -> Option<proto::Course> {
    Some(proto::Course {
        start: Some(timestamp(course.start_unix_nano()?)?),
        span_seconds: course.span_s(),
        records: course.records().to_vec(),
    })
}

/// What a watcher hears.
pub fn heard(heard: &Heard, incident_attribute: &str) -> proto::WatchIncidentsResponse {
    match heard {
        Heard::From { sequence, missed } => proto::WatchIncidentsResponse {
            sequence: *sequence,
            missed: *missed,
            ..proto::WatchIncidentsResponse::default()
        },
        Heard::Happened(notice) => proto::WatchIncidentsResponse {
            sequence: notice.sequence,
            missed: false,
            happened: match notice.change.happened {
                Happened::Opened => proto::Happened::Opened,
                Happened::Updated => proto::Happened::Updated,
                Happened::Merged => proto::Happened::Merged,
                Happened::Closed => proto::Happened::Closed,
            }
            .into(),
            time: timestamp(notice.change.time_unix_nano),
            incident: Some(incident(&notice.tenant, &notice.change.incident, incident_attribute)),
        },
    }
}

/// A template.
pub fn template(tenant: &Tenant, known: &KnownTemplate) -> proto::Template {
    proto::Template {
        key: hex(known.key),
        text: known.text.to_string(),
        tenant: name_of(tenant),
        records: known.records,
        first_seen: timestamp(known.first_seen_unix_nano),
        last_seen: timestamp(known.last_seen_unix_nano),
        services: known.services.iter().map(ToString::to_string).collect(),
        flagged_since: known.flagged_unix_nano.and_then(timestamp),
        anomalous: known.anomalous,
        suppressed: known.suppressed,
    }
}

/// The agent.
pub fn status(status: AgentStatus) -> proto::GetStatusResponse {
    let (tenants, ready_tenants) = status.tenants;
    proto::GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: timestamp(status.started_unix_nano),
        mode: match status.mode {
            AgentMode::Mark => proto::Mode::Mark,
            AgentMode::Shadow => proto::Mode::Shadow,
            AgentMode::Off => proto::Mode::Off,
        }
        .into(),
        phase: match status.phase {
            Phase::WarmingUp { .. } => proto::Phase::WarmingUp,
            Phase::Fitting => proto::Phase::Fitting,
            Phase::Ready { .. } => proto::Phase::Ready,
        }
        .into(),
        detail: status.detail,
        model_healthy: status.model_healthy,
        model_version: status.model_version.to_string(),
        tenants: tenants as u32,
        ready_tenants: ready_tenants as u32,
        open_incidents: status.open_incidents as u64,
        past_incidents: status.past_incidents as u64,
        last_sequence: status.last_sequence,
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::sync::Arc;

    use super::*;

    /// An incident of two services with an alias.
    pub fn incident() -> Incident {
        let first: u64 = 1_731_924_000_000_000_000;
        let record = |text: &str, severity_number| KeyRecord {
            time_unix_nano: first,
            service: Arc::from("cart"),
            template: TemplateKey(0xab),
            text: Arc::from(text),
            severity_number,
            reason: Arc::from(""),
        };
        Incident {
            id: "20241118-100000-000001".parse().unwrap(),
            aliases: vec!["20241118-100000-000002".parse().unwrap()],
            parent: None,
            status: Status::Closed { by: Ending::Silence },
            announced: true,
            leading_edge: record("card declined", 13),
            worst: record("disk vanished", 17),
            records: 12,
            anomalous_records: 10,
            first_time_unix_nano: first,
            last_time_unix_nano: first + 1_500_000_000,
            services: vec![Arc::from("cart"), Arc::from("pay.v2")],
            records_of_other_services: 0,
            service_counts: Vec::new(),
            course: Course::at(first, 12),
            templates: Vec::new(),
            records_of_other_templates: 0,
            ties: [3, 0, 0, 1, 0],
        }
    }

    #[test]
    fn what_an_older_version_did_not_keep_is_left_out() {
        let mut older = incident();
        older.course = Course::default();
        let unknown = |service: &str| ServiceCount {
            service: Arc::from(service),
            records: 0,
            first_time_unix_nano: 0,
        };
        older.service_counts = vec![unknown("cart")];
        let told = super::incident(&Tenant::default(), &older, "incident_id");
        assert_eq!((told.course, told.service_counts[0].first_time), (None, None));
    }

    #[test]
    fn an_incident_is_told_in_full() {
        let told = super::incident(&Tenant::named("acme"), &incident(), "incident_id");
        assert_eq!(
            (told.id.as_str(), told.tenant.as_str()),
            ("20241118-100000-000001", "acme")
        );
        assert_eq!(
            (told.state(), told.ending()),
            (proto::IncidentState::Closed, proto::IncidentEnding::Silence)
        );
        let worst = told.worst.unwrap();
        assert_eq!(
            (worst.severity.as_str(), worst.template_key.as_str()),
            ("ERROR", "00000000000000ab")
        );
        let last = told.last_time.unwrap();
        assert_eq!((last.seconds, last.nanos), (1_731_924_001, 500_000_000));
        let ties: Vec<_> = told.ties.iter().map(|tie| (tie.tie.as_str(), tie.episodes)).collect();
        assert_eq!(ties, [("meaning", 3), ("service", 1)]);
    }
}
