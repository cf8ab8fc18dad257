//! A simulated Marathon, driven by hand.

use weft_tests::sim::{console, marathon::Marathon};

const HELP: &str = "run ID [HOST:PORT...]\nremove ID\nmute on|off\nfollow [LEADER-URL]";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    console::run(Marathon::default(), 8080, HELP).await;
}
