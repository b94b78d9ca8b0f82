//! Colours: only on a terminal, and never against NO_COLOR.

use std::io::IsTerminal;

/// Colours text, or leaves it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    on: bool,
}

/// The style of standard output.
pub(crate) fn stdout() -> Style {
    Style {
        on: wanted() && std::io::stdout().is_terminal(),
    }
}

/// The style of standard error.
pub(crate) fn stderr() -> Style {
    Style {
        on: wanted() && std::io::stderr().is_terminal(),
    }
}

/// No colours, whatever the output is.
pub(crate) fn plain() -> Style {
    Style { on: false }
}

/// <https://no-color.org>: any value that isn't empty turns colours off.
fn wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

impl Style {
    /// Whether text is coloured.
    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    /// For errors.
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// For what is well.
    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what needs attention.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// For headings.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_plain() {
        assert_eq!(Style { on: false }.red("x"), "x");
        assert_eq!(Style { on: true }.red("x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
