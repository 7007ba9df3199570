//! Which addresses may be dialled.
//!
//! Sources: the IANA registries "IPv4 Special-Purpose Address Space" and "IPv6
//! Special-Purpose Address Space", "IPv4 Multicast Address Space" and "IPv6 Global Unicast
//! Address Assignments", as of 2026-11.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config;

/// Every special-purpose block of IPv4, with the network's last bits and its name.
const IPV4_BLOCKS: [([u8; 4], u32, &str); 18] = [
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "private (RFC 1918)"),
    ([100, 64, 0, 0], 10, "shared address space"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private (RFC 1918)"),
    ([192, 0, 0, 0], 24, "protocol assignments"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 31, 196, 0], 24, "AS112"),
    ([192, 52, 193, 0], 24, "AMT"),
    ([192, 88, 99, 0], 24, "6to4 relay"),
    ([192, 168, 0, 0], 16, "private (RFC 1918)"),
    ([192, 175, 48, 0], 24, "AS112"),
    ([198, 18, 0, 0], 15, "benchmarking"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

/// The special-purpose blocks inside 2000::/3; everything outside of it is forbidden anyway.
const IPV6_BLOCKS: [([u16; 3], u32, &str); 6] = [
    // Teredo, benchmarking, ORCHID, AMT, AS112 and other protocol assignments.
    ([0x2001, 0, 0], 23, "protocol assignments"),
    ([0x2001, 0x0db8, 0], 32, "documentation"),
    ([0x2002, 0, 0], 16, "6to4"),
    ([0x2620, 0x004f, 0x8000], 48, "AS112"),
    ([0x3ffe, 0, 0], 16, "6bone (returned)"),
    ([0x3fff, 0, 0], 20, "documentation"),
];

/// Why an address may not be dialled, if so: the name of its class.
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6),
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    let block = |(network, prefix, _): &&([u8; 4], u32, &str)| (address.to_bits() ^ u32::from_be_bytes(*network)) >> (32 - prefix) == 0;
    IPV4_BLOCKS.iter().find(block).map(|(_, _, name)| *name)
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    if bits >> 125 != 0b001 {
        return Some("not global unicast IPv6");
    }
    let block = |(network, prefix, _): &&([u16; 3], u32, &str)| {
        let [a, b, c] = *network;
        (bits ^ Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_bits()) >> (128 - prefix) == 0
    };
    if let Some((_, _, name)) = IPV6_BLOCKS.iter().find(block) {
        return Some(name);
    }
    // ISATAP hides an IPv4 address behind any prefix.
    let [.., marker_high, marker_low, high, low] = address.segments();
    if marker_low == 0x5efe && marker_high & !0x0200 == 0 {
        return forbidden_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    }
    None
}

/// The address rules with the operator's exceptions.
#[derive(Debug, Clone)]
pub struct Rules {
    pub(super) blocked_suffixes: Vec<String>,
    pub(super) fixed_names: Vec<String>,
    /// Plain http is permitted where the host is this machine.
    pub(super) plain_on_loopback: bool,
    allowed: Vec<IpNet>,
}

impl Rules {
    /// Takes the operator's rules from the configuration.
    pub fn new(config: &config::Egress) -> Self {
        let plain = |name: &str| name.trim_matches('.').to_ascii_lowercase();
        Self {
            blocked_suffixes: config.blocked_suffixes.iter().map(|suffix| plain(suffix)).filter(|suffix| !suffix.is_empty()).collect(),
            fixed_names: config.resolve.keys().map(|name| plain(name)).collect(),
            plain_on_loopback: false,
            allowed: config.allow_cidrs.clone(),
        }
    }

    /// Why an address may not be dialled, if so.
    pub fn forbid(&self, address: IpAddr) -> Option<&'static str> {
        forbidden(address).filter(|_| !self.allowed.iter().any(|network| network.contains(&address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_last_address_of_every_ipv4_block_are_forbidden() {
        for (network, prefix, name) in IPV4_BLOCKS {
            let first = u32::from_be_bytes(network);
            let last = first | (u32::MAX.checked_shr(prefix).unwrap_or(0));
            for bits in [first, last] {
                assert_eq!(forbidden(Ipv4Addr::from_bits(bits).into()), Some(name));
            }
        }
    }

    #[test]
    fn neighbours_of_the_blocks_are_allowed() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "8.8.8.8",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::",
            "2003::1",
            "2001:db7:ffff::",
            "2001:db9::",
            "3ffd::1",
            "3fff:1000::",
            "2a00:1450::200:5efe:808:808",
        ] {
            assert_eq!(forbidden(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn every_form_that_hides_an_inner_address_is_forbidden() {
        for address in [
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "100::1",
            "2001::1",
            "2001:1ff:ffff::",
            "2001:db8::1",
            "2002:7f00:1::",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
            "2a00:1450::5efe:7f00:1",
            "2a00:1450::200:5efe:a00:1",
            "3fff::1",
            "4000::1",
            "1fff:ffff::",
        ] {
            assert!(forbidden(address.parse().unwrap()).is_some(), "{address}");
        }
    }
}
