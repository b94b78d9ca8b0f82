//! Label and field selectors, as far as they are used.

/// A selector that isn't understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a simulated API server doesn't understand the selector {0:?}")]
pub(crate) struct Malformed(String);

/// Which objects are meant; all if nothing is required.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    required: Vec<Term>,
    name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Has(String),
    Lacks(String),
    Is(String, String),
    IsNot(String, String),
}

impl Selector {
    /// Adds what a label selector requires.
    pub(crate) fn labels(&mut self, text: &str) -> Result<(), Malformed> {
        for term in text.split(',').filter(|term| !term.is_empty()) {
            let parsed = if let Some((key, value)) = term.split_once("!=") {
                Term::IsNot(key.into(), value.into())
            } else if let Some((key, value)) = term.split_once('=') {
                Term::Is(key.into(), value.trim_start_matches('=').into())
            } else if let Some(key) = term.strip_prefix('!') {
                Term::Lacks(key.into())
            } else {
                Term::Has(term.into())
            };
            if term.contains([' ', '(', ')']) {
                // `in` and `notin`.
                return Err(Malformed(text.into()));
            }
            self.required.push(parsed);
        }
        Ok(())
    }

    /// Adds what a field selector requires: the name alone.
    pub(crate) fn fields(&mut self, text: &str) -> Result<(), Malformed> {
        let name = text.strip_prefix("metadata.name=");
        let name = name.ok_or_else(|| Malformed(text.into()))?;
        self.name = Some(name.into());
        Ok(())
    }

    /// Whether an object with this name and these labels is meant.
    pub(crate) fn takes(&self, name: &str, labels: &[(String, String)]) -> bool {
        let value = |key: &str| {
            let found = labels.iter().find(|(known, _)| known == key);
            found.map(|(_, value)| value.as_str())
        };
        let holds = |term: &Term| match term {
            Term::Has(key) => value(key).is_some(),
            Term::Lacks(key) => value(key).is_none(),
            Term::Is(key, wanted) => value(key) == Some(wanted),
            Term::IsNot(key, unwanted) => value(key) != Some(unwanted),
        };
        self.name.as_deref().is_none_or(|wanted| wanted == name) && self.required.iter().all(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_names_select() {
        let labels = [("app".to_owned(), "a".to_owned())];
        for (selector, takes) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("app=a", true),
            ("app==a", true),
            ("app=b", false),
            ("app!=a", false),
            ("other!=a", true),
            ("app,other", false),
        ] {
            let mut parsed = Selector::default();
            parsed.labels(selector).unwrap();
            assert_eq!(parsed.takes("x", &labels), takes, "{selector}");
        }
        let mut named = Selector::default();
        named.fields("metadata.name=x").unwrap();
        assert!(named.takes("x", &[]) && !named.takes("y", &[]));
        assert!(named.labels("app in (a, b)").is_err());
    }
}
