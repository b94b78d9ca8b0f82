//! Texts of the super cluster for tenants, without addresses of its machines.

/// What stands for an address.
const MASK: &str = "<address>";
/// The port of kubelets.
const KUBELET: &str = ":10250";

/// The text with every URL, address and name that was looked up masked; whether there was any.
pub(crate) fn addresses(text: &str) -> (String, bool) {
    let (mut masked, mut found) = (String::with_capacity(text.len()), false);
    let mut is_looked_up = false;
    for part in text.split_inclusive(is_end) {
        let word = part.trim_end_matches(is_end);
        let bare = word.trim_end_matches([':', '.', ';', '!', '?', '-']);
        if !bare.is_empty() && (is_looked_up || is_address(bare)) {
            found = true;
            masked.push_str(MASK);
            masked.push_str(&part[bare.len()..]);
        } else {
            masked.push_str(part);
        }
        is_looked_up = bare == "lookup";
    }
    (masked, found)
}

/// Whether a text is about a connection that couldn't be made.
pub(crate) fn is_of_a_connection(text: &str) -> bool {
    ["dial tcp", "lookup ", KUBELET]
        .iter()
        .any(|trace| text.contains(trace))
}

/// Where a word ends.
fn is_end(character: char) -> bool {
    character.is_whitespace() || "\"'`(),<>=".contains(character)
}

fn is_address(word: &str) -> bool {
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    word.starts_with("https://")
        || word.starts_with("http://")
        || word.ends_with(KUBELET)
        || bare.parse::<std::net::IpAddr>().is_ok()
        || word.parse::<std::net::SocketAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// T39: addresses and names of the super cluster's machines stay there; the rest is what a kubelet would say.
    #[test]
    fn t39_addresses_are_masked_and_nothing_else_is() {
        for (text, wanted) in [
            (
                "error dialing backend: dial tcp 10.0.0.1:10250: connect: connection refused",
                "error dialing backend: dial tcp <address>: connect: connection refused",
            ),
            (
                "Get \"https://10.0.0.1:10250/containerLogs/ns/web/main\": dial tcp [fd00::1]:10250: i/o timeout",
                "Get \"<address>\": dial tcp <address>: i/o timeout",
            ),
            (
                "dial tcp: lookup ip-10-0-0-7.ec2.internal on 10.96.0.10:53: no such host",
                "dial tcp: lookup <address> on <address>: no such host",
            ),
            (
                "read tcp 10.0.0.1:443->10.0.0.2:38200: connection reset by peer",
                "read tcp <address>-><address>: connection reset by peer",
            ),
            (
                "node1.internal:10250 (10.0.0.1) is away.",
                "<address> (<address>) is away.",
            ),
            ("fe80::1.", "<address>."),
        ] {
            assert_eq!(addresses(text), (wanted.to_owned(), true));
        }
        for text in [
            "unable to retrieve container logs for containerd://0a1b2c",
            "container \"main\" in pod \"web\" is waiting to start: ContainerCreating",
            "exec: \"a:b\": executable file not found in $PATH: 1.2.3: 10:30",
            "",
        ] {
            assert_eq!(addresses(text), (text.to_owned(), false));
        }
    }

    proptest! {
        #[test]
        fn t39_no_address_gets_through(before in "[ a-z\"(]{0,9}", address: std::net::Ipv4Addr, port: u16, after in "[ \"):]{0,3}") {
            let (masked, _) = addresses(&format!("{before} {address}:{port}{after}"));
            prop_assert!(!masked.contains(&address.to_string()), "{}", masked);
        }

        #[test]
        fn any_text_is_taken(text in ".*") {
            addresses(&text);
        }
    }
}
