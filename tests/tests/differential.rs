//! The differential table: every case of every file under `cases/`, through `weft proxy` and through Envoy, both under
//! one control plane. What comes of a case must be what it says, and the same from both: status, body's origin, headers
//! both ways, attempts, trailers, and what the access logs say (flags, details, route, cluster). A new case is a few
//! lines of YAML.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use weft_proto::node::{Inbound, LocalWorkload, NodeMetadata, Role, Upstream};
use weft_tests::{
    access_log::{self, AccessLog},
    backend::{Attempts, Backend},
    case::{
        Case, Door, Doors, Group,
        outcome::Wrong,
        play::{Played, Stage},
    },
    mesh::{Mesh, Proxy, SYNC},
    program::free_port,
    services::{Registered, files_yaml},
    wait::until,
};

/// Cases of a group that run at once.
const AT_ONCE: usize = 8;

/// The version of an endpoint that refuses connections.
const DEAD: &str = "dead";

/// In `differs`: nothing is compared, and what is expected is ours alone.
const EVERYTHING: &str = "everything";

#[derive(Default)]
struct Table {
    groups: BTreeMap<String, Group>,
    backends: Vec<Backend>,
    registered: Vec<Registered>,
    attempts: Attempts,
}

impl Table {
    async fn load() -> Self {
        let mut table = Self::default();
        for (name, group) in Group::all() {
            for (service, versions) in &group.services {
                let tcp = service.starts_with("tcp-");
                let mut endpoints = Vec::new();
                for version in versions {
                    if version == DEAD {
                        endpoints.push((version.clone(), free_port()));
                        continue;
                    }
                    let backend = match tcp {
                        true => Backend::tcp(version).await,
                        false => Backend::http(service, version, table.attempts.clone()).await,
                    };
                    endpoints.push((version.clone(), backend.address));
                    table.backends.push(backend);
                }
                let protocol = if tcp {
                    "tcp"
                } else if service.starts_with("grpc-") {
                    "grpc"
                } else {
                    "http"
                };
                table.registered.push(Registered { name: service.clone(), protocol, endpoints });
            }
            table.groups.insert(name, group);
        }
        table
    }

    fn doors(&self) -> BTreeSet<Door> {
        self.groups.values().flat_map(Group::doors).collect()
    }

    fn single(&self, service: &str) -> bool {
        self.registered.iter().any(|known| known.name == service && known.endpoints.len() == 1)
    }

    /// What the sidecar of a dataplane declares, and where it is then reached.
    fn sidecar(&self, doors: &mut Doors) -> NodeMetadata {
        let mut metadata = node("client");
        metadata.outbound_http = Some(door(doors, Door::Http));
        for service in self.registered.iter().filter(|service| service.protocol == "tcp") {
            let bind = free_port();
            doors.tcp.insert(service.name.clone(), bind);
            metadata.upstreams.push(Upstream {
                bind: bind.into(),
                service: service.name.clone(),
                port: 9000,
            });
        }
        for asked in self.doors() {
            match &asked {
                Door::Upstream(service) => {
                    let (bind, service) = (door(doors, asked.clone()), service.clone());
                    metadata.upstreams.push(Upstream { bind: bind.into(), service, port: 80 });
                }
                Door::Inbound(service) => {
                    let (bind, service) = (door(doors, asked.clone()), service.clone());
                    let found = self.registered.iter().find(|known| known.name == service);
                    let app = found.expect("an inbound door is of a service of the table").endpoints[0].1;
                    // Each is a workload of its own, so that policies can tell them apart.
                    let labels = [("app".to_owned(), service.clone())].into();
                    let name = service.clone();
                    metadata.workloads.push(LocalWorkload { name, labels, ..LocalWorkload::default() });
                    metadata.inbound.push(Inbound {
                        bind: Some(bind.into()),
                        workload: service.clone(),
                        service,
                        port: 80,
                        app: app.into(),
                        protocol: String::new(),
                    });
                }
                Door::Http | Door::Gateway(_) => {}
            }
        }
        metadata
    }

    /// The same of its gateway.
    fn gateway(&self, doors: &mut Doors) -> NodeMetadata {
        let mut metadata = NodeMetadata { role: Role::Gateway, ..node("gateway") };
        metadata.labels.insert("istio".to_owned(), "ingressgateway".to_owned());
        metadata.gateway_bind = Some([127, 0, 0, 1].into());
        for asked in self.doors() {
            if let Door::Gateway(port) = asked {
                metadata.gateway_ports.insert(port, door(doors, asked).port());
            }
        }
        metadata
    }

    /// Runs every case at one dataplane.
    async fn play(&self, dataplane: &Dataplane) -> Vec<Played> {
        let single = |service: &str| self.single(service);
        let stage = Stage {
            name: dataplane.name,
            doors: &dataplane.doors,
            attempts: &self.attempts,
            single: &single,
        };
        let mut all = Vec::new();
        for (name, group) in &self.groups {
            let stage = &stage;
            let cases = stream::iter(&group.cases).map(|case| case.play(name, stage));
            let at_once = if group.alone { 1 } else { AT_ONCE };
            all.extend(cases.buffered(at_once).collect::<Vec<_>>().await);
        }
        all
    }
}

fn node(workload: &str) -> NodeMetadata {
    NodeMetadata { namespace: "default".into(), workload: workload.into(), ..NodeMetadata::default() }
}

fn door(doors: &mut Doors, door: Door) -> SocketAddr {
    *doors.http.entry(door).or_insert_with(free_port)
}

/// One kind of proxy, in each of its roles.
struct Dataplane {
    name: &'static str,
    doors: Doors,
    proxies: Vec<Proxy>,
}

impl Dataplane {
    /// Adds what the logs say of the cases.
    async fn read_logs(&self, played: &mut [Played]) {
        let mut logs: Vec<_> = self.proxies.iter().map(|proxy| AccessLog::new(&proxy.output())).collect();
        until(&format!("access logs of {}", self.name), Duration::from_secs(10), async || {
            for log in &mut logs {
                log.refresh().map_err(|error| error.to_string())?;
            }
            let mut missing = String::new();
            for case in played.iter() {
                let lines: usize = logs.iter_mut().map(|log| log.of(&case.id).len()).sum();
                if lines < case.lines {
                    writeln!(missing, "{}: {lines} of {}", case.id, case.lines).expect("a string takes all");
                }
            }
            if missing.is_empty() { Ok(()) } else { Err(missing) }
        })
        .await;
        for case in played {
            let entries: Vec<_> = logs.iter_mut().flat_map(|log| log.of(&case.id).to_vec()).collect();
            case.logged(&entries);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weft_and_envoy_do_what_the_table_says() {
    let table = Table::load().await;
    let mut mesh = Mesh::start_with(&access_log::settings()).await;
    mesh.publish("services.yaml", &files_yaml(&table.registered));
    for service in &table.registered {
        mesh.endpoints(&service.name, service.endpoints.len(), SYNC).await;
    }
    let mut report = Report::default();
    for (name, group) in &table.groups {
        if !group.documents.trim().is_empty()
            && let Err(refused) = mesh.apply(&group.documents).await
        {
            report.wrong(format!("{name}: documents refused: {refused}"));
        }
    }
    let (weft, envoy) = dataplanes(&table, &mesh).await;
    let started = Instant::now();
    let (mut ours, mut theirs) = tokio::join!(table.play(&weft), table.play(&envoy));
    tokio::join!(weft.read_logs(&mut ours), envoy.read_logs(&mut theirs));
    println!("{} cases in {:?}", ours.len(), started.elapsed());
    let cases =
        table.groups.iter().flat_map(|(name, group)| group.cases.iter().map(move |case| (name, case)));
    for ((name, case), (ours, theirs)) in cases.zip(ours.iter().zip(&theirs)) {
        report.compare(name, case, ours, theirs);
    }
    report.finish();
}

async fn dataplanes(table: &Table, mesh: &Mesh) -> (Dataplane, Dataplane) {
    let (mut our_doors, mut their_doors) = (Doors::default(), Doors::default());
    let ours = [table.sidecar(&mut our_doors), table.gateway(&mut our_doors)];
    let theirs = [table.sidecar(&mut their_doors), table.gateway(&mut their_doors)];
    let mut weft = Dataplane { name: "weft", doors: our_doors, proxies: Vec::new() };
    let mut envoy = Dataplane { name: "envoy", doors: their_doors, proxies: Vec::new() };
    for (ours, theirs) in ours.iter().zip(&theirs) {
        weft.proxies.push(mesh.weft_proxy(&format!("weft-{}", ours.workload), ours).await);
        envoy.proxies.push(mesh.envoy(&format!("envoy-{}", theirs.workload), theirs).await);
    }
    mesh.synced(4, SYNC).await;
    (weft, envoy)
}

#[derive(Default)]
struct Report {
    wrong: String,
    deliberate: BTreeMap<String, BTreeSet<String>>,
}

impl Report {
    fn wrong(&mut self, line: String) {
        self.wrong.push_str(&line);
        self.wrong.push('\n');
    }

    fn compare(&mut self, group: &str, case: &Case, ours: &Played, theirs: &Played) {
        let at = format!("{group}: {}", case.name);
        for wrong in ours.check(case) {
            self.wrong(format!("{at}: weft: {}: {}", wrong.field, wrong.text));
        }
        let deliberate = |field: &str| case.differs.get(field).or_else(|| case.differs.get(EVERYTHING));
        for wrong in theirs.check(case).into_iter().filter(|wrong| deliberate(&wrong.field).is_none()) {
            self.wrong(format!("{at}: envoy: {}: {}", wrong.field, wrong.text));
        }
        let differing = ours.outcome.against(&theirs.outcome, &case.random);
        for Wrong { field, text } in &differing {
            match deliberate(field) {
                Some(reason) => drop(self.deliberate.entry(reason.clone()).or_default().insert(at.clone())),
                None => self.wrong(format!("{at}: {field}: {text}")),
            }
        }
        for field in case.differs.keys() {
            let found = differing.iter().any(|wrong| wrong.field == *field || field == EVERYTHING);
            if !found {
                self.wrong(format!("{at}: differs names {field:?}, which is the same"));
            }
        }
    }

    fn finish(self) {
        for (reason, cases) in &self.deliberate {
            println!("differs: {reason} ({})", cases.iter().cloned().collect::<Vec<_>>().join("; "));
        }
        assert!(self.wrong.is_empty(), "{}", self.wrong);
    }
}
