//! What tests measured: kept in a file while they run, told when all of them have passed.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::paths;

/// What a test kept.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Figure {
    /// How long something took.
    Time {
        /// What.
        what: String,
        /// How long.
        seconds: f64,
        /// How long it may take on a machine that does nothing else.
        wanted: f64,
    },
    /// Anything else, in words.
    Words {
        /// The words.
        told: String,
    },
}

impl Figure {
    fn told(&self) -> String {
        match self {
            Self::Time {
                what,
                seconds,
                wanted,
            } => {
                let verdict = if seconds <= wanted { "" } else { ": too long" };
                format!("{what}: {seconds:.1} s (wanted: {wanted} s{verdict})")
            }
            Self::Words { told } => told.clone(),
        }
    }
}

/// Where tests put them, a line of JSON each.
pub(crate) fn path() -> PathBuf {
    paths::repository().join("target/e2e/figures.jsonl")
}

/// Forgets those of an earlier run.
pub(crate) fn forget() -> Result<()> {
    match fs::remove_file(path()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path().display()))
        }
        _ => Ok(()),
    }
}

/// Tells those of this run; there must be some.
pub(crate) fn tell() -> Result<()> {
    let text = fs::read_to_string(path()).context("no test kept a figure")?;
    for line in lines(&text)? {
        say!("{line}");
    }
    Ok(())
}

fn lines(text: &str) -> Result<Vec<String>> {
    let figures = text.lines().map(serde_json::from_str::<Figure>);
    let figures: Vec<Figure> = figures
        .collect::<Result<_, _>>()
        .context("what tests kept can't be read")?;
    if figures.is_empty() {
        bail!("no test kept a figure");
    }
    Ok(figures.iter().map(Figure::told).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_kept_is_told_beside_what_is_wanted() {
        let kept = "{\"seconds\":12.3,\"wanted\":20.0,\"what\":\"a start\"}\n\
                    {\"what\":\"an end\",\"seconds\":31.0,\"wanted\":30.0}\n\
                    {\"told\":\"7 writes\"}\n";
        assert_eq!(
            lines(kept).unwrap(),
            [
                "a start: 12.3 s (wanted: 20 s)",
                "an end: 31.0 s (wanted: 30 s: too long)",
                "7 writes"
            ]
        );
        assert!(lines("").is_err());
        assert!(lines("{}").is_err());
    }
}
