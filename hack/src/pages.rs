//! Laws over README, the pages beside it and `docs/`: what they tell people to type of `cargo xtask` is understood, and so are the
//! examples of its help. Tests only.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use clap::{CommandFactory, Parser};

use crate::{Command, CommandLine, bench, paths};

/// All pages.
fn pages() -> Vec<PathBuf> {
    let beside = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ];
    let mut pages: Vec<PathBuf> = beside.map(|name| paths::repository().join(name)).into();
    for folder in ["docs", "docs/bench"] {
        let entries = fs::read_dir(paths::repository().join(folder)).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages
}

/// Every `cargo xtask …` of a text, as its words: up to a backquote, a comment, another command, or two spaces.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let begun = text.split("cargo xtask ").skip(1);
    let lines = begun.map(|rest| {
        let line = rest.split("  ").next().unwrap_or_default();
        let ends = ['`', '#', '\n', '|', '&'];
        line.split(ends).next().unwrap_or_default()
    });
    lines.map(words).collect()
}

/// What stands between single quotes is one word.
fn words(line: &str) -> Vec<&str> {
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().collect(),
        _ => vec![part],
    });
    words.collect()
}

fn understood(words: &[&str]) -> Result<Command, clap::Error> {
    let line = ["cargo xtask"].iter().chain(words).copied();
    CommandLine::try_parse_from(line).map(|line| line.command)
}

/// Says which word the help of the load program that the first one names doesn't know. Numbers are values of flags.
fn unknown<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let help = bench::help_of(arguments.first()?)?;
    let known: BTreeSet<&str> = help.split([' ', '\n', ':', ',']).collect();
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let mut said = arguments.iter().copied();
    said.find(|word| !known.contains(word) && !is_number(word))
}

#[test]
fn commands_of_the_pages_are_understood() {
    let mut told = BTreeSet::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for words in commands(&text) {
            match understood(&words) {
                Ok(Command::Bench { .. }) => {
                    let unknown = unknown(&words[1..]);
                    assert_eq!(unknown, None, "{}: {words:?}", page.display());
                }
                Ok(_) => {}
                Err(err) => panic!("{}: {words:?}\n{err}", page.display()),
            }
            told.extend(words.first().copied().map(str::to_owned));
        }
    }
    for command in CommandLine::command().get_subcommands() {
        let name = command.get_name();
        assert!(told.contains(name), "no page tells of `cargo xtask {name}`");
    }
}

#[test]
fn every_command_has_examples_that_are_understood() {
    let all = CommandLine::command();
    for command in std::iter::once(&all).chain(all.get_subcommands()) {
        let name = command.get_name();
        let help = command.get_after_help().map(ToString::to_string);
        let examples = commands(help.as_deref().unwrap_or_default());
        assert!(!examples.is_empty(), "{name} has no example");
        for words in examples {
            if let Err(err) = understood(&words) {
                panic!("{name}: {words:?}\n{err}");
            }
        }
    }
}
