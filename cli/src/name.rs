//! Names that a tenant can have: DNS labels that begin with a letter.
//!
//! The API server has the same rule; it is checked here first so that the answer says what to change.

/// Longest name.
const MAX: usize = 63;

/// Says what is wrong with `name`, and what would do.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let Some(wrong) = wrong(name) else {
        return Ok(());
    };
    let better = suggest(name);
    let hint = if better.is_empty() {
        String::new()
    } else {
        format!("; try {better}")
    };
    Err(format!("{name:?} can't be a tenant's name: {wrong}{hint}"))
}

fn wrong(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if let Some(c) = name.chars().find(|c| !allowed(*c)) {
        return Some(format!(
            "it holds {c:?}, and only lower-case letters, digits and '-' are allowed"
        ));
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Some("it must begin with a letter".to_owned());
    }
    if name.ends_with('-') {
        return Some("it must end with a letter or digit".to_owned());
    }
    (name.len() > MAX).then(|| {
        format!(
            "it has {} characters, and at most {MAX} are allowed",
            name.len()
        )
    })
}

/// The nearest valid name, or nothing when there is none.
fn suggest(name: &str) -> String {
    let lower: String = name
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    let start = lower.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    start
        .get(..MAX)
        .unwrap_or(start)
        .trim_end_matches('-')
        .to_owned()
}

/// The names of `known` that are nearest to `name`: what a typing error may have meant.
pub(crate) fn close<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let limit = 1 + name.chars().count() / 5;
    let mut found: Vec<(usize, &str)> = known
        .into_iter()
        .map(|other| {
            (
                if other.starts_with(name) {
                    0
                } else {
                    distance(name, other)
                },
                other,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, other)| other).collect()
}

/// Edits between two words; two letters in the wrong order are one edit.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().collect();
    let other: Vec<char> = other.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last()
        .and_then(|row| row.last())
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_pass() {
        for name in ["a", "team-a", "t1", &"a".repeat(63)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_a_better_name() {
        let said = |name: &str| check(name).unwrap_err();
        assert_eq!(said(""), "\"\" can't be a tenant's name: it is empty");
        assert!(said("Team_A").ends_with(
            "it holds 'T', and only lower-case letters, digits and '-' are allowed; try team-a"
        ));
        assert!(said("1st").ends_with("it must begin with a letter; try st"));
        assert!(said("a.b").contains("'.'"));
        assert!(said("a-").ends_with("it must end with a letter or digit; try a"));
        assert!(said("é").contains("'é'"));
        let long = said(&"b".repeat(70));
        assert!(
            long.contains("it has 70 characters, and at most 63 are allowed"),
            "{long}"
        );
        assert!(long.ends_with(&format!("try {}", "b".repeat(63))), "{long}");
        assert!(said("--").ends_with("begin with a letter"));
    }

    #[test]
    fn typing_errors_find_their_name() {
        let known = ["team-a", "team-b", "shop", "production"];
        assert_eq!(close("taem-a", known), ["team-a", "team-b"]);
        assert_eq!(close("zebra", known), [] as [&str; 0]);
        assert_eq!(close("team-", known), ["team-a", "team-b"]);
        assert_eq!(close("prodction", known), ["production"]);
        assert_eq!(close("shpo-x", known), [] as [&str; 0]);
        assert_eq!(close("sho", known), ["shop"]);
        assert_eq!(
            (distance("kitten", "sitting"), distance("tow", "two")),
            (3, 1)
        );
    }
}
