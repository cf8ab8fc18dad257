//! TLS settings that kinds share: whom to believe, what to show, which versions and suites to speak.

use std::{net::IpAddr, sync::Arc};

use super::{
    problem::Report,
    reader::{At, Object},
};

/// Where certificates come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// From nowhere.
    #[default]
    None,
    /// From `Secret` documents in the namespace of the proxy; at least one.
    Secrets(Vec<Arc<str>>),
    /// From files of the proxy's host.
    Files {
        /// Certificate chain and private key.
        certificates: Vec<(Arc<str>, Arc<str>)>,
        /// Trusted authorities.
        authorities: Option<Arc<str>>,
        /// Revocation lists.
        revocations: Option<Arc<str>>,
    },
}

/// TLS of a gateway's server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerTls {
    /// What is done with it.
    pub mode: ServerMode,
    /// What to show, and whom to believe.
    pub credentials: Credentials,
    /// Names of clients, one of which a client must have; empty is any.
    pub names: Vec<Arc<str>>,
    /// `verifyCertificateSpki`.
    pub key_pins: Vec<Arc<str>>,
    /// `verifyCertificateHash`.
    pub certificate_pins: Vec<Arc<str>>,
    /// Least version.
    pub min: Option<TlsVersion>,
    /// Greatest version.
    pub max: Option<TlsVersion>,
    /// Suites of TLS 1.2, in OpenSSL's words; empty is the proxy's choice.
    pub suites: Vec<Arc<str>>,
}

/// `tls.mode` of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerMode {
    /// It goes through as it is, by the name that the client asks for.
    Passthrough,
    /// It ends here.
    Simple,
    /// It ends here, and clients show certificates.
    Mutual,
    /// It ends here, and a certificate that a client shows must be good.
    OptionalMutual,
    /// It ends here, between identities of the mesh (`ISTIO_MUTUAL`).
    Mesh,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.0
    V10,
    /// 1.1
    V11,
    /// 1.2
    V12,
    /// 1.3
    V13,
}

/// TLS that connections to a service begin with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientTls {
    /// Whether there is any.
    pub mode: ClientMode,
    /// What to show, and whom to believe; no authorities are those of the host.
    pub credentials: Credentials,
    /// The name to ask for; none is the service's host.
    pub sni: Option<Arc<str>>,
    /// Names, one of which the server's certificate must have; empty is the one that is asked for.
    pub names: Vec<Arc<str>>,
    /// The server's certificate is not looked at.
    pub skip_verify: bool,
}

/// `tls.mode` of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientMode {
    /// Plain text.
    Disable,
    /// The server shows a certificate.
    Simple,
    /// Both sides do.
    Mutual,
    /// Both sides show identities of the mesh (`ISTIO_MUTUAL`).
    Mesh,
}

impl ServerTls {
    /// Whether TLS ends here.
    pub fn terminates(&self) -> bool {
        self.mode != ServerMode::Passthrough
    }

    /// Whether clients are asked for certificates.
    pub fn verifies_clients(&self) -> bool {
        matches!(self.mode, ServerMode::Mutual | ServerMode::OptionalMutual | ServerMode::Mesh)
    }
}

/// Reads `servers[].tls`, and whether plain text is redirected (`httpsRedirect`); then there may be no TLS at all.
pub(super) fn server(at: &At<'_>, report: &mut Report) -> Option<(Option<ServerTls>, bool)> {
    let mut object = at.object(report)?;
    let redirect_at = object.field("httpsRedirect", report);
    let redirect = redirect_at.and_then(|at| at.boolean(report)).unwrap_or_default();
    let mode_at = object.field("mode", report);
    let mode = match &mode_at {
        None => None,
        Some(at) => Some(server_mode(at, report)?),
    };
    let credentials = server_credentials(&mut object, report);
    let tls = ServerTls {
        mode: mode.unwrap_or(ServerMode::Passthrough),
        credentials,
        names: texts(&mut object, "subjectAltNames", report),
        key_pins: texts(&mut object, "verifyCertificateSpki", report),
        certificate_pins: texts(&mut object, "verifyCertificateHash", report),
        min: object.field("minProtocolVersion", report).and_then(|at| version(&at, report)),
        max: object.field("maxProtocolVersion", report).and_then(|at| version(&at, report)),
        suites: texts(&mut object, "cipherSuites", report),
    };
    object.finish(report);
    let bare = tls.credentials == Credentials::None;
    match (mode_at.as_ref(), tls.mode) {
        (None, _) if bare && redirect => return Some((None, true)),
        // Istio's default mode is PASSTHROUGH.
        (_, ServerMode::Passthrough) if !bare => {
            at.fail(report, "certificates are not used where TLS goes through", "set mode: SIMPLE");
        }
        (_, ServerMode::Passthrough) => {}
        (_, ServerMode::Mesh) if !bare => {
            at.fail(report, "ISTIO_MUTUAL shows the proxy's own certificate", "remove the others");
        }
        (_, ServerMode::Mesh) => {}
        (_, ServerMode::Simple | ServerMode::Mutual | ServerMode::OptionalMutual) => {
            if bare && report.is_clean() {
                let hint = "set credentialName, or serverCertificate and privateKey";
                at.fail(report, "needs a certificate", hint);
            }
        }
    }
    let mutual = tls.verifies_clients();
    if let Credentials::Files { authorities, certificates, .. } = &tls.credentials {
        if certificates.is_empty() {
            at.fail(report, "needs serverCertificate and privateKey", "add both");
        }
        if mutual && authorities.is_none() {
            at.fail(report, "needs caCertificates to verify clients with", "add it");
        }
    }
    let looked_at = [&tls.names, &tls.key_pins, &tls.certificate_pins];
    if !mutual && looked_at.iter().any(|wanted| !wanted.is_empty()) {
        at.fail(report, "only MUTUAL looks at the certificates of clients", "set mode: MUTUAL");
    }
    if let (Some(min), Some(max)) = (tls.min, tls.max)
        && min > max
    {
        at.fail(report, "minProtocolVersion is above maxProtocolVersion", "");
    }
    Some((Some(tls), redirect))
}

fn server_mode(at: &At<'_>, report: &mut Report) -> Option<ServerMode> {
    match &*at.text(report)? {
        "PASSTHROUGH" => Some(ServerMode::Passthrough),
        "SIMPLE" => Some(ServerMode::Simple),
        "MUTUAL" => Some(ServerMode::Mutual),
        "OPTIONAL_MUTUAL" => Some(ServerMode::OptionalMutual),
        "ISTIO_MUTUAL" => Some(ServerMode::Mesh),
        other => {
            let known = "PASSTHROUGH, SIMPLE, MUTUAL, OPTIONAL_MUTUAL or ISTIO_MUTUAL";
            at.fail(report, format!("mode {other:?} is not supported"), known);
            None
        }
    }
}

fn server_credentials(object: &mut Object<'_>, report: &mut Report) -> Credentials {
    let mut secrets: Vec<Arc<str>> = Vec::new();
    let place = object.place;
    secrets.extend(object.field("credentialName", report).and_then(|at| secret_name(&at, report)));
    let several = object.list("credentialNames", report);
    if !secrets.is_empty() && !several.is_empty() {
        several[0].fail(report, "credentialName is given too", "keep one of the two");
    }
    secrets.extend(several.iter().filter_map(|at| secret_name(at, report)));
    let mut certificates = pair(object, "serverCertificate", report).into_iter().collect::<Vec<_>>();
    for at in object.list("tlsCertificates", report) {
        let Some(mut object) = at.object(report) else { continue };
        certificates.extend(pair(&mut object, "serverCertificate", report));
        object.finish(report);
    }
    let authorities = path(object, "caCertificates", report);
    let revocations = path(object, "caCrl", report);
    let files = !certificates.is_empty() || authorities.is_some() || revocations.is_some();
    match (secrets.is_empty(), files) {
        (true, false) => Credentials::None,
        (false, false) => Credentials::Secrets(secrets),
        (true, true) => Credentials::Files { certificates, authorities, revocations },
        (false, true) => {
            let field = object.path.clone();
            report.error(place, &field, "names files and secrets", "keep either");
            Credentials::None
        }
    }
}

/// Reads `trafficPolicy.tls`.
pub(super) fn client(at: &At<'_>, report: &mut Report) -> Option<ClientTls> {
    let mut object = at.object(report)?;
    let mode = object.required("mode", report).and_then(|at| match &*at.text(report)? {
        "DISABLE" => Some(ClientMode::Disable),
        "SIMPLE" => Some(ClientMode::Simple),
        "MUTUAL" => Some(ClientMode::Mutual),
        "ISTIO_MUTUAL" => Some(ClientMode::Mesh),
        other => {
            let known = "DISABLE, SIMPLE, MUTUAL or ISTIO_MUTUAL";
            at.fail(report, format!("mode {other:?} is not supported"), known);
            None
        }
    });
    let secret = object.field("credentialName", report).and_then(|at| secret_name(&at, report));
    let certificates = pair(&mut object, "clientCertificate", report).into_iter().collect::<Vec<_>>();
    let authorities = path(&mut object, "caCertificates", report);
    let revocations = path(&mut object, "caCrl", report);
    let sni = object.field("sni", report).and_then(|at| at.text(report)).filter(|name| !name.is_empty());
    let names = texts(&mut object, "subjectAltNames", report);
    let skip_verify = object.field("insecureSkipVerify", report).and_then(|at| at.boolean(report));
    object.finish(report);
    let mode = mode?;
    let files = !certificates.is_empty() || authorities.is_some() || revocations.is_some();
    let shows = secret.is_some() || !certificates.is_empty();
    if secret.is_some() && files {
        at.fail(report, "names files and a secret", "keep either");
    }
    if mode == ClientMode::Mutual && !shows {
        at.fail(
            report,
            "needs a certificate to show",
            "set clientCertificate and privateKey, or credentialName",
        );
    }
    if mode == ClientMode::Mesh && (shows || authorities.is_some() || skip_verify == Some(true)) {
        at.fail(report, "ISTIO_MUTUAL shows the proxy's own certificate", "remove the others");
    }
    if mode == ClientMode::Simple && !certificates.is_empty() {
        at.fail(report, "only MUTUAL shows a certificate", "set mode: MUTUAL");
    }
    let skip_verify = skip_verify.unwrap_or_default();
    if skip_verify && (authorities.is_some() || !names.is_empty()) {
        at.fail(
            report,
            "insecureSkipVerify leaves nothing to verify",
            "remove it, or what is to be verified",
        );
    }
    let credentials = match secret {
        Some(secret) => Credentials::Secrets(vec![secret]),
        None if files => Credentials::Files { certificates, authorities, revocations },
        None => Credentials::None,
    };
    Some(ClientTls { mode, credentials, sni, names, skip_verify })
}

/// The file of a certificate, and that of its key, which must be beside it.
fn pair(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<(Arc<str>, Arc<str>)> {
    let certificate = path(object, name, report);
    let key = path(object, "privateKey", report);
    if certificate.is_some() != key.is_some() {
        let field = object.path.clone();
        report.error(object.place, &field, format!("{name} and privateKey belong together"), "set both");
    }
    Some((certificate?, key?))
}

fn path(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<Arc<str>> {
    let at = object.field(name, report)?;
    let text = at.text(report).filter(|text| !text.is_empty())?;
    if !text.starts_with('/') {
        at.fail(report, format!("{text:?} is no whole path"), "begin it with /");
    }
    Some(text)
}

fn secret_name(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    if text.is_empty() || !text.bytes().all(fits) {
        at.fail(report, format!("{text:?} is no name of a Secret"), "it is one of the proxy's own namespace");
        return None;
    }
    Some(text)
}

fn texts(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Vec<Arc<str>> {
    object.list(name, report).iter().filter_map(|at| at.text(report)).collect()
}

/// A version in Istio's words; none is the proxy's choice.
pub(super) fn version(at: &At<'_>, report: &mut Report) -> Option<TlsVersion> {
    match &*at.text(report)? {
        "TLS_AUTO" => None,
        "TLSV1_0" => Some(TlsVersion::V10),
        "TLSV1_1" => Some(TlsVersion::V11),
        "TLSV1_2" => Some(TlsVersion::V12),
        "TLSV1_3" => Some(TlsVersion::V13),
        other => {
            at.fail(report, format!("{other:?} is no version"), "TLSV1_2 or TLSV1_3");
            None
        }
    }
}

/// Which kind of name a text is, as certificates tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameForm {
    /// `spiffe://...`.
    Uri,
    /// An IP address.
    Ip,
    /// Any other.
    Dns,
}

impl NameForm {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        match () {
            () if text.contains("://") => Self::Uri,
            () if text.parse::<IpAddr>().is_ok() => Self::Ip,
            () => Self::Dns,
        }
    }
}
