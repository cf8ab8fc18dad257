//! The connection to the control plane's admin API.

use std::time::Duration;

use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};
use weft_proto::admin::v1::admin_client::AdminClient;

use crate::failure::{Exit, Failure};

/// Where the control plane serves people.
pub const ADDRESS_DEFAULT: &str = "http://127.0.0.1:15014";

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer taken: a mesh of 100,000 endpoints stays well below.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Which control plane to talk to.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientArgs {
    /// Admin address of the control plane
    #[arg(long, env = "WEFT_ADDR", default_value = ADDRESS_DEFAULT, value_name = "URL")]
    pub address: String,
}

/// A connected admin client that tells failures in people's words.
pub struct Client {
    /// Where it is connected to, for messages.
    pub address: String,
    /// The calls.
    pub calls: AdminClient<Channel>,
}

impl Client {
    /// Connects, or says why not.
    pub async fn connect(args: &ClientArgs) -> Result<Self, Failure> {
        let text = args.address.trim_end_matches('/');
        let address = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let endpoint = Endpoint::from_shared(address.clone()).map_err(|error| {
            Failure::usage(
                format!("{address:?} is no address of a control plane"),
                error.to_string(),
                format!("write it like {ADDRESS_DEFAULT}"),
            )
        })?;
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await.map_err(|error| {
            Failure::new(
                Exit::Unreachable,
                format!("cannot reach the control plane at {address}"),
                innermost(&error),
                "start it with `weft control`, or name another one with --address or WEFT_ADDR",
            )
        })?;
        let calls = AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { address, calls })
    }

    /// The message of an answer, or the failure that it is.
    pub fn take<T>(&self, what: &str, answer: Result<Response<T>, Status>) -> Result<T, Failure> {
        match answer {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(Failure::from_status(what, &self.address, &status)),
        }
    }
}

/// The deepest cause: "Connection refused", not "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string().to_lowercase()
}
