//! The order of the conditions, as Envoy documents it.

use std::time::Duration;

use super::*;
use crate::spec::{ListenerProtocol, TcpListener};

fn chain(name: &str, matches: ChainMatch) -> Chain {
    let tcp = TcpListener { stat_prefix: "".into(), clusters: Vec::new(), hash_source_ip: false };
    Chain {
        guards: Vec::new(),
        name: name.into(),
        matches,
        tls: None,
        protocol: ListenerProtocol::Tcp(tcp),
        idle_timeout: Duration::ZERO,
        access_logs: None,
        digest: [0; 32],
    }
}

/// `port=80 ip=10.0.0.0/8,::1/128 name=a.b transport=tls app=h2 direct=.. kind=local from=.. source-port=9`.
fn matches(text: &str) -> ChainMatch {
    let mut matches = ChainMatch::default();
    for (key, value) in text.split(' ').filter_map(|part| part.split_once('=')) {
        let nets = || value.split(',').map(|net| net.parse().unwrap()).collect();
        let words = || value.split(',').map(str::to_owned).collect();
        match key {
            "port" => matches.destination_port = Some(value.parse().unwrap()),
            "ip" => matches.destinations = nets(),
            "name" => matches.server_names = words(),
            "transport" => {
                matches.transport = Some(if value == "tls" { Transport::Tls } else { Transport::Raw })
            }
            "app" => matches.applications = words(),
            "direct" => matches.direct_sources = nets(),
            "kind" if value == "local" => matches.source_kind = SourceKind::Local,
            "kind" => matches.source_kind = SourceKind::External,
            "from" => matches.sources = nets(),
            "source-port" => matches.source_ports = vec![value.parse().unwrap()],
            _ => panic!("{key} is no condition"),
        }
    }
    matches
}

fn facts(text: &str) -> Facts {
    let mut facts = Facts {
        destination: Some("10.1.2.3:443".parse().unwrap()),
        source: Some("192.0.2.7:40000".parse().unwrap()),
        ..Facts::default()
    };
    for (key, value) in text.split(' ').filter_map(|part| part.split_once('=')) {
        match key {
            "to" if value == "unix" => (facts.destination, facts.source) = (None, None),
            "to" => facts.destination = Some(value.parse().unwrap()),
            "from" => facts.source = Some(value.parse().unwrap()),
            "name" => (facts.server_name, facts.transport) = (Some(value.to_owned()), Transport::Tls),
            "app" => facts.applications = value.split(',').map(|name| name.as_bytes().to_vec()).collect(),
            "transport" => facts.transport = if value == "tls" { Transport::Tls } else { Transport::Raw },
            _ => panic!("{key} is no fact"),
        }
    }
    facts
}

#[track_caller]
fn check(chains: &[&str], default: bool, cases: &[(&str, &str)]) {
    let all = chains.iter().map(|text| chain(text, matches(text))).collect();
    let chains = Chains::new(all, default.then(|| chain("default", ChainMatch::default()))).unwrap();
    for (connection, expected) in cases {
        let found = chains.choose(&facts(connection)).map(|index| chains.all()[index].name.to_string());
        assert_eq!(found.as_deref().unwrap_or("none"), *expected, "{connection:?} among {chains:?}");
    }
}

#[test]
fn a_port_comes_before_all_else_and_there_is_no_way_back() {
    check(
        &["port=443 name=a.b", "name=c.d", ""],
        true,
        &[
            ("name=a.b", "port=443 name=a.b"),
            ("name=c.d", "default"),
            ("to=10.1.2.3:80 name=c.d", "name=c.d"),
            ("to=10.1.2.3:80 name=x.y", ""),
        ],
    );
}

#[test]
fn the_longest_prefix_of_the_destination_comes_before_the_name() {
    check(
        &["ip=10.0.0.0/8 name=a.b", "ip=10.1.0.0/16", "ip=10.1.2.3/32 name=c.d", "ip=2001:db8::/32"],
        true,
        &[
            ("name=c.d", "ip=10.1.2.3/32 name=c.d"),
            ("name=a.b", "default"),
            ("to=10.1.9.9:443 name=a.b", "ip=10.1.0.0/16"),
            ("to=10.9.9.9:443 name=a.b", "ip=10.0.0.0/8 name=a.b"),
            ("to=10.9.9.9:443", "default"),
            ("to=[2001:db8::1]:443", "ip=2001:db8::/32"),
            ("to=[::ffff:10.1.9.9]:443", "ip=10.1.0.0/16"),
            ("to=unix", "default"),
        ],
    );
}

#[test]
fn an_exact_name_comes_before_the_longest_suffix_and_that_before_none() {
    check(
        &["name=a.b.c", "name=*.b.c", "name=*.c,c", ""],
        false,
        &[
            ("name=a.b.c", "name=a.b.c"),
            ("name=x.b.c", "name=*.b.c"),
            ("name=y.x.b.c", "name=*.b.c"),
            ("name=b.c", "name=*.c,c"),
            ("name=c", "name=*.c,c"),
            ("name=d", ""),
            ("", ""),
        ],
    );
}

#[test]
fn the_name_comes_before_transport_and_that_before_the_application() {
    check(
        &["name=a.b transport=raw", "transport=tls app=h2", "transport=tls", "app=h2", "transport=raw"],
        true,
        &[
            ("name=a.b", "default"),
            ("name=x app=h2", "transport=tls app=h2"),
            ("name=x app=http/1.1", "transport=tls"),
            ("app=h2", "transport=raw"),
        ],
    );
}

#[test]
fn of_application_protocols_the_clients_first_counts() {
    check(
        &["app=h2", "app=http/1.1,http/1.0", ""],
        false,
        &[
            ("app=h2,http/1.1", "app=h2"),
            ("app=http/1.1,h2", "app=http/1.1,http/1.0"),
            ("app=x,http/1.0", "app=http/1.1,http/1.0"),
            ("app=x", ""),
        ],
    );
}

#[test]
fn sources_come_last_each_by_its_own_order() {
    check(
        &["direct=192.0.2.0/24", "kind=external", "kind=local"],
        false,
        &[
            ("", "direct=192.0.2.0/24"),
            ("from=198.51.100.1:1", "kind=external"),
            ("from=10.1.2.3:1", "kind=local"),
            ("from=127.0.0.1:1", "kind=local"),
            ("to=unix", "kind=local"),
        ],
    );
    check(
        &["from=192.0.2.0/24", "from=192.0.2.7/32 source-port=9", "source-port=40000"],
        false,
        &[
            ("", "none"),
            ("from=192.0.2.7:9", "from=192.0.2.7/32 source-port=9"),
            ("from=192.0.2.8:9", "from=192.0.2.0/24"),
            ("from=198.51.100.1:40000", "source-port=40000"),
            ("from=198.51.100.1:1", "none"),
        ],
    );
}

#[test]
fn two_chains_for_the_same_connections_are_refused() {
    for (chains, expected) in [
        (["", ""], true),
        (["name=a,b", "name=b,c"], true),
        (["ip=10.0.0.0/8", "ip=10.1.0.0/8"], true),
        (["", "ip=0.0.0.0/0"], true),
        (["app=h2,x", "app=h2"], true),
        (["name=a", "name=b"], false),
        (["transport=tls", "transport=raw"], false),
        (["port=1", ""], false),
        (["kind=local", "kind=external"], false),
    ] {
        let refused = Chains::new(chains.map(|text| chain(text, matches(text))).into(), None).is_err();
        assert_eq!(refused, expected, "{chains:?}");
    }
}

#[test]
fn a_chain_without_conditions_or_a_default_alone_needs_no_choice() {
    let only = |chains: &[&str], default: bool| {
        let all = chains.iter().map(|text| chain(text, matches(text))).collect();
        Chains::new(all, default.then(|| chain("default", ChainMatch::default()))).unwrap().only().is_some()
    };
    assert!(only(&[""], false));
    assert!(only(&[], true));
    assert!(!only(&["name=a"], false));
    assert!(!only(&[""], true));
}
