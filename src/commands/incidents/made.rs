//! Incidents for tests of what is printed: one with everything known, one as an agent told it before it knew more, and one in
//! which a log tries to take over the terminal.
//!
//! What enters: nothing. What leaves: messages of the API. Promise: none of them is special beyond what its name says. Absent on
//! purpose: an agent.

use crate::edge::api::proto::{
    Course, Happened, Incident, IncidentEnding, IncidentState, KeyRecord, Link, LogQuery, ServiceCount, TemplateCount,
    TieCount, WatchIncidentsResponse,
};

/// So long after ten o'clock.
pub fn at(ms: i64) -> Option<prost_types::Timestamp> {
    let ms = 1_731_924_000_000 + ms;
    Some(prost_types::Timestamp {
        seconds: ms.div_euclid(1000),
        nanos: (ms.rem_euclid(1000) * 1_000_000) as i32,
    })
}

/// An open incident of two services, as an agent tells it.
pub fn whole() -> Incident {
    let disk = "could not extend file \"pg_tblspc/<n>/PG_<n>_<n>/<n>/<n>\": No space left on device HINT: Check free disk space.";
    let query = |logql: &str| LogQuery {
        logql: logql.to_owned(),
        start: at(-2000),
        end: at(189_000),
    };
    Incident {
        id: "20241118-100000-k7f3qa".to_owned(),
        state: IncidentState::Open.into(),
        announced: true,
        leading_edge: Some(KeyRecord {
            time: at(0),
            service: "postgresql".to_owned(),
            template_key: "07bae531ad98620d".to_owned(),
            text: disk.to_owned(),
            severity_number: 17,
            severity: "ERROR".to_owned(),
            reason: "speaks of failure, and was never said before".to_owned(),
        }),
        worst: Some(KeyRecord {
            time: at(95_000),
            service: "postgresql".to_owned(),
            template_key: "17bae531ad98620d".to_owned(),
            text: "terminating connection because of crash of another server process".to_owned(),
            severity_number: 21,
            severity: "FATAL".to_owned(),
            reason: "an error, and not a usual one here".to_owned(),
        }),
        records: 58,
        anomalous_records: 46,
        first_time: at(-2000),
        last_time: at(188_000),
        services: vec!["postgresql".to_owned(), "shop".to_owned()],
        service_counts: vec![
            ServiceCount {
                service: "postgresql".to_owned(),
                records: 36,
                first_time: at(-2000),
            },
            ServiceCount {
                service: "shop".to_owned(),
                records: 22,
                first_time: at(400),
            },
        ],
        templates: vec![
            TemplateCount {
                template_key: "27bae531ad98620d".to_owned(),
                text: "unhandled exception on POST '/checkout' Traceback (most recent call last): File \"/srv/shop/shop.py\", line <n>, in run"
                    .to_owned(),
                records: 22,
                anomalous_records: 22,
                first_time: at(400),
                link: Some(Link {
                    tie: "shared_id".to_owned(),
                    weight: 6.25,
                    template_key: "07bae531ad98620d".to_owned(),
                    service: "postgresql".to_owned(),
                }),
                course: vec![0, 10, 12, 0],
                service: "shop".to_owned(),
                severity_number: 17,
            },
            TemplateCount {
                template_key: "07bae531ad98620d".to_owned(),
                text: disk.to_owned(),
                records: 24,
                anomalous_records: 24,
                first_time: at(0),
                link: None,
                course: vec![3, 10, 8, 3],
                service: "postgresql".to_owned(),
                severity_number: 17,
            },
            TemplateCount {
                template_key: "37bae531ad98620d".to_owned(),
                text: "checkpoint starting: time".to_owned(),
                records: 12,
                first_time: at(-2000),
                course: vec![3, 3, 3, 3],
                service: "postgresql".to_owned(),
                ..TemplateCount::default()
            },
        ],
        ties: vec![
            TieCount {
                tie: "meaning".to_owned(),
                episodes: 1,
            },
            TieCount {
                tie: "companion".to_owned(),
                episodes: 3,
            },
        ],
        logql: Some(query("{service_name=~\"postgresql|shop\"} | incident_id=\"20241118-100000-k7f3qa\"")),
        logql_before: Some(query("{service_name=~\"postgresql|shop\"}")),
        course: Some(Course {
            start: at(-32_000),
            span_seconds: 64,
            records: vec![6, 23, 23, 6],
        }),
        ..Incident::default()
    }
}

/// One that is over, by an agent that did not know yet what makes a course, and keeps no texts.
pub fn plain() -> Incident {
    Incident {
        id: "20241118-093000-bjsz0q".to_owned(),
        state: IncidentState::Closed.into(),
        ending: IncidentEnding::Silence.into(),
        announced: true,
        leading_edge: Some(KeyRecord {
            time: at(-1_800_000),
            service: "nginx".to_owned(),
            template_key: "47bae531ad98620d".to_owned(),
            severity_number: 13,
            ..KeyRecord::default()
        }),
        records: 1234,
        anomalous_records: 1200,
        first_time: at(-1_800_000),
        last_time: at(-1_800_000 + 7_500_000),
        services: ["api", "cart", "nginx", "payments", "warehouse"]
            .map(str::to_owned)
            .to_vec(),
        records_of_other_services: 3,
        ..Incident::default()
    }
}

/// What became part of [`whole`], of a tenant whose logs try to take over the terminal.
pub fn evil() -> Incident {
    let record = KeyRecord {
        time: at(3000),
        service: "支付\u{1b}[31m".to_owned(),
        template_key: "57bae531ad98620d".to_owned(),
        text: "\u{1b}[2J支付失败了：磁盘空间不足\u{202e}\r\nand 支付失败了：磁盘空间不足，无法写入文件，请检查可用磁盘空间".to_owned(),
        severity_number: 21,
        ..KeyRecord::default()
    };
    Incident {
        id: "20241118-100003-hy1e9f".to_owned(),
        tenant: "acme\u{9b}2J".to_owned(),
        state: IncidentState::Merged.into(),
        merged_into: "20241118-100000-k7f3qa".to_owned(),
        leading_edge: Some(record.clone()),
        worst: Some(record),
        records: 2,
        anomalous_records: 2,
        first_time: at(3000),
        last_time: at(3000),
        services: vec!["支付\u{1b}[31m".to_owned()],
        ..Incident::default()
    }
}

/// That this happened to it.
pub fn change(happened: Happened, incident: Incident) -> WatchIncidentsResponse {
    WatchIncidentsResponse {
        happened: happened.into(),
        time: at(200_000),
        incident: Some(incident),
        ..WatchIncidentsResponse::default()
    }
}
