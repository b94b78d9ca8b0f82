//! Label and field selectors of a request, judged here: what the tenant sees decides, not what the super cluster knows.

use std::collections::BTreeMap;
use tenancy::meta;

/// Longest key with its prefix, and longest value: a name, in a field selector.
const KEY_MAX: usize = 317;
const VALUE_MAX: usize = 253;

/// All of its terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// A text that is no selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Selector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        let terms = split(text)?;
        let terms = terms.into_iter().map(str::trim);
        let terms = terms.filter(|term| !term.is_empty()).map(term);
        terms.collect::<Result<_, _>>().map(Self)
    }

    /// Whether the labels are as it says.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| match term {
            Term::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Term::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Term::Exists(key) => labels.contains_key(key),
            Term::Absent(key) => !labels.contains_key(key),
        })
    }

    /// The same of super pods, some of whose labels have other keys than the tenant's pods.
    pub(crate) fn of_super_pods(&self) -> Self {
        let carried = |key: &String| meta::selected(key).unwrap_or_else(|| key.clone());
        let terms = self.0.iter().map(|term| match term {
            Term::In(key, values) => Term::In(carried(key), values.clone()),
            Term::NotIn(key, values) => Term::NotIn(carried(key), values.clone()),
            Term::Exists(key) => Term::Exists(carried(key)),
            Term::Absent(key) => Term::Absent(carried(key)),
        });
        Self(terms.collect())
    }

    /// The keys that it names.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|term| match term {
            Term::In(key, _) | Term::NotIn(key, _) | Term::Exists(key) | Term::Absent(key) => {
                key.as_str()
            }
        })
    }
}

/// At commas outside of parentheses.
fn split(text: &str) -> Result<Vec<&str>, Malformed> {
    let (mut parts, mut begin, mut open) = (vec![], 0, false);
    for (at, c) in text.char_indices() {
        match (c, open) {
            ('(', false) => open = true,
            (')', true) => open = false,
            ('(', true) | (')', false) => return Err(Malformed),
            (',', false) => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    if open { Err(Malformed) } else { Ok(parts) }
}

fn term(text: &str) -> Result<Term, Malformed> {
    if let Some(rest) = text.strip_suffix(')') {
        let (head, values) = rest.split_once('(').ok_or(Malformed)?;
        let (head, values) = (head.trim_end(), values.split(',').map(str::trim));
        let values: Result<Vec<_>, _> = values.map(value).collect();
        return match head.rsplit_once(char::is_whitespace) {
            Some((name, "in")) => Ok(Term::In(key(name)?, values?)),
            Some((name, "notin")) => Ok(Term::NotIn(key(name)?, values?)),
            _ => Err(Malformed),
        };
    }
    if let Some((name, wanted)) = text.split_once("!=") {
        return Ok(Term::NotIn(key(name)?, vec![value(wanted)?]));
    }
    if let Some((name, wanted)) = text.split_once("==").or(text.split_once('=')) {
        return Ok(Term::In(key(name)?, vec![value(wanted)?]));
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Term::Absent(key(name)?)),
        None => Ok(Term::Exists(key(text)?)),
    }
}

fn key(text: &str) -> Result<String, Malformed> {
    let text = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let fits = !text.is_empty() && text.len() <= KEY_MAX && text.chars().all(plain);
    fits.then(|| text.to_owned()).ok_or(Malformed)
}

fn value(text: &str) -> Result<String, Malformed> {
    let text = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = text.len() <= VALUE_MAX && text.chars().all(plain);
    fits.then(|| text.to_owned()).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        let owned = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    #[test]
    fn every_form_of_a_term_is_judged() {
        let labels = labels(&[("app", "web"), ("example.com/tier", "a")]);
        for (text, holds) in [
            ("", true),
            ("app=web", true),
            ("app==web,example.com/tier = a", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("none!=x", true),
            ("app in (db, web)", true),
            ("app in (db),app", false),
            ("app notin (db)", true),
            ("none notin (x)", true),
            ("app", true),
            ("none", false),
            ("!none", true),
            ("!app", false),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.matches(&labels), holds, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "app in web",
            "app in (web",
            "app (web)",
            "a=b)",
            "a>1",
            "a=b c",
            "a=\u{e4}",
            "=b",
            "!",
            "in (a)",
        ] {
            assert_eq!(Selector::parse(text), Err(Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in ".{0,64}") {
            let _ = Selector::parse(&text);
        }
    }
}
