//! Marks by which a store that went back in time is found out (R2, R5).
//!
//! Each side keeps a mark of the other. The super cluster's mark of a tenant holds a nonce, which is advanced in the
//! tenant first, and the highest resource version of each resource; so a tenant that is restored from an older backup
//! has a nonce, or a version, behind the mark. The tenant's mark of the super cluster holds the UID of its kube-system
//! namespace and the highest version of its pods. Versions are compared within one resource of one store only.

use std::collections::BTreeMap;

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
    /// The nonce is gone.
    #[error("its mark is gone, and it was {known} before")]
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
