//! Host names to addresses: by the hosts file, else by the resolvers that the system names, with how long an answer lives.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf,
};

/// The system's files; an edit of either is seen by the next lookup.
const FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// Longest wait for one answer of one resolver, so that one that is away leaves time to ask another.
const QUERY_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// The addresses of a host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Never empty; IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// How long they live; none where no record says, as in the hosts file.
    pub ttl: Option<Duration>,
}

/// Looks host names up.
pub struct Names {
    /// The resolver in use, and the state of the system's files that it was made from. Shared by lookups alone, away from the
    /// workers.
    current: Mutex<(Stamps, Arc<Asked>)>,
}

type Stamps = [Option<SystemTime>; 2];

/// Who is asked.
struct Asked {
    hosts: Hosts,
    resolver: TokioResolver,
}

impl Names {
    /// As the system is set up, now and whenever its files change.
    pub fn of_system() -> Self {
        Self { current: Mutex::new((stamps(), Arc::new(Asked::of_system()))) }
    }

    /// The addresses of a host name. Errors: no such name, or no answer.
    pub async fn addresses(self: Arc<Self>, host: Arc<str>) -> Result<Resolved, String> {
        let asked = self.asked();
        asked.addresses(&host).await
    }

    fn asked(&self) -> Arc<Asked> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps();
        if current.0 != stamps {
            *current = (stamps, Arc::new(Asked::of_system()));
        }
        current.1.clone()
    }
}

fn stamps() -> Stamps {
    FILES.map(|file| Path::new(file).metadata().and_then(|of| of.modified()).ok())
}

impl Asked {
    fn of_system() -> Self {
        let (config, options) = system_conf::read_system_conf().unwrap_or_else(|error| {
            // resolv.conf(5): without it the resolver is on this host.
            tracing::warn!(%error, "no resolver is set up; asking this host's own");
            let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
            (ResolverConfig::from_parts(None, Vec::new(), vec![local]), ResolverOpts::default())
        });
        let hosts = Hosts::from_system().unwrap_or_default();
        Self::new(hosts, config, options)
    }

    fn new(hosts: Hosts, config: ResolverConfig, options: ResolverOpts) -> Self {
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let own = builder.options_mut();
        *own = options;
        own.timeout = own.timeout.min(QUERY_TIMEOUT_MAX);
        own.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Who asks knows when to ask again, and the hosts file comes first, above.
        own.cache_size = 0;
        own.use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build().expect("only TLS settings can be wrong, and there are none");
        Self { hosts, resolver }
    }

    async fn addresses(&self, host: &str) -> Result<Resolved, String> {
        let name = Name::from_utf8(host).map_err(|error| error.to_string())?;
        let listed: Vec<_> = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind)))
            .flat_map(|found| {
                found.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()
            })
            .collect();
        let (addresses, ttl) = if listed.is_empty() {
            let found = self.resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
            // Aliases on the way to an address live no longer than they say either.
            let ttl = found.as_lookup().answers().iter().map(|record| record.ttl).min();
            (found.iter().collect(), ttl.map(|seconds| Duration::from_secs(seconds.into())))
        } else {
            (listed, None)
        };
        if addresses.is_empty() {
            return Err("the name has no addresses".into());
        }
        Ok(Resolved { addresses: routed(addresses), ttl })
    }
}

/// Without the addresses that this host has no route to (of IPv6, mostly), unless it has none to any.
fn routed(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let routed: Vec<_> = addresses.iter().copied().filter(|address| has_route(*address)).collect();
    if routed.is_empty() { addresses } else { routed }
}

/// Whether the system would send to an address; nothing is sent.
fn has_route(address: IpAddr) -> bool {
    let local: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Any port does.
    UdpSocket::bind((local, 0)).and_then(|socket| socket.connect((address, 9))).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{
        str::FromStr,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use hickory_resolver::proto::{
        op::{Message, ResponseCode},
        rr::{RData, Record},
    };
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that knows `(name, address, TTL in seconds)`, and nobody else. It never answers for `away.test.`.
    async fn server(
        known: &'static [(&'static str, &'static str, u32)],
    ) -> (ResolverConfig, ResolverOpts, Arc<AtomicUsize>) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut at = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
        at.connections[0].port = socket.local_addr().unwrap().port();
        let queries = Arc::new(AtomicUsize::new(0));
        let count = queries.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (size, peer) = socket.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Relaxed);
                let query = Message::from_vec(&buffer[..size]).unwrap();
                let asked = query.queries[0].clone();
                if asked.name().to_string() == "away.test." {
                    continue;
                }
                let mut reply = query.into_response();
                let of_name = known.iter().filter(|(name, ..)| *name == asked.name().to_string());
                if of_name.clone().next().is_none() {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                }
                reply.answers.extend(of_name.filter_map(|(_, address, ttl)| {
                    let data = RData::from(address.parse::<IpAddr>().unwrap());
                    (data.record_type() == asked.query_type())
                        .then(|| Record::from_rdata(asked.name().clone(), *ttl, data))
                }));
                socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        let mut options = ResolverOpts::default();
        options.timeout = Duration::from_millis(100);
        options.attempts = 1;
        let search = vec![Name::from_str("corp.test.").unwrap()];
        (ResolverConfig::from_parts(None, search, vec![at]), options, queries)
    }

    fn hosts(text: &str) -> Hosts {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(text.as_bytes()).unwrap();
        hosts
    }

    #[tokio::test]
    async fn names_are_found_with_the_shortest_life_of_their_records() {
        let (config, options, _) = server(&[
            ("db.test.", "127.0.0.2", 60),
            ("db.test.", "127.0.0.3", 20),
            ("short.corp.test.", "127.0.0.4", 5),
            ("listed.test.", "127.0.0.5", 5),
        ])
        .await;
        let asked = Asked::new(hosts("127.0.0.9 listed.test listed\n"), config, options);
        let cases = [
            ("db.test", Ok((&["127.0.0.2", "127.0.0.3"][..], Some(20)))),
            ("db.test.", Ok((&["127.0.0.2", "127.0.0.3"][..], Some(20)))),
            ("short", Ok((&["127.0.0.4"][..], Some(5)))),
            ("listed.test", Ok((&["127.0.0.9"][..], None))),
            ("listed", Ok((&["127.0.0.9"][..], None))),
            ("nobody.test", Err(())),
            ("away.test", Err(())),
            ("a name..", Err(())),
        ];
        for (host, expected) in cases {
            let expected = expected.map(|(addresses, ttl)| Resolved {
                addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
                ttl: ttl.map(Duration::from_secs),
            });
            assert_eq!(asked.addresses(host).await.map_err(|_| ()), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn every_lookup_asks_anew() {
        let (config, options, queries) = server(&[("db.test.", "127.0.0.2", 60)]).await;
        let asked = Asked::new(Hosts::default(), config, options);
        for _ in 0..2 {
            asked.addresses("db.test").await.unwrap();
        }
        // For addresses of both families.
        assert_eq!(queries.load(Relaxed), 4);
    }

    #[tokio::test]
    async fn this_host_is_known_without_asking() {
        let resolved = Arc::new(Names::of_system()).addresses("localhost".into()).await.unwrap();
        assert!(resolved.addresses.iter().all(IpAddr::is_loopback));
    }

    #[test]
    fn an_address_without_a_route_is_left_out_unless_all_are_without() {
        let (loopback, nowhere) = (Ipv4Addr::LOCALHOST.into(), IpAddr::from([255, 255, 255, 255]));
        assert_eq!(routed(vec![nowhere, loopback]), [loopback]);
        assert_eq!(routed(vec![nowhere]), [nowhere]);
    }
}
