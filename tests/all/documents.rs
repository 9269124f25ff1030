//! What the documents show is so: their configurations are read, and their commands are commands.
//!
//! A block of ```` ```yaml ```` in README.md or config-examples/guide/ is laid over the quickstart and checked; one of
//! ```` ```yaml collector ```` is somebody else's and only has to be YAML. Of a block of ```` ```sh ```` every `harbinger …` is
//! parsed, as are the examples that `--help` gives.

use std::fs;

use clap::{CommandFactory, Parser};
use harbinger::{cli::Cli, config};

/// A fenced block: the document and line where it begins, what stands behind the fence, its text.
struct Block {
    place: String,
    kind: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut documents = vec!["README.md".to_owned()];
    for entry in fs::read_dir("config-examples/guide").into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path.display().to_string());
        }
    }
    documents.sort();
    let mut blocks = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let mut open: Option<Block> = None;
        for (number, line) in (1..).zip(text.lines()) {
            match (line.trim_start().strip_prefix("```"), open.take()) {
                (Some(kind), None) => {
                    open = Some(Block {
                        place: format!("{document}:{number}"),
                        kind: kind.trim().to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(block)) => blocks.push(block),
                (None, Some(mut block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{document}: a block is not closed");
    }
    assert!(!blocks.is_empty());
    blocks
}

#[test]
fn every_configuration_in_a_document_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("block.yaml").display().to_string();
    let mut wrong = Vec::new();
    let mut count = 0;
    for Block { place, kind, text } in blocks() {
        let outcome = match kind.as_str() {
            "yaml" => {
                count += 1;
                fs::write(&file, &text).unwrap();
                let configs = ["config-examples/quickstart.yaml".to_owned(), file.clone()];
                // Whatever a block asks of the environment is there.
                let loaded = config::load(&configs, &[], &|_| Some("set".to_owned()));
                loaded.map(|_| ()).map_err(|error| error.to_string())
            }
            "yaml collector" => serde_yaml::from_str::<serde_yaml::Value>(&text)
                .map(|_| ())
                .map_err(|error| error.to_string()),
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            wrong.push(format!("{place}: {}", error.replace(&file, "the block")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 1, "README shows configurations");
}

/// The words of every command in a script, as a shell would take them apart.
fn commands(script: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut letters = script.chars().peekable();
    let finish = |word: &mut Option<String>, commands: &mut Vec<Vec<String>>| {
        if let (Some(word), Some(command)) = (word.take(), commands.last_mut()) {
            command.push(word);
        }
    };
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                word.extend(letters.by_ref().take_while(|letter| *letter != '\''));
            }
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
                    word.push(if letter == '\\' {
                        letters.next().unwrap_or('\\')
                    } else {
                        letter
                    });
                }
            }
            '\\' => match letters.next() {
                Some('\n') | None => finish(&mut word, &mut commands),
                Some(letter) => word.get_or_insert_default().push(letter),
            },
            '#' if word.is_none() => while letters.next_if(|letter| *letter != '\n').is_some() {},
            '\n' | '|' | ';' | '&' => {
                finish(&mut word, &mut commands);
                commands.push(Vec::new());
            }
            _ if letter.is_whitespace() => finish(&mut word, &mut commands),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    finish(&mut word, &mut commands);
    commands
}

/// What `harbinger` refuses in a script.
fn refused(place: &str, script: &str, count: &mut usize, wrong: &mut Vec<String>) {
    for command in commands(script) {
        let mut words = command.into_iter().skip_while(|word| word.contains('='));
        if words
            .next()
            .is_none_or(|program| program != "harbinger" && !program.ends_with("/harbinger"))
        {
            continue;
        }
        // Where output goes is the shell's.
        let words = words.take_while(|word| !word.starts_with('>'));
        let words: Vec<String> = std::iter::once("harbinger".to_owned()).chain(words).collect();
        *count += 1;
        if let Err(refusal) = Cli::try_parse_from(&words)
            && refusal.use_stderr()
        {
            wrong.push(format!("{place}: {}: {refusal}", words.join(" ")));
        }
    }
}

#[test]
fn every_command_in_a_document_and_in_help_is_one() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for Block { place, kind, text } in blocks() {
        if kind == "sh" {
            refused(&place, &text, &mut count, &mut wrong);
        }
    }
    assert!(count > 10, "README shows commands");
    let mut waiting = vec![Cli::command()];
    while let Some(command) = waiting.pop() {
        waiting.extend(command.get_subcommands().cloned());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter(|line| line.starts_with("  harbinger")) {
            refused(command.get_name(), line, &mut count, &mut wrong);
        }
    }
    assert!(count > 50, "help gives examples: {count}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn scripts_are_taken_apart_as_a_shell_does() {
    let script = "A=b x 'c d' \"e \\\"f\\\"\" # not this\ng \\\n h|i > j";
    let words: Vec<Vec<String>> = commands(script);
    let expected: [&[&str]; 3] = [&["A=b", "x", "c d", "e \"f\""], &["g", "h"], &["i", ">", "j"]];
    assert_eq!(words, expected);
}
