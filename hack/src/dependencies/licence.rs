//! Licence expressions of SPDX, as crates write them: names, `AND`, `OR`, `WITH` and parentheses.

/// Whether licences that are allowed are enough for an expression; `None` if it is none.
///
/// A slash stands for `OR`, as old crates write it.
pub(super) fn is_satisfied(expression: &str, is_allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut rest = Words(spaced.split_whitespace().rev().collect());
    let satisfied = rest.alternatives(is_allowed)?;
    rest.0.is_empty().then_some(satisfied)
}

/// What hasn't been read yet, the next word last.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn takes(&mut self, word: &str) -> bool {
        let is_next = self.0.last() == Some(&word);
        if is_next {
            self.0.pop();
        }
        is_next
    }

    fn alternatives(&mut self, is_allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
        let mut any = self.all(is_allowed)?;
        while self.takes("OR") {
            any |= self.all(is_allowed)?;
        }
        Some(any)
    }

    fn all(&mut self, is_allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
        let mut all = self.one(is_allowed)?;
        while self.takes("AND") {
            all &= self.one(is_allowed)?;
        }
        Some(all)
    }

    fn one(&mut self, is_allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
        if self.takes("(") {
            let inner = self.alternatives(is_allowed)?;
            return self.takes(")").then_some(inner);
        }
        let name = self.name()?;
        if self.takes("WITH") {
            let exception = self.name()?;
            return Some(is_allowed(&format!("{name} WITH {exception}")));
        }
        Some(is_allowed(name))
    }

    fn name(&mut self) -> Option<&'a str> {
        let word = self.0.pop()?;
        let is_name = !["AND", "OR", "WITH", "(", ")"].contains(&word);
        is_name.then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_satisfied_by_what_it_asks_for() {
        let is_allowed =
            |name: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&name);
        for (expression, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0", Some(false)),
            ("MIT OR GPL-3.0", Some(true)),
            ("GPL-3.0/MIT", Some(true)),
            ("MIT AND GPL-3.0", Some(false)),
            ("MIT AND (GPL-3.0 OR ISC)", Some(true)),
            ("MIT AND GPL-3.0 OR ISC", Some(true)),
            ("(MIT OR ISC) AND GPL-3.0", Some(false)),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", Some(true)),
            ("Apache-2.0", Some(false)),
            ("MIT WITH Classpath-exception-2.0", Some(false)),
            ("", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT ISC", None),
        ] {
            assert_eq!(
                is_satisfied(expression, &is_allowed),
                expected,
                "{expression:?}"
            );
        }
    }
}
