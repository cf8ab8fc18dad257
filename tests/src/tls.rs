//! TLS around the proxies: authorities and certificates of a test's own, a client that says which server it wants, and a
//! server in front of a backend.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::client::{Answer, Connection, Protocol, empty, get};

/// What servers of tests agree to speak.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Someone whom a test trusts, or does not.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub chain: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// With a name of its own: verifiers look for issuers by name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority can be made"))
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for an identity.
    pub fn issue_identity(&self, uri: &str) -> Issued {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        let uri = uri.try_into().expect("a test's URIs are ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
        let signed = params.signed_by(&key, &self.0).expect("a certificate can be signed");
        Issued { chain: signed.pem(), key: key.serialize_pem() }
    }

    /// A certificate for a name.
    pub fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a test's names are names");
        params.distinguished_name.push(DnType::CommonName, name);
        let signed = params.signed_by(&key, &self.0).expect("a certificate can be signed");
        Issued { chain: signed.pem(), key: key.serialize_pem() }
    }
}

impl Issued {
    /// A Secret document of a namespace that holds them, with the authorities of clients where there are any.
    pub fn secret(&self, namespace: &str, name: &str, clients: Option<&Authority>) -> String {
        let mut text = format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData:\n"
        );
        let mut add = |key: &str, value: &str| {
            text += &format!("  {key}: |\n");
            value.lines().for_each(|line| text += &format!("    {line}\n"));
        };
        add("tls.crt", &self.chain);
        add("tls.key", &self.key);
        if let Some(authority) = clients {
            add("ca.crt", &authority.pem());
        }
        text
    }

    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        (chain.expect("what was issued is PEM"), key.expect("what was issued is PEM"))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A client that trusts one authority, and may show a certificate.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl Client {
    /// Without sessions, so that every connection looks at the server's certificate.
    pub fn new(trusted: &Authority, shown: Option<&Issued>, protocol: Protocol) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.0.der().clone()).expect("an authority can be trusted");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions")
            .with_root_certificates(roots);
        let mut config = match shown.map(Issued::der) {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain, key).expect("what was issued belongs together")
            }
        };
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = match protocol {
            Protocol::H1 => vec![b"http/1.1".to_vec()],
            Protocol::H2 => vec![b"h2".to_vec()],
        };
        Self(Arc::new(config))
    }

    /// Connects and asks for a server by its name.
    pub async fn open(&self, address: SocketAddr, name: &str) -> Result<Connection, String> {
        let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(self.0.clone());
        let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let protocol = if h2 { Protocol::H2 } else { Protocol::H1 };
        Connection::over(stream, protocol).await.map_err(|error| error.to_string())
    }

    /// One request over a connection of its own. A refused certificate shows only here, under TLS 1.3.
    pub async fn get(&self, address: SocketAddr, name: &str, host: &str) -> Result<Answer, String> {
        let mut connection = self.open(address, name).await?;
        let protocol = if self.0.alpn_protocols == [b"h2".to_vec()] { Protocol::H2 } else { Protocol::H1 };
        let request = get(protocol, host, "/").body(empty()).map_err(|error| error.to_string())?;
        connection.send(request).await.map_err(|error| error.to_string())
    }
}

/// TLS in front of a backend; stops when dropped.
pub struct Terminator {
    /// Where it listens.
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Terminator {
    /// Shows a certificate and relays to `backend` what comes.
    pub async fn start(issued: &Issued, backend: SocketAddr) -> Self {
        let (chain, key) = issued.der();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("what was issued belongs together");
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let Ok(mut near) = acceptor.accept(stream).await else { return };
                    let Ok(mut far) = TcpStream::connect(backend).await else { return };
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, _tasks: tasks }
    }
}
