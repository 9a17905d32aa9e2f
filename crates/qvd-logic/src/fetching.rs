//! Which addresses the server may fetch from, as an allow-list says (`api.download.allow`).
//!
//! Nothing is allowed that is not named. A name allows only what is public under it: an address of the own network, of
//! this machine or of a link has to be named itself, so that whoever controls a name, or a redirection, gains nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// How something is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In clear.
    Http,
    /// By TLS.
    Https,
}

impl Scheme {
    /// Its port.
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// As it stands in addresses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Where something is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How.
    pub scheme: Scheme,
    /// The host as it is named, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Path and query; begins with `/`.
    pub path: String,
}

/// What may be fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    scheme: Scheme,
    hosts: Hosts,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Any,
    Name(String),
    Below(String),
    Network { address: IpAddr, bits: u8 },
}

/// A text that is no rule or no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Of the allow-list.
    #[error(
        "`{0}` is no host name, `*.domain`, address or network, with http:// or https:// before it and a port behind it"
    )]
    Rule(String),
    /// Of something to fetch.
    #[error("`{0}` is not https://HOST/PATH or http://HOST/PATH")]
    Target(String),
}

impl FromStr for AllowList {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let words = text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty());
        words.map(rule).collect::<Result<_, _>>().map(Self)
    }
}

fn rule(word: &str) -> Result<Rule, Malformed> {
    let wrong = || Malformed::Rule(word.to_owned());
    let (scheme, rest) = split_scheme(word).unwrap_or((Scheme::Https, word));
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = split_port(rest).ok_or_else(wrong)?;
    let (address, bits) = host.split_once('/').map_or((host, None), |(address, bits)| (address, Some(bits)));
    let hosts = match (bare(address).parse::<IpAddr>(), bits) {
        (Ok(address), None) => Hosts::Network { address, bits: width(address) },
        (Ok(address), Some(bits)) => {
            let bits: u8 = bits.parse().map_err(|_| wrong())?;
            if bits > width(address) {
                return Err(wrong());
            }
            Hosts::Network { address, bits }
        }
        (Err(_), Some(_)) => return Err(wrong()),
        (Err(_), None) if host == "*" => Hosts::Any,
        (Err(_), None) => {
            let name = |text: &str| is_name(text).then(|| text.to_ascii_lowercase()).ok_or_else(wrong);
            match host.strip_prefix("*.") {
                Some(domain) => Hosts::Below(name(domain)?),
                None => Hosts::Name(name(host)?),
            }
        }
    };
    Ok(Rule { scheme, hosts, port: port.unwrap_or(scheme.port()) })
}

fn split_scheme(text: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Some((Scheme::Http, rest)),
        "https" => Some((Scheme::Https, rest)),
        _ => None,
    }
}

/// The host and, if there is one, the port; none when the port is none.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    // An address of version 6 without brackets has no port.
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            Some((host, Some(port.parse().ok().filter(|port| *port != 0)?)))
        }
        _ => Some((text, None)),
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // What ends in a number is an address in a spelling of its own.
    let numeric = text.rsplit('.').next().is_some_and(|last| {
        last.bytes().all(|byte| byte.is_ascii_digit()) || last.to_ascii_lowercase().starts_with("0x")
    });
    text.len() <= 253 && text.split('.').all(part) && !numeric
}

/// How many bits an address has.
pub(crate) const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Target {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = || Malformed::Target(text.to_owned());
        let (scheme, rest) = split_scheme(text).ok_or_else(wrong)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = split_port(authority).ok_or_else(wrong)?;
        let named = is_name(host) || bare(host).parse::<IpAddr>().is_ok();
        let path = path.split('#').next().unwrap_or_default();
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        if !named || !plain {
            return Err(wrong());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let host = bare(host).to_ascii_lowercase();
        Ok(Self { scheme, host, port: port.unwrap_or(scheme.port()), path })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.path)
    }
}

impl Target {
    /// Host and port as they stand in an address.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Where a redirection leads from here.
    ///
    /// # Errors
    /// [`Malformed::Target`].
    pub fn redirected(&self, location: &str) -> Result<Self, Malformed> {
        if split_scheme(location).is_some() || location.contains("://") {
            return location.parse();
        }
        let origin = format!("{}://{}", self.scheme.as_str(), self.authority());
        if let Some(rest) = location.strip_prefix("//") {
            return format!("{}://{rest}", self.scheme.as_str()).parse();
        }
        if location.starts_with('/') {
            return format!("{origin}{location}").parse();
        }
        let directory =
            self.path.split('?').next().and_then(|path| path.rsplit_once('/')).map_or("", |(d, _)| d);
        format!("{origin}{directory}/{location}").parse()
    }

    /// The file name at its end, if there is one.
    pub fn file_name(&self) -> Option<&str> {
        self.path.split('?').next()?.rsplit('/').next().filter(|name| !name.is_empty())
    }
}

impl AllowList {
    /// Whether something may be fetched, as far as its name tells.
    pub fn allows(&self, target: &Target) -> bool {
        let address = target.host.parse::<IpAddr>().ok();
        self.rules_for(target).any(|rule| match (&rule.hosts, address) {
            (Hosts::Any, None) => true,
            (Hosts::Name(name), None) => *name == target.host,
            (Hosts::Below(domain), None) => target
                .host
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.ends_with('.') && rest.len() > 1),
            (Hosts::Network { address: network, bits }, Some(address)) => holds(*network, *bits, address),
            _ => false,
        })
    }

    /// Whether the address that the name of an allowed target leads to may be connected to.
    pub fn allows_address(&self, target: &Target, address: IpAddr) -> bool {
        is_public(address)
            || self.rules_for(target).any(|rule| match rule.hosts {
                Hosts::Network { address: network, bits } => holds(network, bits, address),
                _ => false,
            })
    }

    fn rules_for(&self, target: &Target) -> impl Iterator<Item = &Rule> {
        let (scheme, port) = (target.scheme, target.port);
        self.0.iter().filter(move |rule| rule.scheme == scheme && rule.port == port)
    }
}

/// Whether an address is in a network of so many bits.
pub(crate) fn holds(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let shift = |width: u8| u32::from(width.saturating_sub(bits));
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Whether an address is one that everybody could reach.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match a {
        0 | 240..=255 => true,
        100 => (64..128).contains(&b),
        192 => (b, c) == (0, 0) || (b, c) == (88, 99),
        198 => b == 18 || b == 19,
        _ => false,
    };
    !(special
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, _, _, g, h] = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    if let Some(address) = address.to_ipv4_mapped() {
        return is_public_v4(address);
    }
    match (a, b, c, d) {
        // Translations lead to an address of version 4.
        (0x64, 0xff9b, 0, 0) => is_public_v4(embedded(g, h)),
        (0x2002, high, low, _) => is_public_v4(embedded(high, low)),
        // What is not given to networks of the world.
        (0x2001, 0..=0x01ff, _, _) | (0x2001, 0x0db8, _, _) | (0x3fff, 0..=0x0fff, _, _) => false,
        (first, _, _, _) => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> AllowList {
        text.parse().unwrap()
    }

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_is_named_is_allowed() {
        let list = list(
            "images.example.org, *.cdn.example  http://mirror.lan:8080 http://10.1.0.0/16 [2001:db8::1]:8443",
        );
        for good in [
            "https://images.example.org/a.tar",
            "https://IMAGES.example.org:443/",
            "https://eu.cdn.example/x",
            "https://a.b.cdn.example/x",
            "http://mirror.lan:8080/",
            "http://10.1.255.3/x",
            "https://[2001:db8::1]:8443/x",
        ] {
            assert!(list.allows(&target(good)), "{good}");
        }
        for bad in [
            "http://images.example.org/",
            "https://images.example.org:8443/",
            "https://example.org/",
            "https://cdn.example/",
            "https://evilcdn.example/",
            "https://images.example.org.evil.net/",
            "http://mirror.lan/",
            "http://10.2.0.1/",
            "https://10.1.0.1/",
            "https://[2001:db8::2]:8443/",
            "http://127.0.0.1/",
        ] {
            assert!(!list.allows(&target(bad)), "{bad}");
        }
        assert!(!AllowList::default().allows(&target("https://images.example.org/")));
        assert!(
            !super::AllowList::from_str("*").unwrap().allows(&target("https://192.0.2.1/")),
            "an address is no name"
        );
    }

    #[test]
    fn a_name_allows_public_addresses_and_those_that_are_named() {
        let list = list("* 10.1.0.0/16 http://127.0.0.1:8000");
        let https = target("https://any.example/");
        let allowed = |address: &str| list.allows_address(&https, address.parse().unwrap());
        for good in ["93.184.215.14", "10.1.2.3", "2606:2800:21f:cb07::1", "64:ff9b::5db8:d70e"] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "127.0.0.1",
            "10.2.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "2001:db8::1",
            "::127.0.0.1",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
        assert!(list.allows_address(&target("http://127.0.0.1:8000/"), "127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn addresses_are_read_plainly_or_not_at_all() {
        let parts = target("HTTPS://Host.Example:8443/a/b.tar?x=1#part");
        assert_eq!(parts.to_string(), "https://host.example:8443/a/b.tar?x=1");
        assert_eq!((parts.file_name(), target("https://a/").file_name()), (Some("b.tar"), None));
        assert_eq!(target("https://a?q").path, "/?q");
        for bad in [
            "ftp://a/",
            "file:///etc/passwd",
            "//a/",
            "a.tar",
            "https://",
            "https://user@a/",
            "https://a:b@c/",
            "https://a:0/",
            "https://a:99999/",
            "https://a b/",
            "https://a/\r\nx",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://a..b/",
            "http+unix://x/",
            "https://[::1/",
            "https://ünicode/",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
        for bad in ["ftp://a", "a/b", "10.0.0.0/33", "host/8", "*.*", "a:0", "a:b", "http://", "256.1.1.1"] {
            assert!(bad.parse::<AllowList>().is_err(), "{bad}");
        }
    }

    #[test]
    fn redirections_lead_on_from_where_they_are() {
        let from = target("https://a.example/x/y?q=/z");
        for (location, wanted) in [
            ("https://b.example/", "https://b.example/"),
            ("//b.example/z", "https://b.example/z"),
            ("/z", "https://a.example/z"),
            ("z?w", "https://a.example/x/z?w"),
            ("HTTP://b.example", "http://b.example/"),
        ] {
            assert_eq!(from.redirected(location).unwrap().to_string(), wanted);
        }
        assert!(from.redirected("ftp://b.example/").is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_the_readers_fail(text: String, rule in "[a-z0-9.:/*\\[\\], ]{0,40}") {
            let (_, _) = (text.parse::<Target>(), text.parse::<AllowList>());
            let _ = rule.parse::<AllowList>();
        }

        #[test]
        fn what_is_read_says_the_same_when_it_is_written(host in "[a-z][a-z0-9-]{0,10}(\\.[a-z]{2,5})?", port in 1..=u16::MAX, path in "/[a-z0-9/?=.]{0,20}") {
            let one = target(&format!("https://{host}:{port}{path}"));
            prop_assert_eq!(&target(&one.to_string()), &one);
        }

        #[test]
        fn a_network_holds_what_has_its_bits(network: u32, address: u32, bits in 0..=32_u8) {
            let (a, b) = (Ipv4Addr::from_bits(network), Ipv4Addr::from_bits(address));
            let same = format!("{network:032b}")[..usize::from(bits)] == format!("{address:032b}")[..usize::from(bits)];
            prop_assert_eq!(holds(a.into(), bits, b.into()), same);
        }
    }
}
