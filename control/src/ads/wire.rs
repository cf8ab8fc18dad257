//! The session's words as protobuf, for both forms of ADS. Pure.

use bytes::Bytes;
use prost::Message;
use weft_proto::{
    node::{NodeMetadata, NodeMetadataError},
    xds::envoy::{
        config::core::v3::{ControlPlane, Node, node::UserAgentVersionType},
        service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    },
};

use super::session::{Names, Protocol, Request, Response};
use crate::resource::Kind;

/// How this control plane calls itself in responses.
const IDENTIFIER: &str = "weft";

/// A form of ADS: how its messages read and write.
pub(super) trait Form: Sized + Send + Sync + 'static {
    /// What the client sends.
    type Request: Message + Default + 'static;
    /// What it receives.
    type Response: Message + 'static;
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

/// `DeltaDiscoveryResponse` with resources as they were encoded once for all streams.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DeltaResponse {
    #[prost(string, tag = "1")]
    system_version_info: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(string, repeated, tag = "6")]
    removed_resources: Vec<String>,
    #[prost(message, optional, tag = "7")]
    control_plane: Option<ControlPlane>,
}

/// `DiscoveryResponse`, likewise.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SotwResponse {
    #[prost(string, tag = "1")]
    version_info: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(message, optional, tag = "6")]
    control_plane: Option<ControlPlane>,
}

/// Delta ADS.
pub(super) struct Delta;

/// State-of-the-world ADS.
pub(super) struct Sotw;

impl Form for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaResponse;
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

    fn write(response: Response) -> DeltaResponse {
        DeltaResponse {
            system_version_info: response.revision.to_string(),
            resources: response.resources.iter().map(|resource| resource.versioned.clone()).collect(),
            type_url: response.kind.type_url().to_owned(),
            removed_resources: response.removed.iter().map(ToString::to_string).collect(),
            nonce: response.nonce.to_string(),
            control_plane: control_plane(),
        }
    }
}

impl Form for Sotw {
    type Request = DiscoveryRequest;
    type Response = SotwResponse;
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

    fn write(response: Response) -> SotwResponse {
        SotwResponse {
            // Two responses of one revision may differ (a name added, a refusal), so the nonce is part of the version.
            version_info: format!("{}.{}", response.revision, response.nonce),
            resources: response.resources.iter().map(|resource| resource.any.clone()).collect(),
            type_url: response.kind.type_url().to_owned(),
            nonce: response.nonce.to_string(),
            control_plane: control_plane(),
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
        let metadata = node.metadata.as_ref().map(NodeMetadata::from_struct).transpose()?;
        let mut metadata = metadata.unwrap_or_default();
        if let Some(place) = node.locality {
            metadata.locality = [place.region, place.zone, place.sub_zone];
        }
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

fn control_plane() -> Option<ControlPlane> {
    Some(ControlPlane { identifier: IDENTIFIER.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_proto::xds::{envoy::service::discovery::v3 as api, google::protobuf::Any};

    use super::*;
    use crate::resource::Resource;

    fn response() -> Response {
        let resource = |name: &str, bytes: &[u8]| {
            Arc::new(Resource::new(Kind::Cluster, name.into(), 7, bytes.to_vec(), Arc::from(Vec::new())))
        };
        Response {
            kind: Kind::Cluster,
            revision: 12,
            nonce: 3,
            resources: vec![resource("a", &[1, 2]), resource("b", &[])],
            removed: vec!["c".into()],
        }
    }

    fn any(value: &[u8]) -> Any {
        Any { type_url: Kind::Cluster.type_url().to_owned(), value: value.to_vec() }
    }

    #[test]
    fn a_delta_response_is_what_the_generated_message_is() {
        let resource = |name: &str, bytes: &[u8]| api::Resource {
            name: name.to_owned(),
            version: "0000000000000007".to_owned(),
            resource: Some(any(bytes)),
            ..Default::default()
        };
        let expected = api::DeltaDiscoveryResponse {
            system_version_info: "12".to_owned(),
            resources: vec![resource("a", &[1, 2]), resource("b", &[])],
            type_url: Kind::Cluster.type_url().to_owned(),
            removed_resources: vec!["c".to_owned()],
            nonce: "3".to_owned(),
            control_plane: control_plane(),
            ..Default::default()
        };
        let encoded = Delta::write(response()).encode_to_vec();
        assert_eq!(api::DeltaDiscoveryResponse::decode(encoded.as_slice()), Ok(expected));
    }

    #[test]
    fn a_state_of_the_world_response_is_what_the_generated_message_is() {
        let expected = api::DiscoveryResponse {
            version_info: "12.3".to_owned(),
            resources: vec![any(&[1, 2]), any(&[])],
            type_url: Kind::Cluster.type_url().to_owned(),
            nonce: "3".to_owned(),
            control_plane: control_plane(),
            ..Default::default()
        };
        let encoded = Sotw::write(response()).encode_to_vec();
        assert_eq!(api::DiscoveryResponse::decode(encoded.as_slice()), Ok(expected));
    }
}
