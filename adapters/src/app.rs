//! One adapter process: the source, the registry client, and both ends of their life.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::client::{Client, Dial};
use crate::consul::Consul;
use crate::files::Files;
use crate::kubernetes::Kubernetes;
use crate::marathon::Marathon;
use crate::mesos::Mesos;
use crate::nomad::Nomad;
use crate::settings::{AdapterSettings, Platform};
use crate::source::{Source, SourceError};

/// Longest time that the client may take to end after the source has.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Runs an adapter, whose control planes are connected to by `dial`, until `stop` is cancelled or its source cannot go on.
pub async fn run(
    settings: AdapterSettings,
    dial: Arc<dyn Dial>,
    stop: CancellationToken,
) -> Result<(), SourceError> {
    let client = |description| Client::new(description, settings.control_planes, dial);
    match settings.platform {
        Platform::Files(files) => {
            let client = client(Files::description(&files));
            let source = Files::new(files, client.metrics());
            drive(source, client, stop).await
        }
        Platform::Consul(consul) => {
            let client = client(Consul::description(&consul));
            let source = Consul::new(*consul, client.metrics())?;
            drive(source, client, stop).await
        }
        Platform::Nomad(nomad) => {
            let client = client(Nomad::description(&nomad));
            let source = Nomad::new(*nomad, client.metrics())?;
            drive(source, client, stop).await
        }
        Platform::Marathon(marathon) => {
            let client = client(Marathon::description(&marathon));
            let source = Marathon::new(*marathon, client.metrics())?;
            drive(source, client, stop).await
        }
        Platform::Mesos(mesos) => {
            let client = client(Mesos::description(&mesos));
            let source = Mesos::new(*mesos, client.metrics())?;
            drive(source, client, stop).await
        }
        Platform::Kubernetes(kubernetes) => {
            let client = client(Kubernetes::description(&kubernetes));
            let source = Kubernetes::new(*kubernetes, client.metrics())?;
            drive(source, client, stop).await
        }
    }
}

/// Runs a source against a client: `weft` for its own platforms, others for theirs.
pub async fn drive<S: Source>(source: S, client: Client, stop: CancellationToken) -> Result<(), SourceError> {
    let description = source.describe();
    tracing::info!(source = description.source, platform = description.platform, "adapter started");
    // Ends the client when the source ends on its own, and both when the caller gives up waiting.
    let stop = stop.child_token();
    let _guard = stop.clone().drop_guard();
    let sink = client.sink();
    let mut telling = tokio::spawn(client.run(stop.clone()));
    let outcome = source.run(sink, stop.clone()).await;
    stop.cancel();
    if tokio::time::timeout(STOP_MAX, &mut telling).await.is_err() {
        telling.abort();
    }
    outcome
}
