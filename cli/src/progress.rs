//! Progress of long work, on standard error: a spinner on a terminal, one line per change elsewhere.

use crate::age;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    collections::BTreeSet,
    io::IsTerminal,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// How many tell of something now.
static TELLING: AtomicUsize = AtomicUsize::new(0);

/// Tells what is being waited for, and what is done.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    start: Instant,
    state: String,
    done: BTreeSet<String>,
}

impl Progress {
    /// As [`Self::start`], unless somebody tells of something already.
    pub(crate) fn alone(state: &str) -> Option<Self> {
        let first = TELLING.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
        first.ok().map(|_| Self::shown(state))
    }

    /// Starts the clock.
    pub(crate) fn start(state: &str) -> Self {
        TELLING.fetch_add(1, Ordering::AcqRel);
        Self::shown(state)
    }

    fn shown(state: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}");
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let mut progress = Self {
            bar,
            start: Instant::now(),
            state: String::new(),
            done: BTreeSet::new(),
        };
        progress.state(state);
        progress
    }

    /// What is waited for now; said when it changes.
    pub(crate) fn state(&mut self, text: &str) {
        let changed = self.state != text;
        text.clone_into(&mut self.state);
        match &self.bar {
            // An interlude is over.
            Some(bar) => bar.set_message(text.to_owned()),
            None if !changed => {}
            None => tell!("{}", line(self.start.elapsed(), text)),
        }
    }

    /// What gets in the way for a moment. [`Self::last`] stays what is waited for.
    pub(crate) fn interlude(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {text}", self.state)),
            None => tell!("{}", line(self.start.elapsed(), text)),
        }
    }

    /// Something to know that is neither a step nor an error.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("note: {text}")),
            None => tell!("note: {text}"),
        }
    }

    /// A step that is reached; said once.
    pub(crate) fn done(&mut self, text: &str) {
        if !self.done.insert(text.to_owned()) {
            return;
        }
        match &self.bar {
            Some(bar) => {
                let tick = crate::style::stderr().green("✓");
                bar.println(format!(
                    "{tick} {text} ({})",
                    age::elapsed(self.start.elapsed())
                ));
            }
            None => tell!("{}", line(self.start.elapsed(), &format!("done: {text}"))),
        }
    }

    /// What is waited for, as last told.
    pub(crate) fn last(&self) -> &str {
        &self.state
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        TELLING.fetch_sub(1, Ordering::AcqRel);
    }
}

fn line(elapsed: Duration, text: &str) -> String {
    format!("{:>6}  {text}", age::elapsed(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_with_the_time() {
        assert_eq!(
            line(Duration::from_millis(8_130), "etcd starts"),
            "  8.1s  etcd starts"
        );
        assert_eq!(line(Duration::from_secs(200), "still"), " 3m20s  still");
    }

    #[test]
    fn states_and_steps_are_told_once() {
        let mut progress = Progress::start("a");
        progress.state("b");
        progress.done("x");
        progress.done("x");
        assert_eq!((progress.last(), progress.done.len()), ("b", 1));
    }
}
