//! Settings as operators write them, and what is said of those that cannot be.

use super::*;

#[test]
fn a_short_file_is_enough() {
    let settings = Settings::from_yaml("workload: web\nupstreams: ['127.0.0.1:9001=api:8080']\n").unwrap();
    assert_eq!(settings.metadata.upstreams[0].service, "api");
    assert_eq!(settings.metadata.upstreams[0].port, 8080);
    assert_eq!(settings.control_planes.len(), 1);
}

#[test]
fn the_environment_names_settings_and_leaves_those_of_other_commands_alone() {
    let vars = [
        ("WEFT_CONTROL", "127.0.0.1:1,127.0.0.1:2"),
        ("WEFT_PROXY_ADMIN", "127.0.0.1:3"),
        ("WEFT_ADDR", "http://127.0.0.1:4"),
        ("CONTROL", "x"),
    ];
    let found: BTreeMap<String, String> =
        environment(vars.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()))).collect();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["admin", "control"]);
    let raw = RawSettings { control: Some(OneOrMany::One(found["control"].clone())), ..Default::default() };
    assert_eq!(Settings::check(raw).unwrap().control_planes.len(), 2);
}

#[test]
fn long_upstreams_and_inbound_are_read() {
    let text = "
upstreams: [{bind: '127.0.0.1:9001', service: api}]
inbound: [{bind: '127.0.0.1:15006', service: web, port: 80, app: '127.0.0.1:8080', protocol: http}]
gateway_ports: {'80': 8080}
drain_grace: 5s
drain_timeout: 500ms
";
    let settings = Settings::from_yaml(text).unwrap();
    assert_eq!(settings.metadata.inbound[0].app.port(), Some(8080));
    assert_eq!(settings.metadata.gateway_ports[&80], 8080);
    assert_eq!(settings.drain_grace, Duration::from_secs(5));
    assert_eq!(settings.drain_timeout, Duration::from_millis(500));
}

#[test]
fn several_workloads_share_a_proxy_and_each_port_is_ones() {
    let text = "
workloads: [{name: web, labels: {app: web}, service_account: web}, {name: db, namespace: data}]
inbound: [{service: db, app: '127.0.0.1:5432', workload: db}]
";
    let found = Settings::from_yaml(text).unwrap().metadata;
    assert_eq!((found.workloads.len(), found.inbound[0].workload.as_str()), (2, "db"));
    for wrong in [
        "workloads: [{name: a}, {name: a}]",
        "workloads: [{name: ''}]",
        "inbound: [{service: db, app: '127.0.0.1:5432', workload: db}]",
    ] {
        assert!(Settings::from_yaml(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn capture_is_one_word_and_each_of_its_addresses_another() {
    let found = Settings::from_yaml("capture: true\nnamespace: shop\n").unwrap();
    let ports = [found.metadata.outbound_capture, found.metadata.inbound_capture];
    assert_eq!(ports.map(|at| at.unwrap().port()), [15001, 15006]);
    let dns = found.dns.unwrap();
    assert!(dns.bind.contains(&"127.0.0.1:15053".parse().unwrap()) && dns.namespace == "shop");
    assert!(found.metadata.extensions.contains(&HOST_NAMES.to_owned()));
    let text = "dns: '127.0.0.1:53, [::1]:53'\ndns_resolvers: ['10.0.0.2', '10.0.0.3:5353']\n";
    let found = Settings::from_yaml(text).unwrap();
    let dns = found.dns.unwrap();
    assert_eq!(dns.resolvers, ["10.0.0.2:53", "10.0.0.3:5353"].map(|at| at.parse().unwrap()));
    assert_eq!((dns.bind.len(), found.metadata.outbound_capture), (2, None));
    let plain = Settings::from_yaml("workload: web\n").unwrap();
    assert!(plain.dns.is_none() && !plain.metadata.extensions.contains(&HOST_NAMES.to_owned()));
    for wrong in ["dns: [here]", "dns_resolvers: there", "upstreams: [{bind: 'unix:x', service: a}]"] {
        assert!(Settings::from_yaml(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let error = Settings::from_yaml("worker: 3\n").unwrap_err().to_string();
    assert!(error.contains("worker"), "{error}");
}

#[test]
fn a_bad_upstream_is_named_by_its_place() {
    let error = Settings::from_yaml("upstreams: ['9001=api']\n").unwrap_err().to_string();
    assert!(error.contains("upstreams[0]"), "{error}");
}
