//! Amounts of a quota: Kubernetes quantities in thousandths, by canonical name.

use serde_json::Value;
use std::collections::BTreeMap;

/// Thousandths by name: `pods`, `requests.cpu`, `count/ingresses.networking.k8s.io`…
pub type Amounts = BTreeMap<String, i128>;

/// The largest amount: what Kubernetes cuts larger quantities down to, 2^63 - 1. Sums of any number of them are no problem.
pub const MOST: i128 = (i64::MAX as i128) * 1000;

/// Suffixes, and the powers of two and of ten that they stand for.
const SUFFIXES: [(&str, u32, i32); 16] = [
    ("", 0, 0),
    ("n", 0, -9),
    ("u", 0, -6),
    ("m", 0, -3),
    ("k", 0, 3),
    ("M", 0, 6),
    ("G", 0, 9),
    ("T", 0, 12),
    ("P", 0, 15),
    ("E", 0, 18),
    ("Ki", 10, 0),
    ("Mi", 20, 0),
    ("Gi", 30, 0),
    ("Ti", 40, 0),
    ("Pi", 50, 0),
    ("Ei", 60, 0),
];

/// Digits that count; with more, the last is rounded up.
const DIGITS: usize = 20;

/// Kinds whose number has a short name in quotas. Pods aren't among them: `pods` are those that haven't ended, `count/pods`
/// all that exist.
const SHORT: [&str; 5] = [
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "secrets",
    "services",
];

/// Reads a quantity such as `500m`, `1.5Gi`, `+2` or `1e-3` by the grammar of Kubernetes' [`resource.Quantity`], rounded up
/// to thousandths and cut down to [`MOST`]; `None` when it is none, or less than nothing.
///
/// [`resource.Quantity`]: https://pkg.go.dev/k8s.io/apimachinery/pkg/api/resource#Quantity
pub fn parse(text: &str) -> Option<i128> {
    scaled(text, 3)
}

/// The same in thousand-millionths, as what is used of a CPU is measured.
pub fn nanos(text: &str) -> Option<i128> {
    scaled(text, 9)
}

/// The same with so many decimal places.
fn scaled(text: &str, places: u32) -> Option<i128> {
    let most = i128::from(i64::MAX).checked_mul(10i128.checked_pow(places)?)?;
    let text = text.trim();
    let is_negative = text.starts_with('-');
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = |char: char| char.is_ascii_digit() || char == '.';
    let (number, suffix) = text.split_at(text.find(|char| !is_number(char)).unwrap_or(text.len()));
    let (twos, tens) = powers(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.trim_matches('.').is_empty() || fraction.contains('.') {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let tens = tens.saturating_add(i64::from(places)) - i64::try_from(fraction.len()).ok()?;
    (!is_negative).then(|| product(digits, twos, tens).unwrap_or(most).min(most))
}

/// A quantity as objects write it; what can't be read is more than any quota allows.
pub(crate) fn quantity(written: &Value) -> i128 {
    let amount = match written {
        Value::String(text) => parse(text),
        number => parse(&number.to_string()),
    };
    amount.unwrap_or(MOST)
}

/// Which powers of two and of ten a suffix or exponent stands for.
fn powers(suffix: &str) -> Option<(u32, i64)> {
    if let Some((_, twos, tens)) = SUFFIXES.iter().find(|(known, ..)| *known == suffix) {
        return Some((*twos, i64::from(*tens)));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((0, i64::from(exponent)))
}

/// `digits * 2^twos * 10^tens`, rounded up; `None` when that is too much to be said. The digits begin with another than 0.
fn product(digits: &str, twos: u32, tens: i64) -> Option<i128> {
    let (first, rest) = digits.split_at(digits.len().min(DIGITS));
    let tens = tens.saturating_add(i64::try_from(rest.len()).ok()?);
    let more = i128::from(rest.bytes().any(|digit| digit != b'0'));
    // Below 10^20 * 2^60 + 2^60, which i128 holds.
    let number = first
        .parse::<i128>()
        .ok()?
        .checked_add(more)?
        .checked_mul(1 << twos)?;
    let scale = 10i128.checked_pow(u32::try_from(tens.unsigned_abs()).ok()?);
    if tens >= 0 {
        return number.checked_mul(scale?);
    }
    // Divided by more than can be said, the least that there is remains.
    let divided = scale.map(|scale| number / scale + i128::from(number % scale != 0));
    Some(divided.unwrap_or(1))
}

/// The name under which an amount is kept: aliases of Kubernetes are one.
pub fn canonical(name: &str) -> String {
    match name {
        "cpu" | "memory" | "ephemeral-storage" => format!("requests.{name}"),
        _ => match name.strip_prefix("count/") {
            Some(kind) if SHORT.contains(&kind) => kind.to_owned(),
            _ => name.to_owned(),
        },
    }
}

/// Limits as a class or VirtualControlPlane writes them; the first that can't be read is the error.
pub fn limits<'a>(
    written: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<Amounts, String> {
    let mut limits = Amounts::new();
    for (name, text) in written {
        let amount = parse(text).ok_or_else(|| format!("{name}: {text:?} is no quantity"))?;
        let limit = limits.entry(canonical(name)).or_insert(amount);
        *limit = amount.min(*limit);
    }
    Ok(limits)
}

/// The stricter of two quotas, name by name.
pub fn stricter(one: &Amounts, other: &Amounts) -> Amounts {
    let mut both = one.clone();
    for (name, amount) in other {
        let limit = both.entry(name.clone()).or_insert(*amount);
        *limit = (*amount).min(*limit);
    }
    both
}

/// Raises amounts to at least these, name by name.
pub fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let now = to.entry(name.clone()).or_default();
        *now = (*now).max(*amount);
    }
}

/// An amount as Kubernetes would write it.
pub fn shown(name: &str, amount: i128) -> String {
    if amount % 1000 != 0 {
        return format!("{amount}m");
    }
    let is_bytes = ["memory", "storage", "bytes"]
        .iter()
        .any(|word| name.ends_with(word));
    let whole = amount / 1000;
    let largest = SUFFIXES
        .iter()
        .rev()
        .find(|(_, twos, _)| is_bytes && *twos > 0 && whole != 0 && whole % (1 << twos) == 0);
    match largest {
        Some((suffix, twos, _)) => format!("{}{suffix}", whole >> twos),
        None => whole.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_less_than_a_thousandth_counts_where_it_is_measured() {
        const ONE: i128 = 1_000_000_000;
        for (text, amount) in [
            ("0", Some(0)),
            ("12345n", Some(12_345)),
            ("0.5n", Some(1)),
            ("7u", Some(7_000)),
            ("1500m", Some(1_500_000_000)),
            (".5", Some(ONE / 2)),
            ("1e3", Some(1_000 * ONE)),
            ("1Ei", Some((1 << 60) * ONE)),
            ("99Ei", Some(i128::from(i64::MAX) * ONE)),
            ("1Kib", None),
            ("-1", None),
        ] {
            assert_eq!(nanos(text), amount, "{text}");
        }
    }

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, amount) in [
            ("1", 1000),
            ("500m", 500),
            ("0.5", 500),
            (".5", 500),
            ("1.5Gi", 1_610_612_736_000),
            ("100M", 100_000_000_000),
            ("1e3", 1_000_000),
            ("2E", 2_000_000_000_000_000_000_000),
            ("1n", 1),
            ("1500u", 2),
            ("0", 0),
            ("0.0001", 1),
            ("+4", 4000),
            ("+1Ti", 1_099_511_627_776_000),
            ("-0", 0),
            ("5.", 5000),
            ("999999e-3", 999_999),
            ("1E+3", 1_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("0.00000000000000000000000000000000000000000001", 1),
            ("1e-2000000000", 1),
            ("0e2000000000", 0),
            ("1e2000000000", MOST),
            ("9223372036854775807", MOST),
            ("9223372036854775807Ei", MOST),
            ("170141183460469231731687303715884105727n", MOST),
            ("1.00000000000000000000000000000000000000001", 1001),
        ] {
            assert_eq!(parse(text), Some(amount), "{text}");
        }
        let wrong = [
            "",
            ".",
            "+",
            "-",
            "-1",
            "+-1",
            "x",
            "1x",
            "1.2.3",
            "Gi",
            "1 Gi",
            "1e",
            "1e1.5",
            "1e+-1",
            "1e99999999999",
            "1i",
        ];
        for wrong in wrong {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_more_than_the_most_or_less_than_nothing(text in "[+-]?[0-9.]{0,45}([eE][+-]?[0-9]{1,12}|[numkMGTPE]|[KMGTPE]i|\\PC{0,3})") {
            let amount = parse(&text).unwrap_or_default();
            prop_assert!((0..=MOST).contains(&amount), "{text}: {amount}");
        }

        #[test]
        fn one_amount_is_the_same_in_every_notation(number in 0..=i64::MAX, small in 0..1_000_000_000u32, zeros in 0..30usize) {
            let whole = i128::from(number) * 1000;
            prop_assert_eq!(parse(&number.to_string()), Some(whole));
            prop_assert_eq!(parse(&format!("+{}{number}e0", "0".repeat(zeros))), Some(whole));
            prop_assert_eq!(parse(&format!("{number}{}e-{zeros}", "0".repeat(zeros))), Some(whole));
            let small = i128::from(small);
            prop_assert_eq!(parse(&format!("{small}m")), Some(small));
            prop_assert_eq!(parse(&format!("{small}E-3")), Some(small));
            prop_assert_eq!(parse(&format!("{small}u")), Some((small + 999) / 1000));
            prop_assert_eq!(parse(&format!("{small}Ki")), Some(small * 1024 * 1000));
            prop_assert_eq!(parse(&format!("{}.{:03}", small / 1000, small % 1000)), Some(small));
        }
    }

    #[test]
    fn amounts_are_written_as_people_do() {
        for (name, text) in [
            ("requests.cpu", "1500m"),
            ("pods", "20"),
            ("limits.memory", "3Gi"),
            ("requests.storage", "1536Mi"),
            ("requests.memory", "0"),
        ] {
            assert_eq!(shown(name, parse(text).unwrap()), text);
        }
    }

    #[test]
    fn of_two_quotas_the_stricter_counts() {
        let read = |pairs: &[(&str, &str)]| {
            let map: BTreeMap<String, String> = pairs
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect();
            limits(&map)
        };
        let class = read(&[("cpu", "4"), ("pods", "20"), ("count/services", "9")]).unwrap();
        let own = read(&[("requests.cpu", "8"), ("pods", "5"), ("services", "3")]).unwrap();
        let both = stricter(&class, &own);
        let expected = [("pods", 5000), ("requests.cpu", 4000), ("services", 3000)];
        let both: Vec<(&str, i128)> = both
            .iter()
            .map(|(name, amount)| (name.as_str(), *amount))
            .collect();
        assert_eq!(both, expected);
        assert!(read(&[("pods", "many")]).unwrap_err().contains("pods"));
    }

    #[test]
    fn all_pods_are_another_amount_than_those_that_run() {
        assert_eq!(canonical("count/pods"), "count/pods");
        assert_eq!(canonical("pods"), "pods");
        assert_eq!(canonical("count/secrets"), "secrets");
    }
}
