//! Which addresses may be dialled.
//!
//! Sources: the IANA registries "IPv4 Special-Purpose Address Space" and "IPv6
//! Special-Purpose Address Space" as of 2026-07-18, which stand in `tests/data` as IANA
//! publishes them; "IPv4 Multicast Address Space"; "IPv6 Global Unicast Address Assignments".
//! The tests draw every block's edges from those files, so a new file tells what is missing here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::nat64::{self, Inside};
use super::{hosts, ports};
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
    isatap(address).and_then(forbidden_v4)
}

/// The IPv4 address of an ISATAP address, which hides one behind any prefix.
fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., marker_high, marker_low, high, low] = address.segments();
    (marker_low == 0x5efe && marker_high & !0x0200 == 0).then(|| v4_of(high, low))
}

fn v4_of(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// Every IPv4 address that a form of IPv6 may mean. Where an exception lifts the rule that refuses
/// the whole form, what is inside is still judged against the operator's own list.
fn hidden_v4(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let low = Ipv4Addr::from_bits(address.to_bits() as u32);
    let mut found: Vec<Ipv4Addr> = isatap(address).into_iter().collect();
    match address.segments() {
        // Compatible, mapped, translated, and the well-known NAT64 prefix.
        [0, 0, 0, 0, 0, 0, _, _] | [0, 0, 0, 0, 0, 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            found.push(low);
        }
        // The local NAT64 prefix, of whichever length.
        [0x64, 0xff9b, 1, b, c, d, _, _] => {
            found.extend([low, v4_of(b, (c & 0xff) << 8 | d >> 8)]);
        }
        [0x2002, high, low, ..] => found.push(v4_of(high, low)),
        [0x2001, 0, high, low, _, _, client_high, client_low] => {
            found.extend([v4_of(high, low), v4_of(!client_high, !client_low)]);
        }
        _ => {}
    }
    found
}

/// The address rules with the operator's additions and exceptions.
#[derive(Debug, Clone)]
pub struct Rules {
    pub(super) blocked_suffixes: Vec<String>,
    pub(super) fixed_names: Vec<String>,
    pub(super) hosts_names: Vec<String>,
    /// Plain http is permitted where the host is this machine.
    pub(super) plain_on_loopback: bool,
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
    nat64_prefix: Option<Ipv6Net>,
    /// Empty: every port but the bad ones.
    ports: Vec<u16>,
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
            denied: config.deny_cidrs.clone(),
            nat64_prefix: config.nat64_prefix,
            ports: config.ports.clone(),
        }
    }

    /// Why an address may not be dialled, if so.
    pub fn forbid(&self, address: IpAddr) -> Option<&'static str> {
        if self.allowed.iter().any(|network| network.contains(&address)) {
            return None;
        }
        let translated = match address {
            IpAddr::V6(v6) => self.nat64_prefix.as_ref().and_then(|prefix| nat64::inside(prefix, v6)),
            IpAddr::V4(_) => None,
        };
        match translated {
            // Where the operator's NAT64 sends it is what counts.
            Some(Inside::V4(inner)) => self.forbid(inner.into()).or_else(|| self.deny(address)),
            Some(Inside::Malformed) => Some("no valid NAT64 form"),
            None => forbidden(address).or_else(|| self.deny(address)),
        }
    }

    pub(super) fn deny(&self, address: IpAddr) -> Option<&'static str> {
        let is_denied = |address: IpAddr| self.denied.iter().any(|network| network.contains(&address));
        let hides_denied = |v6: Ipv6Addr| hidden_v4(v6).into_iter().any(|inner| is_denied(inner.into()));
        let hidden = matches!(address, IpAddr::V6(v6) if hides_denied(v6));
        (hidden || is_denied(address)).then_some("refused by the operator")
    }

    /// Why a port may not be used, if so.
    pub fn forbid_port(&self, port: u16) -> Option<String> {
        match self.ports.as_slice() {
            [] => ports::is_bad(port).then(|| format!("its port {port} belongs to another protocol")),
            listed if listed.contains(&port) => None,
            listed => {
                let listed: Vec<String> = listed.iter().map(u16::to_string).collect();
                Some(format!("its port {port} is not among those that endpoints may use: {}", listed.join(", ")))
            }
        }
    }
}
