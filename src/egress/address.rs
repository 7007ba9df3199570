//! Which addresses may be dialled.
//!
//! Sources: the IANA registries "IPv4 Special-Purpose Address Space" and "IPv6
//! Special-Purpose Address Space" as of 2026-07-18, which stand in `tests/data` as IANA
//! publishes them; "IPv4 Multicast Address Space"; "IPv6 Global Unicast Address Assignments".
//! The tests draw every block's edges from those files, so a new file tells what is missing here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::hosts;
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
    pub(super) hosts_names: Vec<String>,
    /// Plain http is permitted where the host is this machine.
    pub(super) plain_on_loopback: bool,
    allowed: Vec<IpNet>,
}

impl Rules {
    /// Takes the operator's rules from the configuration.
    pub fn new(config: &config::Egress) -> Self {
        let plain = |name: &str| name.trim_matches('.').to_ascii_lowercase();
        let ascii = |name: &str| url::Host::parse(&plain(name)).map_or_else(|_| plain(name), |host| host.to_string());
        Self {
            blocked_suffixes: config.blocked_suffixes.iter().map(|suffix| ascii(suffix)).collect(),
            fixed_names: config.resolve.keys().map(|name| plain(name)).collect(),
            hosts_names: hosts::names(),
            plain_on_loopback: false,
            allowed: config.allow_cidrs.clone(),
        }
    }

    /// Why an address may not be dialled, if so.
    pub fn forbid(&self, address: IpAddr) -> Option<&'static str> {
        forbidden(address).filter(|_| !self.allowed.iter().any(|network| network.contains(&address)))
    }
}
