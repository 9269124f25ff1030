//! `harbinger feedback …`: tells a running agent what a verdict was worth.
//!
//! What enters: an opinion on a template or an incident, or the wish to see or take back opinions. What leaves: what the
//! agent made of it, in a sentence; a table; JSON for machines. Promise: where many things would change at once
//! (`accept`), they are shown first. Absent on purpose: what an opinion does, which the engine knows.

mod accept;

use std::{
    io::{self, Write},
    process::ExitCode,
    str::FromStr,
};

use anyhow::Result;
use clap::Subcommand;
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

use super::{
    client::{ApiArgs, Client},
    incidents::words::time,
    terminal::{harmless, one_line},
};
use crate::edge::api::{
    json,
    proto::{
        self,
        give_feedback_request::{self, Normal, Real},
        opinion,
    },
};

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// It is usual: not marked any more, and learned from
    Normal(GiveArgs),
    /// It is known and does not matter for now: not marked, and not learned from
    Mute {
        #[command(flatten)]
        give: GiveArgs,
        /// Until then: 2h (from now), 06:00, 2026-11-23T06:00 (both UTC) or 2026-11-23T06:00:00+01:00
        #[arg(long, value_name = "TIME")]
        until: Until,
    },
    /// It matters whenever it is said: always marked, never learned from
    Real(GiveArgs),
    /// What people said
    List(ListArgs),
    /// Take an opinion back: detectors decide again
    Withdraw(WithdrawArgs),
    /// Take everything anomalous since a time as normal, after showing what that is
    Accept(accept::Args),
}

/// What an opinion is about, and who has it.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("subject").required(true).args(["template", "incident"])))]
struct GiveArgs {
    /// Key of the template: 16 hexadecimal digits
    #[arg(long, value_name = "KEY")]
    template: Option<String>,
    /// Id of an incident: means each of its anomalous templates; said to be normal or muted, it is closed
    #[arg(long, value_name = "ID")]
    incident: Option<String>,
    /// In this service only
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Of this tenant, where tenants are told apart
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    #[command(flatten)]
    signed: Signed,
    #[command(flatten)]
    api: ApiArgs,
}

/// Who says it, and why.
#[derive(Clone, Debug, clap::Args)]
struct Signed {
    /// Why, for whoever reads it later
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    comment: String,
    /// Who says so [default: $USER]
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
}

impl Signed {
    fn author(&self) -> String {
        let user = || std::env::var("USER").unwrap_or_default();
        self.author.clone().unwrap_or_else(user)
    }
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Of this tenant; "" is the one of records that name none [default: of all]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// One JSON object a line, as the API has them
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, clap::Args)]
struct WithdrawArgs {
    /// Key of the template
    #[arg(long, value_name = "KEY")]
    template: String,
    /// What was said of this service; else what was said for all
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Of this tenant, where tenants are told apart
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// When a mute ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Until {
    /// So long from now.
    In(SignedDuration),
    /// The next time that it is so late, in UTC.
    TimeOfDay(civil::Time),
    /// This very time.
    At(Timestamp),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        if text.contains('T')
            && let Ok(at) = text.parse::<civil::DateTime>()
            && let Ok(at) = at.to_zoned(TimeZone::UTC)
        {
            return Ok(Self::At(at.timestamp()));
        }
        if text.contains(':')
            && let Ok(time) = text.parse()
        {
            return Ok(Self::TimeOfDay(time));
        }
        let length = text
            .parse::<SignedDuration>()
            .ok()
            .filter(|length| length.is_positive());
        length.map(Self::In).ok_or_else(|| {
            format!("`{text}` is no time to come; write how long (`2h`), a time of the day in UTC (`06:00`), or `2026-11-23T06:00`")
        })
    }
}

impl Until {
    /// The time, at this present.
    fn timestamp(self, now: Timestamp) -> prost_types::Timestamp {
        let at = match self {
            Self::At(at) => Some(at),
            Self::In(length) => now.checked_add(length).ok(),
            Self::TimeOfDay(time) => {
                let now_utc = now.to_zoned(TimeZone::UTC);
                let day = match time > now_utc.time() {
                    true => Some(now_utc.date()),
                    false => now_utc.date().tomorrow().ok(),
                };
                day.and_then(|day| day.to_datetime(time).to_zoned(TimeZone::UTC).ok())
                    .map(|zoned| zoned.timestamp())
            }
        };
        // Later than every time there is means for ever.
        let at = at.unwrap_or(Timestamp::MAX).clamp(Timestamp::UNIX_EPOCH, latest());
        prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }
    }
}

/// The last time that nanoseconds since 1970 can tell in 64 bits.
fn latest() -> Timestamp {
    Timestamp::from_nanosecond(i128::from(u64::MAX)).unwrap_or(Timestamp::MAX)
}

/// Asks the agent.
///
/// # Errors
/// No agent answers, or it refuses.
pub fn run(args: Args) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.command {
            Command::Normal(give) => tell(give, give_feedback_request::Opinion::Normal(Normal {})).await,
            Command::Real(give) => tell(give, give_feedback_request::Opinion::Real(Real {})).await,
            Command::Mute { give, until } => {
                let until = until.timestamp(Timestamp::now());
                tell(give, give_feedback_request::Opinion::MuteUntil(until)).await
            }
            Command::List(args) => list(args).await,
            Command::Withdraw(args) => withdraw(args).await,
            Command::Accept(args) => accept::run(args).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn tell(args: GiveArgs, opinion: give_feedback_request::Opinion) -> Result<()> {
    use give_feedback_request::Subject;
    let mut client = Client::connect(&args.api).await?;
    let by_template = args.template.map(Subject::TemplateKey);
    let given = client
        .give(proto::GiveFeedbackRequest {
            tenant: args.tenant,
            subject: by_template.or(args.incident.map(Subject::IncidentId)),
            service: args.service,
            opinion: Some(opinion),
            author: args.signed.author(),
            comment: args.signed.comment,
        })
        .await?;
    writeln!(io::stdout().lock(), "{}", harmless(&given.summary))?;
    Ok(())
}

async fn withdraw(args: WithdrawArgs) -> Result<()> {
    let mut client = Client::connect(&args.api).await?;
    let request = proto::WithdrawFeedbackRequest {
        tenant: args.tenant,
        template_key: args.template,
        service: args.service,
    };
    let withdrawn = client.withdraw(request).await?.withdrawn.unwrap_or_default();
    let mut out = io::stdout().lock();
    writeln!(out, "taken back; detectors decide again:")?;
    row(&mut out, &withdrawn)?;
    Ok(())
}

async fn list(args: ListArgs) -> Result<()> {
    let mut client = Client::connect(&args.api).await?;
    let opinions = client.opinions(args.tenant).await?;
    let mut out = io::stdout().lock();
    if args.json {
        for opinion in &opinions {
            writeln!(out, "{}", json::line(opinion)?)?;
        }
        return Ok(());
    }
    if opinions.is_empty() {
        writeln!(out, "nobody has said anything yet")?;
    }
    opinions.iter().try_for_each(|opinion| row(&mut out, opinion))?;
    Ok(())
}

/// An opinion for people: what, where, until when; below it the text, who and why.
fn row(out: &mut impl Write, it: &proto::Opinion) -> io::Result<()> {
    let what = match &it.opinion {
        Some(opinion::Opinion::Normal(_)) => "normal".to_owned(),
        Some(opinion::Opinion::Real(_)) => "real".to_owned(),
        Some(opinion::Opinion::MuteUntil(until)) => format!("muted until {}", time(Some(until))),
        None => "(of a later version)".to_owned(),
    };
    let place = it.service.as_deref().unwrap_or("all services");
    let tenant = match it.tenant.as_str() {
        "" => String::new(),
        name => format!(", tenant {}", harmless(name)),
    };
    writeln!(out, "{}  {what}  in {}{tenant}", it.template_key, harmless(place))?;
    if !it.text.is_empty() {
        writeln!(out, "    {}", one_line(&it.text, 110))?;
    }
    let said: Vec<String> = [it.author.clone(), time(it.given_at.as_ref()), it.comment.clone()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| harmless(&part))
        .collect();
    if !said.is_empty() {
        writeln!(out, "    said: {}", said.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_end_of_a_mute_is_read_as_people_mean_it() {
        let now: Timestamp = "2026-11-22T23:10:00Z".parse().unwrap();
        let read = |text: &str| {
            let at = text.parse::<Until>().unwrap().timestamp(now);
            Timestamp::new(at.seconds, at.nanos).unwrap().to_string()
        };
        assert_eq!(read("2h"), "2026-11-23T01:10:00Z");
        assert_eq!(read("06:00"), "2026-11-23T06:00:00Z", "the next morning");
        assert_eq!(read("23:30"), "2026-11-22T23:30:00Z");
        assert_eq!(read("2026-11-23T06:00"), "2026-11-23T06:00:00Z");
        assert_eq!(read("2026-11-23T06:00:00+01:00"), "2026-11-23T05:00:00Z");
        assert_eq!(read("9000000h"), "2554-07-21T23:34:33.709551615Z", "for ever");
        for wrong in ["", "-2h", "0s", "tomorrow", "2026-11-23", "7"] {
            assert!(wrong.parse::<Until>().is_err(), "{wrong}");
        }
    }
}
