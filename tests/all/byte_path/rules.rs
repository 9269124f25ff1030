//! What the user excludes leaves as it came; what is ignored or not to be written is told no more than that.

use std::sync::Arc;

use harbinger::engine::{
    annotate,
    front::{Front, Treatment},
    score::{Anomaly, Detector},
    text::Settings,
    verdict::Verdicts,
    view::{Record, Value, View},
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use proptest::prelude::*;
use prost::Message;

use super::{arbitrary, config};

fn front(yaml: &str) -> Front {
    Front::new(serde_yaml::from_str(yaml).unwrap(), annotate::Settings::default())
}

fn string(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(value.to_owned())),
        }),
        key_strindex: 0,
    }
}

/// A service's records, by body and attributes.
fn logs(service: &str, records: &[(&str, Vec<KeyValue>)]) -> ResourceLogs {
    let record = |(body, attributes): &(&str, Vec<KeyValue>)| LogRecord {
        body: string("", body).value,
        attributes: attributes.clone(),
        ..LogRecord::default()
    };
    ResourceLogs {
        resource: Some(Resource {
            attributes: vec![string("service.name", service)],
            ..Resource::default()
        }),
        scope_logs: vec![ScopeLogs {
            log_records: records.iter().map(record).collect(),
            ..ScopeLogs::default()
        }],
        ..ResourceLogs::default()
    }
}

fn encoded(resource_logs: Vec<ResourceLogs>) -> Vec<u8> {
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// Every record anomalous.
fn all_anomalous(records: usize) -> Verdicts {
    let anomaly = Arc::new(Anomaly {
        score: 1.0,
        p_value: 0.0,
        detector: Some(Detector::Rarity),
        reason: Arc::from("new"),
        episode: 1,
    });
    Verdicts {
        anomalies: (0..records as u32).map(|index| (index, Arc::clone(&anomaly))).collect(),
        ..Verdicts::default()
    }
}

fn annotated(front: &Front, request: &[u8]) -> Vec<u8> {
    let view = View::parse(request).unwrap();
    let batch = front.prepare(&view, 1);
    let verdicts = all_anomalous(batch.records.len());
    front
        .annotate(&view, &batch, &verdicts, &Arc::from("model"))
        .unwrap()
        .bytes
}

/// What stands in a record's attribute, as text.
fn attribute(record: &Record<'_>, key: &str) -> Option<String> {
    Some(match record.attribute(key)? {
        Value::String(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    })
}

proptest! {
    #![proptest_config(config())]

    /// Whatever a request holds, known or unknown, whole or damaged: not a byte of an excluded record changes, even under our
    /// own names; and a request of excluded records is the very same.
    #[test]
    fn excluded_records_keep_their_bytes(requests in proptest::collection::vec(arbitrary::damaged_request(), 4)) {
        for request in requests {
            let Ok(view) = View::parse(&request) else { continue };
            let some = front("exclude: [{pattern: '[a-m]'}, {attribute: is_anomaly, value: '*'}, {attribute: service.name, value: '?*'}]");
            let batch = some.prepare(&view, 1);
            let out = annotated(&some, &request);
            let after = View::parse(&out).unwrap();
            prop_assert_eq!(after.len(), view.len());
            for ((before, after), seen) in view.records().zip(after.records()).zip(&batch.records) {
                prop_assert_eq!(before.bytes == after.bytes, seen.treatment == Treatment::Exclude);
            }
            let all = front("{ignore: [{pattern: .}], exclude: [{pattern: '(?s).'}]}");
            if all.prepare(&view, 1).records.iter().all(|seen| seen.treatment == Treatment::Exclude) {
                prop_assert_eq!(annotated(&all, &request), request);
            }
        }
    }
}

/// Rules meet records by what they say, by their attributes and by their resource; `exclude` is asked first.
#[test]
fn rules_choose_records() {
    let front = front(
        "{ignore: [{pattern: '^GET /health'}, {attribute: http.status, value: '2??'}, {attribute: service.name, value: 'probe-*'}],
          exclude: [{pattern: '\"type\": *\"audit\"'}, {attribute: service.name, value: audit}]}",
    );
    let request = encoded(vec![
        logs(
            "shop",
            &[
                ("GET /health took 5 ms", vec![]),
                ("see GET /health", vec![]),
                ("served", vec![string("http.status", "204")]),
                ("served", vec![string("http.status", "500")]),
                (r#"{"message":"GET /health","type":"audit"}"#, vec![]),
            ],
        ),
        logs("audit", &[("GET /health", vec![])]),
        logs("probe-7", &[("failed", vec![])]),
    ]);
    let view = View::parse(&request).unwrap();
    let batch = front.prepare(&view, 1);
    let treatments: Vec<Treatment> = batch.records.iter().map(|record| record.treatment).collect();
    let judge = |template| Treatment::Judge { template };
    use Treatment::{Exclude, Ignore};
    assert_eq!(
        treatments,
        [Ignore, judge(0), Ignore, judge(1), Exclude, Exclude, Ignore]
    );
    let templates: Vec<(&str, u64)> = batch
        .templates
        .iter()
        .map(|template| (&*template.text, template.records))
        .collect();
    assert_eq!(templates, [("see GET /health", 1), ("served", 1)]);

    let out = annotated(&front, &request);
    let marks: Vec<Option<String>> = View::parse(&out)
        .unwrap()
        .records()
        .map(|record| attribute(&record, "is_anomaly"))
        .collect();
    let (no, yes) = (Some("Bool(false)".to_owned()), Some("Bool(true)".to_owned()));
    assert_eq!(marks, [no.clone(), yes.clone(), no.clone(), yes, None, None, no]);
}

/// A service is read by its own settings, whatever came before it in the request.
#[test]
fn services_are_read_by_their_own_settings() {
    let front = front(
        "{masking_rules: [{pattern: 'order-\\w+', replacement: <order>}],
          services: {raw: {masking: false, masking_rules: []}, odd: {body_fields: [payload.text]}}}",
    );
    let body = r#"{"message":"order-ab took 5","payload":{"text":"order-cd"}}"#;
    let request = encoded(
        ["shop", "raw", "odd", "shop"]
            .map(|service| logs(service, &[(body, vec![])]))
            .to_vec(),
    );
    let batch = front.prepare(&View::parse(&request).unwrap(), 1);
    let templates: Vec<&str> = batch.templates.iter().map(|template| &*template.text).collect();
    assert_eq!(templates, ["<order> took <n>", "order-ab took 5", "<order>"]);
    assert_eq!(
        batch
            .records
            .iter()
            .map(|record| record.template().unwrap())
            .collect::<Vec<_>>(),
        [0, 1, 2, 0]
    );
}

/// With `store_text: false` the record is judged as ever, and its template written nowhere.
#[test]
fn text_that_may_not_be_stored_is_not_written() {
    let request = encoded(vec![logs("shop", &[("disk full", vec![])])]);
    for (yaml, template) in [("{}", Some("disk full".to_owned())), ("store_text: false", None)] {
        let out = annotated(&front(yaml), &request);
        let view = View::parse(&out).unwrap();
        let record = view.record(0).unwrap();
        assert_eq!(attribute(&record, "harbinger.template"), template);
        assert_eq!(attribute(&record, "is_anomaly").unwrap(), "Bool(true)");
    }
    assert!(Settings::default().store_text);
}

proptest! {
    #![proptest_config(config())]

    /// Whatever stands under the scope of a Harbinger's events, or has their attribute, passes as it came; what stands beside
    /// it is judged.
    #[test]
    fn what_a_harbinger_says_of_incidents_passes_as_it_came(
        request in arbitrary::request(),
        by_scope in prop::collection::vec(any::<bool>(), 1..8),
        by_attribute in prop::collection::vec(any::<bool>(), 1..8),
    ) {
        let mut request = ExportLogsServiceRequest::decode(&request[..]).unwrap();
        let (mut by_scope, mut by_attribute) = (by_scope.into_iter().cycle(), by_attribute.into_iter().cycle());
        let mut told = Vec::new();
        for scope in request.resource_logs.iter_mut().flat_map(|resource| &mut resource.scope_logs) {
            let in_scope = by_scope.next().unwrap();
            let name = if in_scope { "harbinger.incidents" } else { "app" };
            scope.scope.get_or_insert_default().name = name.to_owned();
            for record in &mut scope.log_records {
                record.attributes.retain(|attribute| attribute.key != "harbinger.event");
                let has_attribute = by_attribute.next().unwrap();
                if has_attribute {
                    record.attributes.push(string("harbinger.event", "harbinger.incident.opened"));
                }
                told.push(in_scope || has_attribute);
            }
        }
        let bytes = request.encode_to_vec();
        let view = View::parse(&bytes).unwrap();
        let front = front("{}");
        let batch = front.prepare(&view, 1);
        let excluded: Vec<bool> = batch.records.iter().map(|record| record.treatment == Treatment::Exclude).collect();
        prop_assert_eq!(&excluded, &told);
        let annotated = front.annotate(&view, &batch, &all_anomalous(view.len()), &Arc::from("m")).unwrap();
        let after = View::parse(&annotated.bytes).unwrap();
        for ((before, after), told) in view.records().zip(after.records()).zip(told) {
            prop_assert_eq!(before.bytes == after.bytes, told);
        }
    }
}
