//! A simulated Kubernetes API server, driven by hand.

use weft_tests::sim::{console, kubernetes::Kubernetes};

const HELP: &str = "service NAME\nready SERVICE HOST:PORT...\nput KIND JSON\ndelete KIND NAME\ncompact";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    console::run(Kubernetes::default(), 8001, HELP).await;
}
