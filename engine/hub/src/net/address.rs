//! Which addresses a download may connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a download may not connect to these addresses, if so.
///
/// `was_public` tells that it comes from a server of the public net by a
/// redirect: such a server must not reach what only this machine or its
/// neighbours can. What is public is for `is_public` to say.
pub(super) fn objection(
    is_https: bool,
    addresses: &[IpAddr],
    was_public: bool,
    is_public: IsPublic,
) -> Option<&'static str> {
    if !is_https && !addresses.iter().all(IpAddr::is_loopback) {
        return Some("is not encrypted: only https is allowed beyond this machine");
    }
    if was_public && !addresses.iter().all(|address| is_public(*address)) {
        return Some("is within a private network, and the redirect comes from outside");
    }
    None
}

/// Tells whether everybody means the same machine by an address.
pub(super) type IsPublic = fn(IpAddr) -> bool;

/// The usual [`IsPublic`].
///
/// IANA's registries of special-purpose addresses say which are not global.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(embedded) => is_public_v4(embedded),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // 2000::/3 is all that is handed out.
    a & 0xe000 == 0x2000 && !(a == 0x2001 && (b < 0x0200 || b == 0x0db8)) && a != 0x3fff
}

/// The IPv4 address that an IPv6 address stands for: mapped, translated
/// (64:ff9b::/96) or tunnelled (2002::/16).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => of(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_addresses_are_public() {
        let rows = [
            ("1.1.1.1", true),
            ("172.15.0.1", true),
            ("172.32.0.1", true),
            ("100.63.0.1", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("2001:4860:4860::8888", true),
            ("64:ff9b::1.1.1.1", true),
            ("2002:101:101::1", true),
            ("::ffff:1.1.1.1", true),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::10.0.0.1", false),
            ("2002:7f00:1::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("fc00::1", false),
            ("fd12::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
        ];
        for (text, expected) in rows {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn where_a_download_may_go() {
        let encrypted = "is not encrypted";
        let private = "is within a private network";
        // Whether it is https, the addresses, whether it comes from the public net.
        let rows: [(bool, &[&str], bool, Option<&str>); 12] = [
            (true, &["1.1.1.1"], false, None),
            (true, &["1.1.1.1", "2606:4700::1111"], true, None),
            (true, &["10.0.0.1"], false, None),
            (true, &["127.0.0.1"], false, None),
            (false, &["127.0.0.1", "::1"], false, None),
            (false, &["1.1.1.1"], false, Some(encrypted)),
            (false, &["127.0.0.1", "1.1.1.1"], false, Some(encrypted)),
            (false, &["10.0.0.1"], false, Some(encrypted)),
            (false, &["127.0.0.1"], true, Some(private)),
            (true, &["127.0.0.1"], true, Some(private)),
            (true, &["169.254.169.254"], true, Some(private)),
            (true, &["1.1.1.1", "10.0.0.1"], true, Some(private)),
        ];
        for (is_https, addresses, was_public, expected) in rows {
            let addresses: Vec<IpAddr> =
                addresses.iter().map(|address| address.parse().unwrap()).collect();
            let found = objection(is_https, &addresses, was_public, is_public);
            let same = match (found, expected) {
                (Some(found), Some(expected)) => found.starts_with(expected),
                (found, expected) => found == expected,
            };
            assert!(same, "{addresses:?}: {found:?}");
        }
    }
}
