//! A mesh over a simulated platform: control plane, simulator, the adapter between, and what every platform must pass.

use std::{collections::BTreeMap, time::Duration};

use weft_proto::{
    admin::v1::{EndpointView, ServicesRequest},
    node::NodeMetadata,
};

use crate::{
    load::{Load, Plan},
    mesh::{Mesh, SYNC},
    program::{Program, free_port, weft},
    sim::{
        fault::Fault,
        server::{Platform, Sim},
    },
    wait::until,
};

/// When a platform that hangs has been noticed at the latest: a few questions that wait for their answer, and the
/// longest wait of the backoff.
pub const NOTICED: Duration = Duration::from_secs(90);

/// The mesh.
pub struct Town<P> {
    /// Control plane.
    pub mesh: Mesh,
    /// The platform.
    pub sim: Sim<P>,
    kind: &'static str,
    _adapter: Program,
}

impl<P: Platform> Town<P> {
    /// Starts all of it; the flags go to the adapter of this kind.
    pub async fn open(kind: &'static str, platform: P, flags: &[&str]) -> Self {
        let mesh = Mesh::start().await;
        let sim = Sim::start(platform, free_port()).await.expect("the port is free");
        let url = sim.url();
        let adapter = mesh.adapter(kind, &[&["--address", url.as_str()], flags].concat());
        Self { mesh, sim, kind, _adapter: adapter }
    }

    /// The platform.
    pub fn platform(&self) -> &P {
        &self.sim.platform
    }

    /// Waits until the source is in this state for a reason that holds this text.
    pub async fn source(&self, state: &str, reason: &str) {
        self.mesh.source(&format!("{}/local", self.kind), state, reason, NOTICED).await;
    }

    /// Waits until so many endpoints of `web` are usable and the source is live.
    pub async fn settled(&self, endpoints: usize) {
        self.mesh.endpoints("web", endpoints, NOTICED).await;
        self.source("live", "").await;
    }

    /// The endpoints of `web` by the last part of their ids.
    pub async fn web(&self) -> BTreeMap<String, EndpointView> {
        let mut client = self.mesh.client().await.expect("the control plane answers");
        let request = ServicesRequest { name: "web".into(), ..Default::default() };
        let found = client.services(request).await.expect("the control plane answers").into_inner();
        let endpoints = found.services.into_iter().flat_map(|service| service.endpoints);
        endpoints.map(|e| (e.id.rsplit('/').next().unwrap_or_default().to_owned(), e)).collect()
    }

    /// Waits until `web` has exactly these endpoints, each with its health.
    pub async fn healths(&self, wanted: &[(&str, &str)]) {
        until(&format!("{wanted:?}"), SYNC, async || {
            let web = self.web().await;
            let found: Vec<_> = web.iter().map(|(id, e)| (id.as_str(), e.health.as_str())).collect();
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    /// Lets everything under a path go wrong, one way after the other, and sees that it costs neither an endpoint of
    /// `web` nor a request.
    pub async fn bad_weather(&self, path: &str, endpoints: usize) {
        let target = free_port();
        let metadata = NodeMetadata {
            namespace: "default".into(),
            workload: "client".into(),
            outbound_http: Some(target),
            ..NodeMetadata::default()
        };
        let _proxy = self.mesh.weft_proxy("client", &metadata).await;
        let load =
            Load::start(Plan { target, host: "web".into(), path: "/".into(), rate: 100, connections: 2 });
        let bad = [
            (Fault::Status(500), "500"),
            (Fault::Status(403), "give "),
            (Fault::Empty, "lists nothing where it had"),
            (Fault::WrongType, "cannot be read"),
            (Fault::Cut(10), "does not answer"),
            (Fault::Hang, "timed out"),
        ];
        for (fault, reason) in bad {
            // An empty answer is no stream of events.
            let path = if fault == Fault::Empty { P::LISTS } else { path };
            self.sim.faults.set(path, fault);
            self.sim.faults.cut_streams();
            self.source("stale", reason).await;
            self.mesh.endpoints("web", endpoints, Duration::ZERO).await;
            self.sim.faults.heal();
            self.settled(endpoints).await;
        }
        let (tally, _) = load.stop().await;
        assert_eq!(tally.failed(), 0, "{tally:?}");
    }

    /// What `weft adapter --check` says with these flags: exit code, table, findings.
    pub async fn check(&self, flags: &[&str]) -> (Option<i32>, String, String) {
        let mut command = tokio::process::Command::new(weft());
        command.args(["adapter", self.kind, "--check", "--address", &self.sim.url()]).args(flags);
        command.arg("--control").arg(format!("http://{}", self.mesh.ads));
        let output = command.output().await.expect("weft can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}
