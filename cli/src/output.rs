//! Standard output and standard error: formats, and writing that survives a closed pipe.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    fmt,
    io::{IsTerminal, Write},
};

/// Stands for a character that isn't shown.
const MARK: char = '\u{fffd}';

// Values of flags have no help of their own: with it every flag of a command takes three lines.

/// Formats of lists: columns for people, more of them with nothing cut, the objects, or KIND/NAME, one a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// Formats of one object or report, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Data {
    Json,
    Yaml,
}

impl Data {
    /// `value` in this format, ending with a line break.
    pub(crate) fn text(self, value: &Value) -> Result<String> {
        match self {
            Self::Json => Ok(format!("{}\n", serde_json::to_string_pretty(value)?)),
            Self::Yaml => yaml(value),
        }
    }
}

/// `value` as YAML that ends with one line break.
pub(crate) fn yaml(value: &Value) -> Result<String> {
    // Long values stay on one line, as kubectl writes them: certificates are looked for by line.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let text = serde_saphyr::to_string_with_options(value, options).context("can't write YAML")?;
    Ok(format!("{}\n", text.trim_end()))
}

/// Writes to standard output; on a terminal without what would steer it.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        write_to(&mut out, &harmless(text))
    } else {
        write_to(&mut out, text)
    }
}

/// `text` with a mark in the place of each character that a terminal would obey or that turns the order of others, of which
/// line breaks are some: nobody who wrote a part of it looks like us.
pub(crate) fn visible(text: &str) -> String {
    let shown = |letter| if is_steering(letter) { MARK } else { letter };
    text.chars().map(shown).collect()
}

/// The same of text with lines and colours.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let len = colour(rest).unwrap_or(letter.len_utf8());
        match letter {
            '\u{1b}' if colour(rest).is_none() => shown.push(MARK),
            '\u{1b}' | '\n' | '\t' => shown.push_str(&rest[..len]),
            _ if is_steering(letter) => shown.push(MARK),
            _ => shown.push(letter),
        }
        rest = &rest[len..];
    }
    shown
}

/// Length of the colour that a text begins with.
fn colour(text: &str) -> Option<usize> {
    let code = text.strip_prefix("\u{1b}[")?;
    let end = code.find(|letter: char| !letter.is_ascii_digit() && letter != ';')?;
    code[end..]
        .starts_with('m')
        .then_some("\u{1b}[".len() + end + 1)
}

/// Whether a terminal obeys a character, or lays out others by it.
fn is_steering(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn write_to(out: &mut impl Write, text: &str) -> Result<()> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.context("not all could be written to standard output")
}

/// Writes a line to standard output.
pub(crate) fn print_line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Writes a line to standard error. That nobody reads it changes nothing of what is done.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    let mut err = std::io::stderr().lock();
    let _ = if err.is_terminal() {
        writeln!(err, "{}", harmless(&line.to_string()))
    } else {
        writeln!(err, "{line}")
    };
}

/// What kubectl prints of objects, `asked` of which were asked for by name: the one that was, else a list.
pub(crate) fn found(objects: &[impl serde::Serialize], asked: usize) -> Result<Value> {
    let mut values = objects.iter().map(tidy).collect::<Result<Vec<_>>>()?;
    if asked == 1 && values.len() == 1 {
        Ok(values.remove(0))
    } else {
        Ok(list(&values))
    }
}

/// The list that kubectl prints for several objects.
pub(crate) fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

/// An object without the bookkeeping that nobody reads.
pub(crate) fn tidy(object: &impl serde::Serialize) -> Result<Value> {
    let mut value = serde_json::to_value(object)?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_reads_back_as_it_was() {
        let value = json!({
            "a": "true", "b": "1", "c": "null", "d": "", "e": [], "f": {}, "g": "- x", "h": "a: b", "i": "line\nbreak\n",
            "j": [{"k": 1, "l": [true, null]}], "m": "0x1f", "n": "1e3", "o": " lead", "p": "#", "q": "2025-01-01", "r": "no",
        });
        let text = yaml(&value).unwrap();
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        let long = json!({"certificate": "LS0t".repeat(100), "text": "word ".repeat(100)});
        assert_eq!(yaml(&long).unwrap().lines().count(), 2);
        assert_eq!(back, value, "{text}");
    }

    #[test]
    fn what_somebody_wrote_steers_no_terminal() {
        for (text, shown) in [
            ("\u{1b}[2JReady", "\u{fffd}[2JReady"),
            ("\u{1b}]52;c;eA==\u{7}", "\u{fffd}]52;c;eA==\u{fffd}"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("a\rb\u{8}", "a\u{fffd}b\u{fffd}"),
            ("a\u{202e}b\u{2066}", "a\u{fffd}b\u{fffd}"),
            ("Grüße, 世界 ✓", "Grüße, 世界 ✓"),
        ] {
            assert_eq!(visible(text), shown);
            assert_eq!(harmless(text), shown);
        }
        assert_eq!(visible("a\nb\u{1b}[1m"), "a\u{fffd}b\u{fffd}[1m");
        let ours = "\u{1b}[1;31mred\u{1b}[0m\n\tb\n";
        assert_eq!(harmless(ours), ours);
        assert_eq!(harmless("\u{1b}[1"), "\u{fffd}[1");
    }

    #[test]
    fn output_that_finds_no_room_is_told_as_what_it_is() {
        let mut full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let said = format!("{:#}", write_to(&mut full, "text").unwrap_err());
        let expected = "not all could be written to standard output: No space left on device";
        assert!(said.starts_with(expected), "{said}");
    }

    #[test]
    fn lists_are_kubernetes_lists() {
        let list = list(&[json!({"kind": "X"})]);
        assert_eq!(
            (
                list["kind"].as_str(),
                list["items"].as_array().map(Vec::len)
            ),
            (Some("List"), Some(1))
        );
    }

    #[test]
    fn managed_fields_are_left_out() {
        let object = json!({"metadata": {"name": "a", "managedFields": [1]}});
        assert_eq!(tidy(&object).unwrap(), json!({"metadata": {"name": "a"}}));
    }
}
