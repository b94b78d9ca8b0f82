//! A law over the help of all programs, daemons and load programs included: what each flag says is one sentence without a full
//! stop, begun with a capital. It is read from the sources, since no crate here knows the flags of all. Tests only.

use std::fs;
use std::path::Path;

use crate::paths;

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

fn sources_below(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.display().to_string(), text));
        }
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
        sources_below(&paths::repository().join(part).join("src"), &mut sources);
    }
    let mut count = 0;
    for (path, source) in &sources {
        for (line, help) in flags(source) {
            count += 1;
            assert_eq!(wrong(&help), None, "{path}:{line}: {help}");
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
