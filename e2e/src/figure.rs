//! What tests measure: kept in a file, so that a run that passes tells it, too.

use crate::settings;
use anyhow::{Context, ensure};
use serde_json::json;
use std::{fs::OpenOptions, io::Write, time::Duration};

/// So many times longer than wanted something may take before its test fails: a machine may have other things to do.
pub const BUSY: u32 = 3;

/// Keeps how long something took beside how long it may take, and fails if that is far more.
///
/// # Errors
/// It took more than [`BUSY`] times what is wanted, or the file can't be written.
pub fn keep(what: &str, took: Duration, wanted: Duration) -> anyhow::Result<()> {
    write(&line(what, took, wanted))?;
    holds(what, took, wanted)
}

/// Keeps a sentence about what was measured; written by [`told!`](crate::told).
///
/// # Panics
/// The file can't be written.
pub fn tell(words: &str) {
    if let Err(err) = write(&format!("{}\n", json!({"told": words}))) {
        panic!("{words}: {err:#}");
    }
}

/// Keeps what was measured, as `println!` writes it, for the end of the run: what a test that passes prints is never seen.
#[macro_export]
macro_rules! told {
    ($($words:tt)*) => { $crate::figure::tell(&format!($($words)*)) };
}

fn write(line: &str) -> anyhow::Result<()> {
    let path = settings::figures();
    let written = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        // Whole lines, since several tests may write at once.
        file.write_all(line.as_bytes())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

fn line(what: &str, took: Duration, wanted: Duration) -> String {
    let (took, wanted) = (took.as_secs_f64(), wanted.as_secs_f64());
    let figure = json!({"what": what, "seconds": (took * 10.0).round() / 10.0, "wanted": wanted});
    format!("{figure}\n")
}

fn holds(what: &str, took: Duration, wanted: Duration) -> anyhow::Result<()> {
    ensure!(
        took <= wanted * BUSY,
        "{what}: {:.1} s, and {BUSY} times the {} s that are wanted are too much on any machine",
        took.as_secs_f64(),
        wanted.as_secs()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_one_line_and_fails_only_when_it_is_far_more_than_wanted() {
        let wanted = Duration::from_secs(20);
        assert_eq!(
            line("a start", Duration::from_millis(12_340), wanted),
            "{\"seconds\":12.3,\"wanted\":20.0,\"what\":\"a start\"}\n"
        );
        assert!(holds("a start", wanted * BUSY, wanted).is_ok());
        let failed = holds("a start", wanted * BUSY + Duration::from_secs(1), wanted);
        assert!(failed.is_err_and(|failed| failed.to_string().contains("a start: 61.0 s")));
    }
}
