use std::net::IpAddr;

/// How far an address reaches (RFC 6890). An IPv4 address that is written as an IPv6 one counts as the former.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressScope {
    /// The computer itself: the loopback network, and the addresses that stand for "here".
    Own,
    /// One link.
    Link,
    /// A network of somebody's own, and what a provider shares among customers (RFC 6598).
    Private,
    /// The internet.
    Public,
    /// No computer: groups, and what is reserved.
    Special,
}

impl AddressScope {
    /// Says how far an address reaches.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [first, second, ..] = address.octets();
                let is_shared = first == 100 && second >= 64 && second < 128;
                if address.is_loopback() || first == 0 {
                    Self::Own
                } else if address.is_link_local() {
                    Self::Link
                } else if address.is_private() || is_shared {
                    Self::Private
                } else if first >= 224 {
                    Self::Special
                } else {
                    Self::Public
                }
            }
            IpAddr::V6(address) => {
                let [first, ..] = address.segments();
                if address.is_loopback() || address.is_unspecified() {
                    Self::Own
                } else if address.is_unicast_link_local() {
                    Self::Link
                } else if address.is_unique_local() {
                    Self::Private
                } else if first >> 13 == 1 {
                    // Global unicast is 2000::/3.
                    Self::Public
                } else {
                    Self::Special
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_one_scope() {
        for (address, scope) in [
            ("1.1.1.1", AddressScope::Public),
            ("100.63.0.1", AddressScope::Public),
            ("100.64.0.1", AddressScope::Private),
            ("100.128.0.1", AddressScope::Public),
            ("172.16.0.1", AddressScope::Private),
            ("172.32.0.1", AddressScope::Public),
            ("192.168.1.1", AddressScope::Private),
            ("10.0.0.1", AddressScope::Private),
            ("127.8.0.1", AddressScope::Own),
            ("0.0.0.0", AddressScope::Own),
            ("169.254.169.254", AddressScope::Link),
            ("224.0.0.1", AddressScope::Special),
            ("255.255.255.255", AddressScope::Special),
            ("2606:4700::1", AddressScope::Public),
            ("fd00::1", AddressScope::Private),
            ("fe80::1", AddressScope::Link),
            ("ff02::1", AddressScope::Special),
            ("64:ff9b::1", AddressScope::Special),
            ("::1", AddressScope::Own),
            ("::", AddressScope::Own),
            ("::ffff:10.0.0.1", AddressScope::Private),
            ("::ffff:127.0.0.1", AddressScope::Own),
        ] {
            assert_eq!(AddressScope::of(address.parse().unwrap()), scope, "{address}");
        }
    }
}
