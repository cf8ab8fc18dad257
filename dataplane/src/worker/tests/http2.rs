//! HTTP/2 through a worker, frame by frame: both peers of the proxy are h2 itself.

use std::future::poll_fn;

use h2::{
    Reason, RecvStream, SendStream,
    client::{self, ResponseFuture},
    server::{self, SendResponse},
};
use http::HeaderMap;
use tokio::sync::mpsc;

use super::*;

type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// An origin whose streams the test answers itself. It says goodbye after so many of them on a connection.
async fn origin(goodbye_after: u32) -> (SocketAddr, mpsc::Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, streams) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut connection = server::handshake(stream).await.unwrap();
                let mut left = goodbye_after;
                while let Some(Ok(stream)) = connection.accept().await {
                    let _ = asked.send(stream).await;
                    left -= 1;
                    if left == 0 {
                        connection.graceful_shutdown();
                    }
                }
            });
        }
    });
    (address, streams)
}

struct Through {
    client: client::SendRequest<Bytes>,
    streams: mpsc::Receiver<Asked>,
    _proxy: Proxy,
}

impl Through {
    async fn open(goodbye_after: u32) -> Self {
        let (address, streams) = origin(goodbye_after).await;
        let spec = spec(cluster(UpstreamProtocol::Http2, 10), endpoints(&[address]), forward(None, None));
        let proxy = Proxy::start_with(spec, 1);
        let stream = TcpStream::connect(proxy.address().await).await.unwrap();
        let (client, connection) = client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { client, streams, _proxy: proxy }
    }

    /// Sends a head whose body follows, and waits until the origin has it.
    async fn post(&mut self) -> (ResponseFuture, SendStream<Bytes>, RecvStream, SendResponse<Bytes>) {
        let request = Request::post("http://c/").body(()).unwrap();
        let (response, body) = self.client.send_request(request, false).unwrap();
        let (asked, respond) = self.streams.recv().await.unwrap();
        (response, body, asked.into_body(), respond)
    }
}

fn ok() -> Response<()> {
    Response::new(())
}

/// The next chunk of a body, taken.
async fn chunk(body: &mut RecvStream) -> Option<Bytes> {
    let chunk = body.data().await?.unwrap();
    body.flow_control().release_capacity(chunk.len()).unwrap();
    Some(chunk)
}

#[tokio::test]
async fn bodies_flow_both_ways_at_once_and_end_with_their_trailers() {
    let mut through = Through::open(9).await;
    let (response, mut upload, mut asked, mut respond) = through.post().await;
    let mut answer = respond.send_response(ok(), false).unwrap();
    let mut download = response.await.unwrap().into_body();
    for word in ["one", "two", "three"] {
        upload.send_data(word.into(), false).unwrap();
        assert_eq!(chunk(&mut asked).await.unwrap(), word);
        answer.send_data(word.to_uppercase().into(), false).unwrap();
        assert_eq!(chunk(&mut download).await.unwrap(), word.to_uppercase());
    }
    let trailers =
        |value: &'static str| HeaderMap::from_iter([("x-end".parse().unwrap(), value.parse().unwrap())]);
    upload.send_trailers(trailers("up")).unwrap();
    assert_eq!(asked.trailers().await.unwrap().unwrap()["x-end"], "up");
    answer.send_trailers(trailers("down")).unwrap();
    assert_eq!(download.trailers().await.unwrap().unwrap()["x-end"], "down");
}

#[tokio::test]
async fn a_request_that_its_caller_gives_up_is_given_up_upstream() {
    let mut through = Through::open(9).await;
    let (_response, mut upload, _asked, mut respond) = through.post().await;
    upload.send_reset(Reason::CANCEL);
    assert_eq!(poll_fn(|cx| respond.poll_reset(cx)).await.unwrap(), Reason::CANCEL);
}

#[tokio::test]
async fn an_upload_that_breaks_off_does_not_look_complete() {
    for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let mut through = Through::open(9).await;
        let (_response, mut upload, mut asked, _respond) = through.post().await;
        upload.send_data("half".into(), false).unwrap();
        assert_eq!(chunk(&mut asked).await.unwrap(), "half");
        upload.send_reset(reason);
        assert!(asked.data().await.unwrap().is_err(), "{reason}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    let mut through = Through::open(9).await;
    let (response, _upload, _asked, mut respond) = through.post().await;
    let mut answer = respond.send_response(ok(), false).unwrap();
    answer.send_data("half".into(), false).unwrap();
    let mut download = response.await.unwrap().into_body();
    assert_eq!(chunk(&mut download).await.unwrap(), "half");
    answer.send_reset(Reason::INTERNAL_ERROR);
    assert_eq!(download.data().await.unwrap().unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn an_answer_may_end_before_its_request() {
    let mut through = Through::open(9).await;
    let (response, mut upload, asked, mut respond) = through.post().await;
    respond.send_response(ok(), false).unwrap().send_data("enough".into(), true).unwrap();
    let mut download = response.await.unwrap().into_body();
    assert_eq!(chunk(&mut download).await.unwrap(), "enough");
    assert!(chunk(&mut download).await.is_none());
    drop((asked, respond));
    // Whoever has answered wants no more of the question; the caller is told so.
    assert_eq!(poll_fn(|cx| upload.poll_reset(cx)).await.unwrap(), Reason::NO_ERROR);
}

#[tokio::test]
async fn after_a_goodbye_requests_take_another_connection() {
    let mut through = Through::open(1).await;
    for _ in 0..4 {
        let request = Request::get("http://c/").body(()).unwrap();
        let (response, _) = through.client.send_request(request, true).unwrap();
        let (_, mut respond) = through.streams.recv().await.unwrap();
        respond.send_response(ok(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    }
}
