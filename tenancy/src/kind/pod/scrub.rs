//! Texts of the super cluster, told in the tenant's words (T39).

use serde_json::Value;

/// What the super cluster calls a pod, and what its tenant does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scrub<'a> {
    /// Super namespace, then the tenant's.
    pub(crate) namespace: (&'a str, &'a str),
    /// UID of the super pod, then of the tenant's.
    pub(crate) uid: (&'a str, &'a str),
}

impl Scrub<'_> {
    /// `text` with the tenant's names.
    pub(crate) fn names(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (theirs, ours) in [self.namespace, self.uid] {
            if !theirs.is_empty() {
                text = text.replace(theirs, ours);
            }
        }
        text.replace("kube-root-ca.crt.tenant", "kube-root-ca.crt")
    }

    /// A text of the super cluster's own with the tenant's names; a scheduler's loses what it tells of nodes that aren't
    /// the tenant's.
    pub(crate) fn text(&self, text: &str) -> String {
        match text.split_once(" nodes are available") {
            Some((count, rest)) if count.starts_with("0/") => self.names(&scheduling(rest)),
            _ => self.without_others(self.names(text)),
        }
    }

    /// `text` without UIDs that aren't the tenant's: of a pod that this one made room for, say. One that is part of a name
    /// (`pvc-…`) stays.
    fn without_others(&self, text: String) -> String {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let words = text.split(|c| !is_part(c));
        let words = words.map(|word| word.trim_end_matches('.'));
        let others = words.filter(|word| is_uid(word) && *word != self.uid.1);
        let others: Vec<String> = others.map(str::to_owned).collect();
        others
            .iter()
            .fold(text, |text, uid| text.replace(uid, "(another)"))
    }

    /// Changes every `message` in `value`, at any depth.
    pub(crate) fn messages(&self, value: &mut Value, change: fn(&Self, &str) -> String) {
        match value {
            Value::Array(items) => items
                .iter_mut()
                .for_each(|item| self.messages(item, change)),
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(text) if key == "message" => *text = change(self, text),
                        _ => self.messages(value, change),
                    }
                }
            }
            _ => {}
        }
    }
}

fn is_uid(word: &str) -> bool {
    let is_right = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    word.len() == 36 && word.bytes().enumerate().all(is_right)
}

/// The reasons of `0/5 nodes are available: 2 Insufficient cpu, 3 node(s) had untolerated taint {key: value}. …`,
/// without counts, which tell the size of the super cluster, and without taints, which tell whom its nodes are for.
///
/// What follows the first sentence is about preemption, which tenants don't have.
fn scheduling(rest: &str) -> String {
    let reasons = rest.trim_start_matches([':', ' ']);
    let reasons = reasons
        .split(". ")
        .next()
        .unwrap_or_default()
        .trim_end_matches('.');
    let mut kept: Vec<String> = vec![];
    for reason in outside_braces(reasons).split(", ") {
        let reason = reason
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim();
        if !reason.is_empty() && !kept.iter().any(|known| known == reason) {
            kept.push(reason.to_owned());
        }
    }
    format!("no node is available: {}", kept.join(", "))
}

fn outside_braces(text: &str) -> String {
    let mut depth = 0usize;
    text.chars()
        .filter(|c| match c {
            '{' => {
                depth += 1;
                false
            }
            '}' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrub(text: &str) -> String {
        let scrub = Scrub {
            namespace: ("acme-default-x", "default"),
            uid: ("super-uid", "tenant-uid"),
        };
        scrub.text(text)
    }

    #[test]
    fn names_become_the_tenants() {
        let message =
            "back-off 5m0s restarting failed container=c pod=web_acme-default-x(super-uid)";
        assert_eq!(
            scrub(message),
            "back-off 5m0s restarting failed container=c pod=web_default(tenant-uid)"
        );
        assert_eq!(
            scrub("configmap \"kube-root-ca.crt.tenant\" not found"),
            "configmap \"kube-root-ca.crt\" not found"
        );
    }

    #[test]
    fn t39_uids_of_others_are_not_told() {
        const OTHER: &str = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed";
        let told = |text: &str| scrub(&text.replace("OTHER", OTHER));
        assert_eq!(told("by pod OTHER."), "by pod (another).");
        assert_eq!(told("/pods/OTHER/v"), "/pods/(another)/v");
        let volume = "volume \"pvc-OTHER\" is attached";
        assert_eq!(told(volume), volume.replace("OTHER", OTHER));
        let own = Scrub {
            namespace: ("acme-x", "x"),
            uid: ("super", OTHER),
        };
        assert_eq!(own.text("pod super"), format!("pod {OTHER}"));
    }

    #[test]
    fn a_schedulers_message_keeps_its_reasons_and_tells_nothing_of_other_nodes() {
        let message = "0/9 nodes are available: 1 node(s) had untolerated taint {customer: globex}, 2 node(s) had \
                       untolerated taint {x: a, b}, 6 Insufficient cpu. preemption: 0/9 nodes are available: 9 \
                       Preemption is not helpful for scheduling.";
        assert_eq!(
            scrub(message),
            "no node is available: node(s) had untolerated taint, Insufficient cpu"
        );
        assert_eq!(
            scrub(
                "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
            ),
            "no node is available: pod has unbound immediate PersistentVolumeClaims"
        );
    }
}
