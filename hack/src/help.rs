//! A law over the help of all programs, daemons and load programs included: what each flag says is one sentence without a full
//! stop, begun with a capital. It is read from the sources, since no crate here knows the flags of all. Tests only.

use std::fs;

use crate::{paths, size};

/// What stands above each `#[arg(…)]` of a source, and the line of that.
fn flags(source: &str) -> Vec<(usize, String)> {
    let (mut found, mut said) = (vec![], vec![]);
    for (at, line) in source.lines().map(str::trim).enumerate() {
        if let Some(text) = line.strip_prefix("///") {
            said.push(text.trim());
            continue;
        }
        if line.starts_with("#[arg(") {
            found.push((at + 1, said.join("\n")));
        }
        said.clear();
    }
    found
}

/// What is wrong with the help of a flag.
fn wrong(help: &str) -> Option<&'static str> {
    let first = help.trim_start_matches('`').chars().next();
    match first {
        None => Some("it says nothing"),
        Some(letter) if letter.is_lowercase() && !help.starts_with('`') => Some("it begins small"),
        Some(_) if help.ends_with('.') => Some("it ends with a full stop"),
        Some(_) if help.contains("\n\n") => Some("it has more than a paragraph"),
        Some(_) => None,
    }
}

#[test]
fn flags_of_all_programs_say_what_they_do_in_one_style() {
    let mut sources = vec![];
    for part in [
        "syncer",
        "manager",
        "apiserver-proxy",
        "telemetry",
        "cli",
        "hack",
        "e2e",
    ] {
        let files = size::source_files(&paths::repository().join(part).join("src"));
        sources.extend(files.unwrap());
    }
    let mut count = 0;
    for path in &sources {
        for (line, help) in flags(&fs::read_to_string(path).unwrap()) {
            count += 1;
            assert_eq!(wrong(&help), None, "{}:{line}: {help}", path.display());
        }
    }
    assert!(count > 150, "{count}");
}

#[test]
fn a_help_in_another_style_is_found() {
    let source = "/// Writes.\n#[arg(long)]\n/// One\n///\n/// Two\n#[arg(long)]\nx: u8,\n#[arg(long)]\n/// `a` is\n#[arg(long)]\n/// b\n#[arg(long)]";
    let judged: Vec<Option<&str>> = flags(source).iter().map(|(_, help)| wrong(help)).collect();
    assert_eq!(
        judged,
        [
            Some("it ends with a full stop"),
            Some("it has more than a paragraph"),
            Some("it says nothing"),
            None,
            Some("it begins small"),
        ]
    );
}
