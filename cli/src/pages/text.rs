//! A page as text: its blocks of code, what stands in backquotes, its links and headings.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A page of documentation.
pub(super) struct Page {
    /// Its path in the repository.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) text: String,
}

pub(super) fn repository() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap_or(folder)
}

/// README, the other pages beside it that people read first, and all of `docs/`.
pub(super) fn pages() -> Vec<Page> {
    let beside = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ]
    .map(|name| repository().join(name));
    let mut paths: Vec<PathBuf> = beside.into();
    for folder in ["docs", "docs/bench"] {
        let entries = fs::read_dir(repository().join(folder)).unwrap();
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

impl Page {
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path);
        let text = text.unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        let name = path.strip_prefix(repository()).unwrap_or(path);
        Self {
            name: name.display().to_string(),
            path: path.to_owned(),
            text,
        }
    }

    /// The blocks of code in `language`, without the indentation that they have as part of a list.
    pub(super) fn blocks(&self, language: &str) -> Vec<String> {
        let mut blocks = vec![];
        let mut open: Option<(usize, String)> = None;
        for line in self.text.lines() {
            let fence = line.trim_start().strip_prefix("```");
            match (&mut open, fence) {
                (None, Some(named)) if named == language => {
                    open = Some((line.len() - line.trim_start().len(), String::new()));
                }
                (None, Some(_)) => open = Some((usize::MAX, String::new())),
                (Some(_), Some(_)) => {
                    let ended = open.take().filter(|(indent, _)| *indent < usize::MAX);
                    blocks.extend(ended.map(|(_, block)| block));
                }
                (Some((indent, block)), None) => {
                    block.push_str(line.get(*indent..).unwrap_or(line.trim_start()));
                    block.push('\n');
                }
                (None, None) => {}
            }
        }
        blocks
    }

    /// What stands behind a prompt, with the lines that go on; one entry for each command of a pipe.
    pub(super) fn typed(&self) -> Vec<String> {
        let mut lines: Vec<String> = vec![];
        for block in self.blocks("console") {
            let mut goes_on = false;
            for line in block.lines() {
                let begun = line.strip_prefix("$ ");
                let whole = begun.unwrap_or(line).trim();
                match (begun, lines.last_mut()) {
                    (Some(_), _) | (None, None) => lines.push(whole.to_owned()),
                    (None, Some(last)) if goes_on => {
                        *last = format!("{} {whole}", last.trim_end_matches('\\'));
                    }
                    (None, Some(_)) => panic!("{}: what is {line:?}?", self.name),
                }
                goes_on = whole.ends_with('\\') || whole.ends_with('|');
            }
        }
        lines.iter().flat_map(|line| piped(line)).collect()
    }

    /// What stands in backquotes in sentences and tables.
    pub(super) fn quoted(&self) -> Vec<String> {
        let mut is_code = false;
        let sentences = self.text.lines().filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        });
        let sentences = sentences.collect::<Vec<_>>().join(" ");
        let quoted = sentences.split('`').skip(1).step_by(2);
        quoted
            .map(|said| said.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// Where its links lead.
    pub(super) fn links(&self) -> Vec<String> {
        let targets = self.text.split("](").skip(1);
        targets
            .filter_map(|rest| rest.split(')').next())
            .map(str::to_owned)
            .collect()
    }

    /// Its headings, as links name them.
    pub(super) fn anchors(&self) -> Vec<String> {
        let headings = self.text.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                let heading = line.trim_start_matches('#').trim().to_lowercase();
                let kept = heading
                    .chars()
                    .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                kept.map(|c| if c == ' ' { '-' } else { c }).collect()
            })
            .collect()
    }
}

/// The Rust files below a folder, without the tests at their ends.
pub(super) fn sources_below(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next();
            found.push(code.unwrap_or_default().to_owned());
        }
    }
}

/// The commands of a line, at each `|` outside of quotes.
fn piped(line: &str) -> Vec<String> {
    let mut commands = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '|') => {
                commands.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(command) = commands.last_mut() {
            command.push(c);
        }
    }
    commands
        .iter()
        .map(|command| command.trim().to_owned())
        .collect()
}

/// A line as a shell parts it, up to a comment or where its output goes.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if open == c => quote = None,
            (None, ' ') => words.extend(word.take()),
            (None, '#' | '>') if word.is_none() => break,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn lines_are_parted_as_a_shell_does_it() {
    assert_eq!(
        words("kubectl patch -p '{\"a\": 1}' \"b c\"d > file   # why"),
        ["kubectl", "patch", "-p", "{\"a\": 1}", "b cd"]
    );
    assert_eq!(piped("a 'b | c' | d"), ["a 'b | c'", "d"]);
}
