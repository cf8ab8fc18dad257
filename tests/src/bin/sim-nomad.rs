//! A simulated Nomad server, driven by hand.

use weft_tests::sim::{console, nomad::Nomad};

const HELP: &str = "register SERVICE ID HOST:PORT [TAG...]\nderegister ID...\nalloc ID JSON\nforget ID...\n\
                    reset-index N\nguard [TOKEN]\ndeny-events on|off";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    console::run(Nomad::default(), 4646, HELP).await;
}
