//! Shows what is going on: a spinner with elapsed time on a terminal, plain lines elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// One piece of work with a title. Dropped without [`Step::done`] it counts as failed.
pub(crate) struct Step {
    title: String,
    started: Instant,
    spinner: Option<ProgressBar>,
    finished: bool,
}

impl Step {
    /// Announces the work.
    pub(crate) fn start(title: impl Into<String>) -> Self {
        let title = title.into();
        let spinner = if io::stderr().is_terminal() {
            Some(spinner(&title))
        } else {
            tell!("     {title} …");
            None
        };
        Self {
            title,
            started: Instant::now(),
            spinner,
            finished: false,
        }
    }

    /// Says what the work is at right now. Seen on terminals only.
    pub(crate) fn note(&self, what: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("{} · {what}", self.title));
        }
    }

    /// Ends the work well; `result` follows the title.
    pub(crate) fn done(mut self, result: &str) {
        self.finish("ok  ", result);
    }

    fn finish(&mut self, mark: &str, result: &str) {
        self.finished = true;
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        let result = if result.is_empty() {
            String::new()
        } else {
            format!(": {result}")
        };
        let took = seconds(self.started.elapsed());
        // Other steps' spinners stand below.
        SPINNERS.suspend(|| tell!("{mark} {}{result} ({took})", self.title));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished {
            self.finish("FAIL", "");
        }
    }
}

/// Writes a line to stdout; what the reader's end does is not our concern.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Writes a line to stderr, in the same way.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A duration as people read it.
pub(crate) fn seconds(elapsed: Duration) -> String {
    let whole = elapsed.as_secs();
    if whole >= 60 {
        return format!("{} min {} s", whole / 60, whole % 60);
    }
    format!("{:.1} s", elapsed.as_secs_f64())
}

/// Steps that are under way at once are shown one below the other.
static SPINNERS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

fn spinner(title: &str) -> ProgressBar {
    let spinner = SPINNERS.add(ProgressBar::new_spinner().with_message(title.to_owned()));
    if let Ok(style) = ProgressStyle::with_template("{spinner}    {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(61)), "1 min 1 s");
    }
}
