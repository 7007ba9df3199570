//! The address and URL rules against IANA's own tables, and against a second formulation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;
use proptest::prelude::*;
use url::Url;

use super::dial::Failures;
use super::{CallError, Endpoint, Refusal, Rules, forbidden};
use crate::config::Config;
use crate::domain::ErrorCode;

const IANA_IPV4: &str = include_str!("../../tests/data/iana-ipv4-special-registry-1.csv");
const IANA_IPV6: &str = include_str!("../../tests/data/iana-ipv6-special-registry-1.csv");
/// What stands in other registries: multicast, and the 6bone's returned block.
const ELSEWHERE: [&str; 2] = ["224.0.0.0/4", "3ffe::/16"];

/// The blocks of a registry: the first cell of each line, which may hold several and footnotes.
fn blocks(registry: &str) -> Vec<IpNet> {
    let cells = registry.lines().filter_map(|line| match line.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => line.split(',').next(),
    });
    let texts = cells.flat_map(|cell| cell.split(", ")).filter_map(|text| text.split(' ').next());
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn special() -> Vec<IpNet> {
    let elsewhere = ELSEWHERE.map(|block| block.parse::<IpNet>().unwrap());
    [blocks(IANA_IPV4), blocks(IANA_IPV6), elsewhere.to_vec()].concat()
}

/// The rule in other words: sets of addresses instead of comparisons of bits.
fn is_public(address: IpAddr, special: &[IpNet]) -> bool {
    let is_in = |block: &str, address: IpAddr| block.parse::<IpNet>().unwrap().contains(&address);
    if special.iter().any(|block| block.contains(&address)) {
        return false;
    }
    let IpAddr::V6(v6) = address else { return true };
    let text: Vec<u16> = v6.segments().to_vec();
    let inner = Ipv4Addr::new((text[6] >> 8) as u8, text[6] as u8, (text[7] >> 8) as u8, text[7] as u8);
    let is_isatap = matches!(text[4..6], [0 | 0x200, 0x5efe]);
    is_in("2000::/3", address) && (!is_isatap || is_public(inner.into(), special))
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// The first and the last address of a block, and their neighbours outside.
fn edges(block: &IpNet) -> Vec<IpAddr> {
    let (first, last) = match block {
        IpNet::V4(v4) => (v4.network().into(), v4.broadcast().into()),
        IpNet::V6(v6) => (v6.network().into(), v6.broadcast().into()),
    };
    [Some(first), Some(last), before(first), after(last)].into_iter().flatten().collect()
}

/// Every IPv6 form in which an IPv4 address hides.
fn hiding(inner: Ipv4Addr) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = inner.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    vec![
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, high, low >> 8, low << 8, 0, 0),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        // Teredo hides the client inverted, and its server as it is.
        Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low),
        Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0xf7f7, 0xf7f7),
    ]
}

/// The two ISATAP forms, behind a prefix of an ordinary network.
fn isatap(inner: Ipv4Addr) -> [Ipv6Addr; 2] {
    let [a, b, c, d] = inner.octets().map(u16::from);
    [0, 0x200].map(|marker| Ipv6Addr::new(0x2a00, 0x1450, 0x4001, 1, marker, 0x5efe, a << 8 | b, c << 8 | d))
}

/// Every way in which URLs write an IPv4 address.
fn written(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let bits = address.to_bits();
    let wide = |text: &str| text.chars().map(|c| c.to_digit(10).and_then(|n| char::from_u32(0xff10 + n)).unwrap_or(c)).collect::<String>();
    let dotted = address.to_string();
    vec![
        dotted.clone(),
        format!("{dotted}."),
        format!("{bits}"),
        format!("{bits:#x}"),
        format!("{bits:#X}").replace("0X", "0x"),
        format!("0{bits:o}"),
        format!("{a}.{}", bits & 0xff_ffff),
        format!("{a}.{b}.{}", bits & 0xffff),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("0{a:o}.{b}.{c:#x}.{d}"),
        wide(&dotted),
        dotted.replace('.', "\u{3002}"),
        dotted.replace('1', "%31").replace('2', "%32"),
    ]
}

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::new(&Config::load(None, std::iter::empty()).unwrap().egress));
static SPECIAL: LazyLock<Vec<IpNet>> = LazyLock::new(special);

#[test]
fn the_registries_are_read_whole() {
    let count = |registry: &str| registry.lines().filter(|line| line.contains("[RFC") && !line.starts_with(' ')).count();
    // One line of the IPv4 registry holds two blocks.
    assert_eq!(blocks(IANA_IPV4).len(), count(IANA_IPV4) + 1);
    assert_eq!(blocks(IANA_IPV6).len(), count(IANA_IPV6));
}

#[test]
fn the_edges_of_every_block_are_forbidden_and_their_neighbours_are_judged_by_theirs() {
    let special = &*SPECIAL;
    let mut outside = 0;
    for block in special {
        for address in edges(block) {
            assert_eq!(forbidden(address).is_none(), is_public(address, special), "{address}, an edge of {block}");
            outside += usize::from(is_public(address, special));
        }
    }
    assert!(outside >= 30, "only {outside} neighbours were public, so little was tried");
}

#[test]
fn the_edges_of_global_unicast_are_exact() {
    let public = |text: &str| forbidden(text.parse().unwrap()).is_none();
    assert!(!public("1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff") && public("2000::"));
    assert!(public("3fff:1000::") && public("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff") && !public("4000::"));
}

#[test]
fn an_address_hidden_in_another_is_judged_too() {
    let special = &*SPECIAL;
    for block in special.iter().filter(|block| matches!(block, IpNet::V4(_))) {
        for address in edges(block) {
            let IpAddr::V4(inner) = address else { continue };
            for outer in hiding(inner) {
                assert!(forbidden(outer.into()).is_some(), "{outer} hides {inner}");
            }
            for outer in isatap(inner) {
                assert_eq!(forbidden(outer.into()).is_none(), is_public(address, special), "{outer} hides {inner}");
            }
        }
    }
}

#[test]
fn however_a_url_writes_an_address_it_is_judged_alike() {
    let special = &*SPECIAL;
    let mut permitted = 0;
    for block in special.iter().filter(|block| matches!(block, IpNet::V4(_))) {
        for address in edges(block) {
            let IpAddr::V4(v4) = address else { continue };
            for host in written(v4) {
                let judged = Endpoint::parse(&format!("https://{host}/"), &RULES);
                match is_public(address, special) {
                    true => assert_eq!(judged.as_ref().ok().and_then(Endpoint::literal), Some(address), "{host}: {judged:?}"),
                    false => assert!(matches!(judged, Err(Refusal::Forbidden(..))), "{host} is {address}: {judged:?}"),
                }
                permitted += usize::from(judged.is_ok());
            }
            for outer in hiding(v4) {
                for host in [outer.to_string(), outer.segments().map(|segment| format!("{segment:04X}")).join(":")] {
                    let judged = Endpoint::parse(&format!("https://[{host}]/"), &RULES);
                    assert!(matches!(judged, Err(Refusal::Forbidden(..))), "[{host}] hides {address}: {judged:?}");
                }
            }
        }
    }
    assert!(permitted > 100, "only {permitted} public addresses were written");
}

/// Any address, most of them in or near a special block.
fn any_address() -> impl Strategy<Value = IpAddr> {
    let near = (0..SPECIAL.len(), any::<u128>(), 0..=128_u32).prop_map(|(block, noise, kept)| match SPECIAL[block] {
        IpNet::V4(v4) => {
            let noise = (noise as u32).checked_shr(kept.min(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.network().to_bits() ^ noise))
        }
        IpNet::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.network().to_bits() ^ noise.checked_shr(kept).unwrap_or(0))),
    });
    let global = any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits >> 3 | 1 << 125)));
    let isatap = (any::<u32>(), 0..2_usize).prop_map(|(inner, form)| IpAddr::V6(isatap(Ipv4Addr::from_bits(inner))[form]));
    prop_oneof![near, global, isatap, any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))]
}

/// What is made of failures to connect, in this order: an address, and the error's number.
fn blamed(attempts: &[(&str, i32)]) -> CallError {
    let mut failures = Failures::default();
    for (address, errno) in attempts {
        if let Err(at_once) = failures.add(address.parse().unwrap(), &std::io::Error::from_raw_os_error(*errno)) {
            return at_once;
        }
    }
    failures.blame()
}

#[test]
fn an_endpoint_is_blamed_for_refusing_also_where_this_machine_has_no_ipv6_and_never_for_what_we_lack() {
    const REFUSED: i32 = 111;
    const NO_ADDRESS: i32 = 99;
    let (v4, v6) = ("192.0.2.1:443", "[2001:db8::1]:443");
    let code = |attempts: &[(&str, i32)]| match blamed(attempts) {
        CallError::Network { code, .. } => (code, "the endpoint's"),
        CallError::Ours { code, .. } => (code, "ours"),
        other => panic!("{other:?}"),
    };
    let refused = (ErrorCode::ConnectRefused, "the endpoint's");
    let (no_route, no_sockets) = ((ErrorCode::NoRoute, "ours"), (ErrorCode::NoSockets, "ours"));
    assert_eq!(code(&[(v6, NO_ADDRESS)]), no_route, "no IPv6 at all");
    assert_eq!(code(&[(v4, NO_ADDRESS), (v6, REFUSED)]), no_sockets, "no port was left");
    // EPERM, EACCES, EAFNOSUPPORT, ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH, and the machine's lack of IPv6.
    for route in [1, 13, 97, 100, 101, 112, 113, NO_ADDRESS] {
        assert_eq!(code(&[(v4, REFUSED), (v6, route)]), refused, "{route}");
        assert_eq!(code(&[(v6, route), (v4, REFUSED)]), refused, "{route}");
        assert_eq!(code(&[(v6, route)]), no_route, "{route}");
    }
    // ENOMEM, ENFILE, EMFILE, ENOBUFS.
    for lacking in [12, 23, 24, 105] {
        assert_eq!(code(&[(v4, REFUSED), (v6, lacking)]), no_sockets, "{lacking}");
    }
}

/// The rules with these variables, such as `("DENY_CIDRS", "[]")`.
fn rules_with(keys: &[(&str, &str)]) -> Rules {
    let variables = keys.iter().map(|(key, value)| (format!("ACTIONS_EGRESS__{key}"), (*value).to_owned()));
    Rules::new(&Config::load(None, variables).unwrap().egress)
}

#[test]
fn what_the_operator_refuses_is_refused_in_every_form_and_exceptions_go_before_it() {
    let azure = Ipv4Addr::new(168, 63, 129, 16);
    let rules = rules_with(&[]);
    assert_eq!(rules.forbid(azure.into()), Some("refused by the operator"));
    assert!(rules.forbid(Ipv4Addr::new(168, 63, 129, 17).into()).is_none());
    // An exception may lift the rule for a whole form; what hides in it is refused all the same.
    for outer in hiding(azure).into_iter().chain(isatap(azure)) {
        assert!(rules.deny(outer.into()).is_some(), "{outer} hides {azure}");
    }
    let lifted = rules_with(&[("ALLOW_CIDRS", r#"["168.63.129.16/32"]"#)]);
    assert!(lifted.forbid(azure.into()).is_none());
    let v6 = rules_with(&[("DENY_CIDRS", r#"["2a00:1450::/32"]"#)]);
    assert!(v6.forbid("2a00:1450::1".parse().unwrap()).is_some() && v6.forbid(azure.into()).is_none());
}

#[test]
fn behind_the_operators_nat64_prefix_the_address_inside_is_judged() {
    let rules = rules_with(&[("NAT64_PREFIX", "64:ff9b::/96"), ("ALLOW_CIDRS", r#"["10.1.0.0/16"]"#)]);
    let judged = |inner: &str| rules.forbid(format!("64:ff9b::{inner}").parse().unwrap());
    assert_eq!((judged("8.8.8.8"), judged("10.1.2.3")), (None, None));
    assert_eq!((judged("10.0.0.7"), judged("169.254.169.254")), (Some("private (RFC 1918)"), Some("link-local")));
    assert_eq!(judged("168.63.129.16"), Some("refused by the operator"));
    assert!(rules.forbid("64:ff9b:1::8.8.8.8".parse().unwrap()).is_some(), "another prefix");
    assert!(RULES.forbid("64:ff9b::8.8.8.8".parse().unwrap()).is_some(), "without a prefix all of it");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bits_and_sets_agree_on_every_address(address in any_address()) {
        prop_assert_eq!(forbidden(address).is_none(), is_public(address, &SPECIAL), "{}", address);
    }

    #[test]
    fn a_permitted_url_reads_the_same_when_it_is_written_out_and_read_again(
        text in r"https://[a-zA-Z0-9.:@%\[\]/\\?#\-_。ａ①\u{00ad}]{1,40}"
    ) {
        if let Ok(endpoint) = Endpoint::parse(&text, &RULES) {
            let again = Endpoint::parse(endpoint.url.as_str(), &RULES);
            prop_assert_eq!(again.ok().map(|again| (again.host_name, again.port)), Some((endpoint.host_name.clone(), endpoint.port)));
            // What the parser makes of it is what is dialled: no user-info, a host with a dot or an address.
            prop_assert!(endpoint.url.username().is_empty() && endpoint.url.password().is_none());
            prop_assert!(endpoint.literal().is_some() || endpoint.host_name.contains('.'));
            let is_operators = ["authio.com", "authio.dev"].iter().any(|own| endpoint.host_name == *own || endpoint.host_name.ends_with(&format!(".{own}")));
            prop_assert!(!is_operators, "{}", text);
        }
    }

    #[test]
    fn no_spelling_of_the_operators_names_is_permitted(
        upper in any::<u16>(), under in "[a-z]{0,5}", dot in prop_oneof![Just("."), Just("\u{3002}"), Just("\u{ff0e}"), Just("%2e")],
        end in prop_oneof![Just(""), Just("."), Just(":8443"), Just("/a@b"), Just("?x")]
    ) {
        let name: String = "authio.com".chars().enumerate().map(|(n, c)| if upper >> n & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect();
        let host = if under.is_empty() { name } else { format!("{under}.{name}") };
        let url = format!("https://{}{end}", host.replace('.', dot));
        prop_assert!(Endpoint::parse(&url, &RULES).is_err(), "{}", url);
        // And none that only looks like one is refused.
        let other = format!("https://x{}.example{end}", host.replace('.', "-"));
        prop_assert!(Endpoint::parse(&other, &RULES).is_ok(), "{}", other);
    }

    #[test]
    fn no_text_makes_the_judge_of_urls_panic(text in r"(https?:)?[/\\]{0,3}.{0,60}") {
        let judged = Endpoint::parse(&text, &RULES);
        prop_assert!(judged.is_err() || Url::parse(&text).is_ok());
    }
}
