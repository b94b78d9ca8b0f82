//! How much of an answer is read, and of what a failure says: an API server may be anybody's (T42).

/// Bytes of the largest answer, and of the largest event: etcd stores no object above 1.5 MiB, and JSON of it is larger,
/// but not by so much.
pub const MOST_BYTES: usize = 16 << 20;
/// Characters of what a failure says: it goes into logs, events and conditions.
pub const MOST_SAID: usize = 1_000;

/// As much as is kept of what a server says.
pub fn said(message: &str) -> String {
    message.chars().take(MOST_SAID).collect()
}

/// Commas outside of strings: a text can't have more values, but for those that hold others. Commas inside cost nothing,
/// and an object that is full of them is one that etcd takes.
pub fn commas_between_values(text: &[u8]) -> usize {
    let (mut count, mut is_string, mut is_escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b',' if !is_string => count += 1,
            _ => {}
        }
    }
    count
}
