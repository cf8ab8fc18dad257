//! When names are looked up, over a scripted resolver on a paused clock.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard},
};

use prost::{Message, Name};
use weft_proto::xds::{
    envoy::config::{
        cluster::v3::{
            Cluster as RawCluster,
            cluster::{ClusterDiscoveryType, DiscoveryType, RefreshRate},
        },
        core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier},
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint as RawEndpoint, LbEndpoint, LocalityLbEndpoints,
            lb_endpoint::HostIdentifier,
        },
    },
    google::protobuf::{Any, Duration as ProtoDuration},
};

use super::*;
use crate::xds::decode::{Kind, Resource, decode};

/// A resolver that says what it is told to, and keeps when it was asked.
#[derive(Default)]
struct Script {
    answer: Option<Resolved>,
    /// Milliseconds since the first question.
    asked: Vec<u128>,
    began: Option<Instant>,
}

#[derive(Clone, Default)]
struct Resolver(Arc<Mutex<Script>>);

impl Resolver {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    fn says(&self, address: &str, ttl_s: u64) {
        let addresses = vec![address.parse::<IpAddr>().unwrap()];
        self.script().answer = Some(Resolved { addresses, ttl: Some(Duration::from_secs(ttl_s)) });
    }

    fn fails(&self) {
        self.script().answer = None;
    }

    fn asked(&self) -> Vec<u128> {
        self.script().asked.clone()
    }

    async fn lookup(self) -> Result<Resolved, String> {
        let mut script = self.script();
        let began = *script.began.get_or_insert_with(Instant::now);
        script.asked.push(began.elapsed().as_millis());
        script.answer.clone().ok_or_else(|| "no such name".into())
    }
}

fn seconds(seconds: i64) -> Option<ProtoDuration> {
    Some(ProtoDuration { seconds, nanos: 0 })
}

/// `db.test:5432`, whose records live as they say, without jitter.
#[expect(deprecated, reason = "the fields that control planes send")]
fn raw() -> RawCluster {
    let socket = SocketAddress {
        address: "db.test".into(),
        port_specifier: Some(PortSpecifier::PortValue(5432)),
        ..Default::default()
    };
    let address = Some(Address { address: Some(address::Address::SocketAddress(socket)) });
    let host = HostIdentifier::Endpoint(RawEndpoint { address, ..Default::default() });
    let endpoint = LbEndpoint { host_identifier: Some(host), ..Default::default() };
    let locality = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() };
    RawCluster {
        name: "db".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: "db".into(),
            endpoints: vec![locality],
            ..Default::default()
        }),
        respect_dns_ttl: true,
        dns_jitter: seconds(0),
        ..Default::default()
    }
}

fn spec(raw: &RawCluster) -> Arc<Spec> {
    let any = Any { type_url: RawCluster::type_url(), value: raw.encode_to_vec() };
    let Ok(Resource::Cluster(cluster)) = decode(Kind::Cluster, &any) else { panic!("not a cluster") };
    Arc::new(Spec { clusters: [(cluster.name.clone(), cluster)].into_iter().collect(), ..Spec::default() })
}

struct Running {
    spec: watch::Sender<Arc<Spec>>,
    answers: watch::Receiver<Answers>,
    stop: tokio_util::sync::DropGuard,
}

fn start(raw: &RawCluster, resolver: &Resolver) -> Running {
    let (spec, specs) = watch::channel(spec(raw));
    let (answer, answers) = watch::channel(Answers::default());
    let stop = CancellationToken::new();
    let resolver = resolver.clone();
    tokio::spawn(run(specs, answer, move |_| resolver.clone().lookup(), stop.clone()));
    Running { spec, answers, stop: stop.drop_guard() }
}

impl Running {
    /// The cluster's addresses when `ms` more have passed.
    async fn after(&mut self, ms: u64) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let answers = self.answers.borrow();
        answers.get("db").map_or_else(Vec::new, |answer| {
            answer.set.endpoints().map(|endpoint| endpoint.address.to_string()).collect()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_record_is_seen_after_its_life_and_not_before() {
    let resolver = Resolver::default();
    resolver.says("10.0.0.1", 30);
    let mut running = start(&raw(), &resolver);
    assert_eq!(running.after(1).await, ["10.0.0.1:5432"]);
    resolver.says("10.0.0.2", 60);
    assert_eq!(running.after(29_000).await, ["10.0.0.1:5432"]);
    assert_eq!(running.after(1_100).await, ["10.0.0.2:5432"]);
    running.after(60_000).await;
    assert_eq!(resolver.asked(), [0, 30_000, 90_000]);
}

#[tokio::test(start_paused = true)]
#[expect(deprecated, reason = "the fields that control planes send")]
async fn a_cluster_that_does_not_respect_records_asks_at_its_own_rate() {
    let resolver = Resolver::default();
    resolver.says("10.0.0.1", 300);
    let mut running =
        start(&RawCluster { respect_dns_ttl: false, dns_refresh_rate: seconds(2), ..raw() }, &resolver);
    running.after(4_500).await;
    assert_eq!(resolver.asked(), [0, 2_000, 4_000]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_found_any_more_keeps_its_last_answer_and_is_asked_for_again() {
    let resolver = Resolver::default();
    resolver.says("10.0.0.1", 30);
    let mut running = start(&raw(), &resolver);
    running.after(1).await;
    resolver.fails();
    assert_eq!(running.after(37_000).await, ["10.0.0.1:5432"]);
    assert_eq!(resolver.asked(), [0, 30_000, 35_000]);
    resolver.says("10.0.0.2", 30);
    assert_eq!(running.after(4_000).await, ["10.0.0.2:5432"]);
}

#[tokio::test(start_paused = true)]
#[expect(deprecated, reason = "the fields that control planes send")]
async fn failures_back_off_and_one_answer_ends_that() {
    let resolver = Resolver::default();
    let rate = RefreshRate { base_interval: seconds(1), max_interval: seconds(60) };
    let mut running = start(&RawCluster { dns_failure_refresh_rate: Some(rate), ..raw() }, &resolver);
    running.after(60_000).await;
    let failed = resolver.asked().len();
    assert!((6..=8).contains(&failed), "{:?}", resolver.asked());
    resolver.says("10.0.0.1", 1_000);
    assert_eq!(running.after(64_000).await, ["10.0.0.1:5432"]);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_changes_is_looked_up_at_once_and_one_that_goes_is_forgotten() {
    let resolver = Resolver::default();
    resolver.says("10.0.0.1", 3_000);
    let mut running = start(&raw(), &resolver);
    running.after(1).await;
    resolver.says("10.0.0.2", 3_000);
    running.spec.send_replace(spec(&raw()));
    assert_eq!(running.after(1).await, ["10.0.0.2:5432"]);
    running.spec.send_replace(Arc::default());
    assert!(running.after(1).await.is_empty());
    drop(running.stop);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_never_answers_is_given_up() {
    let (_spec, specs) = watch::channel(spec(&raw()));
    let (answer, answers) = watch::channel(Answers::default());
    let stop = CancellationToken::new();
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let never = move |_| {
        *count.lock().unwrap() += 1;
        std::future::pending()
    };
    let task = tokio::spawn(run(specs, answer, never, stop.clone()));
    tokio::time::sleep(LOOKUP_TIMEOUT * 3).await;
    assert_eq!(*asked.lock().unwrap(), 2);
    assert!(answers.borrow().is_empty());
    stop.cancel();
    task.await.unwrap();
}
