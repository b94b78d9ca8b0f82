//! Questions before something is destroyed.

use crate::{error, interrupt};
use anyhow::Result;
use std::io::{IsTerminal, Write};

/// What a person must type to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmation<'a> {
    /// `y` or `yes`.
    Yes,
    /// This word.
    Word(&'a str),
    /// The number of tenants that it is about.
    Count(usize),
}

impl Confirmation<'_> {
    fn accepts(self, typed: &str) -> bool {
        match self {
            Self::Yes => matches!(typed.to_ascii_lowercase().as_str(), "y" | "yes"),
            Self::Word(word) => typed == word,
            Self::Count(count) => typed.parse() == Ok(count),
        }
    }

    fn prompt(self) -> String {
        match self {
            Self::Yes => "Go on? [y/N] ".to_owned(),
            Self::Word(word) => format!("Type {word} to go on: "),
            Self::Count(count) => format!("Type the number of tenants ({count}) to go on: "),
        }
    }
}

/// Asks on the terminal unless `yes` was given; without a terminal that flag is needed.
pub(crate) async fn confirm(question: &str, answer: Confirmation<'_>, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let question = error::one_line(question);
        return Err(error::usage(format!(
            "{question} There is no terminal to ask on: add --yes"
        )));
    }
    let mut out = std::io::stderr();
    write!(out, "{question}\n{}", answer.prompt())?;
    out.flush()?;
    // By a thread of its own: Ctrl-C is heard meanwhile.
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let read = async { Ok(read.await??) };
    let line = interrupt::or_ctrl_c(read, || "nothing was changed".to_owned()).await?;
    if answer.accepts(line.trim()) {
        Ok(())
    } else {
        Err(error::fail("nothing was changed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_asked_for_answer_goes_on() {
        assert!(Confirmation::Yes.accepts("y") && Confirmation::Yes.accepts("YES"));
        assert!(!Confirmation::Yes.accepts("") && !Confirmation::Yes.accepts("yeah"));
        assert!(Confirmation::Word("team-a").accepts("team-a"));
        assert!(Confirmation::Count(12).accepts("12") && !Confirmation::Count(12).accepts("1"));
        assert!(!Confirmation::Count(12).accepts("y") && !Confirmation::Count(12).accepts(""));
        assert!(
            !Confirmation::Word("team-a").accepts("y")
                && !Confirmation::Word("team-a").accepts("Team-A")
        );
    }
}
