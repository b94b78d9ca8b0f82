//! Amounts of CPU and memory as the metrics API writes them: `5n`, `64Ki`. `tenancy::quota::amount` reads them.

/// CPU, of thousand-millionths of one.
pub(crate) fn cpu(nanos: u128) -> String {
    if nanos == 0 {
        "0".into()
    } else {
        format!("{nanos}n")
    }
}

/// Memory, of bytes.
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
    use tenancy::quota::amount;

    #[test]
    fn amounts_are_written_as_the_metrics_api_does() {
        assert_eq!((cpu(0), cpu(5)), ("0".into(), "5n".into()));
        let written = [0, 1, 2048, 2049].map(memory);
        assert_eq!(written, ["0", "1", "2Ki", "2049"]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(amount in 0..i64::MAX) {
            let (written, amount) = (u128::try_from(amount)?, i128::from(amount));
            prop_assert_eq!(amount::nanos(&cpu(written)), Some(amount));
            prop_assert_eq!(amount::parse(&memory(written)), Some(amount * 1000));
        }
    }
}
