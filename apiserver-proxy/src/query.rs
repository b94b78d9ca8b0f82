//! Query strings: taken apart, and put together again from their parts.
//!
//! What was encoded in an odd way comes out in the plain way, and nothing is passed on that wasn't understood.

/// A query that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Names and values, in order.
pub(crate) fn parse(query: &str) -> Result<Vec<(String, String)>, Malformed> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// The query string of names and values.
pub(crate) fn build(pairs: &[(&str, String)]) -> String {
    let mut query = String::new();
    for (name, value) in pairs {
        if !query.is_empty() {
            query.push('&');
        }
        encode(name, &mut query);
        query.push('=');
        encode(value, &mut query);
    }
    query
}

fn decode(text: &str) -> Result<String, Malformed> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = char::from(rest.next()?).to_digit(16)?;
                    u8::try_from(digit).ok()
                };
                let (high, low) = (digit().ok_or(Malformed)?, digit().ok_or(Malformed)?);
                high << 4 | low
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| Malformed)
}

fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_encodings_come_out_plain_and_broken_ones_are_refused() {
        assert_eq!(
            parse("command=sh&command=-c+%61%2fb&&x").unwrap(),
            [
                ("command".into(), "sh".into()),
                ("command".into(), "-c a/b".into()),
                ("x".into(), String::new())
            ]
        );
        for broken in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert_eq!(parse(broken), Err(Malformed), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn what_is_built_is_parsed_again(values in proptest::collection::vec(".*", 0..5)) {
            let pairs: Vec<_> = values.iter().map(|value| ("name", value.clone())).collect();
            let parsed = parse(&build(&pairs)).unwrap();
            prop_assert_eq!(parsed.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), values);
        }

        #[test]
        fn anything_may_come(text in ".*") {
            let _ = parse(&text);
        }
    }
}
