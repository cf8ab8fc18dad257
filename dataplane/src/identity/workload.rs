//! What stands beside the proxy asks on a unix socket: applications who they are (SPIFFE Workload API), and Envoy for the
//! certificate and the authorities that its configuration names (SDS). Whoever can open the socket is the workload: its
//! mode is 0600.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use futures::{Stream, StreamExt, stream};
use tokio::{net::UnixListener, sync::Semaphore};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};
use weft_proto::workload::{
    X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
};

use super::{Current, Svid};

pub mod sds;

/// Streams at once, of both services.
pub const STREAMS_MAX: usize = 1024;
/// Bytes of one request.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// What every caller of the Workload API says, so that nothing that only makes a browser connect gets a key.
const HEADER: &str = "workload.spiffe.io";

/// The socket, bound; removed when it ends.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds a path; what an earlier process left there is replaced, what is no socket is not. Needs a tokio runtime.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is something else than a socket",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Nobody can open it before it has its mode: it gets its name last.
        let fresh = path.with_extension("new");
        let _ = fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until stopped.
    pub async fn serve(self, identity: Current, stop: CancellationToken) {
        let Self { listener, path } = self;
        let places = Arc::new(Semaphore::new(STREAMS_MAX));
        let asked = Asked { identity, places };
        let api = SpiffeWorkloadApiServer::new(asked.clone()).max_decoding_message_size(REQUEST_BYTES_MAX);
        let server = Server::builder().add_service(api).add_service(sds::server(asked));
        let served =
            server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the workload socket failed");
        }
        let _ = fs::remove_file(path);
    }
}

/// What both services answer from. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Asked {
    identity: Current,
    places: Arc<Semaphore>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Asked {
    /// What `answer` makes of the identity, now and whenever that is another one.
    fn follow<T: Send + 'static>(&self, answer: fn(&Svid) -> T) -> Result<Response<Answers<T>>, Status> {
        let place = self
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted(format!("{STREAMS_MAX} streams are open already")))?;
        let mut identity = self.identity.clone();
        identity.mark_changed();
        let answers = stream::unfold((identity, place), move |(mut identity, place)| async move {
            loop {
                identity.changed().await.ok()?;
                let svid = identity.borrow_and_update().clone();
                if let Some(svid) = svid {
                    return Some((Ok(answer(&svid)), (identity, place)));
                }
            }
        });
        Ok(Response::new(answers.boxed()))
    }
}

fn check_header<T>(request: &Request<T>) -> Result<(), Status> {
    match request.metadata().get(HEADER).map(|value| value.as_bytes()) {
        Some(b"true") => Ok(()),
        _ => Err(Status::invalid_argument(format!("the metadata {HEADER}: true is missing"))),
    }
}

fn concatenated<'a>(
    parts: impl IntoIterator<Item = &'a rustls::pki_types::CertificateDer<'static>>,
) -> Vec<u8> {
    parts.into_iter().flat_map(|part| part.iter().copied()).collect()
}

fn svids(svid: &Svid) -> X509svidResponse {
    let own = X509svid {
        spiffe_id: svid.id.to_string(),
        x509_svid: concatenated(svid.chain()),
        x509_svid_key: svid.reveal_key().to_vec(),
        bundle: concatenated(&svid.trust.roots),
        hint: String::new(),
    };
    X509svidResponse { svids: vec![own], ..X509svidResponse::default() }
}

fn bundles(svid: &Svid) -> X509BundlesResponse {
    let id = format!("spiffe://{}", svid.id.trust_domain());
    let bundles = BTreeMap::from([(id, concatenated(&svid.trust.roots))]);
    X509BundlesResponse { bundles, ..X509BundlesResponse::default() }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Asked {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        check_header(&request)?;
        self.follow(svids)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        check_header(&request)?;
        self.follow(bundles)
    }
}
