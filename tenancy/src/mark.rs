//! Marks by which a store that went back in time is found out (R2, R5).
//!
//! Each side keeps a mark of the other. The super cluster's mark of a tenant holds a nonce, which is advanced in the
//! tenant first, and the highest resource version of each resource; so a tenant that is restored from an older backup
//! has a nonce, or a version, behind the mark. The tenant's mark of the super cluster holds the UID of its kube-system
//! namespace and the highest version of its pods. Versions are compared within one resource of one store only.

use std::collections::BTreeMap;

/// The highest nonce: one more each second doesn't get there in the age of the universe, so what says more is no word of
/// Sublet's.
const HIGHEST_NONCE: u64 = 1 << 62;

/// A nonce as either side keeps it; none where the text is no nonce that Sublet can have written.
pub fn nonce(text: &str) -> Option<u64> {
    text.parse().ok().filter(|nonce| *nonce <= HIGHEST_NONCE)
}

/// The nonce to write next, where the tenant's mark says `found` and the super cluster's `known`: at most one ahead of
/// the latter, however often the writer dies between the two writes.
pub fn next_nonce(found: Option<u64>, known: u64) -> u64 {
    let found = found.unwrap_or_default();
    if known.checked_add(1) == Some(found) {
        return found;
    }
    found.max(known).saturating_add(1).min(HIGHEST_NONCE)
}

/// Whether the tenant's nonce is further ahead of the super cluster's than one write: that one was lost there.
pub fn is_ahead(found: Option<u64>, known: u64) -> bool {
    found.unwrap_or_default() > known.saturating_add(1)
}

/// What the super cluster remembers of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The tenant's own nonce was at least this.
    pub nonce: u64,
    /// Highest version seen of each resource, by its plural.
    pub versions: BTreeMap<String, u64>,
    /// The restore counter that the nonce belongs to.
    pub restore_counter: i64,
    /// Objects made under an older restore counter than this may be deleted again.
    pub acknowledged: i64,
    /// The last wish of an operator to release what is held that was granted.
    pub released: String,
}

/// The store is older than what was seen of it before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WentBack {
    /// By the nonce.
    #[error("its mark says {found}, and it was {known} before")]
    Nonce {
        /// The one that was known.
        known: u64,
        /// The one that is there.
        found: u64,
    },
    /// The nonce is gone, or is none that Sublet wrote.
    #[error("its mark is gone or says no number of Sublet's, and it was {known} before")]
    NoNonce {
        /// The one that was known.
        known: u64,
    },
    /// By a version.
    #[error("its {resource} are at version {found}, and were at {known} before")]
    Version {
        /// Plural.
        resource: String,
        /// The one that was known.
        known: u64,
        /// The one that is there.
        found: u64,
    },
}

impl Mark {
    /// Judges the tenant's nonce.
    ///
    /// A tenant that Sublet itself restored since the mark was written is expected to be older; what is missing then is
    /// kept by its own restore counter.
    pub fn judge_nonce(&self, found: Option<u64>, restore_counter: i64) -> Result<(), WentBack> {
        let known = self.nonce;
        if known == 0 || restore_counter > self.restore_counter {
            return Ok(());
        }
        match found {
            Some(found) if found >= known => Ok(()),
            Some(found) => Err(WentBack::Nonce { known, found }),
            None => Err(WentBack::NoNonce { known }),
        }
    }

    /// Judges the version of a complete list.
    pub fn judge_version(&self, resource: &str, found: u64) -> Result<(), WentBack> {
        let known = self.versions.get(resource).copied().unwrap_or_default();
        if found < known {
            let resource = resource.to_owned();
            return Err(WentBack::Version {
                resource,
                known,
                found,
            });
        }
        Ok(())
    }

    /// Takes up a version; returns whether it is higher than what was known.
    pub fn raise(&mut self, resource: &str, version: u64) -> bool {
        match self.versions.get_mut(resource) {
            Some(known) if *known >= version => false,
            Some(known) => {
                *known = version;
                true
            }
            None => self.versions.insert(resource.to_owned(), version).is_none(),
        }
    }

    /// Whether an object that was made under `counter` must stay though the tenant lacks it.
    pub fn quarantines(&self, counter: i64, restore_counter: i64) -> bool {
        counter < restore_counter && self.acknowledged < restore_counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Arithmetic that overflows would end the process, and with it the sync of all tenants.
        #[test]
        fn no_text_in_either_mark_panics_or_leads_to_a_nonce_that_is_none(
            texts in proptest::array::uniform2(prop_oneof![
                any::<String>(),
                any::<u64>().prop_map(|number| number.to_string()),
                (0..=2u64).prop_map(|less| (u64::MAX - less).to_string()),
                (0..=2u64).prop_map(|less| (HIGHEST_NONCE + 1 - less).to_string()),
            ]),
        ) {
            let [found, known] = texts.map(|text| nonce(&text));
            let known = known.unwrap_or_default();
            let next = next_nonce(found, known);
            prop_assert!(nonce(&next.to_string()).is_some() && next >= known);
            prop_assert!(!is_ahead(Some(next), next) && !is_ahead(Some(next), next - 1));
            let mark = Mark { nonce: known, ..Mark::default() };
            prop_assert!(known == 0 || found.is_some_and(|found| found >= known) == mark.judge_nonce(found, 0).is_ok());
        }
    }

    #[test]
    fn what_is_written_next_is_one_ahead_until_both_sides_have_it() {
        assert_eq!(next_nonce(None, 0), 1);
        assert_eq!(next_nonce(Some(8), 7), 8, "the second write is outstanding");
        assert_eq!(next_nonce(Some(8), 8), 9);
        assert!(!is_ahead(Some(8), 7) && is_ahead(Some(9), 7) && !is_ahead(None, 7));
    }

    #[test]
    fn r2_a_nonce_that_nobody_can_have_written_is_no_nonce() {
        assert_eq!(nonce("18446744073709551615"), None);
        assert_eq!(nonce("18446744073709551614"), None);
        assert_eq!(nonce("7"), Some(7));
        assert!(
            mark()
                .judge_nonce(nonce("18446744073709551615"), 0)
                .is_err()
        );
    }

    fn mark() -> Mark {
        Mark {
            nonce: 7,
            versions: BTreeMap::from([("pods".into(), 100)]),
            ..Mark::default()
        }
    }

    #[test]
    fn r2_a_nonce_behind_the_mark_is_found_out() {
        assert_eq!(
            Mark::default().judge_nonce(None, 0),
            Ok(()),
            "the first time"
        );
        assert_eq!(mark().judge_nonce(Some(7), 0), Ok(()));
        assert_eq!(
            mark().judge_nonce(Some(8), 0),
            Ok(()),
            "advanced there first"
        );
        assert!(mark().judge_nonce(Some(6), 0).is_err());
        assert!(mark().judge_nonce(None, 0).is_err());
    }

    #[test]
    fn r2_a_version_behind_the_mark_is_found_out_within_its_resource() {
        assert!(mark().judge_version("pods", 99).is_err());
        assert_eq!(mark().judge_version("pods", 100), Ok(()));
        assert_eq!(mark().judge_version("secrets", 1), Ok(()));
        let mut mark = mark();
        assert!(mark.raise("pods", 101) && !mark.raise("pods", 100) && mark.raise("secrets", 1));
        assert!(mark.judge_version("pods", 100).is_err());
    }

    #[test]
    fn r2_after_a_restore_by_sublet_older_objects_are_quarantined_until_acknowledged() {
        let mut mark = mark();
        assert_eq!(
            mark.judge_nonce(Some(1), 1),
            Ok(()),
            "an older nonce is expected"
        );
        assert!(mark.quarantines(0, 1) && !mark.quarantines(1, 1));
        mark.acknowledged = 1;
        assert!(!mark.quarantines(0, 1) && mark.quarantines(0, 2));
    }
}
