//! What an adapter would tell now, and what stands in its way: everything is asked once, nothing is told.

use std::time::Duration;

use crate::client::Dial;
use crate::report::{Report, Trouble};
use crate::settings::{AdapterSettings, Platform};
use crate::{consul, files, kubernetes, marathon, mesos, nomad};

/// Longest wait for a connection to a control plane.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Asks the platform for everything once, and every control plane for a connection.
pub async fn check(settings: &AdapterSettings, dial: &dyn Dial) -> Report {
    let mut report = Report::default();
    match &settings.platform {
        Platform::Files(settings) => files::check(settings, &mut report),
        Platform::Consul(settings) => consul::check(settings, &mut report).await,
        Platform::Nomad(settings) => nomad::check(settings, &mut report).await,
        Platform::Marathon(settings) => marathon::check(settings, &mut report).await,
        Platform::Mesos(settings) => mesos::check(settings, &mut report).await,
        Platform::Kubernetes(settings) => kubernetes::check(settings, &mut report).await,
    }
    for control_plane in &settings.control_planes {
        let at = control_plane.uri();
        let dialled = tokio::time::timeout(CONNECT_MAX, dial.dial(control_plane.clone())).await;
        match dialled.unwrap_or_else(|_| Err("no connection in time".to_owned())) {
            Ok(_) => report.good(format!("control plane at {at} takes connections")),
            Err(error) => report.bad(
                Trouble::ControlPlane,
                format!(
                    "control plane at {at}: {error}; start it with `weft control`, or name another one with --control"
                ),
            ),
        }
    }
    report
}
