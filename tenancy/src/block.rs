//! Address blocks in CIDR notation.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An address block of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    width: u32,
    bits: u128,
    prefix: u32,
}

impl Block {
    /// Reads a block such as `192.0.2.0/24`. One of IPv4 in the disguise of IPv6 is none: it would get around lists.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u32 = prefix.parse().ok()?;
        let (bits, width): (u128, u32) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => return None,
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let spare = width.checked_sub(prefix)?;
        // The bits beyond the prefix mean nothing.
        let bits = bits
            .checked_shr(spare)
            .and_then(|kept| kept.checked_shl(spare));
        Some(Self {
            width,
            bits: bits.unwrap_or_default(),
            prefix,
        })
    }

    /// Whether all of `other` is in it.
    pub fn holds(&self, other: &Self) -> bool {
        let spare = self.width - self.prefix;
        let cut = |bits: u128| bits.checked_shr(spare).unwrap_or_default();
        self.width == other.width
            && self.prefix <= other.prefix
            && cut(self.bits) == cut(other.bits)
    }

    /// Whether an address is in it; one of IPv4 in the disguise of IPv6 is what it disguises.
    pub fn has(&self, address: IpAddr) -> bool {
        let (bits, width) = match address.to_canonical() {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        self.holds(&Self {
            width,
            bits,
            prefix: width,
        })
    }

    /// Its address, if it has only one.
    pub fn single(&self) -> Option<IpAddr> {
        (self.prefix == self.width).then(|| self.first())
    }

    /// What both have in common: two blocks are disjoint, or one holds the other.
    pub fn common(&self, other: &Self) -> Option<Self> {
        if self.holds(other) {
            Some(*other)
        } else {
            other.holds(self).then_some(*self)
        }
    }

    /// The block of IPv6 that NAT64 (RFC 6052) translates to one of IPv4.
    pub fn nat64(&self) -> Option<Self> {
        (self.width == 32).then(|| Self {
            width: 128,
            bits: Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).to_bits() | self.bits,
            prefix: self.prefix + 96,
        })
    }

    fn first(&self) -> IpAddr {
        match u32::try_from(self.bits) {
            Ok(bits) if self.width == 32 => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(self.bits)),
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_one_address_says_which() {
        let single = |text| Block::parse(text).and_then(|block| block.single());
        assert_eq!(single("10.0.0.7/32"), "10.0.0.7".parse().ok());
        assert_eq!(single("fd00::7/128"), "fd00::7".parse().ok());
        assert_eq!(single("10.0.0.0/24"), None);
        assert_eq!(single("fd00::/32"), None);
    }

    #[test]
    fn blocks_are_read_and_written() {
        let canonical = |text: &str| Block::parse(text).map(|block| block.to_string());
        assert_eq!(canonical("192.0.2.77/24").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(canonical("0.0.0.0/0").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(canonical("::1/128").as_deref(), Some("::1/128"));
        assert_eq!(canonical("::/0").as_deref(), Some("::/0"));
        for wrong in [
            "",
            "192.0.2.0",
            "192.0.2.0/33",
            "::ffff:10.0.0.0/104",
            "a/8",
            "1.2.3.4/-1",
        ] {
            assert_eq!(canonical(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_block_of_ipv4_is_one_of_ipv6_to_a_translator() {
        let nat64 = |text: &str| Block::parse(text)?.nat64().map(|block| block.to_string());
        let link = nat64("169.254.0.0/16");
        assert_eq!(link.as_deref(), Some("64:ff9b::a9fe:0/112"));
        assert_eq!(nat64("0.0.0.0/0").as_deref(), Some("64:ff9b::/96"));
        assert_eq!(nat64("fd00::/8"), None);
    }

    #[test]
    fn one_holds_the_other_or_they_are_apart() {
        let block = |text: &str| Block::parse(text).unwrap();
        assert!(block("10.0.0.0/8").holds(&block("10.9.0.0/16")));
        assert!(!block("10.9.0.0/16").holds(&block("10.0.0.0/8")));
        assert!(!block("0.0.0.0/0").holds(&block("::/0")));
        let common = block("10.9.0.0/16").common(&block("10.0.0.0/8"));
        assert_eq!(common, Some(block("10.9.0.0/16")));
        assert_eq!(block("10.9.0.0/16").common(&block("10.8.0.0/16")), None);
    }
}
