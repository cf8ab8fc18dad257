//! TLS: what is shown to peers, whom the proxy believes, and how handshakes end.

pub mod client;
pub mod contexts;
pub mod files;
pub mod hello;
pub mod live;
pub mod names;
pub mod peer;
pub mod secret;
pub mod server;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod verify;

use std::{
    io,
    sync::{Arc, LazyLock},
};

use metrics::{Counter, counter};
use rustls::{AlertDescription, CertificateError, Error, crypto::CryptoProvider};

/// The algorithms of all contexts that do not ask for fewer: hybrid post-quantum key exchange first.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

/// Which side of the proxy a handshake is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// With a caller.
    Downstream,
    /// With an endpoint.
    Upstream,
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Well.
    Done,
    /// It took too long.
    Timeout,
    /// The peer closed the connection.
    Closed,
    /// What the peer sent is not TLS, or broken.
    Malformed,
    /// No version, algorithm or application protocol in common.
    Incompatible,
    /// The peer showed no certificate.
    NoCertificate,
    /// The peer's certificate is expired or not valid yet.
    Expired,
    /// The peer's certificate is of no authority that is trusted.
    Untrusted,
    /// The peer's certificate is revoked, or nothing says that it is not.
    Revoked,
    /// The peer is someone else than was expected.
    WrongName,
    /// The peer's certificate is unusable for another reason.
    BadCertificate,
    /// The peer refused us.
    Refused,
    /// A certificate or validation context that is needed has not come.
    NoSecret,
}

impl Outcome {
    const ALL: [Self; 13] = [
        Self::Done,
        Self::Timeout,
        Self::Closed,
        Self::Malformed,
        Self::Incompatible,
        Self::NoCertificate,
        Self::Expired,
        Self::Untrusted,
        Self::Revoked,
        Self::WrongName,
        Self::BadCertificate,
        Self::Refused,
        Self::NoSecret,
    ];

    /// The word in `weft_tls_handshakes_total`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::Incompatible => "incompatible",
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::Untrusted => "untrusted",
            Self::Revoked => "revoked",
            Self::WrongName => "wrong_name",
            Self::BadCertificate => "bad_certificate",
            Self::Refused => "refused",
            Self::NoSecret => "no_secret",
        }
    }

    /// What a failed handshake's error means.
    pub fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => Self::of_tls(error),
            None if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            None => Self::Closed,
        }
    }

    fn of_tls(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => match error {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
                CertificateError::Revoked
                | CertificateError::UnknownRevocationStatus
                | CertificateError::ExpiredRevocationList => Self::Revoked,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. }
                | CertificateError::ApplicationVerificationFailure => Self::WrongName,
                _ => Self::BadCertificate,
            },
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible,
            Error::AlertReceived(AlertDescription::CloseNotify) => Self::Closed,
            Error::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::ProtocolVersion
                | AlertDescription::NoApplicationProtocol,
            ) => Self::Incompatible,
            Error::AlertReceived(_) => Self::Refused,
            _ => Self::Malformed,
        }
    }
}

/// Counts a handshake.
pub fn count(side: Side, outcome: Outcome) {
    static COUNTERS: LazyLock<[Vec<Counter>; 2]> = LazyLock::new(|| {
        ["downstream", "upstream"].map(|side| {
            let counter = |outcome: Outcome| counter!("weft_tls_handshakes_total", "side" => side, "outcome" => outcome.word());
            Outcome::ALL.map(counter).into()
        })
    });
    COUNTERS[side as usize][outcome as usize].increment(1);
}
