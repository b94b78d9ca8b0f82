//! Amounts of CPU and memory as the API writes them: `1500m`, `64Ki`.

/// Suffixes and what they are worth, in thousand-millionths of one.
const SUFFIXES: [(&str, u128); 14] = [
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("", NANO),
    ("k", 1_000 * NANO),
    ("M", 1_000_000 * NANO),
    ("G", 1_000_000_000 * NANO),
    ("T", 1_000_000_000_000 * NANO),
    ("P", 1_000_000_000_000_000 * NANO),
    ("Ki", NANO << 10),
    ("Mi", NANO << 20),
    ("Gi", NANO << 30),
    ("Ti", NANO << 40),
    ("Pi", NANO << 50),
];
const NANO: u128 = 1_000_000_000;
/// More digits than any amount has.
const DIGITS_MAX: usize = 20;

/// Thousand-millionths of the unit, rounded down; `None` when the text is no amount.
pub(crate) fn nanos(text: &str) -> Option<u128> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (_, worth) = SUFFIXES.iter().find(|(known, _)| *known == suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() > DIGITS_MAX || whole.is_empty() {
        return None;
    }
    let mut sum = whole.parse::<u128>().ok()?.checked_mul(*worth)?;
    let mut place = *worth;
    for digit in fraction.bytes() {
        place /= 10;
        sum += u128::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?) * place;
    }
    Some(sum)
}

/// The same in whole units, such as bytes.
pub(crate) fn units(text: &str) -> Option<u128> {
    nanos(text).map(|nanos| nanos / NANO)
}

/// CPU as the metrics API writes it.
pub(crate) fn cpu(nanos: u128) -> String {
    if nanos == 0 {
        "0".into()
    } else {
        format!("{nanos}n")
    }
}

/// Memory as the metrics API writes it.
pub(crate) fn memory(bytes: u128) -> String {
    match bytes {
        0 => "0".into(),
        bytes if bytes.is_multiple_of(1024) => format!("{}Ki", bytes / 1024),
        bytes => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_in_every_suffix() {
        for (text, worth) in [
            ("0", Some(0)),
            ("12345n", Some(12_345)),
            ("7u", Some(7_000)),
            ("1500m", Some(1_500_000_000)),
            ("1.5", Some(1_500_000_000)),
            ("2k", Some(2_000 * NANO)),
            ("1Ki", Some(1024 * NANO)),
            ("", None),
            (".5", None),
            ("1.2.3", None),
            ("-1", None),
            ("1e3", None),
            ("1Kib", None),
            ("123456789012345678901", None),
        ] {
            assert_eq!(nanos(text), worth, "{text}");
        }
        assert_eq!(units("64Ki"), Some(65_536));
        assert_eq!((cpu(0), cpu(5)), ("0".into(), "5n".into()));
        assert_eq!(memory(2048), "2Ki");
        assert_eq!(memory(1), "1");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(amount in 0..u64::MAX, text in ".{0,24}") {
            let amount = u128::from(amount);
            prop_assert_eq!(nanos(&cpu(amount)), Some(amount));
            prop_assert_eq!(units(&memory(amount)), Some(amount));
            // Whatever it is, it does no harm.
            let _ = nanos(&text);
        }
    }
}
