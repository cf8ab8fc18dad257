//! An adapter's identity: got and kept by the agent that proxies have, too, and shown wherever the adapter connects.

use std::{sync::Arc, time::SystemTime};

use futures::future::BoxFuture;
use tonic::transport::{Channel, Endpoint};
use weft_adapters::client::{Dial, Plaintext};
use weft_dataplane::identity::{
    agent::{Agent, Settings},
    connect::Dialer,
};

use crate::failure::{Exit, Failure};

/// The agent, with what it has kept.
pub(super) fn agent(settings: Settings) -> Result<Agent, Failure> {
    Agent::new(settings, SystemTime::now()).map_err(|error| {
        Failure::new(
            Exit::No,
            "the adapter cannot join the mesh",
            error.to_string(),
            "for an adapter it is `weft token create --adapter NAME`, with the name of its source",
        )
    })
}

/// Connects as whoever the agent is by then, and without one as nobody.
pub(super) fn dial(agent: Option<&Agent>) -> Arc<dyn Dial> {
    match agent {
        Some(agent) => Arc::new(Identified(Dialer { identity: Some(agent.current()) })),
        None => Arc::new(Plaintext),
    }
}

/// The same for who has a moment only: an identity is got now, and if there is none, every connection says why.
pub(super) async fn joined(agent: &Agent) -> Arc<dyn Dial> {
    match agent.join().await {
        Ok(()) => dial(Some(agent)),
        Err(why) => Arc::new(Nobody(why)),
    }
}

#[derive(Debug)]
struct Identified(Dialer);

impl Dial for Identified {
    fn dial(&self, control_plane: Endpoint) -> BoxFuture<'_, Result<Channel, String>> {
        Box::pin(self.0.connect(control_plane))
    }
}

#[derive(Debug)]
struct Nobody(String);

impl Dial for Nobody {
    fn dial(&self, _control_plane: Endpoint) -> BoxFuture<'_, Result<Channel, String>> {
        Box::pin(async { Err(format!("no identity came: {}", self.0)) })
    }
}
