//! Names that people type: of tenants, namespaces and classes.
//!
//! The API server has the same rules; they are checked here first so that the answer says what to change.

use crate::identity;

/// How a name is made up.
struct Rule {
    /// What besides lower-case letters and digits it may hold.
    also: &'static str,
    /// Whether a digit may come first.
    digit_first: Digit,
    /// Longest one.
    max: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Digit {
    MayComeFirst,
    MayNot,
}

/// A DNS label that begins with a letter.
const TENANT: Rule = Rule {
    also: "-",
    digit_first: Digit::MayNot,
    max: 63,
};
/// A DNS label.
const NAMESPACE: Rule = Rule {
    digit_first: Digit::MayComeFirst,
    ..TENANT
};
/// DNS labels with dots between.
const CLASS: Rule = Rule {
    also: "-.",
    digit_first: Digit::MayComeFirst,
    max: 253,
};

/// Says what is wrong with `name` as a tenant's, and what would do.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let Some(wrong) = wrong(name, &TENANT) else {
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

/// A tenant's name as people type it: alone, or with its kind before it, as `-o name` prints it.
pub(crate) fn tenant(text: &str) -> Result<String, String> {
    let name = of_tenant(text)?;
    check(name).map(|()| name.to_owned())
}

/// The same of a tenant that is there already: its identity will do, too.
pub(crate) fn known_tenant(text: &str) -> Result<String, String> {
    let name = of_tenant(text)?;
    // It may begin with a digit, which no name does.
    if identity::is_one(name) {
        return Ok(name.to_owned());
    }
    check(name).map(|()| name.to_owned())
}

fn of_tenant(text: &str) -> Result<&str, String> {
    let kinds = ["vcp", "virtualcontrolplane", "virtualcontrolplanes"];
    without_kind(text, &kinds).ok_or_else(|| {
        format!("{text:?} names no tenant: write NAME or vcp/NAME, and its namespace by -n")
    })
}

/// A class's name as people type it: alone, or with its kind before it, as `-o name` prints it.
pub(crate) fn class(text: &str) -> Result<String, String> {
    let kinds = ["cpc", "controlplaneclass", "controlplaneclasses"];
    let name = without_kind(text, &kinds)
        .ok_or_else(|| format!("{text:?} names no class: write NAME or cpc/NAME"))?;
    match wrong(name, &CLASS) {
        Some(wrong) => Err(wrong),
        None => Ok(name.to_owned()),
    }
}

/// A namespace's name.
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    match wrong(text, &NAMESPACE) {
        Some(wrong) => Err(wrong),
        None => Ok(text.to_owned()),
    }
}

/// `NAME` of `NAME` and of `KIND/NAME`; `None` for another kind's.
fn without_kind<'a>(text: &'a str, kinds: &[&str]) -> Option<&'a str> {
    let Some((kind, name)) = text.split_once('/') else {
        return Some(text);
    };
    let kind = kind.to_ascii_lowercase();
    let ends = [".sublet.dev", ".v1alpha1.sublet.dev"];
    let kind = match kind.split_once('.') {
        None => kind.as_str(),
        Some((bare, _)) if ends.contains(&&kind[bare.len()..]) => bare,
        Some(_) => return None,
    };
    kinds.contains(&kind).then_some(name)
}

fn wrong(name: &str, rule: &Rule) -> Option<String> {
    let Rule {
        also,
        digit_first,
        max,
    } = rule;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if let Some(c) = name.chars().find(|c| !is_plain(*c) && !also.contains(*c)) {
        let also: Vec<String> = also.chars().map(|c| format!("'{c}'")).collect();
        return Some(format!(
            "it holds {c:?}, and only lower-case letters, digits and {} are allowed",
            also.join(" and ")
        ));
    }
    match digit_first {
        Digit::MayNot if !name.starts_with(|c: char| c.is_ascii_lowercase()) => {
            return Some("it must begin with a letter".to_owned());
        }
        Digit::MayComeFirst if !name.starts_with(is_plain) => {
            return Some("it must begin with a letter or digit".to_owned());
        }
        _ => {}
    }
    if !name.ends_with(is_plain) {
        return Some("it must end with a letter or digit".to_owned());
    }
    (name.len() > *max).then(|| {
        format!(
            "it has {} characters, and at most {max} are allowed",
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
        .get(..TENANT.max)
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
    fn a_name_is_taken_as_lists_print_it() {
        for text in [
            "team-a",
            "vcp/team-a",
            "virtualcontrolplanes/team-a",
            "virtualcontrolplane.sublet.dev/team-a",
            "VirtualControlPlane.v1alpha1.sublet.dev/team-a",
        ] {
            assert_eq!(tenant(text).as_deref(), Ok("team-a"), "{text}");
        }
        for text in [
            "pod/team-a",
            "vcp.example.com/a",
            "vcp/",
            "vcp/a/b",
            "",
            "Team",
        ] {
            assert!(tenant(text).is_err(), "{text}");
        }
        let identity = "5hw2krqcv3ylhmfzqyvrq4wgpu";
        assert_eq!(known_tenant(identity).as_deref(), Ok(identity));
        assert_eq!(
            known_tenant(&format!("vcp/{identity}")).as_deref(),
            Ok(identity)
        );
        assert_eq!(known_tenant("vcp/team-a").as_deref(), Ok("team-a"));
        assert!(known_tenant("5hw2krqc").is_err() && tenant(identity).is_err());
        assert_eq!(
            class("controlplaneclass.sublet.dev/big.1").as_deref(),
            Ok("big.1")
        );
        assert!(class("vcp/a").is_err());
    }

    #[test]
    fn names_of_other_objects_have_their_own_rules() {
        assert_eq!(namespace("1st").as_deref(), Ok("1st"));
        assert_eq!(namespace(""), Err("it is empty".into()));
        assert!(namespace("Bad_NS").unwrap_err().contains("'B'"));
        assert!(namespace("a.b").is_err() && class("a.b").is_ok());
        assert!(class("Bad_Class").unwrap_err().contains("'-' and '.'"));
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
