//! A simulated Mesos master, driven by hand.

use weft_tests::sim::{console, mesos::Mesos};

const HELP: &str =
    "run NAME ID HOST:PORT\nupdate ID STATE [true|false]\nrecover\nagent back|gone\nfollow [HOST:PORT]";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    console::run(Mesos::default(), 5050, HELP).await;
}
