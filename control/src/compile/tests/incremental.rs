//! What is compiled anew after a change, and that it makes no difference.

use proptest::prelude::*;

use super::*;

const SERVICES: usize = 1000;

fn name(i: usize) -> String {
    format!("s{i}")
}

/// A mesh of a thousand services, in which one has some versions of endpoints.
struct Large {
    compiler: Compiler,
    services: Vec<Arc<Service>>,
}

impl Large {
    fn new() -> Self {
        let services = (0..SERVICES).map(|i| service(&name(i), &[(80, Protocol::Http)], &["v1"])).collect();
        Self { compiler: Compiler::default(), services }
    }

    fn set(&mut self, i: usize, versions: &[&str]) {
        self.services[i] = service(&name(i), &[(80, Protocol::Http)], versions);
    }

    fn update(&mut self, documents: &Arc<DocumentSet>) -> Arc<World> {
        self.compiler.update(mesh(&self.services), documents.clone())
    }
}

/// Names of the resources of a kind that are not the same allocation.
fn exchanged(kind: Kind, before: &ResourceSet, now: &ResourceSet) -> Vec<String> {
    let same = |resource: &&Arc<Resource>| {
        before.find(kind, &resource.name).is_some_and(|before| Arc::ptr_eq(before, resource))
    };
    now.of(kind).filter(|resource| !same(resource)).map(|resource| resource.name.to_string()).collect()
}

/// What a gRPC client asks for.
fn asked(target: &str) -> Asked {
    Asked { listeners: [target.into()].into(), ..Asked::default() }
}

/// A proxy that asks for the hosts that its requests need.
fn on_demand() -> NodeMetadata {
    NodeMetadata { on_demand: true, ..sidecar() }
}

fn hosts(hosts: &[&str]) -> Asked {
    let hosts = hosts.iter().map(|host| format!("{OUTBOUND_HTTP}/{host}").into()).collect();
    Asked { hosts, ..Asked::default() }
}

#[test]
fn a_proxy_that_asks_for_hosts_has_what_they_reach_and_nothing_else() {
    let mut large = Large::new();
    let documents = documents("");
    let first = large.update(&documents);
    let names = |set: &ResourceSet, kind| set.of(kind).map(|r| r.name.to_string()).collect::<Vec<_>>();
    let none = first.resources(&on_demand());
    assert_eq!(Kind::ALL.map(|kind| none.of(kind).count()), [0, 0, 0, 1, 1, 0, 0]);
    let asked = hosts(&["s7", "s8.default:80", "s8.default:81", "nowhere"]);
    let set = first.resources_asked(&on_demand(), &asked);
    let cluster = |i| format!("outbound|80||s{i}.default.svc.cluster.local");
    assert_eq!(names(&set, Kind::Cluster), [cluster(7), cluster(8)]);
    assert_eq!(names(&set, Kind::Endpoints), [cluster(7), cluster(8)]);
    assert_eq!(names(&set, Kind::VirtualHost), ["outbound-http/s7", "outbound-http/s8.default:80"]);

    // Others' endpoints do not concern it, its own are exchanged.
    large.set(9, &["v1", "v2"]);
    let second = large.update(&documents);
    assert!(Arc::ptr_eq(&set, &second.resources_asked(&on_demand(), &asked)));
    large.set(8, &["v1", "v2"]);
    let third = large.update(&documents);
    let now = third.resources_asked(&on_demand(), &asked);
    assert_eq!(exchanged(Kind::Endpoints, &set, &now), [cluster(8)]);
    assert_eq!(third.recompiled(), Recompiled { services: 1, tables: 0, scopes: 0 });
}

const IMPORTS: &str = "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {egress: [{hosts: [./s7.default.svc.cluster.local, ./s8.default.svc.cluster.local]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: near, namespace: default}
spec: {host: s8, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
";

#[test]
fn a_sidecar_scope_has_what_it_imports_and_costs_nothing_when_others_change() {
    let mut large = Large::new();
    let documents = documents(IMPORTS);
    let first = large.update(&documents);
    let set = first.resources(&sidecar());
    assert_eq!((set.of(Kind::Cluster).count(), set.of(Kind::Endpoints).count()), (2, 2));
    let elsewhere = NodeMetadata { namespace: "elsewhere".into(), ..sidecar() };
    assert_eq!(first.resources(&elsewhere).of(Kind::Cluster).count(), SERVICES);

    large.set(9, &["v1", "v2"]);
    let second = large.update(&documents);
    assert!(Arc::ptr_eq(&set, &second.resources(&sidecar())));
    large.set(8, &["v1", "v2"]);
    let third = large.update(&documents);
    let now = third.resources(&sidecar());
    assert_eq!(exchanged(Kind::Endpoints, &set, &now), ["outbound|80||s8.default.svc.cluster.local"]);
    assert!(set.shares(Kind::Routes, &now) && set.shares(Kind::Cluster, &now));
    assert_eq!(third.recompiled(), Recompiled { services: 1, tables: 0, scopes: 0 });
}

#[test]
fn one_endpoint_change_in_a_thousand_services_compiles_one_service_and_nothing_else() {
    let mut large = Large::new();
    let documents = documents("");
    let nodes: Vec<NodeMetadata> = (0..50).map(|i| upstream(&name(i))).chain([sidecar()]).collect();
    let grpc = [asked("s7"), asked("s8")];
    let first = large.update(&documents);
    assert_eq!((first.recompiled().services, first.recompiled().tables), (SERVICES, SERVICES));
    let before: Vec<_> = nodes.iter().map(|node| first.resources(node)).collect();
    let [grpc_before, grpc_other] = grpc.each_ref().map(|asked| first.resources_asked(&nodes[0], asked));
    assert_eq!(first.recompiled().scopes, nodes.len() + grpc.len());

    large.set(7, &["v1", "v2"]);
    let second = large.update(&documents);
    assert!(Arc::ptr_eq(first.verdict(), second.verdict()));
    let after: Vec<_> = nodes.iter().map(|node| second.resources(node)).collect();
    let [grpc_after, grpc_same] = grpc.each_ref().map(|asked| second.resources_asked(&nodes[0], asked));
    assert_eq!(second.recompiled(), Recompiled { services: 1, tables: 0, scopes: 0 });
    assert!(Arc::ptr_eq(&grpc_other, &grpc_same) && grpc_before.shares(Kind::Cluster, &grpc_after));
    assert_eq!(exchanged(Kind::Endpoints, &grpc_before, &grpc_after).len(), 1);
    for (i, (before, after)) in before.iter().zip(&after).enumerate() {
        let subscribed = i == 7 || i == nodes.len() - 1;
        assert_eq!(Arc::ptr_eq(before, after), !subscribed, "scope {i}");
        let expected =
            if subscribed { vec!["outbound|80||s7.default.svc.cluster.local".to_owned()] } else { vec![] };
        assert_eq!(exchanged(Kind::Endpoints, before, after), expected);
        for kind in [Kind::Cluster, Kind::Listener, Kind::Routes] {
            assert!(before.shares(kind, after), "scope {i}, {kind:?}");
        }
    }
}

#[test]
fn a_document_compiles_its_hosts_and_a_scope_that_it_does_not_concern_stays_the_same() {
    let mut large = Large::new();
    let other = upstream(&name(8));
    let first = large.update(&documents(""));
    let (before, all) = (first.resources(&other), first.resources(&sidecar()));
    let route = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [s7], http: [{directResponse: {status: 200}}]}
";
    let documents = documents(route);
    let second = large.update(&documents);
    assert!(Arc::ptr_eq(&before, &second.resources(&other)));
    let changed = second.resources(&sidecar());
    assert_eq!(exchanged(Kind::Routes, &all, &changed), [OUTBOUND_HTTP]);
    assert!(all.shares(Kind::Cluster, &changed) && all.shares(Kind::Listener, &changed));
    assert_eq!(second.recompiled(), Recompiled { services: 0, tables: 1, scopes: 2 });
    let third = large.update(&documents);
    assert_eq!(third.recompiled(), Recompiled::default());
}

const DELEGATES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: default}
spec: {hosts: [s7], http: [{delegate: {name: leaf}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: leaf, namespace: default}
spec: {http: [{directResponse: {status: 418}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: some, namespace: default}
spec: {hosts: [s8], http: [{match: [{sourceLabels: {app: web}}], directResponse: {status: 418}}]}
";

#[test]
fn a_delegate_compiles_the_host_of_its_root_and_clients_that_no_rule_asks_for_share_their_table() {
    let mut large = Large::new();
    let first = large.update(&documents(DELEGATES));
    let node = |app: &str| NodeMetadata { labels: [("app".into(), app.into())].into(), ..sidecar() };
    let table = |world: &World, app| {
        let set = world.resources(&node(app));
        set.find(Kind::Routes, OUTBOUND_HTTP).unwrap().clone()
    };
    assert!(Arc::ptr_eq(&table(&first, "a"), &table(&first, "b")));
    assert!(!Arc::ptr_eq(&table(&first, "a"), &table(&first, "web")));
    let mut now = DocumentSet::clone(&documents(DELEGATES));
    now.insert(first.document("VirtualService/default/some").unwrap().clone());
    now.insert(
        documents(&DELEGATES.replace("418", "425")).get("VirtualService/default/leaf").unwrap().clone(),
    );
    let second = large.update(&Arc::new(now));
    assert_eq!(second.recompiled(), Recompiled { services: 0, tables: 1, scopes: 0 });
    assert!(!Arc::ptr_eq(&table(&first, "a"), &table(&second, "a")));
}

/// A service with an endpoint in each of some places.
fn spread(name: &str, places: &[&str]) -> Arc<Service> {
    let mut service = Service::clone(&service(name, &[(80, Protocol::Http)], &vec!["v1"; places.len()]));
    let endpoints = Arc::make_mut(&mut service.endpoints);
    for (endpoint, region) in endpoints.values_mut().zip(places) {
        let locality = Locality { region: (*region).into(), ..Locality::default() };
        *endpoint = Arc::new(Endpoint { locality, ..Endpoint::clone(endpoint) });
    }
    Arc::new(service)
}

fn sidecar_in(region: &str) -> NodeMetadata {
    NodeMetadata { locality: [region.into(), String::new(), String::new()], ..sidecar() }
}

#[test]
fn proxies_of_one_place_share_a_service_that_goes_by_locality_and_all_proxies_share_the_others() {
    let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: near, trafficPolicy: {outlierDetection: {}}}
";
    let documents = documents(rule);
    let far = service("far", &[(80, Protocol::Http)], &["v1"]);
    let mut compiler = Compiler::default();
    let first = compiler.update(mesh(&[spread("near", &["a", "b"]), far.clone()]), documents.clone());
    let other = NodeMetadata { workload: "other".into(), ..sidecar_in("a") };
    let nodes = [sidecar_in("a"), other, sidecar_in("b"), sidecar()];
    let before: Vec<_> = nodes.iter().map(|node| first.resources(node)).collect();
    let names = ["near", "far"].map(|name| format!("outbound|80||{name}.default.svc.cluster.local"));
    let shared = |sets: &[Arc<ResourceSet>], i: usize, j: usize, name: &str| {
        let [a, b] = [&sets[i], &sets[j]].map(|set| set.find(Kind::Endpoints, name).unwrap());
        Arc::ptr_eq(a, b)
    };
    for (i, j, near) in [(0, 1, true), (0, 2, false), (0, 3, false), (2, 3, false)] {
        assert_eq!(shared(&before, i, j, &names[0]), near, "{i} {j}");
        assert!(shared(&before, i, j, &names[1]), "{i} {j}");
    }
    // A change that is seen from one place alone, a change elsewhere, and one for all.
    let more = service("far", &[(80, Protocol::Http)], &["v1", "v2"]);
    let second = compiler.update(mesh(&[spread("near", &["a", "b"]), more.clone()]), documents.clone());
    let third = compiler.update(mesh(&[spread("near", &["a", "b", "b"]), more]), documents);
    for (i, node) in nodes.iter().enumerate() {
        let [second, third] = [&second, &third].map(|world| world.resources(node));
        assert_eq!(exchanged(Kind::Endpoints, &before[i], &second), [names[1].clone()]);
        assert_eq!(exchanged(Kind::Endpoints, &second, &third), [names[0].clone()]);
    }
    let after: Vec<_> = nodes.iter().map(|node| third.resources(node)).collect();
    assert!(shared(&after, 0, 1, &names[0]) && !shared(&after, 0, 2, &names[0]));
    assert_eq!(third.recompiled(), Recompiled { services: 1, tables: 0, scopes: 0 });
}

#[test]
fn a_scope_that_nobody_asks_for_is_not_kept_for_ever() {
    let mut large = Large::new();
    let documents = documents("");
    large.update(&documents).resources(&sidecar());
    for round in 0..40 {
        large.set(0, if round % 2 == 0 { &["v1"] } else { &["v2"] });
        large.update(&documents);
    }
    let world = large.update(&documents);
    world.resources(&sidecar());
    assert_eq!(world.recompiled().scopes, 1);
}

/// One change of the inputs of compile.
#[derive(Clone, Debug)]
enum Change {
    /// A service has these HTTP and TCP ports, and this many endpoints.
    Service { name: usize, http: bool, tcp: bool, endpoints: usize },
    /// A service is gone.
    Gone { name: usize },
    /// A document is there, or not.
    Document { number: usize, there: bool },
    /// Only some proxies ask before the next change.
    Ask { node: usize },
}

const DOCUMENTS: [&str; 23] = [
    "networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [s0]\n  http:\n  - route: [{destination: {host: s1, subset: v1}}]",
    "networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: b}\nspec:\n  hosts: [s0, s2]\n  http:\n  - route: [{destination: {host: s0}}]",
    "networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: c}\nspec:\n  hosts: [\"*.cluster.local\"]\n  http:\n  - directResponse: {status: 200}",
    "networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: d}\nspec:\n  hosts: [\"*\"]\n  gateways: [g, mesh]\n  http:\n  - route: [{destination: {host: s2}}]",
    "networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: s1, subsets: [{name: v1, labels: {version: v1}}]}",
    "networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: b}\nspec: {host: s1, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 5s}}}}",
    "networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: c}\nspec: {host: \"*.local\", trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
    "networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec: {host: s0, trafficPolicy: {outlierDetection: {}}}",
    "networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec: {egress: [{hosts: [./s0.default.svc.cluster.local, '*/*.example.com']}]}",
    "networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: root, namespace: istio-system}\nspec: {egress: [{hosts: ['*/s1.default.svc.cluster.local']}]}",
    "networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: elsewhere}\nspec: {host: s1.default, trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
    "networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: f, namespace: elsewhere}\nspec:\n  hosts: [s0.default]\n  exportTo: ['.']\n  http:\n  - route: [{destination: {host: s2.default}}]",
    "networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: p, namespace: elsewhere}\nspec:\n  hosts: [private.example.com]\n  exportTo: ['.']\n  ports: [{number: 80, name: http}]\n  \
     resolution: STATIC\n  endpoints: [{address: 10.9.9.9}]",
    "networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: p}\nspec:\n  hosts: [private.example.com]\n  exportTo: ['.']\n  ports: [{number: 80, name: http}]\n  \
     resolution: STATIC\n  workloadSelector: {labels: {version: v2}}",
    "networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {servers: [{hosts: [\"*\"], port: {number: 80, protocol: HTTP}}]}",
    "networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec:\n  hosts: [s0.example.com]\n  ports: [{number: 80, name: http}]\n  \
     resolution: STATIC\n  workloadSelector: {labels: {version: v1}}",
    "gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {parentRefs: [{group: '', kind: Service, name: s0}], \
     rules: [{backendRefs: [{name: s1, port: 80}]}]}",
    "gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: b}\nspec: {parentRefs: [{group: '', kind: Service, name: s0}, \
     {name: k}], rules: [{matches: [{path: {value: /b}}], backendRefs: [{name: s2, namespace: default, port: 80}]}]}",
    "gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: c, namespace: elsewhere}\nspec: {parentRefs: [{group: '', \
     kind: Service, name: s0, namespace: default}], rules: [{backendRefs: [{name: s1, namespace: default, port: 80}]}]}",
    "gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: a}\nspec: {parentRefs: [{group: '', kind: Service, name: s2}], \
     rules: [{backendRefs: [{name: s2, port: 80}]}]}",
    "gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: k}\nspec: {gatewayClassName: weft, listeners: [{name: h, port: 80, \
     protocol: HTTP, hostname: a.test}]}",
    "gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: weft}\nspec: {controllerName: a.b/c}",
    "gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: g}\nspec: {from: [{group: gateway.networking.k8s.io, kind: \
     HTTPRoute, namespace: elsewhere}], to: [{group: '', kind: Service}]}",
];

fn change() -> impl Strategy<Value = Change> {
    let service = (0..3usize, any::<bool>(), any::<bool>(), 0..3usize);
    prop_oneof![
        4 => service.prop_map(|(name, http, tcp, endpoints)| Change::Service { name, http, tcp, endpoints }),
        1 => (0..3usize).prop_map(|name| Change::Gone { name }),
        4 => (0..DOCUMENTS.len(), any::<bool>()).prop_map(|(number, there)| Change::Document { number, there }),
        2 => (0..4usize).prop_map(|node| Change::Ask { node }),
    ]
}

fn nodes() -> [NodeMetadata; 4] {
    let gateway = NodeMetadata { role: weft_proto::node::Role::Gateway, ..NodeMetadata::default() };
    [
        sidecar_in("a"),
        upstream("s0"),
        NodeMetadata { namespace: "elsewhere".into(), ..sidecar_in("b") },
        gateway,
    ]
}

/// All that a proxy sees of a set.
fn seen(set: &ResourceSet) -> Vec<String> {
    let of =
        |kind| set.of(kind).map(move |r| format!("{kind:?} {} {:x} {:?}", r.name, r.version, r.documents));
    Kind::ALL.into_iter().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_compiled_step_by_step_is_what_is_compiled_at_once(changes in prop::collection::vec(change(), 1..16)) {
        let all: Vec<Arc<Document>> = DOCUMENTS
            .iter()
            .map(|text| format!("apiVersion: {text}\n"))
            .flat_map(|yaml| documents(&yaml).iter().cloned().collect::<Vec<_>>())
            .collect();
        let mut compiler = Compiler::default();
        let (mut services, mut there) = (BTreeMap::new(), [false; DOCUMENTS.len()]);
        let mut world = compiler.update(Arc::default(), Arc::default());
        for change in changes {
            match change {
                Change::Service { name: i, http, tcp, endpoints } => {
                    let http = http.then_some((80, Protocol::Http));
                    let ports: Vec<_> = http.into_iter().chain(tcp.then_some((81, Protocol::Tcp))).collect();
                    let mut made = Service::clone(&service(&name(i), &ports, &["v1", "v2"][..endpoints]));
                    for (j, endpoint) in Arc::make_mut(&mut made.endpoints).values_mut().enumerate() {
                        let region = ["a", "b"][(i + j) % 2].into();
                        let locality = Locality { region, ..Locality::default() };
                        *endpoint = Arc::new(Endpoint { locality, ..Endpoint::clone(endpoint) });
                    }
                    services.insert(i, Arc::new(made));
                }
                Change::Gone { name } => drop(services.remove(&name)),
                Change::Document { number, there: now } => there[number] = now,
                Change::Ask { node } => {
                    world.resources(&nodes()[node]);
                    continue;
                }
            }
            let mesh = mesh(&services.values().cloned().collect::<Vec<_>>());
            let mut documents = DocumentSet::default();
            all.iter().zip(there).filter(|(_, there)| *there).for_each(|(d, _)| documents.insert(d.clone()));
            let documents = Arc::new(documents);
            world = compiler.update(mesh.clone(), documents.clone());
            let at_once = Compiler::default().update(mesh, documents);
            // Half of the proxies look at every world, the others at some.
            for node in &nodes()[..2] {
                prop_assert_eq!(seen(&world.resources(node)), seen(&at_once.resources(node)));
            }
            for (node, asked) in [(NodeMetadata::default(), asked("s0")), (on_demand(), hosts(&["s0", "s2:80", "x.y"]))] {
                let (by_steps, whole) =
                    (world.resources_asked(&node, &asked), at_once.resources_asked(&node, &asked));
                prop_assert_eq!(seen(&by_steps), seen(&whole));
            }
            if services.len() == 2 {
                for node in &nodes()[2..] {
                    prop_assert_eq!(seen(&world.resources(node)), seen(&at_once.resources(node)));
                }
            }
        }
    }
}
