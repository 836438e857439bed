use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::InvalidTraffic;

/// A range of addresses in CIDR notation; a single address is a range of one. Written as its first address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    first: IpAddr,
    length: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32` or a single address.
    ///
    /// # Errors
    /// [`InvalidTraffic`] where it is neither, or where bits behind the prefix are set: that is most often a slip.
    pub fn parse(text: &str) -> Result<Self, InvalidTraffic> {
        const HELP: &str =
            "write an address or a range in CIDR notation, as in `10.0.0.0/8` or `2001:db8::/32`";
        let invalid = |help| InvalidTraffic::new(text, "a range of addresses", help);
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid(HELP))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => bits,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|length| *length <= bits).ok_or_else(|| invalid(HELP))?
            }
            Some(_) => return Err(invalid(HELP)),
        };
        let network = Self { first: masked(address, length), length };
        if network.first != address {
            return Err(invalid("bits behind the prefix are set; write the first address of the range"));
        }
        Ok(network)
    }

    /// Says whether an address is one of the range. One of IPv4 that is written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.length) == self.first
    }

    /// Makes the range that has this address alone.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { first: address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Says whether it is a range of IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Says whether every address of another range is one of this.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.first)
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{}/{}", self.first, self.length))
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidTraffic;

    fn try_from(text: String) -> Result<Self, InvalidTraffic> {
        Self::parse(&text)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_has_its_addresses_and_no_others() {
        let contains =
            |range: &str, address: &str| Network::parse(range).unwrap().contains(address.parse().unwrap());
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(contains("0.0.0.0/0", "255.1.1.1") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("2001:db8::/32", "2001:db8:1::5") && !contains("2001:db8::/32", "2001:db9::"));
        assert!(contains("::/0", "ffff::") && !contains("::1", "::2"));
        assert!(contains("192.0.2.7", "192.0.2.7"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0", "10.0.0.0/33", "10.0.0.1/8", "::/129", "a/8", "10.0.0.0/", "10.0.0.0/+8"] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_after_writing_is_the_same(address: u128, length in 0u8..=128) {
            let first = masked(IpAddr::V6(address.into()), length);
            let network = Network { first, length };
            prop_assert_eq!(Network::parse(&network.to_string()).unwrap(), network);
        }
    }
}
