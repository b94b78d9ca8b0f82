//! Amounts of a quota: Kubernetes quantities in thousandths, by canonical name.

use std::collections::BTreeMap;

/// Thousandths by name: `pods`, `requests.cpu`, `count/ingresses.networking.k8s.io`…
pub type Amounts = BTreeMap<String, i128>;

/// Suffixes and what they stand for, in thousandths.
const BINARY: [(&str, i128); 6] = [
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
];
const DECIMAL: [(&str, i128); 7] = [
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
];

/// Kinds whose number has a short name in quotas.
const SHORT: [&str; 6] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "secrets",
    "services",
];

/// Reads a quantity such as `500m`, `1.5Gi` or `1e3`, rounded up to thousandths; `None` when it is none.
pub fn parse(text: &str) -> Option<i128> {
    let text = text.trim();
    let suffixes = BINARY.iter().chain(&DECIMAL);
    for (suffix, factor) in suffixes {
        if let Some(number) = text.strip_suffix(suffix) {
            return scaled(number, *factor);
        }
    }
    if let Some((number, exponent)) = text.split_once(['e', 'E']) {
        let exponent: u32 = exponent.parse().ok().filter(|exponent| *exponent <= 18)?;
        return scaled(number, 1000 * 10i128.pow(exponent));
    }
    for (suffix, divisor) in [("u", 1_000), ("n", 1_000_000)] {
        if let Some(number) = text.strip_suffix(suffix) {
            return scaled(number, 1).map(|amount| (amount + divisor - 1).div_euclid(divisor));
        }
    }
    scaled(text, 1000)
}

/// A decimal number times a factor, rounded up.
fn scaled(number: &str, factor: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0
        || fraction.len() > 9
        || !is_digits(whole)
        || !is_digits(fraction)
    {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let part = fraction.checked_mul(factor)?;
    whole
        .checked_mul(factor)?
        .checked_add((part + scale - 1) / scale)
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

/// An amount as Kubernetes would write it.
pub fn shown(name: &str, amount: i128) -> String {
    if amount % 1000 != 0 {
        return format!("{amount}m");
    }
    let is_bytes = ["memory", "storage"]
        .iter()
        .any(|word| name.ends_with(word));
    let largest = BINARY
        .iter()
        .rev()
        .find(|(_, factor)| is_bytes && amount != 0 && amount % factor == 0);
    match largest {
        Some((suffix, factor)) => format!("{}{suffix}", amount / factor),
        None => (amount / 1000).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(parse(text), Some(amount), "{text}");
        }
        for wrong in ["", "-1", "x", "1x", "1.2.3", "Gi", "1e99", "1 Gi"] {
            assert_eq!(parse(wrong), None, "{wrong}");
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
        let class = read(&[("cpu", "4"), ("count/pods", "20")]).unwrap();
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
}
