//! The session's words as protobuf, for both forms of ADS. Pure.

use weft_proto::{
    node::{NodeMetadata, NodeMetadataError},
    xds::{
        envoy::{
            config::core::v3::{ControlPlane, Node, node::UserAgentVersionType},
            service::discovery::v3::{
                DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
                Resource as VersionedResource,
            },
        },
        google::protobuf::Any,
    },
};

use super::session::{Names, Protocol, Request, Response};
use crate::resource::{Kind, Resource};

/// How this control plane calls itself in responses.
const IDENTIFIER: &str = "weft";

/// A form of ADS: how its messages read and write.
pub(super) trait Form: Sized + 'static {
    /// What the client sends.
    type Request: Send + 'static;
    /// What it receives.
    type Response: Send + 'static;
    /// Its name in the session.
    const PROTOCOL: Protocol;

    /// The sender, in a stream's first request.
    fn node(request: &mut Self::Request) -> Option<Node>;
    /// The type URL.
    fn type_url(request: &Self::Request) -> &str;
    /// The rest, once its type is known.
    fn read(kind: Kind, request: Self::Request) -> Request;
    /// The answer.
    fn write(response: Response) -> Self::Response;
}

/// Delta ADS.
pub(super) struct Delta;

/// State-of-the-world ADS.
pub(super) struct Sotw;

impl Form for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;
    const PROTOCOL: Protocol = Protocol::Delta;

    fn node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn read(kind: Kind, request: Self::Request) -> Request {
        Request {
            kind,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            names: Names::Change {
                subscribe: request.resource_names_subscribe,
                unsubscribe: request.resource_names_unsubscribe,
                initial: request.initial_resource_versions,
            },
        }
    }

    fn write(response: Response) -> Self::Response {
        let kind = response.kind;
        let resource = |resource: &std::sync::Arc<Resource>| VersionedResource {
            name: resource.name.to_string(),
            version: format!("{:016x}", resource.version),
            resource: Some(any(kind, resource)),
            ..VersionedResource::default()
        };
        DeltaDiscoveryResponse {
            system_version_info: response.revision.to_string(),
            resources: response.resources.iter().map(resource).collect(),
            type_url: kind.type_url().to_owned(),
            removed_resources: response.removed.iter().map(ToString::to_string).collect(),
            nonce: response.nonce.to_string(),
            control_plane: control_plane(),
            ..DeltaDiscoveryResponse::default()
        }
    }
}

impl Form for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;
    const PROTOCOL: Protocol = Protocol::Sotw;

    fn node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn read(kind: Kind, request: Self::Request) -> Request {
        Request {
            kind,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            names: Names::All(request.resource_names),
        }
    }

    fn write(response: Response) -> Self::Response {
        let kind = response.kind;
        DiscoveryResponse {
            // Two responses of one revision may differ (a name added, a refusal), so the nonce is part of the version.
            version_info: format!("{}.{}", response.revision, response.nonce),
            resources: response.resources.iter().map(|resource| any(kind, resource)).collect(),
            type_url: kind.type_url().to_owned(),
            nonce: response.nonce.to_string(),
            control_plane: control_plane(),
            ..DiscoveryResponse::default()
        }
    }
}

/// Who a stream belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) id: String,
    /// `weft`, `envoy` or `grpc`.
    pub(super) kind: &'static str,
    pub(super) version: String,
    pub(super) metadata: NodeMetadata,
}

impl Client {
    pub(super) fn read(node: Node) -> Result<Self, NodeMetadataError> {
        let metadata = node.metadata.as_ref().map(NodeMetadata::from_struct).transpose()?.unwrap_or_default();
        let kind = match node.user_agent_name.as_str() {
            name if name.starts_with("weft") => "weft",
            name if name.starts_with("envoy") => "envoy",
            _ => "grpc",
        };
        let version = match node.user_agent_version_type {
            Some(UserAgentVersionType::UserAgentVersion(version)) => version,
            Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
                let version = build.version.unwrap_or_default();
                format!("{}.{}.{}", version.major_number, version.minor_number, version.patch)
            }
            None => String::new(),
        };
        Ok(Self { id: node.id, kind, version, metadata })
    }
}

fn any(kind: Kind, resource: &Resource) -> Any {
    Any { type_url: kind.type_url().to_owned(), value: resource.bytes.to_vec() }
}

fn control_plane() -> Option<ControlPlane> {
    Some(ControlPlane { identifier: IDENTIFIER.to_owned() })
}
