//! `harbinger forget PATTERN --state DIR`: takes what logs said out of what a stopped agent remembers.
//!
//! What enters: a pattern and a state directory. What leaves: the directory without every template that matches, and on
//! standard output what went. Promises: the directory is locked meanwhile; a crash leaves the old state or the new one,
//! never a mixture. Absent on purpose: the logs themselves, which Harbinger never had, and what the numbers of the network
//! have learned, from which no text can be read; the next training replaces them.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use regex::Regex;

use crate::{
    edge::{Store, store::StateDirectory},
    engine::{
        feedback::Book,
        score::Forgotten,
        snapshot::{self, Journal, Snapshot},
        tenant::Tenant,
    },
};

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Regular expression, tried on the text of templates (as in harbinger.template)
    #[arg(value_name = "PATTERN")]
    pub pattern: String,
    /// The `state.directory` of an agent that is stopped
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Of this tenant only; "" is the one of records that name none [default: of all]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Say what would be forgotten, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What was found to forget.
#[derive(Debug, Default)]
struct Found {
    templates: Vec<(Tenant, Forgotten)>,
    incident_texts: usize,
    journal_texts: usize,
    /// Texts and comments in the file of opinions.
    opinion_texts: usize,
    /// Kept snapshots in which there was something.
    kept_snapshots: usize,
    /// Whether the snapshot keeps any text at all.
    texts_kept: bool,
}

/// Forgets.
///
/// # Errors
/// No regular expression, no state directory, one that is in use, or one that cannot be read or written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let pattern = Regex::new(&args.pattern).context("PATTERN is no regular expression")?;
    let directory = args.state.display();
    ensure!(
        args.state.is_dir(),
        "{directory} is no directory: name the `state.directory` of the agent"
    );
    let store = StateDirectory::open(&args.state).context(
        "nothing was forgotten; a running agent would write again what it has in memory: stop it, forget, start it",
    )?;
    let loaded = store.load()?;
    let unreadable =
        || format!("the snapshot in {directory} cannot be read; to forget everything, remove the directory");
    let snapshot = loaded.snapshot.as_deref().map(|bytes| snapshot::decode(bytes, None));
    let mut snapshot = snapshot.transpose().with_context(unreadable)?;
    let since = snapshot.as_ref().map_or(0, |snapshot| snapshot.journal_epoch);

    let is_meant = |tenant: &Tenant| args.tenant.as_deref().is_none_or(|name| *tenant == Tenant::named(name));
    let matches = |text: &str| pattern.is_match(text);
    let mut found = Found::default();
    if let Some(snapshot) = &mut snapshot {
        forget_in_snapshot(snapshot, is_meant, matches, &mut found).with_context(unreadable)?;
    }
    let mut journal = Vec::new();
    for (_, bytes) in loaded.journals.iter().filter(|(epoch, _)| *epoch >= since) {
        for mut entry in Journal::new(bytes) {
            if is_meant(&entry.tenant()) {
                found.journal_texts += entry
                    .events_mut()
                    .filter_map(|event| event.forget(matches).then_some(()))
                    .count();
            }
            entry.frame(&mut journal);
        }
    }
    let text = store.load_feedback()?.unwrap_or_default();
    let mut book = Book::from_yaml(&text)
        .with_context(|| format!("feedback.yaml in {directory} cannot be searched; mend or remove it"))?;
    found.opinion_texts = book.forget(is_meant, matches);
    let mut kept = Vec::new();
    for name in store.kept()?.into_iter().map(|kept| kept.name) {
        let unusable = || format!("{name} cannot be searched; remove it");
        let mut snapshot = snapshot::decode(&store.read_kept(&name)?, None).with_context(unusable)?;
        let mut in_kept = Found::default();
        forget_in_snapshot(&mut snapshot, is_meant, matches, &mut in_kept).with_context(unusable)?;
        if !in_kept.templates.is_empty() || in_kept.incident_texts > 0 {
            kept.push((name, snapshot));
        }
    }
    found.kept_snapshots = kept.len();
    if !args.dry_run {
        for (name, snapshot) in kept {
            store.rewrite_kept(&name, &snapshot::encode(&snapshot))?;
        }
        if found.opinion_texts > 0 {
            store.save_feedback(&book.to_yaml()?)?;
        }
    }
    let anything = !found.templates.is_empty() || found.incident_texts + found.journal_texts > 0;
    if anything && !args.dry_run {
        // First a journal that repeats what is left of the old ones, which changes nothing while the old snapshot stands;
        // then, in one step, the snapshot that begins with it.
        let next = loaded.next_epoch().max(since.saturating_add(1));
        store.begin_epoch(next)?;
        store.append_journal(&journal, true)?;
        if let Some(mut snapshot) = snapshot {
            snapshot.journal_epoch = next;
            store.save_snapshot(&snapshot::encode(&snapshot))?;
        }
        store.prune_journal(next)?;
    }
    report(&mut io::stdout().lock(), &found, args.dry_run)?;
    let aside = store.set_aside_snapshots()?;
    if aside > 0 {
        writeln!(
            io::stdout().lock(),
            "{aside} snapshots that could not be used were set aside there (snapshot.corrupt-…) and are not searched: remove them"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn forget_in_snapshot(
    snapshot: &mut Snapshot,
    is_meant: impl Fn(&Tenant) -> bool,
    matches: impl Fn(&str) -> bool + Copy,
    found: &mut Found,
) -> Result<()> {
    for section in &mut snapshot.tenants {
        let tenant = section.tenant();
        if !is_meant(&tenant) {
            continue;
        }
        let (mut scorer, mut correlator) = section.states()?;
        found.texts_kept |= scorer.has_texts();
        let gone = scorer.forget(matches);
        found
            .templates
            .extend(gone.into_iter().map(|gone| (tenant.clone(), gone)));
        let in_past = section.past.iter_mut().map(|incident| incident.forget(matches));
        found.incident_texts += correlator.forget(matches) + in_past.sum::<usize>();
        section.set_states(&scorer, &correlator);
    }
    Ok(())
}

fn report(out: &mut impl Write, found: &Found, dry_run: bool) -> Result<()> {
    let Found {
        templates,
        incident_texts,
        journal_texts,
        opinion_texts,
        kept_snapshots,
        texts_kept,
    } = found;
    for (
        tenant,
        Forgotten {
            text,
            records,
            services,
        },
    ) in templates
    {
        let tenant = tenant.name().map(|name| format!("tenant {name}, ")).unwrap_or_default();
        writeln!(out, "{tenant}{records} records of {services} services: {text}")?;
    }
    let verb = if dry_run { "would be forgotten" } else { "forgotten" };
    writeln!(
        out,
        "{verb}: {} templates, {incident_texts} texts of incidents, {journal_texts} texts in the journal, {opinion_texts} texts and \
         comments of opinions; also from {kept_snapshots} kept snapshots",
        templates.len()
    )?;
    if !texts_kept && templates.is_empty() {
        writeln!(
            out,
            "no text of templates is kept here (nothing learned yet, or text.store_text: false): there is nothing to match"
        )?;
    }
    Ok(())
}
