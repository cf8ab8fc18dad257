//! Who is ejected, for how long, and who is not.

use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    cluster::tally::Seen,
    spec::{EndpointHealth, Enforcing},
};

fn config() -> Outlier {
    Outlier {
        consecutive_5xx: 5,
        consecutive_gateway: 3,
        consecutive_local: 4,
        split_local: false,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        ejection_jitter_max: Duration::ZERO,
        ejections_max_percent: 100,
        always_one: false,
        enforcing: Enforcing {
            consecutive_5xx: 100,
            consecutive_gateway: 0,
            consecutive_local: 100,
            success_rate: 100,
            success_rate_local: 100,
            failure_percentage: 0,
            failure_percentage_local: 0,
        },
        success_rate_hosts_min: 5,
        success_rate_requests_min: 100,
        success_rate_deviations: 1.9,
        failure_percentage: 85,
        failure_percentage_hosts_min: 5,
        failure_percentage_requests_min: 50,
        check_ends_ejection: true,
    }
}

struct Bench {
    config: Outlier,
    vitals: Vitals,
    hosts: Vec<Arc<Vital>>,
    detector: Detector,
    rng: StdRng,
    now: Instant,
}

fn address(host: usize) -> EndpointAddress {
    EndpointAddress::Tcp(([127, 0, 0, 1], host as u16 + 1).into())
}

impl Bench {
    fn new(config: Outlier, hosts: usize) -> Self {
        let vitals = Vitals::default();
        let hosts: Vec<_> = (0..hosts).map(|host| vitals.of(&address(host), false)).collect();
        let mut detector = Detector::default();
        detector.watch(hosts.iter().cloned().enumerate().map(|(host, vital)| (address(host), vital)));
        Self { config, vitals, hosts, detector, rng: StdRng::seed_from_u64(7), now: Instant::now() }
    }

    fn meet(&self, host: usize, times: usize, seen: Seen) {
        for _ in 0..times {
            self.hosts[host].tally.note(&self.config, seen);
        }
    }

    fn look(&mut self, sweep: bool) -> Vec<Verdict> {
        let look =
            &mut Look { config: &self.config, vitals: &self.vitals, now: self.now, rng: &mut self.rng };
        if sweep { self.detector.sweep(look) } else { self.detector.look(look) }
    }

    fn ejected(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].ejected()).collect()
    }

    /// Seconds, in whole sweeps, until a host that is ejected is back.
    fn seconds_out(&mut self) -> u64 {
        let mut seconds = 0;
        while !self.ejected().is_empty() {
            self.now += self.config.interval;
            seconds += self.config.interval.as_secs();
            self.look(true);
        }
        seconds
    }
}

#[test]
fn consecutive_errors_eject_and_one_good_answer_begins_anew() {
    let mut bench = Bench::new(config(), 10);
    bench.meet(0, 4, Seen::Status(500));
    bench.meet(0, 1, Seen::Status(404));
    bench.meet(0, 4, Seen::Status(500));
    assert_eq!(bench.look(false), []);
    bench.meet(0, 1, Seen::Status(503));
    assert_eq!(bench.look(false), [Verdict::Ejected(address(0), Reason::Consecutive5xx)]);
    assert_eq!(bench.ejected(), [0]);
    bench.meet(0, 50, Seen::Status(500));
    assert_eq!(bench.look(false), [], "it is ejected already");
}

#[test]
fn what_breaks_counts_as_an_error_unless_it_is_told_apart() {
    let mut bench = Bench::new(config(), 10);
    bench.meet(0, 3, Seen::Broken);
    bench.meet(0, 2, Seen::Late);
    bench.look(false);
    assert_eq!(bench.ejected(), [0]);

    let mut bench = Bench::new(Outlier { split_local: true, ..config() }, 10);
    bench.meet(0, 2, Seen::Broken);
    bench.meet(0, 1, Seen::Late);
    bench.meet(1, 3, Seen::Status(500));
    bench.meet(1, 9, Seen::Broken);
    assert_eq!(bench.look(false), [Verdict::Ejected(address(1), Reason::ConsecutiveLocal)]);
    bench.meet(0, 1, Seen::Connected);
    bench.meet(0, 3, Seen::Broken);
    assert_eq!(bench.look(false), [], "a connection begins the count anew");
}

#[test]
fn gateway_errors_are_found_but_not_enforced_by_default() {
    let mut bench = Bench::new(config(), 10);
    bench.meet(0, 3, Seen::Status(502));
    assert_eq!(bench.look(false), [Verdict::Spared(address(0), Reason::ConsecutiveGateway)]);
    bench.config.enforcing.consecutive_gateway = 100;
    bench.config.consecutive_5xx = 0;
    bench.meet(1, 2, Seen::Status(504));
    bench.meet(1, 1, Seen::Status(500));
    bench.meet(1, 1, Seen::Status(504));
    assert_eq!(bench.look(false), [], "another error is between them");
    bench.meet(1, 2, Seen::Status(504));
    assert_eq!(bench.look(false), [Verdict::Ejected(address(1), Reason::ConsecutiveGateway)]);
}

#[test]
fn no_more_are_ejected_than_the_limit_allows() {
    for (percent, always_one, hosts, expected) in [
        (10, false, 10, 1),
        (30, false, 10, 3),
        (25, false, 10, 3),
        (0, false, 10, 0),
        (0, true, 10, 1),
        (10, false, 2, 1),
    ] {
        let limited = Outlier { ejections_max_percent: percent, always_one, ..config() };
        let mut bench = Bench::new(limited, hosts);
        for host in 0..hosts {
            bench.meet(host, 5, Seen::Status(500));
        }
        let found = bench.look(false);
        assert_eq!(bench.ejected().len(), expected, "{percent}");
        let refused = found.iter().filter(|verdict| matches!(verdict, Verdict::TooMany(..))).count();
        assert_eq!(refused, hosts - expected);
    }
}

#[test]
fn enforcing_is_a_chance() {
    let mut bench = Bench::new(config(), 400);
    bench.config.enforcing.consecutive_5xx = 30;
    for host in 0..400 {
        bench.meet(host, 5, Seen::Status(500));
    }
    bench.look(false);
    assert!((80..160).contains(&bench.ejected().len()), "{}", bench.ejected().len());
}

#[test]
fn ejections_grow_up_to_their_bound_and_shrink_while_all_is_well() {
    let mut bench = Bench::new(Outlier { max_ejection_time: Duration::from_secs(80), ..config() }, 10);
    for seconds in [30, 60, 80, 80] {
        bench.meet(0, 5, Seen::Status(500));
        bench.look(false);
        assert_eq!(bench.seconds_out(), seconds);
        // The sweep that takes an endpoint back counts as one that found it in service.
        bench.detector.hosts.get_mut(&address(0)).unwrap().times += 1;
    }
    for _ in 0..9 {
        bench.look(true);
    }
    bench.meet(0, 5, Seen::Status(500));
    bench.look(false);
    assert_eq!(bench.seconds_out(), 30);
}

#[test]
fn jitter_lengthens_an_ejection() {
    let mut bench = Bench::new(Outlier { ejection_jitter_max: Duration::from_secs(60), ..config() }, 10);
    let mut longest = 0;
    for _ in 0..20 {
        bench.meet(0, 5, Seen::Status(500));
        bench.look(false);
        let seconds = bench.seconds_out();
        assert!((30..=100).contains(&seconds), "{seconds}");
        longest = longest.max(seconds);
    }
    assert!(longest > 30);
}

#[test]
fn an_endpoint_that_succeeds_less_than_the_others_is_ejected() {
    let mut bench = Bench::new(config(), 6);
    for host in 0..6 {
        let failed = if host == 3 { 40 } else { 1 };
        bench.meet(host, 100 - failed, Seen::Status(200));
        for _ in 0..failed {
            bench.meet(host, 1, Seen::Status(500));
            bench.meet(host, 1, Seen::Status(200));
        }
    }
    assert_eq!(bench.look(true), [Verdict::Ejected(address(3), Reason::SuccessRate)]);
    assert_eq!(bench.look(true), [], "each interval is judged by itself");
}

#[test]
fn rates_need_enough_requests_and_endpoints() {
    for (hosts, requests) in [(4, 100), (6, 49)] {
        let mut bench = Bench::new(config(), hosts);
        bench.config.enforcing.failure_percentage = 100;
        for host in 0..hosts {
            for _ in 0..requests {
                bench.meet(host, 1, Seen::Status(if host == 0 { 500 } else { 200 }));
                bench.hosts[host].tally.take_suspicions().for_each(drop);
            }
        }
        assert_eq!(bench.look(true), [], "{hosts} {requests}");
    }
}

#[test]
fn a_share_of_failures_ejects_whatever_the_others_do() {
    let mut bench = Bench::new(Outlier { split_local: true, ..config() }, 5);
    bench.config.enforcing.failure_percentage_local = 100;
    for host in 0..5 {
        for _ in 0..60 {
            bench.meet(host, 1, Seen::Broken);
            bench.hosts[host].tally.take_suspicions().for_each(drop);
        }
    }
    bench.look(true);
    assert_eq!(bench.ejected().len(), 5);
}

#[test]
fn a_passed_check_ends_an_ejection() {
    let mut bench = Bench::new(config(), 10);
    bench.meet(0, 5, Seen::Status(500));
    bench.look(false);
    assert!(bench.hosts[0].tally.suspect(Suspicion::Pardon));
    assert_eq!(bench.look(false), [Verdict::Returned(address(0))]);
    assert!(bench.ejected().is_empty());
}

#[test]
fn an_ejection_outlives_updates_but_not_its_configuration() {
    let mut bench = Bench::new(config(), 10);
    bench.meet(0, 5, Seen::Status(500));
    bench.look(false);
    let hosts = bench.hosts.clone();
    let members = hosts.into_iter().take(2).enumerate().map(|(host, vital)| (address(host), vital));
    bench.detector.watch(members);
    assert_eq!((bench.detector.ejected(), bench.ejected().len()), (1, 1));
    bench.detector.end(&bench.vitals);
    assert!(bench.ejected().is_empty());
    assert_eq!(bench.hosts[0].standing(EndpointHealth::Admitting, true), crate::balance::Standing::Healthy);
}
