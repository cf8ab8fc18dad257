//! Reads `tls.frontend` of a gateway: how the clients of its HTTPS listeners are verified.

use std::collections::BTreeMap;

use super::{GatewayListener, ListenerProtocol, ObjectRef, refs};
use crate::documents::{
    ServerMode,
    problem::Report,
    reader::{At, Object},
};

/// Whose certificates clients show; none: they need not.
type Authorities = Option<ObjectRef>;

/// By port, else for all.
#[derive(Default)]
pub(super) struct Frontend {
    usual: Authorities,
    ports: BTreeMap<u16, Authorities>,
}

/// Reads `tls`.
pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<Frontend> {
    let mut object = at.object(report)?;
    let frontend = object.field("frontend", report);
    object.unsupported(&["backend"], report);
    object.finish(report);
    let mut object = frontend?.object(report)?;
    let usual = object.required("default", report).and_then(|at| config(&at, report));
    let mut ports = BTreeMap::new();
    for at in object.list("perPort", report) {
        let Some(mut object) = at.object(report) else { continue };
        let port = object.required("port", report).and_then(|at| at.port(report));
        let authorities = object.required("tls", report).and_then(|at| config(&at, report));
        object.finish(report);
        if port.is_some_and(|port| ports.insert(port, authorities).is_some()) {
            at.fail(report, "names a port twice", "keep one");
        }
    }
    object.finish(report);
    Some(Frontend { usual, ports })
}

fn config(at: &At<'_>, report: &mut Report) -> Authorities {
    let mut object = at.object(report)?;
    let validation = object.field("validation", report);
    object.finish(report);
    let mut object: Object<'_> = validation?.object(report)?;
    let refs_at = object.required("caCertificateRefs", report);
    let mode = object.field("mode", report);
    object.finish(report);
    if let Some(at) = &mode {
        let text = at.text(report)?;
        if &*text != "AllowValidOnly" {
            at.fail(report, format!("mode {text:?} is not supported"), "AllowValidOnly");
        }
    }
    let refs_at = refs_at?;
    match refs_at.list(report).as_slice() {
        [only] => refs::object(only, "", "ConfigMap", report),
        several => {
            let message = format!("{} references are not supported", several.len());
            refs_at.fail(report, message, "give one, to all authorities");
            None
        }
    }
}

impl Frontend {
    /// Gives a listener what is said for its port.
    pub(super) fn apply(&self, listener: &mut GatewayListener) {
        let authorities = self.ports.get(&listener.port).unwrap_or(&self.usual);
        let (Some(tls), Some(authorities)) = (&mut listener.tls, authorities) else { return };
        if listener.protocol != ListenerProtocol::Https {
            return;
        }
        if tls.mode == ServerMode::Simple {
            tls.mode = ServerMode::Mutual;
        }
        tls.authorities = Some(authorities.clone());
    }
}
