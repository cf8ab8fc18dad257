//! Canaries: what a service's versions have and do, and shifts of their shares, written as one commit that fails if a
//! document changed meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::time::Instant;
use tonic::Status;
use weft_proto::admin::v1 as wire;

use super::{Admin, grpc, traffic, view};
use crate::{
    app::desk::{Applied, Text},
    canary::{self, Canary, Change, Obstacle, Shares},
    documents::hosts::Hosts,
    model::{Service, ServiceKey},
    registry::View,
    store::{DocumentKey, Snapshot},
    traffic::Flow,
};

/// Everything a canary decides from, taken at one moment.
struct Scene {
    view: Arc<View>,
    stored: Arc<Snapshot>,
    service: Arc<Service>,
    canary: Canary,
}

impl Admin {
    /// Tells how a canary is, after what was asked for.
    pub(super) async fn canary(&self, request: wire::CanaryRequest) -> Result<wire::CanaryResponse, Status> {
        let scene = self.scene(&request)?;
        let action = wire::CanaryAction::try_from(request.action)
            .map_err(|_| Status::invalid_argument("action: this control plane does not know it"))?;
        let Some((shares, baseline)) = target(&scene.canary, action, &request)? else {
            return Ok(self.told(&request, &scene));
        };
        let changes = scene.canary.shift(&shares, &baseline, |key| scene.has(key));
        let changes = changes.and_then(|changes| scene.writable(changes));
        let changes = match changes {
            Ok(changes) => changes,
            Err(obstacle) => {
                let problems = vec![problem(&obstacle)];
                return Ok(wire::CanaryResponse { problems, ..self.told(&request, &scene) });
            }
        };
        let mut documents: Vec<wire::CanaryDocument> = changes.iter().map(shown).collect();
        let texts: Vec<Text> = changes
            .iter()
            .map(|change| Text { yaml: change.after.clone(), origin: change.key().to_string() })
            .collect();
        let expected = changes.iter().map(|change| (change.key().to_string(), scene.version(&change.key())));
        let expected: BTreeMap<String, u64> = expected.collect();
        let applied = self.desk.apply(&texts, &expected, request.dry_run).await;
        let committed = match applied.map_err(|error| grpc::status_of(&error))? {
            Applied::Refused(problems) => {
                let problems = problems.iter().map(view::problem).collect();
                return Ok(wire::CanaryResponse { problems, ..self.told(&request, &scene) });
            }
            Applied::Stored { committed, .. } => committed,
        };
        if request.dry_run {
            return Ok(wire::CanaryResponse { documents, ..self.told(&request, &scene) });
        }
        for (document, (_, version)) in documents.iter_mut().zip(&committed.outcomes) {
            document.version = *version;
        }
        let revision = self.desk.revision_of(committed.revision).await;
        let told = self.told(&request, &self.scene(&request)?);
        Ok(wire::CanaryResponse { documents, revision, ..told })
    }

    fn scene(&self, request: &wire::CanaryRequest) -> Result<Scene, Status> {
        let namespace = if request.namespace.is_empty() { "default" } else { &request.namespace };
        let view = self.desk.registry().view();
        let key = ServiceKey::new(namespace, &request.service);
        let service = view.mesh.services.get(&key).cloned().ok_or_else(|| {
            Status::not_found(format!("service {key} does not exist; see `weft get services`"))
        })?;
        let stored = self.desk.store().snapshot();
        let set = self.desk.in_force(&stored, &view).set;
        let canary = Canary::read(&service, &set, &Hosts::of_mesh(&view.mesh));
        Ok(Scene { view, stored, service, canary })
    }

    fn told(&self, request: &wire::CanaryRequest, scene: &Scene) -> wire::CanaryResponse {
        let Scene { service, canary, .. } = scene;
        let window = traffic::window(request.window_seconds);
        let edges = self.traffic.flows(Instant::now(), window, |edge| edge.host == service.host);
        let subsets = canary.versions.iter().filter_map(|(name, v)| Some((v.subset.clone()?, name)));
        let by_subset: BTreeMap<Arc<str>, &Arc<str>> = subsets.collect();
        let mut flows: BTreeMap<Arc<str>, Flow> = BTreeMap::new();
        for (edge, flow) in &edges {
            let version = by_subset.get(&edge.subset).map_or(&edge.subset, |version| *version);
            flows.entry(version.clone()).or_default().add(flow);
        }
        // What was sent before there was a subset is shown while it is remembered.
        let names: BTreeSet<&Arc<str>> = canary
            .versions
            .keys()
            .chain(flows.iter().filter(|(_, f)| f.ended() > 0).map(|(v, _)| v))
            .collect();
        let stable = canary.stable();
        let nothing = Flow::default();
        let flow_of = |name: &Arc<str>| flows.get(name).unwrap_or(&nothing);
        let versions = names.into_iter().map(|name| {
            let version = canary.versions.get(name).cloned().unwrap_or_default();
            let verdict = match &stable {
                _ if name.is_empty() => canary::Verdict::Idle,
                Some(stable) if stable == name => canary::Verdict::Stable,
                stable => canary::judge(version.weight, flow_of(name), stable.as_ref().map(flow_of)),
            };
            wire::CanaryVersion {
                version: name.to_string(),
                subset: version.subset.map(|subset| subset.to_string()).unwrap_or_default(),
                weight: version.weight,
                endpoints: version.endpoints,
                flow: Some(traffic::flow(flow_of(name))),
                verdict: verdict.as_str().to_owned(),
            }
        });
        wire::CanaryResponse {
            namespace: service.key.namespace.to_string(),
            service: service.key.name.to_string(),
            versions: versions.collect(),
            baseline: canary.baseline.iter().map(|(name, weight)| (name.to_string(), *weight)).collect(),
            route: canary.route.as_ref().map(|route| route.key().to_string()).unwrap_or_default(),
            notes: canary.notes.clone(),
            ..wire::CanaryResponse::default()
        }
    }
}

/// The shares that are asked for and those to remember; none where nothing is to change.
fn target(
    canary: &Canary,
    action: wire::CanaryAction,
    request: &wire::CanaryRequest,
) -> Result<Option<(Shares, Shares)>, Status> {
    let bad = |error: canary::WantedError| Status::invalid_argument(error.to_string());
    let current = canary.weights();
    let asked: Shares =
        request.weights.iter().map(|(name, weight)| (name.as_str().into(), *weight)).collect();
    let asked = match action {
        wire::CanaryAction::Status => return Ok(None),
        wire::CanaryAction::Set if asked.is_empty() => {
            return Err(Status::invalid_argument("weights: name a version and its share"));
        }
        wire::CanaryAction::Set => asked,
        wire::CanaryAction::Promote => {
            let named = match asked.into_keys().collect::<Vec<_>>().as_slice() {
                [] => canary::promoted(&current, &canary.baseline).map_err(bad)?,
                [version] => version.clone(),
                _ => return Err(Status::invalid_argument("weights: one version is promoted")),
            };
            Shares::from([(named, 100)])
        }
        wire::CanaryAction::Abort if canary.baseline.is_empty() => {
            return Err(Status::failed_precondition(canary::WantedError::NoBaseline.to_string()));
        }
        // A version that is gone has no share any more; the others get it.
        wire::CanaryAction::Abort => {
            let known = canary.baseline.iter().filter(|(name, _)| current.contains_key(*name));
            let shares = known.map(|(name, weight)| (name.clone(), *weight)).collect();
            return Ok(Some((
                canary::wanted(&current, &canary.baseline, &shares).map_err(bad)?,
                canary.baseline.clone(),
            )));
        }
    };
    let shares = canary::wanted(&current, &canary.baseline, &asked).map_err(bad)?;
    let empty = |(name, weight): &(&Arc<str>, &u32)| {
        **weight > current.get(*name).copied().unwrap_or(0)
            && canary.versions.get(*name).is_none_or(|version| version.endpoints == 0)
    };
    if let Some((name, _)) = shares.iter().find(empty) {
        return Err(bad(canary::WantedError::NoEndpoint(name.clone())));
    }
    Ok(Some((shares.clone(), canary.baseline_for(&asked))))
}

impl Scene {
    /// Whether there is a document of a key.
    fn has(&self, key: &str) -> bool {
        self.version(key) > 0 || self.view.documents.iter().any(|told| told.document.key.to_string() == key)
    }

    /// Version of a stored document; 0 where there is none.
    fn version(&self, key: &str) -> u64 {
        let key = DocumentKey::parse(key);
        key.and_then(|key| self.stored.documents.get(&key)).map_or(0, |document| document.version)
    }

    /// The changes, if all of them are of documents that are stored here; a source's own can only be changed there.
    fn writable(&self, changes: Vec<Change>) -> Result<Vec<Change>, Obstacle> {
        for change in &changes {
            let key = change.key();
            if change.before.is_some() && self.version(&key) == 0 {
                let told = self.view.documents.iter().find(|told| *told.document.key.to_string() == *key);
                let owner = told.map(|told| told.owner.to_string()).unwrap_or_default();
                return Err(Obstacle {
                    document: key,
                    field: String::new(),
                    message: format!("{owner} tells it"),
                    hint: "change it there".to_owned(),
                });
            }
        }
        Ok(changes)
    }
}

fn problem(obstacle: &Obstacle) -> wire::Problem {
    wire::Problem {
        origin: obstacle.document.to_string(),
        field: obstacle.field.clone(),
        message: obstacle.message.clone(),
        hint: obstacle.hint.clone(),
        severity: "error".to_owned(),
        ..wire::Problem::default()
    }
}

fn shown(change: &Change) -> wire::CanaryDocument {
    wire::CanaryDocument {
        kind: change.kind.to_owned(),
        namespace: change.namespace.to_string(),
        name: change.name.to_string(),
        before: change.before.as_deref().unwrap_or_default().to_owned(),
        after: change.after.clone(),
        version: 0,
    }
}
