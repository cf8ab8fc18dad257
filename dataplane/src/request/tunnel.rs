//! Protocol upgrades: after 101 the two connections carry bytes, `websocket` mostly.

use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use crate::{body::Incoming, worker::Worker};

/// Bytes held per direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// An upgrade that a client asks for.
pub(super) struct Tunnel {
    protocol: HeaderValue,
    downstream: OnUpgrade,
}

impl Tunnel {
    /// What the request asks for, if it asks. `h2c` is an offer that may be passed over (RFC 7540, 3.2), and is.
    pub(super) fn asked(request: &mut Request<Incoming>) -> Option<Self> {
        if request.version() != Version::HTTP_11 {
            return None;
        }
        let protocol = request.headers().get(UPGRADE)?.clone();
        let named = request.headers().get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
        let meant =
            named.flat_map(|line| line.split(',')).any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
        let offer = protocol.as_bytes().eq_ignore_ascii_case(b"h2c");
        (meant && !offer).then(|| Self { protocol, downstream: hyper::upgrade::on(request) })
    }

    /// Whether one of the names allowed, lower case, is the one asked for.
    pub(super) fn is_among(&self, allowed: &[String]) -> bool {
        allowed.iter().any(|name| self.protocol.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Puts the wish back into a head that was stripped of it.
    pub(super) fn announce(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    /// Connects the two sides when the endpoint agreed. The bytes flow until both sides are done.
    pub(super) fn open(self, worker: &Worker, response: &mut Response<Incoming>) {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let upstream = hyper::upgrade::on(&mut *response);
        self.announce(response.headers_mut());
        worker.tasks.spawn_local(async move {
            if let (Ok(downstream), Ok(upstream)) = tokio::join!(self.downstream, upstream) {
                let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
                // How a tunnel ends is its users' business.
                let _ =
                    copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER_BYTES, BUFFER_BYTES)
                        .await;
            }
        });
    }
}
