//! What an adapter would tell now, and what stands in its way: everything is asked once, nothing is told.

use crate::report::{Report, Trouble};
use crate::settings::{AdapterSettings, Platform};
use crate::{consul, files, kubernetes, marathon, mesos, nomad};

/// Asks the platform for everything once, and every control plane for a connection.
pub async fn check(settings: &AdapterSettings) -> Report {
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
        match control_plane.connect().await {
            Ok(_) => report.good(format!("control plane at {at} takes connections")),
            Err(error) => report.bad(
                Trouble::ControlPlane,
                format!(
                    "control plane at {at}: {}; start it with `weft control`, or name another one with --control",
                    innermost(&error)
                ),
            ),
        }
    }
    report
}

/// The deepest cause: "Connection refused", not "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}
