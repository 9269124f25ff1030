//! Arguments to command to exit code.
//!
//! What enters: the program's arguments. What leaves: the exit code of the command they name, or the error that ended it.
//! Promises: help teaches by example; results go to standard output, everything else to standard error. Absent on
//! purpose: what the commands do, see [`crate::app`] and [`crate::commands`].

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{
    app,
    commands::{analyze, dead_letters, evaluate, explain, feedback, forget, incidents, replay, snapshot},
    config::{self, Loaded, Role, TYPES},
};

/// The file that is used when none is named.
const DEFAULT_CONFIG: &str = "harbinger.yaml";

/// Exit code of wrong arguments and wrong configurations.
pub const USAGE: u8 = 2;

/// The program's arguments.
#[derive(Debug, Parser)]
#[command(
    name = "harbinger",
    version,
    about = "Marks anomalous log records and groups incidents in an OpenTelemetry pipeline, losing nothing",
    after_help = "Examples:
  harbinger run --config config-examples/quickstart.yaml
      Start the agent: OTLP logs in on localhost:4317, judged records out.
  harbinger validate --config harbinger.yaml
      Check a configuration and the model without starting.
  harbinger analyze app.csv --out out
      Find the anomalies and incidents in a log file.

Every command explains itself: harbinger help COMMAND

Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until SIGINT or SIGTERM
    #[command(after_help = "Examples:
  harbinger run
      With ./harbinger.yaml.
  harbinger run --config base.yaml --config site.yaml
      site.yaml over base.yaml: sections are merged, lists replaced.
  harbinger run --config harbinger.yaml --set processors.harbinger.detection.mode=shadow
      Only count what would be marked; as the Collector writes it: --config yaml:processors::harbinger::detection::mode: shadow

Without a model the agent still delivers every record, with harbinger.verdict=degraded, and says so in its log and health. \
--require-model makes that an error at the start.

SIGHUP rereads the configuration and feedback.yaml. Without a restart change: detection.mode, percentile and \
max_episodes_per_hour, text.ignore and exclude, correlation.min_records, the limits of memory_limiter, the log's level. Of any other \
key the log says that it waits for the next start. A configuration with mistakes changes nothing.")]
    Run(RunArgs),
    /// Check a configuration, and that the model and its runtime load, without starting
    #[command(after_help = "Examples:
  harbinger validate --config harbinger.yaml
      Exit code 0: `harbinger run --require-model` with the same arguments would start, if its ports are free.

Every mistake is told with file, line, column and key, and what to write instead.")]
    Validate(ConfigArgs),
    /// Print the resolved configuration with every default as YAML, secrets left out
    #[command(after_help = "Examples:
  harbinger print-config --config harbinger.yaml
  harbinger print-config --set processors.harbinger.detection.percentile=95 | less
      What every key is set to, yours and the defaults. config-examples/reference.yaml explains each.")]
    PrintConfig(ConfigArgs),
    /// List the receivers, processors, exporters and extensions there are
    Components,
    /// Print the JSON Schema of the configuration, by which editors complete and check
    #[command(after_help = "Examples:
  harbinger schema > harbinger.schema.json
      Then write as the first line of a configuration beside it, for the YAML language server of your editor:
      # yaml-language-server: $schema=harbinger.schema.json

It knows keys, types, words and defaults; what belongs together `harbinger validate` knows.")]
    Schema,
    /// Print what a shell needs to complete commands and flags
    #[command(after_help = "Examples:
  harbinger completions bash > /etc/bash_completion.d/harbinger
  harbinger completions zsh > \"${fpath[1]}/_harbinger\"
  harbinger completions fish > ~/.config/fish/completions/harbinger.fish")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write the pages of all commands
    #[command(after_help = "Examples:
  harbinger man | man -l -
  harbinger man --out /usr/local/share/man/man1
      harbinger.1, harbinger-run.1 and so on, one for each command.")]
    Man {
        /// Write the pages of all commands into this directory, made if missing, instead of printing the first
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Find the anomalies and incidents in log files: annotated.csv and incidents.csv
    #[command(after_help = "Examples:
  harbinger analyze app.csv --out out
      Columns are found by their usual names; see --message-column and its like.
  harbinger analyze app.log web.jsonl.gz --out out
      Several files of any format are one stream, in order of time.
  journalctl -o json | harbinger analyze - --out out
  harbinger analyze app.csv --profile notebook --min-size 2 --out out
      The notebook's rule, for those who compare.")]
    Analyze(analyze::Args),
    /// Measure the verdicts on labelled logs, or how quiet they are on healthy ones
    #[command(after_help = "Examples:
  harbinger evaluate labelled.csv
      Learns from the first fifth, counts on the rest. Columns `label` (1 is anomalous) and `fault` hold the truth.
  harbinger evaluate labelled.csv --hide severity --ablation
      What text alone recovers, and what each detector is worth.
  harbinger evaluate quiet-week.csv web.log.gz --json figures.json
      Unlabelled files count as healthy: whatever is flagged is a false alarm.
  harbinger evaluate faults.csv --history last-week.csv
      Learns from one file, counts on the other.

The engine never sees a label. A line is judged once, by what came before it, as the agent would have judged it. History is not moved in time: where it is later than the file, whatever the engine measures in time (maturing, rates) sees the file in its past, so prefer a history that is earlier.")]
    Evaluate(evaluate::Args),
    /// Send log files to an OTLP endpoint, as fast as they happened or faster
    #[command(after_help = "Examples:
  harbinger replay app.csv --to http://localhost:4317
  harbinger replay recording.jsonl.gz --to http://localhost:4317 --speed 60x --now")]
    Replay(replay::Args),
    /// Ask a running agent about incidents, or list those in files that it has marked
    #[command(after_help = "Examples:
  harbinger incidents list --since 12h
      What happened tonight, newest first, from the agent on this machine.
  harbinger incidents show 20241118-100000-k7f3qa
      What happened, why it is one incident, its templates, a query that finds its lines, and what to say of it.
  harbinger incidents watch --bell
      What is open, then what happens; goes on when the agent is restarted. Ctrl-C ends it.
  harbinger incidents list --state open --json | jq -r .id
      One JSON object a line, with the fields of the API.
  harbinger incidents export --format csv --out incidents.csv
  harbinger incidents digest harbinger-out.jsonl
      No agent: what the `file` exporter (ours or the Collector's) wrote. Without `digest` it is the same.

The agent answers when its configuration has `extensions: {harbinger_api: {}}` and `service: {extensions: [harbinger_api]}`.")]
    Incidents(incidents::Args),
    /// Say what would be thought of a log line, and why: every detector, the nearest known templates, the threshold
    #[command(after_help = "Examples:
  harbinger explain \"could not extend file: No space left on device\" --config harbinger.yaml --service postgresql
      As the next record of the agent with this configuration, by the last snapshot in its state.directory.
  harbinger explain \"payment declined\" --snapshot learned --severity WARN --json
      By what `harbinger analyze --save-snapshot learned` has left.
  harbinger explain \"giving up after 3 attempts\"
      Nothing learned: the template, and how much it sounds like failure by the shipped sentences.

Nothing is learned from the line and nothing is written; an agent that uses the directory is not disturbed.")]
    Explain(explain::Args),
    /// Tell a running agent what a verdict was worth: opinions decide from the next record on
    #[command(after_help = "Examples:
  harbinger feedback normal --template 9f86d081884c7d65 --comment 'says so on every deploy'
      Not marked any more, in any service, and learned from.
  harbinger feedback mute --incident 20241118-100000-k7f3qa --until 2h
      Its anomalous templates are not marked for two hours; it is closed.
  harbinger feedback real --template 9f86d081884c7d65 --service checkout
      Marked whenever checkout says it, however usual it becomes.
  harbinger feedback accept --since 02:00
      The morning after: shows what was anomalous since two o'clock (UTC), asks, and takes it as normal.
  harbinger feedback list
  harbinger feedback withdraw --template 9f86d081884c7d65 --service checkout

What was said stands in feedback.yaml in the agent's state directory, for people to review and edit (then SIGHUP). The agent \
answers when its configuration has `extensions: {harbinger_api: {}}` and `service: {extensions: [harbinger_api]}`.")]
    Feedback(feedback::Args),
    /// Look at what a stopped agent has learned, hour by hour, and go back to it
    #[command(after_help = "Examples:
  harbinger snapshot list --state ./harbinger-state
  harbinger snapshot rollback --state ./harbinger-state
      To the last one that is kept; --to NAME chooses another, also one that a rollback has replaced.

Opinions, incidents and their ids are not rolled back: no id is ever given twice.")]
    Snapshot(snapshot::Args),
    /// Look at what destinations refused for good, and send it again or discard it, while the agent is stopped
    #[command(after_help = "Examples:
  harbinger dead-letters list --directory ./harbinger-queue
  harbinger dead-letters show --directory ./harbinger-queue --all > refused.jsonl
      OTLP JSON, as the `file` exporter writes it: `harbinger replay` and `analyze` read it.
  harbinger dead-letters requeue --directory ./harbinger-queue --exporter otlp_grpc/loki 17 18
      Sent again, behind what waits, once the agent runs.
  harbinger dead-letters discard --directory ./harbinger-queue --all

The directory is that of `extensions.file_storage`. A running agent has it locked: stop the agent first; what waits in its queues stays.")]
    DeadLetters(dead_letters::Args),
    /// Take what logs said out of what a stopped agent remembers
    #[command(after_help = "Examples:
  harbinger forget 'customer .* declined' --state ./harbinger-state --dry-run
      Lists the templates that would go.
  harbinger forget '(?i)project nightingale' --state ./harbinger-state --tenant acme
      Of one tenant only.

Goes through snapshot and journals: templates with their counts, quotations in reasons, texts of incidents, kept snapshots, and texts and comments in feedback.yaml. What was sent on already is not Harbinger's any more.")]
    Forget(forget::Args),
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
struct ConfigArgs {
    /// Configuration file, `env:NAME` (a variable that holds one) or `yaml:a::b: c`; repeat to lay one over another
    /// [default: ./harbinger.yaml]
    #[arg(long, value_name = "FILE")]
    config: Vec<String>,
    /// Set one key, as `service.telemetry.logs.level=debug`; over all of --config
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Clone, Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Fail when the model or its runtime cannot be loaded, instead of delivering without verdicts
    #[arg(long)]
    require_model: bool,
}

/// No configuration was named and none lies here.
#[derive(Debug, thiserror::Error)]
#[error(
    "no configuration: there is no {DEFAULT_CONFIG} in this directory\n\
     Write `--config FILE`; config-examples/quickstart.yaml is a good start, config-examples/reference.yaml explains \
     every key."
)]
pub struct NoConfiguration;

impl ConfigArgs {
    fn load(&self) -> anyhow::Result<Loaded> {
        let mut configs = self.config.clone();
        if configs.is_empty() {
            if !Path::new(DEFAULT_CONFIG).exists() {
                return Err(NoConfiguration.into());
            }
            configs.push(DEFAULT_CONFIG.to_owned());
        }
        let environment =
            |name: &str| std::env::var_os(name).map(|value: OsString| value.to_string_lossy().into_owned());
        Ok(config::load(&configs, &self.set, &environment)?)
    }

    /// Loads and tells of warnings on standard error.
    fn load_aloud(&self) -> anyhow::Result<Loaded> {
        let loaded = self.load()?;
        let mut stderr = io::stderr().lock();
        for warning in &loaded.warnings {
            writeln!(stderr, "warning: {warning}")?;
        }
        Ok(loaded)
    }

    /// The files, for messages.
    fn files(&self) -> String {
        if self.config.is_empty() {
            DEFAULT_CONFIG.to_owned()
        } else {
            // The text of `yaml:` may hold secrets.
            let named = self.config.iter().map(|config| match config.split_once(':') {
                Some(("yaml", _)) => "yaml:…",
                _ => config,
            });
            named.collect::<Vec<_>>().join(" + ")
        }
    }
}

/// Does what `arguments` (the program's name first) ask for.
///
/// # Errors
/// What ended the command; wrong arguments are told on standard error right away and give [`USAGE`].
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let is_the_collectors_habit = arguments
        .get(1)
        .is_some_and(|first| first.to_string_lossy().starts_with("--config"));
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(refusal) => {
            refusal.print()?;
            if is_the_collectors_habit {
                writeln!(
                    io::stderr().lock(),
                    "\n  tip: the agent is started by `harbinger run --config FILE`"
                )?;
            }
            return Ok(if refusal.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            });
        }
    };
    match cli.command {
        None => Cli::command().print_long_help()?,
        Some(Command::Run(arguments)) => app::run(arguments.config.load()?, arguments.require_model, &|| {
            arguments.config.load()
        })?,
        Some(Command::Validate(arguments)) => validate(&arguments)?,
        Some(Command::PrintConfig(arguments)) => {
            let loaded = arguments.load_aloud()?;
            io::stdout()
                .lock()
                .write_all(config::print(&loaded.config)?.as_bytes())?;
        }
        Some(Command::Analyze(arguments)) => return analyze::run(&arguments),
        Some(Command::Evaluate(arguments)) => return evaluate::run(&arguments),
        Some(Command::Replay(arguments)) => return replay::run(arguments),
        Some(Command::Incidents(arguments)) => return incidents::run(arguments),
        Some(Command::Explain(arguments)) => return explain::run(&arguments),
        Some(Command::Feedback(arguments)) => return feedback::run(arguments),
        Some(Command::Snapshot(arguments)) => return snapshot::run(&arguments),
        Some(Command::DeadLetters(arguments)) => return dead_letters::run(&arguments),
        Some(Command::Forget(arguments)) => return forget::run(&arguments),
        Some(Command::Components) => io::stdout().lock().write_all(components().as_bytes())?,
        Some(Command::Schema) => io::stdout().lock().write_all(config::schema()?.as_bytes())?,
        Some(Command::Completions { shell }) => {
            // Through a buffer, as the generator panics when standard output is closed.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "harbinger", &mut script);
            io::stdout().lock().write_all(&script)?;
        }
        Some(Command::Man { out }) => manual(out.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The manual page of the program, or those of all commands into a directory.
fn manual(directory: Option<&Path>) -> anyhow::Result<()> {
    let Some(directory) = directory else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        return Ok(io::stdout().lock().write_all(&page)?);
    };
    let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    written.with_context(|| format!("cannot write manual pages into {}", directory.display()))
}

fn validate(arguments: &ConfigArgs) -> anyhow::Result<()> {
    let loaded = arguments.load_aloud()?;
    config::preflight(&loaded.settings)?;
    let model = app::check_model(&loaded.settings)?;
    writeln!(io::stdout().lock(), "{}: valid\n{model}", arguments.files())?;
    Ok(())
}

fn components() -> String {
    let width = TYPES.iter().map(|known| known.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for role in Role::ALL {
        text.push_str(role.section());
        text.push('\n');
        for known in TYPES.iter().filter(|known| known.role == role) {
            let old = known
                .old_name
                .map(|name| format!(" (old name: {name})"))
                .unwrap_or_default();
            text.push_str(&format!(
                "  {:width$}  {:11}  {}{old}\n",
                known.name, known.stability, known.description
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn config_and_set_repeat_in_order() {
        let arguments = [
            "harbinger",
            "run",
            "--config",
            "a",
            "--set",
            "x=1",
            "--config",
            "b",
            "--set",
            "y=2",
        ];
        let Some(Command::Run(run)) = Cli::try_parse_from(arguments).unwrap().command else {
            panic!()
        };
        assert_eq!(
            (run.config.config, run.config.set),
            (vec!["a".into(), "b".into()], vec!["x=1".into(), "y=2".into()])
        );
    }

    #[test]
    fn every_component_is_listed_with_its_stability() {
        let text = components();
        assert!(text.contains("exporters\n  otlp_grpc        beta         "), "{text}");
        assert_eq!(text.lines().count(), TYPES.len() + Role::ALL.len());
    }
}
