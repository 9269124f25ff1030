//! `harbinger incidents show ID`: one incident, from what happened to what to do about it.
//!
//! What enters: an id, the agent's answer. What leaves: a sentence, then the records worth naming, the services and templates
//! in order of appearance with what ties each to the rest, queries, and commands to copy. Promises: on a terminal, texts of
//! logs are wrapped or cut to its width; queries and commands never are. Absent on purpose: the lines themselves, which are
//! where the logs are.

use std::io::{self, Write};

use anstyle::Style;
use anyhow::Result;

use super::{
    super::{
        client::{ApiArgs, Client, DEFAULT_API},
        terminal::{ColorArgs, Terminal, harmless, left, one_line, right, wrapped},
    },
    table::said,
    words::{self, FAINT, STRONG},
};
use crate::edge::api::{
    json,
    proto::{Incident, IncidentEnding, IncidentState, KeyRecord, Link, TemplateCount},
};

/// Columns of names in front of what they name.
const NAME: usize = 11;
/// Characters of a template's bar.
const COURSE: usize = 16;
/// Columns of a text of a log, at most: about six lines of a narrow terminal.
const MOST_TEXT: usize = 400;
/// Services named in the sentence.
const NAMED_SERVICES: usize = 3;

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, as in `incident_id` of its records
    #[arg(value_name = "ID")]
    id: String,
    /// The gist only: without templates, queries and commands
    #[arg(long, conflicts_with = "json")]
    brief: bool,
    /// As one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    color: ColorArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Asks, and prints the answer.
///
/// # Errors
/// No agent answers, or it knows of no such incident.
pub async fn run(args: &Args) -> Result<()> {
    let mut client = Client::connect(&args.api).await?;
    let answer = client.get(&args.id).await?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json::line(&answer)?)?;
        return Ok(());
    }
    if !answer.merged_into.is_empty() {
        writeln!(out, "{} was merged into {}:\n", args.id, answer.merged_into)?;
    }
    if let Some(incident) = &answer.incident {
        let page = Page {
            terminal: Terminal::of_stdout(args.color),
            api: &args.api.api,
            incident,
        };
        page.gist(&mut out)?;
        if !args.brief {
            page.rest(&mut out)?;
        }
    }
    Ok(())
}

/// Everything about one incident.
struct Page<'a> {
    terminal: Terminal,
    /// Where the agent is, for the commands.
    api: &'a str,
    incident: &'a Incident,
}

impl Page<'_> {
    /// What happened, and the records and services that say so.
    fn gist(&self, out: &mut impl Write) -> io::Result<()> {
        let incident = self.incident;
        let (worst, worst_style) = words::severity(incident.worst.as_ref().map_or(0, |record| record.severity_number));
        let state = self
            .terminal
            .paint(words::state_style(incident), words::state(incident));
        let worst = self.terminal.paint(worst_style, worst);
        let head = format!(
            "{}  {state}  {worst}",
            self.terminal.paint(STRONG, &harmless(&incident.id))
        );
        writeln!(out, "{}\n", head.trim_end())?;
        self.paragraph(out, 0, Style::new(), &sentence(incident))?;
        writeln!(out)?;
        self.names(out)?;
        self.key_record(out, "began with", incident.leading_edge.as_ref())?;
        let (leading, worst) = (incident.leading_edge.as_ref(), incident.worst.as_ref());
        if worst != leading {
            self.key_record(out, "worst", worst)?;
        }
        self.course(out)?;
        self.services(out)?;
        self.ties(out)
    }

    /// Its templates, where its lines are, and what to say of it.
    fn rest(&self, out: &mut impl Write) -> io::Result<()> {
        self.templates(out)?;
        self.queries(out)?;
        self.commands(out)
    }

    /// A text wrapped to the terminal, behind so many columns.
    fn paragraph(&self, out: &mut impl Write, indent: usize, style: Style, text: &str) -> io::Result<()> {
        for line in wrapped(text, self.terminal.room(indent)) {
            writeln!(out, "{:indent$}{}", "", self.terminal.paint(style, &line))?;
        }
        Ok(())
    }

    /// A name and what it names; nothing where that is not known.
    fn field(&self, out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
        let mut name = self.terminal.paint(FAINT, &left(name, NAME));
        for line in wrapped(text, self.terminal.room(NAME + 2)) {
            writeln!(out, "{name}  {line}")?;
            name = " ".repeat(NAME);
        }
        Ok(())
    }

    fn names(&self, out: &mut impl Write) -> io::Result<()> {
        let incident = self.incident;
        self.field(out, "tenant", &incident.tenant)?;
        self.field(out, "merged into", &incident.merged_into)?;
        self.field(out, "child of", &incident.parent_incident_id)?;
        self.field(out, "also", &incident.aliases.join(" "))
    }

    /// When, who, how grave; what; and why it is marked.
    fn key_record(&self, out: &mut impl Write, name: &str, record: Option<&KeyRecord>) -> io::Result<()> {
        let Some(record) = record else { return Ok(()) };
        let edge = self.incident.leading_edge.as_ref().and_then(|edge| edge.time.as_ref());
        let later = words::offset(edge, record.time.as_ref());
        let later = if name == "worst" && !later.is_empty() {
            format!(" ({later})")
        } else {
            String::new()
        };
        let (severity, style) = words::severity(record.severity_number);
        let head = [
            format!("{}{later}", words::time_of_day(record.time.as_ref())),
            self.terminal.paint(STRONG, &one_line(&record.service, 64)),
            self.terminal.paint(style, severity),
        ];
        let head: Vec<String> = head.into_iter().filter(|part| !part.is_empty()).collect();
        let name = self.terminal.paint(FAINT, &left(name, NAME));
        writeln!(out, "{name}  {}", head.join("  "))?;
        let text = one_line(&said(record), MOST_TEXT);
        self.paragraph(out, NAME + 2, Style::new(), &text)?;
        if !record.reason.is_empty() {
            let because = format!("because: {}", one_line(&record.reason, MOST_TEXT));
            self.paragraph(out, NAME + 2, FAINT, &because)?;
        }
        Ok(())
    }

    fn course(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(course) = &self.incident.course else {
            return Ok(());
        };
        let highest = course.records.iter().max().copied().unwrap_or_default();
        // A bar is never broken: 32 characters at most.
        let bar = words::bar(&course.records, course.records.len());
        let begin = words::time_of_day(course.start.as_ref());
        let text = format!(
            "{bar} from {begin} on, {}s each, {highest} records at most",
            course.span_seconds
        );
        self.field(out, "course", &text)
    }

    fn services(&self, out: &mut impl Write) -> io::Result<()> {
        let incident = self.incident;
        let edge = incident.leading_edge.as_ref().and_then(|edge| edge.time.as_ref());
        let mut services: Vec<String> = incident
            .service_counts
            .iter()
            .map(|count| {
                let first = words::offset(edge, count.first_time.as_ref());
                format!("{} {first} ({})", count.service, count.records).replace("  ", " ")
            })
            .collect();
        if services.is_empty() {
            services.clone_from(&incident.services);
        }
        if incident.records_of_other_services > 0 {
            services.push(format!("others ({})", incident.records_of_other_services));
        }
        self.field(out, "services", &services.join(", "))
    }

    fn ties(&self, out: &mut impl Write) -> io::Result<()> {
        let mut ties: Vec<(u64, &str)> = self
            .incident
            .ties
            .iter()
            .map(|tie| (tie.episodes, words::tie(&tie.tie)))
            .collect();
        ties.sort_by_key(|(episodes, _)| std::cmp::Reverse(*episodes));
        let ties: Vec<String> = ties
            .iter()
            .map(|(episodes, tie)| format!("{tie} ({episodes})"))
            .collect();
        self.field(out, "joined by", &ties.join("; "))
    }

    fn templates(&self, out: &mut impl Write) -> io::Result<()> {
        let incident = self.incident;
        let (mut anomalous, mut usual): (Vec<&TemplateCount>, Vec<_>) = incident
            .templates
            .iter()
            .partition(|template| template.anomalous_records > 0);
        for group in [&mut anomalous, &mut usual] {
            // Stable: where it is not known, the most frequent stays first.
            group.sort_by_key(|template| template.first_time.as_ref().map(|time| (time.seconds, time.nanos)));
        }
        for (title, group) in [("Anomalous", anomalous), ("Usual, beside them", usual)] {
            if group.is_empty() {
                continue;
            }
            let title = self.terminal.paint(STRONG, title);
            let first = format!(
                "{:>8}  {:>11}  {:5}  {:COURSE$}  {:16}  SERVICE",
                "FIRST", "RECORDS", "WORST", "COURSE", "KEY"
            );
            writeln!(out, "\n{title}\n{}", self.terminal.paint(FAINT, &first))?;
            group.iter().try_for_each(|template| self.template(out, template))?;
        }
        match incident.records_of_other_templates {
            0 => Ok(()),
            records => writeln!(out, "\n{records} records of other templates"),
        }
    }

    /// When it came first, how often, how grave, its course, key and service; its text; what ties it to the others.
    fn template(&self, out: &mut impl Write, template: &TemplateCount) -> io::Result<()> {
        const INDENT: usize = 10;
        let edge = self.incident.leading_edge.as_ref().and_then(|edge| edge.time.as_ref());
        let records = match template.anomalous_records {
            0 => template.records.to_string(),
            anomalous => format!("{} ({anomalous})", template.records),
        };
        let (severity, style) = words::severity(template.severity_number);
        let head = [
            right(&words::offset(edge, template.first_time.as_ref()), 8),
            right(&records, 11),
            self.terminal.paint(style, &left(severity, 5)),
            left(&words::bar(&template.course, COURSE), COURSE),
            self.terminal.paint(FAINT, &left(&harmless(&template.template_key), 16)),
            self.terminal.paint(STRONG, &one_line(&template.service, 64)),
        ];
        writeln!(out, "{}", head.join("  ").trim_end())?;
        let room = self.terminal.room(INDENT);
        if !template.text.is_empty() {
            writeln!(out, "{:INDENT$}{}", "", one_line(&template.text, room.min(MOST_TEXT)))?;
        }
        if let Some(link) = &template.link {
            let text = one_line(&self.link(link), room.min(MOST_TEXT));
            writeln!(out, "{:INDENT$}{}", "", self.terminal.paint(FAINT, &text))?;
        }
        Ok(())
    }

    /// `↳ close in time to shop (weight +6.3): “unhandled exception …”`.
    fn link(&self, link: &Link) -> String {
        let how = match link.tie.as_str() {
            "meaning" => "alike in meaning to",
            "shared_id" => "shares an id with",
            "time" => "close in time to",
            "service" => "works with",
            "companion" => "was in an incident before with",
            other => other,
        };
        let of = self
            .incident
            .templates
            .iter()
            .find(|template| template.template_key == link.template_key);
        let what = match of {
            Some(template) if !template.text.is_empty() => format!("“{}”", one_line(&template.text, 60)),
            _ => format!("template {}", link.template_key),
        };
        format!("↳ {how} {} (weight {:+.1}): {what}", link.service, link.weight)
    }

    fn queries(&self, out: &mut impl Write) -> io::Result<()> {
        for (name, query) in [
            ("Its lines in Loki", self.incident.logql.as_ref()),
            ("And what led to it", self.incident.logql_before.as_ref()),
        ] {
            let Some(query) = query else { continue };
            let (start, end) = (words::time(query.start.as_ref()), words::time(query.end.as_ref()));
            let name = self.terminal.paint(STRONG, name);
            writeln!(out, "\n{name}, {start} to {end} UTC\n  {}", harmless(&query.logql))?;
        }
        Ok(())
    }

    /// What to say of it, ready to be copied.
    fn commands(&self, out: &mut impl Write) -> io::Result<()> {
        let incident = self.incident;
        let mut rest = String::new();
        if !incident.tenant.is_empty() {
            rest.push_str(&format!(" --tenant {}", quoted(&incident.tenant)));
        }
        if self.api != DEFAULT_API {
            rest.push_str(&format!(" --api {}", quoted(self.api)));
        }
        let id = harmless(&incident.id);
        let closes = if incident.state() == IncidentState::Open {
            ", and closed"
        } else {
            ""
        };
        writeln!(out, "\n{}", self.terminal.paint(STRONG, "What was it?"))?;
        for (comment, command) in [
            (
                "it matters: mark it whenever it is said".to_owned(),
                format!("real --incident {id}"),
            ),
            (
                format!("known: quiet for two hours{closes}"),
                format!("mute --incident {id} --until 2h"),
            ),
            (
                format!("no fault: usual from now on{closes}"),
                format!("normal --incident {id}"),
            ),
            (
                "one template only, by its KEY".to_owned(),
                "normal --template KEY".to_owned(),
            ),
        ] {
            let comment = self.terminal.paint(FAINT, &format!("# {comment}"));
            writeln!(out, "  {comment}\n  harbinger feedback {command}{rest}")?;
        }
        Ok(())
    }
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_.:/".contains(character);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", harmless(word).replace('\'', r"'\''")),
    }
}

/// What happened, in a sentence.
fn sentence(incident: &Incident) -> String {
    let edge = incident.leading_edge.as_ref();
    let began = edge
        .and_then(|edge| edge.time.as_ref())
        .or(incident.first_time.as_ref());
    let first = edge.map_or("an unknown service", |edge| edge.service.as_str());
    let mut others: Vec<String> = incident
        .service_counts
        .iter()
        .filter(|count| count.service != first)
        .map(|count| {
            format!(
                "{} ({})",
                count.service,
                words::offset(began, count.first_time.as_ref())
            )
        })
        .collect();
    if incident.service_counts.is_empty() {
        others = incident
            .services
            .iter()
            .filter(|name| *name != first)
            .cloned()
            .collect();
    }
    let more = others.len().saturating_sub(NAMED_SERVICES);
    others.truncate(NAMED_SERVICES);
    if more > 0 || incident.records_of_other_services > 0 {
        others.push("others".to_owned());
    }
    let spread = match others.as_slice() {
        [] => String::new(),
        [one] => format!(", was seen in {one} too,"),
        [head @ .., last] => format!(", was seen in {} and {last} too,", head.join(", ")),
    };
    let lasted = words::lasted(incident);
    let lasted = lasted.trim_start_matches('+');
    let end = match (incident.state(), incident.ending()) {
        (IncidentState::Unspecified | IncidentState::Open, _) => format!("has gone on for {lasted}"),
        (IncidentState::Merged, _) => format!("turned out to be part of {}", incident.merged_into),
        (_, IncidentEnding::MaxLife) => format!("reached the longest life after {lasted}; what follows is its child"),
        (_, IncidentEnding::Bound) => format!("is no longer followed after {lasted}, as there were too many"),
        (_, IncidentEnding::Dismissed) => "was dismissed: somebody said that it is none".to_owned(),
        (_, IncidentEnding::Silence | IncidentEnding::Unspecified) => format!("was over after {lasted}"),
    };
    let records = |count: u64| if count == 1 { "record" } else { "records" };
    let anomalous = incident.anomalous_records;
    let context = match incident.records.saturating_sub(anomalous) {
        0 => String::new(),
        usual => format!(", {usual} usual beside"),
    };
    let small = if incident.announced {
        ""
    } else {
        "; too few to be announced"
    };
    format!(
        "It began in {first} at {} UTC{spread} and {end}: {anomalous} anomalous {}{context}{small}.",
        words::time(began),
        records(anomalous),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::made, *};
    use crate::{commands::terminal::columns, engine::view::is_obeyed};

    fn shown(incident: &Incident, columns: Option<usize>) -> String {
        let page = Page {
            terminal: Terminal {
                columns,
                has_colors: false,
            },
            api: DEFAULT_API,
            incident,
        };
        let mut out = Vec::new();
        page.gist(&mut out).unwrap();
        page.rest(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_page_tells_what_happened_why_and_what_to_do() {
        let page = shown(&made::whole(), Some(80));
        let expected = "\
20241118-100000-k7f3qa  open  FATAL

It began in postgresql at 2024-11-18 10:00:00 UTC, was seen in shop (+0.4s) too,
and has gone on for 3m10s: 46 anomalous records, 12 usual beside.

began with   10:00:00  postgresql  ERROR
             could not extend file \"pg_tblspc/<n>/PG_<n>_<n>/<n>/<n>\": No space
             left on device HINT: Check free disk space.
             because: speaks of failure, and was never said before
worst        10:01:35 (+1m35s)  postgresql  FATAL
             terminating connection because of crash of another server process
             because: an error, and not a usual one here
course       ▂▇▇▂ from 09:59:28 on, 64s each, 23 records at most
services     postgresql -2.0s (36), shop +0.4s (22)
joined by    together in an incident before (3); alike in meaning (1)

Anomalous
   FIRST      RECORDS  WORST  COURSE            KEY               SERVICE
     +0s      24 (24)  ERROR  ▂▇▅▂              07bae531ad98620d  postgresql
          could not extend file \"pg_tblspc/<n>/PG_<n>_<n>/<n>/<n>\": No space le…
   +0.4s      22 (22)  ERROR  .▇▇.              27bae531ad98620d  shop
          unhandled exception on POST '/checkout' Traceback (most recent call l…
          ↳ shares an id with postgresql (weight +6.2): “could not extend file …

Usual, beside them
   FIRST      RECORDS  WORST  COURSE            KEY               SERVICE
   -2.0s           12         ▇▇▇▇              37bae531ad98620d  postgresql
          checkpoint starting: time

Its lines in Loki, 2024-11-18 09:59:58 to 2024-11-18 10:03:09 UTC
  {service_name=~\"postgresql|shop\"} | incident_id=\"20241118-100000-k7f3qa\"

And what led to it, 2024-11-18 09:59:58 to 2024-11-18 10:03:09 UTC
  {service_name=~\"postgresql|shop\"}

What was it?
  # it matters: mark it whenever it is said
  harbinger feedback real --incident 20241118-100000-k7f3qa
  # known: quiet for two hours, and closed
  harbinger feedback mute --incident 20241118-100000-k7f3qa --until 2h
  # no fault: usual from now on, and closed
  harbinger feedback normal --incident 20241118-100000-k7f3qa
  # one template only, by its KEY
  harbinger feedback normal --template KEY
";
        assert_eq!(page, expected, "{page}");
        let uncut = shown(&made::whole(), None);
        let link = "↳ shares an id with postgresql (weight +6.2): “could not extend file \"pg_tblspc/<n>/PG_<n>_<n>/<n>/<n>\": N…”\n";
        assert!(uncut.contains(link) && uncut.contains("12 usual beside.\n"), "{uncut}");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let page = shown(&made::plain(), Some(120));
        let expected = "\
20241118-093000-bjsz0q  closed

It began in nginx at 2024-11-18 09:30:00 UTC, was seen in api, cart, payments and others too, and was over after 2h05m:
1200 anomalous records, 34 usual beside.

began with   09:30:00  nginx  WARN
             template 47bae531ad98620d
services     api, cart, nginx, payments, warehouse, others (3)

What was it?
";
        assert!(page.starts_with(expected), "{page}");
    }

    #[test]
    fn a_log_does_no_harm_and_commands_are_for_the_right_tenant() {
        for wide in 80..200 {
            let page = shown(&made::evil(), Some(wide));
            let (texts, commands) = page.split_once("What was it?").unwrap();
            assert!(
                !page.chars().any(|character| is_obeyed(character) && character != '\n'),
                "{page:?}"
            );
            assert!(texts.lines().all(|line| columns(line) <= wide), "{page}");
            assert!(
                commands.contains("normal --template KEY --tenant 'acme�2J'\n"),
                "{page}"
            );
            assert!(texts.contains("turned out to be part of"), "{page}");
        }
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
