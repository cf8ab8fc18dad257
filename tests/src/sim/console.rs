//! A simulator driven by hand: commands on standard input, answers on standard output.

use std::net::SocketAddr;

use tokio::sync::mpsc;

use super::{
    fault::Fault,
    server::{Platform, Sim},
};

/// What every simulator understands.
const COMMON: &str =
    "fault PATH hang|empty|wrong-type|slow MS|status CODE|cut BYTES|split BYTES\nheal\ncut\nquit";

/// Runs a simulator at the address that the program's first argument gives, until its input ends.
pub async fn run<P: Platform>(platform: P, default_port: u16, help: &str) {
    let default = SocketAddr::from(([127, 0, 0, 1], default_port));
    let at = std::env::args().nth(1).map_or(Ok(default), |text| text.parse());
    let sim = match at {
        Ok(at) => Sim::start(platform, at).await,
        Err(error) => Err(std::io::Error::other(error)),
    };
    let sim = match sim {
        Ok(sim) => sim,
        Err(error) => return eprintln!("cannot listen: {error}; give an address such as {default}"),
    };
    println!("listening on {}; commands:\n{help}\n{COMMON}", sim.url());
    let (typed, mut lines) = mpsc::channel::<String>(1);
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| typed.blocking_send(line))
    });
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        let told = match *words {
            [] => continue,
            ["quit"] => return,
            ["heal"] => {
                sim.faults.heal();
                Ok("ok".to_owned())
            }
            ["cut"] => {
                sim.faults.cut_streams();
                Ok("ok".to_owned())
            }
            ["fault", path, ref rest @ ..] => Fault::parse(rest)
                .map(|fault| sim.faults.set(path, fault))
                .map(|()| "ok".to_owned())
                .ok_or_else(|| "no such fault".to_owned()),
            _ => sim.platform.command(&words),
        };
        match told {
            Ok(told) => println!("{told}"),
            Err(error) => println!("error: {error}\n{help}\n{COMMON}"),
        }
    }
}
