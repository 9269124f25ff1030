//! `harbinger feedback accept`: the morning after, everything that was anomalous is taken as normal.
//!
//! What enters: a span of time. What leaves: the templates that were anomalous in it, as a list to look at; then an opinion
//! on each, and their open incidents closed. Promises: nothing changes before it was shown and agreed to (or `--yes`); what
//! somebody said before stays. Absent on purpose: a way around looking, for a person.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, IsTerminal, Write},
};

use anyhow::{Result, bail};
use jiff::Timestamp;

use super::{Signed, harmless, one_line};
use crate::{
    commands::{
        client::{ApiArgs, Client},
        when::When,
    },
    edge::api::proto::{
        self,
        give_feedback_request::{Normal, Opinion, Subject},
    },
};

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Since then: 2h (ago), 02:00 (UTC) or 2024-11-18T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: When,
    /// Until then [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// In this service only
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Of this tenant; "" is the one of records that name none [default: of all]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    signed: Signed,
    #[command(flatten)]
    api: ApiArgs,
}

/// A template as it is shown.
#[derive(Debug, Default)]
struct Shown {
    text: String,
    anomalous_records: u64,
}

/// What would be accepted.
#[derive(Debug, Default)]
struct Night {
    /// By tenant and key.
    templates: BTreeMap<(String, String), Shown>,
    /// Open incidents that are meant as a whole: tenant and id.
    open: Vec<(String, String)>,
    incidents: usize,
    decided: usize,
}

pub async fn run(args: Args) -> Result<()> {
    let mut client = Client::connect(&args.api).await?;
    let night = look(&mut client, &args).await?;
    {
        let mut out = io::stdout().lock();
        show(&mut out, &night)?;
        if night.templates.is_empty() {
            return Ok(());
        }
        if !args.yes {
            if !io::stdin().is_terminal() {
                bail!("nothing was changed: look at the list, then write --yes");
            }
            write!(out, "Take all of these as normal from now on? [y/N] ")?;
            out.flush()?;
            let mut answer = String::new();
            io::stdin().lock().read_line(&mut answer)?;
            if !matches!(answer.trim(), "y" | "Y" | "yes") {
                writeln!(out, "nothing was changed")?;
                return Ok(());
            }
        }
    }
    give(&mut client, &args, night).await
}

async fn look(client: &mut Client, args: &Args) -> Result<Night> {
    let now = Timestamp::now();
    let since = args.since.unix_nano(now);
    let until = args.until.map_or(u64::MAX, |until| until.unix_nano(now));
    let told = |unix_nano: u64| prost_types::Timestamp {
        seconds: (unix_nano / 1_000_000_000) as i64,
        nanos: (unix_nano % 1_000_000_000) as i32,
    };
    let service = args.service.clone().unwrap_or_default();
    let which = proto::ListIncidentsRequest {
        since: Some(told(since)),
        until: args.until.map(|_| told(until)),
        service: service.clone(),
        include_unannounced: true,
        tenant: args.tenant.clone(),
        ..Default::default()
    };
    let incidents = client.incidents(which, usize::MAX).await?;
    let opinions = client.opinions(args.tenant.clone()).await?;
    let is_here = |of: &Option<String>| of.is_none() || args.service.is_none() || *of == args.service;
    let decided: BTreeSet<(String, String)> = opinions
        .into_iter()
        .filter(|opinion| is_here(&opinion.service))
        .map(|opinion| (opinion.tenant, opinion.template_key))
        .collect();

    let mut night = Night {
        incidents: incidents.len(),
        ..Night::default()
    };
    let mut left_alone = BTreeSet::new();
    for incident in incidents {
        let is_open = incident.state() == proto::IncidentState::Open;
        let anomalous = incident
            .templates
            .into_iter()
            .filter(|count| count.anomalous_records > 0);
        let mut is_whole = args.service.is_none() && is_open;
        for count in anomalous {
            let place = (incident.tenant.clone(), count.template_key.clone());
            if decided.contains(&place) {
                is_whole = false;
                left_alone.insert(place);
                continue;
            }
            let shown = night.templates.entry(place).or_default();
            shown.text = count.text;
            shown.anomalous_records += count.anomalous_records;
        }
        if is_whole {
            night.open.push((incident.tenant, incident.id));
        }
    }
    // What was anomalous without an incident that is still known.
    let which = proto::ListTemplatesRequest {
        service,
        tenant: args.tenant.clone(),
        ..Default::default()
    };
    for template in client.templates(which).await? {
        let last_seen = template.last_seen.as_ref().map_or(0, |at| {
            at.seconds.max(0) as u64 * 1_000_000_000 + at.nanos.max(0) as u64
        });
        let place = (template.tenant, template.key);
        if template.anomalous && (since..until).contains(&last_seen) && !decided.contains(&place) {
            night.templates.entry(place).or_insert_with(|| Shown {
                text: template.text,
                anomalous_records: 0,
            });
        }
    }
    night.decided = left_alone.len();
    Ok(night)
}

fn show(out: &mut impl Write, night: &Night) -> io::Result<()> {
    writeln!(
        out,
        "anomalous templates: {}; incidents: {}, of them open and to be closed: {}",
        night.templates.len(),
        night.incidents,
        night.open.len()
    )?;
    for ((tenant, key), shown) in &night.templates {
        let tenant = match tenant.as_str() {
            "" => String::new(),
            name => format!("[{}] ", harmless(name)),
        };
        let text = match shown.text.as_str() {
            "" => "(its text is not kept)",
            text => text,
        };
        let records = shown.anomalous_records;
        writeln!(out, "  {key}  {records:>6} ×  {tenant}{}", one_line(text, 110))?;
    }
    if night.decided > 0 {
        writeln!(
            out,
            "left as they are, for somebody has said something of them before: {}",
            night.decided
        )?;
    }
    Ok(())
}

async fn give(client: &mut Client, args: &Args, night: Night) -> Result<()> {
    let request = |tenant: &str, subject| proto::GiveFeedbackRequest {
        tenant: Some(tenant.to_owned()),
        subject: Some(subject),
        service: args.service.clone(),
        opinion: Some(Opinion::Normal(Normal {})),
        comment: args.signed.comment.clone(),
        author: args.signed.author(),
    };
    let mut left = night.templates;
    let (mut accepted, mut closed) = (0, 0);
    for (tenant, id) in night.open {
        let given = client.give(request(&tenant, Subject::IncidentId(id))).await?;
        closed += given.closed_incident_ids.len();
        accepted += given.template_keys.len();
        for key in given.template_keys {
            left.remove(&(tenant.clone(), key));
        }
    }
    for ((tenant, key), _) in left {
        match client.give(request(&tenant, Subject::TemplateKey(key))).await {
            Ok(_) => accepted += 1,
            // It may have been forgotten since, for want of room: then there is nothing to accept.
            Err(problem) => writeln!(io::stderr().lock(), "left out: {problem:#}")?,
        }
    }
    writeln!(
        io::stdout().lock(),
        "normal from now on: {accepted}; incidents closed: {closed}. `harbinger feedback list` shows what was said"
    )?;
    Ok(())
}
