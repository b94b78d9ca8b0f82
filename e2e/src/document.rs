//! What load programs write: documents with figures, and the help that `cargo xtask bench` tells without building them.

use anyhow::Context;
use serde::Serialize;
use std::{fs, path::Path};

/// Writes a text, into a folder that needn't be there yet.
///
/// # Errors
/// The folder or the file can't be written.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Writes a document as JSON for people too, and prints it.
///
/// # Errors
/// As [`write()`].
pub fn hand_out(path: &Path, document: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    write(path, &format!("{text}\n"))?;
    println!("{text}");
    Ok(())
}

/// A program's long help, as wide on every terminal.
pub fn help(program: clap::Command) -> String {
    let help = program.term_width(100).render_long_help().to_string();
    help.lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}
