//! What of `resolv.conf` counts here: name servers and search domains (resolv.conf(5)). Pure.

use std::net::{IpAddr, SocketAddr};

/// Port of name servers.
const PORT: u16 = 53;
/// Name servers that are asked, as the C library does (`MAXNS`).
const SERVERS_MAX: usize = 3;
/// Search domains that are tried.
const DOMAINS_MAX: usize = 32;

/// The host's own resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolv {
    /// Name servers, in the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    /// Search domains, lower case, without dots at their ends.
    pub search: Vec<String>,
}

/// Reads the text of the file; what is not understood is passed over, as the C library does.
pub fn parse(text: &str) -> Resolv {
    let mut found = Resolv::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                // An IPv6 address may name its interface; that is for the system's own resolver alone.
                let ip = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                found.servers.extend(ip.map(|ip| SocketAddr::new(ip, PORT)));
            }
            // The last of them counts.
            Some("search" | "domain") => {
                let domain = |word: &str| word.trim_matches('.').to_ascii_lowercase();
                found.search = words.map(domain).filter(|domain| !domain.is_empty()).collect();
            }
            _ => {}
        }
    }
    found.servers.truncate(SERVERS_MAX);
    found.search.truncate(DOMAINS_MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_the_c_library_reads_it() {
        let text = "# made by hand\nnameserver 10.0.0.2\n  nameserver fe80::1%eth0 \nnameserver nowhere\n\
                    domain old.test\nsearch Default.svc.cluster.local. svc.cluster.local\noptions ndots:5\n\
                    nameserver 10.0.0.3\nnameserver 10.0.0.4\n";
        let found = parse(text);
        let servers: Vec<String> = found.servers.iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["10.0.0.2:53", "[fe80::1]:53", "10.0.0.3:53"]);
        assert_eq!(found.search, ["default.svc.cluster.local", "svc.cluster.local"]);
        assert_eq!(parse(""), Resolv::default());
    }
}
