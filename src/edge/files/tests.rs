//! A file of each kind, good and bad, through [`super::open`]: what a user would hand over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use proptest::prelude::*;

use super::*;
use crate::engine::view::rfc3339;

/// The rows and bad rows of a file with this name and content.
fn read_named(name: &str, content: &[u8], settings: &Settings) -> Result<(Source, Vec<Row>, Vec<BadRow>), FileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let mut source = open(&path, settings)?.numbered(7);
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    for row in source.by_ref() {
        match row {
            Ok(row) => rows.push(row),
            Err(row) => bad.push(row),
        }
    }
    Ok((source, rows, bad))
}

/// All rows of a file that is sound.
fn read(content: &str) -> (Format, Vec<Row>) {
    let (source, rows, bad) = read_named("file", content.as_bytes(), &Settings::default()).unwrap();
    assert_eq!(bad, []);
    (source.format(), rows)
}

fn message(row: &Row) -> &str {
    match row.record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(Any::StringValue(text)) => text,
        other => panic!("no text: {other:?}"),
    }
}

fn time(row: &Row) -> String {
    assert_eq!(row.record.time_unix_nano, row.time_unix_nano.unwrap_or(0));
    row.time_unix_nano.map_or(String::new(), rfc3339)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

const CSV: &str = "timestamp,service,severity,message,trace_id,extra\r\n\
    1731924000.5,api,ERROR,\"two\nlines, one cell\",4bf92f3577b34da6a3ce929d0e0e4736,x\r\n\
    \r\n,,,plain,none,\r\n";

#[test]
fn csv_becomes_rows_with_their_cells() {
    let (source, rows, bad) = read_named("a.csv", CSV.as_bytes(), &Settings::default()).unwrap();
    assert_eq!((source.format(), bad.len(), rows.len()), (Format::Csv, 0, 2));
    assert_eq!(
        source.headers(),
        ["timestamp", "service", "severity", "message", "trace_id", "extra"]
    );
    let [first, second] = rows.as_slice() else { panic!() };
    assert_eq!((first.line, second.line, first.source), (2, 5, 7));
    assert_eq!(
        (time(first).as_str(), first.service.as_deref()),
        ("2024-11-18T10:00:00.5Z", Some("api"))
    );
    assert_eq!(
        (message(first), first.record.severity_number),
        ("two\nlines, one cell", 17)
    );
    assert_eq!(first.record.trace_id[..2], [0x4b, 0xf9]);
    assert_eq!(
        first.cells,
        [
            "1731924000.5",
            "api",
            "ERROR",
            "two\nlines, one cell",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "x"
        ]
    );
    assert_eq!(
        (second.time_unix_nano, second.service.as_deref(), &second.problem),
        (None, None, &None)
    );
    assert_eq!(second.record.attributes[0].key, "trace_id");
}

/// Gzip is known by its bytes, not its name; a byte order mark, semicolons and Latin-1 are no obstacle.
#[test]
fn encodings_are_found_out() {
    let zipped = read_named("a.log", &gzip(CSV.as_bytes()), &Settings::default()).unwrap();
    assert_eq!(
        zipped.1,
        read_named("a.csv", CSV.as_bytes(), &Settings::default()).unwrap().1
    );
    let content = b"\xef\xbb\xbfZeit;Message;Level\r\n2024-11-18;gr\xfc\xdfe;info\r\n";
    let settings = Settings {
        time_column: Some("zeit".to_owned()),
        ..Settings::default()
    };
    let (_, rows, _) = read_named("a.csv", content, &settings).unwrap();
    assert_eq!(
        (message(&rows[0]), time(&rows[0]).as_str()),
        ("grüße", "2024-11-18T00:00:00Z")
    );
    assert_eq!(rows[0].cells, ["2024-11-18", "grüße", "info"]);
}

/// Rows that are not all they should be are kept, with their line and what is wrong.
#[test]
fn odd_csv_rows_are_kept_and_told() {
    let content = "time,level,message\n2024-11-18,info,a\nyesterday,info,b\n2024-11-18\n\n2024-11-18,info,c, d, e";
    let (_, rows, bad) = read_named("a.csv", content.as_bytes(), &Settings::default()).unwrap();
    assert_eq!((rows.len(), bad.len()), (4, 0));
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.line, message(row), row.problem.is_some()))
        .collect();
    assert_eq!(
        told,
        [(2, "a", false), (3, "b", true), (4, "", true), (6, "c, d, e", true)]
    );
    assert_eq!(rows[1].time_unix_nano, None);
    assert!(rows[1].problem.as_ref().unwrap().contains("\"yesterday\""));
}

/// A date and a time of day in two columns are one time.
#[test]
fn a_date_column_completes_a_time_column() {
    let (_, rows) =
        read("LineId,Date,Time,Level,Component,Content,EventTemplate\n1,2015-07-29,17:41:44.747,INFO,Quorum,up,u\n");
    assert_eq!(
        (time(&rows[0]).as_str(), message(&rows[0]), rows[0].service.as_deref()),
        ("2015-07-29T17:41:44.747Z", "up", Some("Quorum"))
    );
}

/// Each error says what is there, or what to do.
#[test]
fn unreadable_files_are_clear_errors() {
    let error =
        |name: &str, content: &[u8], settings: &Settings| read_named(name, content, settings).unwrap_err().to_string();
    let none = Settings::default();
    assert!(
        error("a.csv", b"id,level\n1,info\n", &none)
            .contains("its columns are id, level: name one with --message-column")
    );
    let named = Settings {
        message_column: Some("text".to_owned()),
        ..Settings::default()
    };
    assert!(error("a.csv", b"id,level\n1,info\n", &named).contains("has no column text"));
    assert!(error("a", b"", &none).contains("is empty"));
    assert!(error("a", &gzip(b""), &none).contains("is empty"));
    assert!(error("a", b"\x28\xb5\x2f\xfd....", &none).contains("zstd"));
    assert!(error("a", b"\xff\xfem\0", &none).contains("UTF-16"));
    let zone = Settings {
        timezone: Some("CEST".to_owned()),
        ..Settings::default()
    };
    assert!(error("a", b"x\n", &zone).contains("Europe/Berlin"));
    assert!(matches!(
        open(std::path::Path::new("/no/such/file"), &none),
        Err(FileError::Open { .. })
    ));
}

/// Up to where a gzip file is damaged its rows are there; the damage is the last thing told.
#[test]
fn a_damaged_gzip_file_ends_in_a_fatal_bad_row() {
    let content: String = (0..50_000)
        .map(|n| format!("line {n} {}\n", n * 7919 % 10_007))
        .collect();
    let mut bytes = gzip(content.as_bytes());
    bytes.truncate(bytes.len() / 2);
    let (_, rows, bad) = read_named("a.gz", &bytes, &Settings::default()).unwrap();
    assert!(rows.len() > 1000);
    assert!(matches!(bad.as_slice(), [BadRow { fatal: true, .. }]));
}

#[test]
fn structured_loggers_are_read() {
    let lines = [
        r#"{"time":"2024-11-18T10:00:00Z","level":"warn","msg":"slow","logger":"db","request_id":"r1","error":"dial tcp"}"#,
        r#"{"@timestamp":"2024-11-18T10:00:00Z","log.level":"ERROR","message":"ecs","service":{"name":"web"},"error":{"type":"E","message":"m"}}"#,
        r#"{"level":50,"time":1731924000000,"pid":1,"name":"pino","msg":"numbers"}"#,
        r#"{"ts":1731924000.25,"message":{"text":"a map","n":1}}"#,
        r#"{"a":1,"b":"no message"}"#,
    ];
    let (format, rows) = read(&lines.join("\n"));
    assert_eq!((format, rows.len()), (Format::Json, 5));
    assert_eq!(
        (
            message(&rows[0]),
            rows[0].record.severity_number,
            rows[0].service.as_deref()
        ),
        ("slow", 13, Some("db"))
    );
    let keys = |row: &Row| {
        row.record
            .attributes
            .iter()
            .map(|attribute| attribute.key.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&rows[0]), ["request_id", "exception.message"]);
    assert_eq!(
        (rows[1].service.as_deref(), rows[1].record.severity_number),
        (Some("web"), 17)
    );
    assert_eq!(keys(&rows[1]), ["exception.type", "exception.message"]);
    assert_eq!(
        (rows[2].record.severity_number, time(&rows[2]).as_str()),
        (17, "2024-11-18T10:00:00Z")
    );
    assert_eq!(rows[3].cells[3], r#"{"text":"a map","n":1}"#);
    assert_eq!(rows[4].cells, ["", "", "", r#"{"a":1,"b":"no message"}"#]);
}

#[test]
fn the_journal_and_docker_are_read() {
    let journal = r#"{"__REALTIME_TIMESTAMP":"1731924000123456","PRIORITY":"3","SYSLOG_IDENTIFIER":"sshd","MESSAGE":"bad","_PID":"1"}"#;
    let bytes = r#"{"__REALTIME_TIMESTAMP":"1731924000123456","PRIORITY":"6","_SYSTEMD_UNIT":"x.service","MESSAGE":[103,114,252,223,101]}"#;
    let docker =
        r#"{"log":"{\"level\":\"error\",\"msg\":\"inner\"}\n","stream":"stderr","time":"2024-11-18T10:00:00.1Z"}"#;
    let (_, rows) = read(&[journal, bytes, docker].join("\n"));
    assert_eq!(
        (
            message(&rows[0]),
            rows[0].record.severity_number,
            rows[0].service.as_deref()
        ),
        ("bad", 17, Some("sshd"))
    );
    assert_eq!(time(&rows[0]), "2024-11-18T10:00:00.123456Z");
    assert_eq!((message(&rows[1]), rows[1].record.severity_number), ("grüße", 9));
    assert_eq!(
        (message(&rows[2]), rows[2].record.severity_number),
        (r#"{"level":"error","msg":"inner"}"#, 17)
    );
}

/// Fields with other names are found by theirs, nested ones too; a line that is no JSON is kept as text and told.
#[test]
fn named_fields_and_broken_lines() {
    let content = "{\"m\":{\"t\":\"hello\"},\"w\":\"18.11.2024 10\"}\n{\"cut\": \n\n{\"w\":\"18.11.2024 11\"}\n";
    let settings = Settings {
        message_column: Some("m.t".to_owned()),
        time_column: Some("w".to_owned()),
        time_format: Some("%d.%m.%Y %H".to_owned()),
        ..Settings::default()
    };
    let (_, rows, _) = read_named("a", content.as_bytes(), &settings).unwrap();
    assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(
        (message(&rows[0]), time(&rows[0]).as_str(), &rows[0].problem),
        ("hello", "2024-11-18T10:00:00Z", &None)
    );
    assert_eq!(message(&rows[1]), "{\"cut\": ");
    assert!(rows[1].problem.as_ref().unwrap().contains("kept as text"));
    assert!(rows[2].problem.as_ref().unwrap().contains("--message-column"));
}

/// Times and levels of servers' own formats; what follows a line without a time of its own belongs to it.
#[test]
fn plain_text_is_read() {
    let content = "2024-11-18 10:00:00.123 UTC [12] LOG:  ready\n\
        2024-11-18 10:00:01.000 UTC [12] ERROR:  duplicate key\n\tDETAIL: Key exists\nCaused by: x\n\n\
        2024/11/18 10:00:02 [error] 12#0: *5 connect() failed\n\
        10.0.0.1 - - [18/Nov/2024:10:00:03 +0000] \"GET / HTTP/1.1\" 502 157\n\
        7:M 18 Nov 2024 10:00:04.000 * Ready to accept connections\n";
    let (format, rows) = read(content);
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.line, time(row), row.record.severity_number, message(row)))
        .collect();
    assert_eq!(format, Format::Text);
    let expected = [
        (1, "2024-11-18T10:00:00.123Z", 9, "[12] LOG:  ready"),
        (
            2,
            "2024-11-18T10:00:01Z",
            17,
            "[12] ERROR:  duplicate key\n\tDETAIL: Key exists\nCaused by: x",
        ),
        (6, "2024-11-18T10:00:02Z", 17, "[error] 12#0: *5 connect() failed"),
        (
            7,
            "2024-11-18T10:00:03Z",
            0,
            "10.0.0.1 - - [18/Nov/2024:10:00:03 +0000] \"GET / HTTP/1.1\" 502 157",
        ),
        (
            8,
            "2024-11-18T10:00:04Z",
            0,
            "7:M 18 Nov 2024 10:00:04.000 * Ready to accept connections",
        ),
    ];
    assert_eq!(
        told,
        expected.map(|(line, time, severity, message)| (line, time.to_owned(), severity, message))
    );
}

#[test]
fn syslog_cri_and_untimed_text_are_read() {
    let (_, rows) = read("Nov 18 10:00:00 web sshd[12]: Failed password\nNov 18 10:00:01 web kernel: oops\n");
    assert_eq!(
        (rows[0].service.as_deref(), rows[1].service.as_deref()),
        (Some("sshd"), Some("kernel"))
    );
    assert_eq!(message(&rows[0]), "web sshd[12]: Failed password");

    let cri = "2024-11-18T10:00:00.1Z stdout P first \n2024-11-18T10:00:00.2Z stdout F second\n\
        2024-11-18T10:00:00.3Z stderr F {\"level\":\"error\",\"msg\":\"x\"}\n";
    let (_, rows) = read(cri);
    assert_eq!(
        (message(&rows[0]), time(&rows[0]).as_str()),
        ("first second", "2024-11-18T10:00:00.1Z")
    );
    assert_eq!((rows.len(), rows[1].record.severity_number), (2, 17));

    let (_, rows) = read("it broke\n  at once\nand again\n");
    assert_eq!(
        (message(&rows[0]), message(&rows[1])),
        ("it broke\n  at once", "and again")
    );
    assert_eq!(rows[0].cells, ["", "", "", "it broke\n  at once"]);
}

const OTLP: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"pg"}}]},"schemaUrl":"r","scopeLogs":[{"scope":{"name":"s"},"schemaUrl":"u","logRecords":[{"timeUnixNano":"1731924000000000000","severityNumber":17,"body":{"stringValue":"one"},"attributes":[{"key":"n","value":{"intValue":"7"}}]},{"observedTimeUnixNano":"1731924001000000000","body":{"stringValue":"two"}}]}]}]}"#;

/// What the Collector wrote is sent again as it was, resource, scope and schema URLs included.
#[test]
fn otlp_lines_survive_the_round_trip() {
    let (source, rows, _) = read_named("a", format!("{OTLP}\nnonsense\n").as_bytes(), &Settings::default()).unwrap();
    assert_eq!((source.format(), rows.len()), (Format::Otlp, 3));
    assert_eq!(
        (message(&rows[0]), rows[0].service.as_deref(), rows[1].time_unix_nano),
        ("one", Some("pg"), Some(1_731_924_001_000_000_000))
    );
    assert_eq!((rows[2].line, rows[2].problem.is_some()), (2, true));
    assert_eq!(rows[0].resource().map(|resource| resource.attributes.len()), Some(1));
    let requests: Vec<_> = to_requests(rows.into_iter().take(2), 1000).collect();
    let original: ExportLogsServiceRequest = serde_json::from_str(OTLP).unwrap();
    assert_eq!(requests, [original]);
}

/// Requests hold as many records as asked for, in order, those of one service together.
#[test]
fn rows_are_batched_by_service() {
    let services = ["a", "a", "b", "a", "b"];
    let rows = services.iter().enumerate().map(|(index, service)| {
        let mut row = Row {
            service: Some((*service).to_owned()),
            ..Row::default()
        };
        row.record.time_unix_nano = index as u64;
        row
    });
    let requests: Vec<_> = to_requests(rows, 4).collect();
    let shape: Vec<Vec<usize>> = requests
        .iter()
        .map(|request| {
            request
                .resource_logs
                .iter()
                .map(|logs| logs.scope_logs[0].log_records.len())
                .collect()
        })
        .collect();
    assert_eq!(shape, [vec![2, 1, 1], vec![1]]);
    assert_eq!(
        requests[0].resource_logs[1].resource.as_ref().unwrap().attributes[0].key,
        "service.name"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(12), cases: 256, ..ProptestConfig::default() })]

    /// Whatever the bytes and the format: no panic, and every line is in a row or told.
    #[test]
    fn any_bytes_in_any_format(content in prop::collection::vec(any::<u8>(), 0..400), format in 0usize..5) {
        let format = [None, Some(Format::Csv), Some(Format::Json), Some(Format::Otlp), Some(Format::Text)][format];
        let settings = Settings { format, ..Settings::default() };
        let _ = read_named("a", &content, &settings);
    }

    /// Text of any kind: no character of it is lost but line ends, outer spaces and the time.
    #[test]
    fn no_line_of_text_is_lost(lines in prop::collection::vec("[a-z {}\"\t]{1,20}", 1..20)) {
        let settings = Settings { format: Some(Format::Text), ..Settings::default() };
        let (_, rows, bad) = read_named("a", lines.join("\n").as_bytes(), &settings).unwrap();
        let kept: String = rows.iter().map(message).collect::<Vec<_>>().join("\n");
        let expected: String = lines.iter().filter(|line| !line.trim().is_empty()).cloned().collect::<Vec<_>>().join("\n");
        prop_assert_eq!((kept, bad.len()), (expected, 0));
    }
}
