//! `envoy.service.discovery.v3.AggregatedDiscoveryService` as an HTTP service. Written by hand, not generated, so that its
//! responses carry the bytes of resources that all streams share.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    marker::PhantomData,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use prost::Message;
use tonic::{
    Status, Streaming,
    codec::{Codec, EncodeBuf, Encoder},
    codegen::{Body, Service, StdError, http},
    server::{Grpc, NamedService, StreamingService},
};
use tonic_prost::ProstDecoder;

use super::{
    AdsServer, REQUEST_BYTES_MAX,
    stream::Responses,
    wire::{Delta, Form, Sotw},
};

const STATE_OF_THE_WORLD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

impl NamedService for AdsServer {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<B> Service<http::Request<B>> for AdsServer
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match request.uri().path() {
            DELTA => Box::pin(answer::<Delta, B>(self.clone(), request)),
            STATE_OF_THE_WORLD => Box::pin(answer::<Sotw, B>(self.clone(), request)),
            _ => Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) }),
        }
    }
}

async fn answer<F: Form, B>(
    server: AdsServer,
    request: http::Request<B>,
) -> Result<http::Response<tonic::body::Body>, Infallible>
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    let mut grpc = Grpc::new(ResponseCodec::<F>(PhantomData)).max_decoding_message_size(REQUEST_BYTES_MAX);
    Ok(grpc.streaming(Method::<F>(server, PhantomData), request).await)
}

struct Method<F>(AdsServer, PhantomData<F>);

impl<F: Form> StreamingService<F::Request> for Method<F> {
    type Response = F::Response;
    type ResponseStream = Responses<F::Response>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<F::Request>>) -> Self::Future {
        ready(Ok(tonic::Response::new(self.0.serve::<F>(request))))
    }
}

/// The ordinary codec, but for a buffer that is made as large as the response before it is written, so that it need not
/// grow by and by.
struct ResponseCodec<F>(PhantomData<F>);

impl<F: Form> Codec for ResponseCodec<F> {
    type Encode = F::Response;
    type Decode = F::Request;
    type Encoder = ResponseEncoder<F>;
    type Decoder = ProstDecoder<F::Request>;

    fn encoder(&mut self) -> Self::Encoder {
        ResponseEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

struct ResponseEncoder<F>(PhantomData<F>);

impl<F: Form> Encoder for ResponseEncoder<F> {
    type Item = F::Response;
    type Error = Status;

    fn encode(&mut self, response: F::Response, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(response.encoded_len());
        response.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}
