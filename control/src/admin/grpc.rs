//! `weft.admin.v1.Admin`.

use std::{pin::Pin, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use weft_proto::admin::v1::{self as wire, admin_server};

use super::{Admin, view};
use crate::{
    app::desk::{Applied, Text},
    documents::{self, Problem},
    registry::{SourceDocument, View},
    store::{DocumentKey, Outcome, Snapshot, StoreError},
};

/// Least time between two answers of a watch.
const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// How often a watch looks at what does not ring, such as the state of sources.
const WATCH_CHECK: Duration = Duration::from_secs(1);

/// The service.
pub(super) struct Grpc {
    admin: Admin,
    stop: CancellationToken,
}

impl Grpc {
    pub(super) fn new(admin: Admin, stop: CancellationToken) -> Self {
        Self { admin, stop }
    }

    /// Everything that is kept or told, with its problems, by key.
    fn documents(&self, chosen: impl Fn(&DocumentKey) -> bool) -> Vec<wire::Document> {
        let desk = &self.admin.desk;
        let (stored, view) = (desk.store().snapshot(), desk.registry().view());
        let told = desk.told();
        let mut found = documents_of(&stored, &view, chosen);
        for document in &mut found {
            let key = documents::key(&document.kind, &document.namespace, &document.name);
            let of_document = |problem: &&Problem| problem.document == key;
            document.problems = told.problems().filter(of_document).map(view::problem).collect();
            document.status = Some(view::status(&told.status(&key)));
            document.problems.extend(self.refusals(&key));
        }
        found
    }

    /// What proxies say against a document.
    fn refusals(&self, key: &str) -> Vec<wire::Problem> {
        let proxies = self.admin.tracker.proxies();
        let refusals = proxies.iter().flat_map(|proxy| proxy.rejections.iter().map(move |it| (proxy, it)));
        refusals
            .filter(|(_, rejection)| rejection.documents.iter().any(|document| document == key))
            .map(|(proxy, rejection)| wire::Problem {
                origin: key.to_owned(),
                message: format!("proxy {} refused it: {}", proxy.id, rejection.message),
                severity: "error".to_owned(),
                ..wire::Problem::default()
            })
            .collect()
    }
}

/// Stored documents and those of sources that no stored one hides, sorted by key.
pub(super) fn documents_of(
    stored: &Snapshot,
    view: &View,
    chosen: impl Fn(&DocumentKey) -> bool,
) -> Vec<wire::Document> {
    let mut found = std::collections::BTreeMap::new();
    for SourceDocument { owner, document } in
        view.documents.iter().rev().filter(|it| chosen(&it.document.key))
    {
        let key = &document.key;
        let shown = shown(key, &document.text.yaml, owner);
        found.insert(key.clone(), shown);
    }
    for document in stored.documents.values().filter(|it| chosen(&it.key)) {
        let shown = wire::Document {
            version: document.version,
            stored_at_seconds: document.stored_at_seconds,
            ..shown(&document.key, &document.yaml, &document.owner)
        };
        found.insert(document.key.clone(), shown);
    }
    found.into_values().collect()
}

fn shown(key: &DocumentKey, yaml: &str, owner: &str) -> wire::Document {
    wire::Document {
        kind: key.kind.to_string(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        yaml: documents::secret::redacted(&key.kind, yaml),
        owner: owner.to_owned(),
        ..wire::Document::default()
    }
}

#[tonic::async_trait]
impl admin_server::Admin for Grpc {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<wire::StatusResponse, Status>> + Send>>;

    async fn apply(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let request = request.into_inner();
        let desk = &self.admin.desk;
        let expected = request.expected_versions.into_iter().collect();
        let applied = desk.apply(&texts(request.manifests), &expected, request.dry_run).await;
        let (keys, committed, problems) = match applied.map_err(|error| status_of(&error))? {
            Applied::Refused(problems) => {
                let problems = problems.iter().map(view::problem).collect();
                let revision = desk.compiled().revision;
                return Ok(Response::new(wire::ApplyResponse { applied: Vec::new(), problems, revision }));
            }
            Applied::Stored { keys, committed, problems } => (keys, committed, problems),
        };
        let applied = keys.iter().zip(&committed.outcomes).map(|(key, (outcome, version))| wire::Applied {
            kind: key.kind.to_string(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            action: view::action(*outcome).to_owned(),
            version: *version,
        });
        let wrote = committed.outcomes.iter().any(|(outcome, _)| *outcome != Outcome::Unchanged);
        let revision = if wrote && !request.dry_run {
            desk.revision_of(committed.revision).await
        } else {
            desk.compiled().revision
        };
        let problems = problems.iter().map(view::problem).collect();
        Ok(Response::new(wire::ApplyResponse { applied: applied.collect(), problems, revision }))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::Document>, Status> {
        let wire::GetRequest { kind, namespace, name } = request.into_inner();
        let namespace = or_default(namespace);
        let found = self.documents(|key| is(key, &kind, &namespace, &name)).into_iter().next();
        found.map(Response::new).ok_or_else(|| missing(&kind, &namespace, &name))
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListResponse>, Status> {
        let wire::ListRequest { kind, namespace } = request.into_inner();
        let documents = self.documents(|key| {
            (kind.is_empty() || key.kind.eq_ignore_ascii_case(&kind))
                && (namespace.is_empty() || *key.namespace == *namespace)
        });
        Ok(Response::new(wire::ListResponse { documents }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::DeleteResponse>, Status> {
        let wire::DeleteRequest { kind, namespace, name, expected_version } = request.into_inner();
        let namespace = or_default(namespace);
        let desk = &self.admin.desk;
        let stored = desk.store().snapshot();
        let Some(key) = stored.documents.keys().find(|key| is(key, &kind, &namespace, &name)) else {
            let view = desk.registry().view();
            let told = view.documents.iter().find(|told| is(&told.document.key, &kind, &namespace, &name));
            return Err(told.map_or_else(
                || missing(&kind, &namespace, &name),
                |told| Status::failed_precondition(format!("{} tells it; remove it there", told.owner)),
            ));
        };
        let expected = (expected_version != 0).then_some(expected_version);
        let committed = desk.delete(key.clone(), expected).await.map_err(|error| status_of(&error))?;
        let revision = desk.revision_of(committed.revision).await;
        Ok(Response::new(wire::DeleteResponse { revision }))
    }

    async fn validate(
        &self,
        request: Request<wire::ValidateRequest>,
    ) -> Result<Response<wire::ValidateResponse>, Status> {
        let (documents, mut problems) = self.admin.desk.check(&texts(request.into_inner().manifests));
        problems.sort_by(|a, b| (&a.origin, a.line, a.column).cmp(&(&b.origin, b.line, b.column)));
        Ok(Response::new(wire::ValidateResponse {
            problems: problems.iter().map(view::problem).collect(),
            documents: u32::try_from(documents.len()).unwrap_or(u32::MAX),
        }))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        Ok(Response::new(self.admin.status(&request.into_inner().proxy)))
    }

    async fn watch(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (answers, receiver) = mpsc::channel(1);
        let proxy = request.into_inner().proxy;
        tokio::spawn(watch(self.admin.clone(), proxy, answers, self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn services(
        &self,
        request: Request<wire::ServicesRequest>,
    ) -> Result<Response<wire::ServicesResponse>, Status> {
        let wire::ServicesRequest { namespace, name } = request.into_inner();
        let view = self.admin.desk.registry().view();
        let chosen = view.mesh.services.values().filter(|service| {
            (namespace.is_empty() || *service.key.namespace == *namespace)
                && (name.is_empty() || *service.key.name == *name)
        });
        let services = chosen.map(|service| view::service(service)).collect();
        Ok(Response::new(wire::ServicesResponse { services }))
    }

    async fn traffic(
        &self,
        request: Request<wire::TrafficRequest>,
    ) -> Result<Response<wire::TrafficResponse>, Status> {
        Ok(Response::new(self.admin.traffic(&request.into_inner())))
    }

    async fn canary(
        &self,
        request: Request<wire::CanaryRequest>,
    ) -> Result<Response<wire::CanaryResponse>, Status> {
        self.admin.canary(request.into_inner()).await.map(Response::new)
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenResponse>, Status> {
        self.admin.create_token(request.into_inner()).await.map(Response::new)
    }

    async fn rotate_authority(
        &self,
        _: Request<wire::RotateAuthorityRequest>,
    ) -> Result<Response<wire::RotateAuthorityResponse>, Status> {
        self.admin.rotate_authority().await.map(Response::new)
    }

    async fn confirm_source(
        &self,
        request: Request<wire::ConfirmSourceRequest>,
    ) -> Result<Response<wire::ConfirmSourceResponse>, Status> {
        let source = request.into_inner().source;
        let removed = self.admin.desk.registry().confirm(&source).ok_or_else(|| {
            Status::not_found(format!("no source is named {source:?}; see the sources in `weft status`"))
        })?;
        let removed = u32::try_from(removed).unwrap_or(u32::MAX);
        Ok(Response::new(wire::ConfirmSourceResponse { removed }))
    }
}

/// The status now and after every change, until the caller or the process is gone.
async fn watch(
    admin: Admin,
    proxy: String,
    answers: mpsc::Sender<Result<wire::StatusResponse, Status>>,
    stop: CancellationToken,
) {
    let mut proxies = admin.tracker.changes();
    let mut compiles = admin.desk.compiles();
    let mut last = None;
    loop {
        let status = admin.status(&proxy);
        if last.as_ref() != Some(&status) {
            last = Some(status.clone());
            if answers.send(Ok(status)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            _ = proxies.changed() => {}
            _ = compiles.changed() => {}
            () = tokio::time::sleep(WATCH_CHECK) => {}
            () = answers.closed() => return,
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn texts(manifests: Vec<wire::Manifest>) -> Vec<Text> {
    manifests.into_iter().map(|manifest| Text { yaml: manifest.yaml, origin: manifest.origin }).collect()
}

fn or_default(namespace: String) -> String {
    if namespace.is_empty() { "default".to_owned() } else { namespace }
}

fn is(key: &DocumentKey, kind: &str, namespace: &str, name: &str) -> bool {
    key.kind.eq_ignore_ascii_case(kind) && *key.namespace == *namespace && *key.name == *name
}

fn missing(kind: &str, namespace: &str, name: &str) -> Status {
    Status::not_found(format!("{kind} {namespace}/{name} does not exist"))
}

pub(super) fn status_of(error: &StoreError) -> Status {
    match error {
        StoreError::Conflict { .. } => Status::aborted(error.to_string()),
        StoreError::Missing(_) => Status::not_found(error.to_string()),
        StoreError::TooMany(_) => Status::invalid_argument(error.to_string()),
        StoreError::Unavailable(_) => Status::unavailable(error.to_string()),
    }
}
