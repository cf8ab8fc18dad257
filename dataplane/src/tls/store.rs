//! Secrets in force, and what a context needs of them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{
    secret::{Authorities, Certificate, Revocations},
    verify::Trust,
};
use crate::identity::Svid;
use crate::spec::{
    AuthoritiesSource, CertificateSource, Data, RevocationsSource, Secret, SecretName, SecretRef, TlsCommon,
    Validation,
};

/// Secrets by name, and files by what they hold.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// What SDS delivered.
    pub named: BTreeMap<Arc<str>, Arc<Secret>>,
    /// What was read from disk; a file that cannot be read or used keeps its last good content.
    pub files: Files,
    /// The proxy's own identity.
    pub own: Option<Arc<Svid>>,
}

/// Loaded files.
pub type Files = BTreeMap<FileKey, Loaded>;

/// Something that is loaded from disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKey {
    /// A certificate with its key.
    Certificate {
        /// Leaf first.
        chain: Data,
        /// Its key.
        key: Data,
    },
    /// Authorities.
    Authorities(Arc<Path>),
    /// The host's own authorities.
    SystemAuthorities,
    /// Revocation lists.
    Revocations(Arc<Path>),
}

/// What was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// For `FileKey::Certificate`.
    Certificate(Arc<Certificate>),
    /// For `FileKey::Authorities` and `FileKey::SystemAuthorities`.
    Authorities(Arc<Authorities>),
    /// For `FileKey::Revocations`.
    Revocations(Arc<Revocations>),
}

/// Why a context cannot be used: what has not come, or does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// Everything that a context names.
#[derive(Clone, Debug)]
pub struct Material {
    /// In the order of the context.
    pub certificates: Vec<Arc<Certificate>>,
    /// None when the context verifies nothing.
    pub trust: Option<Trust>,
    /// The secret that the trust comes from, to tell a new one.
    named: Option<Arc<Secret>>,
}

impl Material {
    /// Finds it all.
    pub fn resolve(common: &TlsCommon, secrets: &Secrets) -> Result<Self, Missing> {
        let certificates = common.certificates.iter().map(|source| secrets.certificate(source));
        let certificates = certificates.collect::<Result<_, _>>()?;
        let name = common.validation.as_ref().and_then(|validation| validation.named.as_ref());
        let named = match name {
            Some(SecretName::Stream(name)) => Some(secrets.secret(name)?.clone()),
            Some(SecretName::Own) | None => None,
        };
        let mut trust = match &common.validation {
            Some(validation) => Some(secrets.trust(&validation.given, named.as_deref())?),
            None => None,
        };
        if let (Some(trust), Some(SecretName::Own)) = (&mut trust, name) {
            trust.authorities = Some(secrets.own()?.trust.authorities.clone());
        }
        Ok(Self { certificates, trust, named })
    }

    /// Whether a context made of the other would be the same.
    pub fn same(&self, other: &Self) -> bool {
        let lists = |material: &Self| {
            let trust = material.trust.as_ref();
            let authorities = trust.and_then(|trust| trust.authorities.as_ref()).map(Arc::as_ptr);
            let revocations = trust.and_then(|trust| trust.revocations.as_ref()).map(Arc::as_ptr);
            (authorities, revocations, material.named.as_ref().map(Arc::as_ptr))
        };
        self.certificates.len() == other.certificates.len()
            && self.certificates.iter().zip(&other.certificates).all(|(a, b)| Arc::ptr_eq(a, b))
            && lists(self) == lists(other)
    }
}

impl Secrets {
    fn secret(&self, name: &Arc<str>) -> Result<&Arc<Secret>, Missing> {
        self.named.get(name).ok_or_else(|| Missing(format!("secret {name:?} has not come")))
    }

    fn own(&self) -> Result<&Svid, Missing> {
        self.own.as_deref().ok_or_else(|| Missing("the proxy has no identity yet".to_owned()))
    }

    fn certificate(&self, source: &SecretRef<CertificateSource>) -> Result<Arc<Certificate>, Missing> {
        match source {
            SecretRef::Given(source) => self.certificate_of(source),
            SecretRef::Named(SecretName::Own) => Ok(self.own()?.certificate.clone()),
            SecretRef::Named(SecretName::Stream(name)) => match &**self.secret(name)? {
                Secret::Certificate(source) => self.certificate_of(source),
                Secret::Validation(_) => Err(Missing(format!("secret {name:?} is no certificate"))),
            },
        }
    }

    fn certificate_of(&self, source: &CertificateSource) -> Result<Arc<Certificate>, Missing> {
        match source {
            CertificateSource::Parsed(certificate) => Ok(certificate.clone()),
            CertificateSource::Files { chain, key } => {
                let file = FileKey::Certificate { chain: chain.clone(), key: key.clone() };
                match self.files.get(&file) {
                    Some(Loaded::Certificate(certificate)) => Ok(certificate.clone()),
                    _ => Err(unread(&file)),
                }
            }
        }
    }

    /// The given context with the named one merged over it, as protobuf merges: lists are joined, others replaced.
    fn trust(&self, given: &Validation, named: Option<&Secret>) -> Result<Trust, Missing> {
        let empty = Validation::default();
        let over = match named {
            None => &empty,
            Some(Secret::Validation(validation)) => validation,
            Some(Secret::Certificate(_)) => {
                return Err(Missing("a certificate came as validation context".to_owned()));
            }
        };
        let authorities = over.authorities.as_ref().or(given.authorities.as_ref());
        let revocations = over.revocations.as_ref().or(given.revocations.as_ref());
        Ok(Trust {
            authorities: authorities.map(|source| self.authorities(source)).transpose()?,
            accept_untrusted: given.accept_untrusted || over.accept_untrusted,
            hide_authorities: given.hide_authorities || over.hide_authorities,
            revocations: revocations.map(|source| self.revocations(source)).transpose()?,
            revocations_of_leaf_only: given.revocations_of_leaf_only || over.revocations_of_leaf_only,
            depth_max: over.depth_max.or(given.depth_max),
            names: [given.names.as_slice(), &over.names].concat(),
            certificate_pins: [given.certificate_pins.as_slice(), &over.certificate_pins].concat(),
            key_pins: [given.key_pins.as_slice(), &over.key_pins].concat(),
        })
    }

    fn authorities(&self, source: &AuthoritiesSource) -> Result<Arc<Authorities>, Missing> {
        let file = match source {
            AuthoritiesSource::Parsed(authorities) => return Ok(authorities.clone()),
            AuthoritiesSource::File(path) => FileKey::Authorities(path.clone()),
            AuthoritiesSource::System => FileKey::SystemAuthorities,
        };
        match self.files.get(&file) {
            Some(Loaded::Authorities(authorities)) => Ok(authorities.clone()),
            _ => Err(unread(&file)),
        }
    }

    fn revocations(&self, source: &RevocationsSource) -> Result<Arc<Revocations>, Missing> {
        let file = match source {
            RevocationsSource::Parsed(revocations) => return Ok(revocations.clone()),
            RevocationsSource::File(path) => FileKey::Revocations(path.clone()),
        };
        match self.files.get(&file) {
            Some(Loaded::Revocations(revocations)) => Ok(revocations.clone()),
            _ => Err(unread(&file)),
        }
    }
}

fn unread(file: &FileKey) -> Missing {
    Missing(match file {
        FileKey::Certificate { chain, key } => format!("certificate {chain:?} with key {key:?} is not read"),
        FileKey::Authorities(path) => format!("authorities in {path:?} are not read"),
        FileKey::SystemAuthorities => "the host's authorities are not read".to_owned(),
        FileKey::Revocations(path) => format!("revocation lists in {path:?} are not read"),
    })
}

/// The secrets of the control plane that a context names.
pub fn names(common: &TlsCommon) -> impl Iterator<Item = &Arc<str>> {
    let certificates = common.certificates.iter().filter_map(|source| match source {
        SecretRef::Named(name) => Some(name),
        SecretRef::Given(_) => None,
    });
    let validation = common.validation.iter().filter_map(|validation| validation.named.as_ref());
    certificates.chain(validation).filter_map(|name| match name {
        SecretName::Stream(name) => Some(name),
        SecretName::Own => None,
    })
}

/// The files that a context itself needs.
pub fn context_files(common: &TlsCommon, files: &mut BTreeSet<FileKey>) {
    for source in &common.certificates {
        if let SecretRef::Given(source) = source {
            certificate_files(source, files);
        }
    }
    if let Some(validation) = &common.validation {
        validation_files(&validation.given, files);
    }
}

/// The files that a secret needs.
pub fn secret_files(secret: &Secret, files: &mut BTreeSet<FileKey>) {
    match secret {
        Secret::Certificate(source) => certificate_files(source, files),
        Secret::Validation(validation) => validation_files(validation, files),
    }
}

fn certificate_files(source: &CertificateSource, files: &mut BTreeSet<FileKey>) {
    if let CertificateSource::Files { chain, key } = source {
        files.insert(FileKey::Certificate { chain: chain.clone(), key: key.clone() });
    }
}

fn validation_files(validation: &Validation, files: &mut BTreeSet<FileKey>) {
    match &validation.authorities {
        Some(AuthoritiesSource::File(path)) => drop(files.insert(FileKey::Authorities(path.clone()))),
        Some(AuthoritiesSource::System) => drop(files.insert(FileKey::SystemAuthorities)),
        Some(AuthoritiesSource::Parsed(_)) | None => {}
    }
    if let Some(RevocationsSource::File(path)) = &validation.revocations {
        files.insert(FileKey::Revocations(path.clone()));
    }
}
