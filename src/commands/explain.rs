//! `harbinger explain LINE`: what would be thought of a log line, and why.
//!
//! What enters: a line, and the snapshot of a state directory if there is one. What leaves: the line's template, what is
//! known of it, what every detector says, and the nearest known texts, for people or as JSON. Promises: nothing is learned
//! and nothing written; a running agent keeps its directory. Absent on purpose: the reasoning itself, see
//! [`Scorer::explain`].

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value::Value},
    logs::v1::LogRecord,
};
use prost::Message;

use super::terminal::{harmless, one_line};
use crate::{
    app,
    edge::{
        api::json,
        files::{self, Row, severity_number_of},
    },
    engine::{
        self,
        embed::Embedder,
        front::{BatchTemplate, Front, UNKNOWN_SERVICE},
        opinions::Opinion,
        score::{Committee, Explanation, Hypothesis, Outcome, SAID_TO_BE_REAL, Scorer, Side},
        tenant::Tenant,
        view::{View, rfc3339},
    },
};

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The log line, as a record's body would have it
    line: String,
    /// Service that says it; else the one that said it most, else the one that says most
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Its severity: a name (ERROR, warn, notice …); none unless given
    #[arg(long, value_name = "NAME", value_parser = severity)]
    severity: Option<i32>,
    /// Folder with the snapshot to judge by: an agent's `state.directory`, or what `analyze --save-snapshot` made [default:
    /// the configuration's, if one is named]
    #[arg(long, visible_alias = "snapshot", value_name = "DIR")]
    state: Option<PathBuf>,
    /// Take the engine's settings from this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// As a record of this tenant, where tenants are told apart
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn severity(name: &str) -> Result<i32, String> {
    match severity_number_of(name) {
        0 => Err("no such severity; write TRACE, DEBUG, INFO, NOTICE, WARN, ERROR or FATAL".to_owned()),
        number => Ok(number),
    }
}

/// Explains the line.
///
/// # Errors
/// A configuration, a model or a snapshot that cannot be used; a line that the configuration takes out of judgement.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (settings, embedder) = app::offline(args.config.as_deref())?;
    let directory = match (&args.state, &args.config) {
        (Some(directory), _) => Some(directory.clone()),
        (None, Some(config)) => app::state_directory(config)?.filter(|directory| directory.exists()),
        (None, None) => None,
    };
    let tenant = args.tenant.as_deref().map_or_else(Tenant::default, Tenant::named);
    let learned = match &directory {
        Some(directory) => app::learned(directory, &settings, embedder.model_version(), &tenant)?,
        None => None,
    };
    let is_learned = learned.is_some();
    let mut scorer = learned.unwrap_or_else(|| Scorer::new(settings.score.clone()));
    if let Some(directory) = directory.as_deref().filter(|directory| directory.exists()) {
        scorer.hold(app::opinions(directory, &tenant)?);
    }
    scorer.appoint(Committee::embed(&embedder).context("the model failed")?);
    let template = template(args, &settings)?;
    let embeddings = embedder.embed(&[&template.text]).context("the model failed")?;
    let embedding = embeddings.first().context("the model gave no embedding")?;
    let explanation = scorer.explain(&Hypothesis {
        key: template.key,
        template: &template.text,
        embedding,
        service: args.service.as_deref(),
        severity_number: args.severity.unwrap_or(0),
    });
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json::harmless(&serde_json::to_string_pretty(&explanation)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !is_learned {
        match directory {
            Some(directory) => writeln!(out, "There is no snapshot in {}.", directory.display())?,
            None => writeln!(out, "No snapshot is named (--state DIR, or --config FILE).")?,
        }
        writeln!(
            out,
            "Explained by the shipped priors only: how much it sounds like failure.\n"
        )?;
    }
    print(&mut out, &explanation)?;
    Ok(ExitCode::SUCCESS)
}

/// Takes the line the way of a record through the front of the engine.
fn template(args: &Args, settings: &engine::Settings) -> Result<BatchTemplate> {
    let row = Row {
        service: Some(args.service.as_deref().unwrap_or(UNKNOWN_SERVICE).to_owned()),
        record: LogRecord {
            body: Some(AnyValue {
                value: Some(Value::StringValue(args.line.clone())),
            }),
            severity_number: args.severity.unwrap_or(0),
            ..LogRecord::default()
        },
        ..Row::default()
    };
    let request = files::to_requests([row], 1).next().unwrap_or_default().encode_to_vec();
    let view = View::parse(&request).context("a record encoded as OTLP must be readable")?;
    let front = Front::new(settings.text.clone(), settings.annotate.clone());
    let batch = front.prepare(&view, u64::MAX);
    match batch.templates.into_iter().next() {
        Some(template) => Ok(template),
        None => bail!("the configuration's `ignore` or `exclude` takes this line out of judgement"),
    }
}

fn print(out: &mut impl Write, it: &Explanation) -> io::Result<()> {
    writeln!(out, "template   {}", harmless(&it.template))?;
    writeln!(
        out,
        "key        {} (`harbinger feedback … --template`)",
        it.template_key
    )?;
    match &it.known {
        None => writeln!(out, "known      no, it would be new")?,
        Some(known) => {
            let services: Vec<String> = known
                .services
                .iter()
                .map(|(name, records)| format!("{name} {records}"))
                .collect();
            writeln!(
                out,
                "known      {} records ({}), first {}, last {}{}",
                known.lines,
                harmless(&services.join(", ")),
                rfc3339(known.first_seen_unix_nano),
                rfc3339(known.last_seen_unix_nano),
                if known.usual { "; learned as usual" } else { "" },
            )?;
        }
    }
    if it.unknown_share > 0.0 {
        writeln!(
            out,
            "unknown    {:.0} % of it to the model: as much less does it weigh what the words mean",
            100.0 * it.unknown_share
        )?;
    }
    print_verdict(out, it)?;
    print_nearest(out, it)?;
    print_failure(out, it)
}

fn print_verdict(out: &mut impl Write, it: &Explanation) -> io::Result<()> {
    match it.opinion {
        None => {}
        Some(Opinion::Normal) => writeln!(out, "feedback   decides: someone said that it is normal here")?,
        Some(Opinion::Real) => writeln!(out, "feedback   decides: {SAID_TO_BE_REAL}")?,
        Some(Opinion::MuteUntil { time_unix_nano }) => {
            writeln!(out, "feedback   decides: it is muted until {}", rfc3339(time_unix_nano))?;
        }
    }
    let Some(verdict) = &it.verdict else {
        return writeln!(out, "verdict    none before the first training");
    };
    let (outcome, because) = match verdict.outcome {
        Outcome::Normal => ("normal", ""),
        Outcome::Anomalous => ("anomalous", ": "),
        Outcome::Suppressed => (
            "anomalous, but not marked: its service has had enough such episodes (max_episodes_per_hour), or was released",
            "",
        ),
    };
    writeln!(
        out,
        "verdict    {outcome}{because}{}",
        harmless(verdict.reason.as_deref().unwrap_or_default())
    )?;
    writeln!(
        out,
        "           probability {:.3}, p-value {:.2e}, if {} said it next{}\n",
        verdict.probability,
        verdict.p_value,
        harmless(it.service.as_deref().unwrap_or(UNKNOWN_SERVICE)),
        match it.severity_number {
            0 => String::new(),
            number => format!(" with severity number {number}"),
        }
    )?;
    writeln!(
        out,
        "{:<26} {:>8} {:>8} {:>9}",
        "detector", "value", "weight", "log-odds"
    )?;
    for one in &verdict.detectors {
        let (name, value, weight) = (one.detector.name(), one.value, one.weight);
        writeln!(out, "{name:<26} {value:>8.3} {weight:>8.2} {:>+9.2}", one.contribution)?;
    }
    let mut line = |name: &str, log_odds: f64| writeln!(out, "{name:<44} {log_odds:>+9.2}");
    line("every detector silent", verdict.bias)?;
    line("news: the sum", verdict.news)?;
    line("  less what is usual here (the threshold)", 0.0 - verdict.usual)?;
    if let Some(complaint) = verdict.complaint {
        line("complaint: plain words of failure", complaint)?;
    }
    line("news or complaint; anomalous above 0", verdict.log_odds)
}

fn print_nearest(out: &mut impl Write, it: &Explanation) -> io::Result<()> {
    if it.nearest.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nnearest known templates")?;
    for one in &it.nearest {
        let usual = if one.usual { "" } else { ", not learned as usual" };
        writeln!(
            out,
            "  {:.2}  {}  ({} records{usual})",
            one.cosine,
            one_line(&one.template, 110),
            one.lines
        )?;
    }
    let pieces = it.difference.iter().map(|piece| match piece.of {
        Side::Both => harmless(&piece.words),
        Side::Known => format!("[-{}-]", harmless(&piece.words)),
        Side::Record => format!("{{+{}+}}", harmless(&piece.words)),
    });
    writeln!(
        out,
        "  from the nearest ([-only there-], {{+only here+}}):\n        {}",
        pieces.collect::<Vec<_>>().join(" ")
    )
}

fn print_failure(out: &mut impl Write, it: &Explanation) -> io::Result<()> {
    let Some(heard) = &it.failure else {
        return Ok(());
    };
    let leaning = match f64::from(heard.score) {
        score if score > heard.grave_above => "it does, gravely",
        score if score > 0.0 => "a little",
        _ => "no",
    };
    writeln!(out, "\nsounds like failure: {leaning} ({:+.2})", heard.score)?;
    for (sentences, kind) in [(&heard.failing, "failing"), (&heard.fine, "fine")] {
        for one in sentences {
            writeln!(out, "  {kind:<7}  {:.2}  {}", one.cosine, one.sentence)?;
        }
    }
    Ok(())
}
