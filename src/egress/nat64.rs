//! IPv4 addresses inside IPv6 ones: where an operator's NAT64 would send them (RFC 6052).
//! `config` sees to it that a prefix has one of the standard's lengths.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

/// What a NAT64 makes of an address of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// It goes to this address.
    V4(Ipv4Addr),
    /// Bits 64 to 71 must be zero and are not, so translators differ in what they make of it.
    Malformed,
}

/// What lies inside an address, if it is one of the prefix.
pub fn inside(prefix: &Ipv6Net, address: Ipv6Addr) -> Option<Inside> {
    if !prefix.contains(&address) {
        return None;
    }
    let octets = address.octets();
    let length = usize::from(prefix.prefix_len() / 8);
    // Octet 8 is left out of the address, and zero.
    if length < 12 && octets[8] != 0 {
        return Some(Inside::Malformed);
    }
    let mut embedded = octets.iter().enumerate().skip(length).filter(|(at, _)| length == 12 || *at != 8).map(|(_, octet)| *octet);
    let mut next = || embedded.next().unwrap_or_default();
    Some(Inside::V4(Ipv4Addr::from([next(), next(), next(), next()])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_6052_hold() {
        let inner = Ipv4Addr::new(192, 0, 2, 33);
        for (prefix, address) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let prefix: Ipv6Net = prefix.parse().unwrap();
            assert_eq!(inside(&prefix, address.parse().unwrap()), Some(Inside::V4(inner)), "{address}");
        }
    }

    #[test]
    fn what_translators_would_read_differently_has_nothing_certain_inside() {
        let prefix: Ipv6Net = "2001:db8::/32".parse().unwrap();
        assert_eq!(inside(&prefix, "2001:db8:c000:221:100::".parse().unwrap()), Some(Inside::Malformed));
        assert_eq!(inside(&prefix, "2001:db9:c000:221::".parse().unwrap()), None);
    }
}
