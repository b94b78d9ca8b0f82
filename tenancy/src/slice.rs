//! A tenant's slice of the super cluster's Service range.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// The longest prefix of a slice: the DNS Service has its tenth address.
const LONGEST: u8 = 28;

/// An IPv4 range in CIDR notation, aligned to its prefix, of no fewer addresses than a tenant takes for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slice {
    base: u32,
    prefix: u8,
}

/// The text isn't an aligned IPv4 range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no IPv4 range of sixteen addresses or more: write its first address and prefix length, such as 10.96.4.0/22"
)]
pub struct InvalidSlice(String);

/// No slice is left in the super cluster's Service range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no free /{prefix} is left in the Service range {range}: a larger prefix in the class's serviceSlicePrefix gives more, smaller slices"
)]
pub struct Exhausted {
    range: Slice,
    prefix: u8,
}

impl Slice {
    /// The tenant's `kubernetes` Service: the first usable address, as kube-apiserver chooses it.
    pub fn api_address(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// The tenant's DNS Service: the tenth address, as kubeadm chooses it.
    pub fn dns_address(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 10)
    }

    /// Length of its prefix, in bits: the larger, the fewer addresses.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies in the slice.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == self.base
    }

    /// Whether all its addresses are addresses of `other` too.
    pub fn lies_in(self, other: Slice) -> bool {
        self.prefix >= other.prefix && self.base & other.mask() == other.base
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Slice) -> bool {
        let mask = self.mask() & other.mask();
        self.base & mask == other.base & mask
    }

    /// The first slice of `/prefix` inside `self` that overlaps none of `taken` and in which no address of `used` lies.
    ///
    /// The range's own first slice is left to the super cluster: its `kubernetes` and DNS Services live there.
    pub fn first_free(
        self,
        prefix: u8,
        taken: &[Slice],
        used: &[Ipv4Addr],
    ) -> Result<Slice, Exhausted> {
        let exhausted = Exhausted {
            range: self,
            prefix,
        };
        if prefix < self.prefix || prefix > LONGEST {
            return Err(exhausted);
        }
        let step = 1u64 << (32 - prefix);
        let end = u64::from(self.base) + (1u64 << (32 - self.prefix));
        let mut base = u64::from(self.base) + step;
        while base + step <= end {
            // The loop's bound keeps `base` within 32 bits.
            let slice = Slice {
                base: base as u32,
                prefix,
            };
            let free = !taken.iter().any(|other| slice.overlaps(*other))
                && !used.iter().any(|ip| slice.contains(*ip));
            if free {
                return Ok(slice);
            }
            base += step;
        }
        Err(exhausted)
    }

    fn mask(self) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(self.prefix))
            .unwrap_or(0)
    }
}

impl FromStr for Slice {
    type Err = InvalidSlice;

    fn from_str(text: &str) -> Result<Self, InvalidSlice> {
        let invalid = || InvalidSlice(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let base = u32::from(Ipv4Addr::from_str(address).map_err(|_| invalid())?);
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        let slice = Slice { base, prefix };
        if (1..=LONGEST).contains(&prefix) && base & !slice.mask() == 0 {
            Ok(slice)
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(text: &str) -> Slice {
        text.parse().unwrap()
    }

    #[test]
    fn a_slice_is_parsed_and_printed() {
        assert_eq!(slice("10.96.4.0/22").to_string(), "10.96.4.0/22");
        assert_eq!(slice("10.96.4.0/22").api_address().to_string(), "10.96.4.1");
        assert_eq!(
            slice("10.96.4.0/22").dns_address().to_string(),
            "10.96.4.10"
        );
        for wrong in [
            "10.96.4.0",
            "10.96.4.1/22",
            "10.96.4.0/0",
            "10.96.4.0/33",
            "10.96.4.0/29",
            "255.255.255.252/30",
            "fd00::/64",
            "",
        ] {
            assert!(wrong.parse::<Slice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_slice_of_all_has_its_own_addresses() {
        let last = slice("255.255.255.240/28");
        assert!(last.contains(last.api_address()) && last.contains(last.dns_address()));
    }

    #[test]
    fn the_first_free_slice_spares_what_is_taken_or_used() {
        let range = slice("10.96.0.0/20");
        let free = |taken: &[Slice], used: &[Ipv4Addr]| {
            range.first_free(22, taken, used).map(|s| s.to_string())
        };
        assert_eq!(free(&[], &[]).unwrap(), "10.96.4.0/22");
        assert_eq!(free(&[slice("10.96.4.0/22")], &[]).unwrap(), "10.96.8.0/22");
        assert_eq!(
            free(&[slice("10.96.4.0/24")], &["10.96.9.9".parse().unwrap()]).unwrap(),
            "10.96.12.0/22"
        );
        let all = [
            slice("10.96.4.0/22"),
            slice("10.96.8.0/22"),
            slice("10.96.12.0/22"),
        ];
        assert!(
            free(&all, &[])
                .unwrap_err()
                .to_string()
                .contains("10.96.0.0/20")
        );
    }

    #[test]
    fn membership_and_overlap() {
        assert!(slice("10.96.4.0/22").contains("10.96.7.255".parse().unwrap()));
        assert!(!slice("10.96.4.0/22").contains("10.96.8.0".parse().unwrap()));
        assert!(slice("10.96.0.0/16").overlaps(slice("10.96.4.0/22")));
        assert!(!slice("10.96.0.0/22").overlaps(slice("10.96.4.0/22")));
    }
}
