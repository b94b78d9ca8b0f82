//! Which requests belong to pods, and which come as time passes, however few pods there are.

/// What is asked by time: by the API server itself, which looks for LimitRanges twice a minute in each namespace; and by the
/// syncer, which looks at its marks and tells how far a tenant lags.
const BY_TIME: &[&str] = &[
    "LIST limitranges",
    "GET namespaces",
    "GET configmaps",
    "PATCH configmaps",
    "GET virtualcontrolplanes",
    "PATCH virtualcontrolplanes/status",
];
/// From so many for each pod on they belong to pods after all: time alone asks for less than half of that, in `steady`,
/// and in a burst for a tenth.
const FEW: f64 = 0.25;

/// Whether requests, such as `PATCH pods/status`, belong to pods, when there are so many of them for each.
pub fn are_of_pods(what: &str, per_pod: f64) -> bool {
    !BY_TIME.contains(&what) || per_pod >= FEW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_by_time_belongs_to_pods_only_when_there_is_much_of_it() {
        assert!(are_of_pods("PATCH pods/status", 0.01));
        assert!(!are_of_pods("GET configmaps", 0.11));
        assert!(are_of_pods("GET configmaps", 1.0), "a read for each pod");
    }
}
