//! The nftables table that captures a host's or network namespace's traffic, as text for `nft -f`. Pure.
//!
//! The table is ours alone: it is made, exchanged and removed as a whole, in one transaction, and no other table is
//! touched. The order of its rules is that of Istio's `ISTIO_OUTPUT` and `ISTIO_INBOUND` chains.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
    str::FromStr,
};

/// Name of the table, in the family `inet`.
pub const TABLE: &str = "weft";

/// Where the proxy's own connections to captured ports of its host come from, so that they are not captured again.
const PASSTHROUGH_SOURCES: [(&str, &str); 2] = [("ip", "127.0.0.6"), ("ip6", "::6")];

/// What is captured and what is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Users whose traffic is the proxy's own: number or name.
    pub proxy_uids: Vec<Owner>,
    /// Groups whose traffic is the proxy's own.
    pub proxy_gids: Vec<Owner>,
    /// Where the proxy takes outbound TCP.
    pub outbound_port: u16,
    /// Where the proxy takes inbound TCP.
    pub inbound_port: u16,
    /// Where the proxy answers DNS; none leaves DNS alone.
    pub dns_port: Option<u16>,
    /// Inbound ports that are captured.
    pub inbound: Selected<u16>,
    /// Inbound ports that are not.
    pub inbound_except: Vec<u16>,
    /// Destinations to which TCP is captured.
    pub outbound: Selected<Network>,
    /// Destinations to which it is not.
    pub outbound_except: Vec<Network>,
    /// Ports that are captured whatever the destination.
    pub outbound_ports: Vec<u16>,
    /// Ports that are not.
    pub outbound_ports_except: Vec<u16>,
    /// Network interfaces whose traffic is left alone, in both directions.
    pub interfaces_except: Vec<Interface>,
    /// Leaves IPv6 alone.
    pub ipv4_only: bool,
}

/// All (`*`) or some of a kind; an empty text is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected<T> {
    /// Every one.
    All,
    /// These.
    Only(Vec<T>),
}

impl<T: FromStr<Err: fmt::Display>> FromStr for Selected<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parse = |part: &str| part.parse().map_err(|error| format!("{part:?}: {error}"));
        parts.map(parse).collect::<Result<_, _>>().map(Self::Only)
    }
}

/// A user or group, by number or name. Its text is safe in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(String);

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let number = text.chars().all(|c| c.is_ascii_digit()) && text.parse::<u32>().is_ok();
        let named = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(name);
        match number || named {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{text:?} is no user or group; write a number or a name")),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address range. Its text is safe in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    ip: IpAddr,
    bits: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address range; write 10.0.0.0/8, 10.1.2.3 or fd00::/8");
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        match bits.unwrap_or(most) {
            bits if bits <= most => Ok(Self { ip: masked(ip, bits), bits }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

/// The first address of a range.
fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

/// Name of a network interface. Its text is safe in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface(String);

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | ':' | '*');
        match (1..16).contains(&text.len()) && text.chars().all(legal) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{text:?} is no network interface; write one like docker0 or veth*")),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// What removes the table, whether it is there or not.
pub fn removal() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

impl Rules {
    /// The whole transaction: whatever table was there before is exchanged for this one.
    pub fn text(&self) -> String {
        let mut chains = vec![self.inbound_ports(), self.outbound()];
        if self.takes_inbound() {
            chains.insert(0, self.inbound());
        }
        let mut text = removal();
        let _ = writeln!(text, "table inet {TABLE} {{"); // Text takes all that is written.
        for chain in chains {
            chain.write(&mut text);
        }
        text.push_str("}\n");
        text
    }

    fn takes_inbound(&self) -> bool {
        self.inbound != Selected::Only(Vec::new())
    }

    /// What comes in from outside.
    fn inbound(&self) -> Chain {
        let mut chain = Chain::new("inbound", "type nat hook prerouting priority dstnat; policy accept;");
        chain.comment("what the host only forwards is not its own");
        chain.rule("fib daddr type != local return");
        self.families(&mut chain);
        chain.set("iifname", &self.interfaces_except, "return");
        chain.rule("jump inbound-ports");
        chain
    }

    /// Which of it is captured. Also what the proxy sends to an address of its own host, which so passes the policy of
    /// the inbound side.
    fn inbound_ports(&self) -> Chain {
        let mut chain = Chain::new("inbound-ports", "");
        chain.set("tcp dport", &self.inbound_except, "return");
        let redirect = format!("redirect to :{}", self.inbound_port);
        match &self.inbound {
            Selected::All => chain.rule(&format!("meta l4proto tcp {redirect}")),
            Selected::Only(ports) => chain.set("tcp dport", ports, &redirect),
        }
        chain
    }

    /// What processes here send.
    fn outbound(&self) -> Chain {
        let mut chain = Chain::new("outbound", "type nat hook output priority -100; policy accept;");
        self.families(&mut chain);
        chain.comment("the proxy, passing on what it took");
        for (family, source) in PASSTHROUGH_SOURCES {
            chain.rule(&format!("{family} saddr {source} oifname \"lo\" return"));
        }
        chain.comment("the proxy, to its own host by an address others use; all else it sends goes its way");
        let owners = self.proxy_uids.iter().map(|uid| format!("meta skuid {uid}"));
        let owners: Vec<String> =
            owners.chain(self.proxy_gids.iter().map(|gid| format!("meta skgid {gid}"))).collect();
        for owner in &owners {
            chain.rule(&format!("{owner} oifname \"lo\" ip daddr != 127.0.0.0/8 jump inbound-ports"));
            chain.rule(&format!("{owner} oifname \"lo\" ip6 daddr != ::1 jump inbound-ports"));
        }
        owners.iter().for_each(|owner| chain.rule(&format!("{owner} return")));
        if let Some(port) = self.dns_port {
            chain.comment("names, before loopback is left alone: a host's own resolver listens there");
            chain.rule(&format!("udp dport 53 redirect to :{port}"));
            chain.rule(&format!("tcp dport 53 redirect to :{port}"));
        }
        chain.comment("what processes here say to each other");
        chain.rule("oifname \"lo\" return");
        chain.set("oifname", &self.interfaces_except, "return");
        chain.set("tcp dport", &self.outbound_ports_except, "return");
        chain.networks(&self.outbound_except, "return");
        let redirect = format!("redirect to :{}", self.outbound_port);
        chain.set("tcp dport", &self.outbound_ports, &redirect);
        match &self.outbound {
            Selected::All => chain.rule(&format!("meta l4proto tcp {redirect}")),
            Selected::Only(networks) => chain.networks(networks, &format!("meta l4proto tcp {redirect}")),
        }
        chain
    }

    fn families(&self, chain: &mut Chain) {
        if self.ipv4_only {
            chain.rule("meta nfproto ipv6 return");
        }
    }
}

/// One chain as it is written.
struct Chain {
    name: &'static str,
    lines: Vec<String>,
}

impl Chain {
    /// `hook` says where it is attached; empty where others jump to it.
    fn new(name: &'static str, hook: &str) -> Self {
        let lines = if hook.is_empty() { Vec::new() } else { vec![hook.to_owned()] };
        Self { name, lines }
    }

    fn rule(&mut self, rule: &str) {
        self.lines.push(rule.to_owned());
    }

    fn comment(&mut self, text: &str) {
        self.lines.push(format!("# {text}"));
    }

    /// A rule for any of some values; none where there are none.
    fn set<T: ToString>(&mut self, selector: &str, values: &[T], verdict: &str) {
        if !values.is_empty() {
            let values: Vec<String> = values.iter().map(T::to_string).collect();
            self.lines.push(format!("{selector} {{ {} }} {verdict}", values.join(", ")));
        }
    }

    fn networks(&mut self, networks: &[Network], verdict: &str) {
        let (v4, v6): (Vec<Network>, Vec<Network>) =
            networks.iter().partition(|network| network.ip.is_ipv4());
        for (selector, networks) in [("ip daddr", v4), ("ip6 daddr", v6)] {
            // Each has a rule of its own: in one set, ranges may not overlap.
            for network in networks {
                self.lines.push(format!("{selector} {network} {verdict}"));
            }
        }
    }

    fn write(&self, text: &mut String) {
        let _ = writeln!(text, "  chain {} {{", self.name);
        for line in &self.lines {
            let _ = writeln!(text, "    {line}");
        }
        text.push_str("  }\n");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn plain() -> Rules {
        Rules {
            proxy_uids: vec![owner("1337")],
            proxy_gids: vec![owner("1337")],
            outbound_port: 15001,
            inbound_port: 15006,
            dns_port: Some(15053),
            inbound: Selected::All,
            inbound_except: vec![22],
            outbound: Selected::All,
            outbound_except: Vec::new(),
            outbound_ports: Vec::new(),
            outbound_ports_except: Vec::new(),
            interfaces_except: Vec::new(),
            ipv4_only: false,
        }
    }

    fn owner(text: &str) -> Owner {
        text.parse().unwrap()
    }

    /// Compares with `tests/golden/intercept/NAME.nft`, or writes it when `WEFT_BLESS=1`.
    #[track_caller]
    fn check(name: &str, rules: &Rules) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/intercept").join(name);
        if std::env::var_os("WEFT_BLESS").is_some() {
            fs::write(&path, rules.text()).unwrap();
        }
        assert_eq!(rules.text(), fs::read_to_string(&path).unwrap(), "{}", path.display());
    }

    #[test]
    fn by_default_all_tcp_and_dns_are_captured() {
        check("default.nft", &plain());
    }

    #[test]
    fn exclusions_are_told_before_what_is_captured() {
        let rules = Rules {
            proxy_uids: vec![owner("weft")],
            proxy_gids: Vec::new(),
            inbound_except: vec![22, 9100],
            outbound_except: ["10.1.2.3/8", "10.0.0.0/16", "fd00::1"].map(|n| n.parse().unwrap()).to_vec(),
            outbound_ports_except: vec![3306, 5432],
            interfaces_except: ["docker0", "veth*"].map(|name| name.parse().unwrap()).to_vec(),
            ..plain()
        };
        check("exclusions.nft", &rules);
    }

    #[test]
    fn only_what_is_included_is_captured() {
        let rules = Rules {
            dns_port: None,
            inbound: "80, 8080".parse().unwrap(),
            outbound: "240.240.0.0/16".parse().unwrap(),
            outbound_ports: vec![443],
            ipv4_only: true,
            ..plain()
        };
        check("inclusions.nft", &rules);
    }

    #[test]
    fn nothing_inbound_leaves_the_way_in_alone() {
        check(
            "outbound_only.nft",
            &Rules { inbound: "".parse().unwrap(), inbound_except: Vec::new(), ..plain() },
        );
    }

    #[test]
    fn text_that_could_end_a_rule_is_no_value() {
        for wrong in ["", "1337; flush ruleset", "a b", "-1", "4294967296", "{0}"] {
            assert!(wrong.parse::<Owner>().is_err(), "{wrong:?}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "fd00::/129", "ten", "1.2.3.4/8 accept"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong:?}");
        }
        for wrong in ["", "a\"b", "longer-than-a-name-may-be", "a b"] {
            assert!(wrong.parse::<Interface>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_range_begins_at_its_first_address() {
        for (text, expected) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("fd00:1::1/16", "fd00::/16"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), expected);
        }
    }
}
