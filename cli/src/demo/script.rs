//! The unattended tour: every step is a claim that is tried on the running mesh.

use std::time::{Duration, Instant};

use super::{
    documents,
    mesh::Mesh,
    traffic::{Load, Tally},
};
use crate::{
    failure::{Exit, Failure},
    output,
    progress::Spinner,
};

/// Least deviation from the share wanted that is an error; 3.2 sigma at 20,000 requests and 5%.
const DEVIATION_MIN: f64 = 0.005;

/// Deviation allowed in sigmas where fewer requests make chance larger.
const DEVIATION_SIGMAS: f64 = 3.2;

/// Requests sent around each disturbance: enough to last longer than it takes.
const BACKGROUND_REQUESTS: u64 = 2_000;

/// Runs the tour; yes when every claim held.
pub async fn run(requests: u64, keep: bool) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut mesh = Mesh::start().await?;
    let mut tour = Tour { failed: 0 };
    let outcome = tokio::select! {
        outcome = tour.walk(&mut mesh, requests) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::No, "the tour was stopped", "interrupted", "")),
    };
    let directory = mesh.directory().display().to_string();
    mesh.stop(keep).await;
    if keep {
        eprintln!("logs and data are kept in {directory}");
    }
    outcome?;
    let passed = tour.failed == 0;
    let verdict = if passed { "every step passed" } else { "some steps failed" };
    output::print(&format!("{verdict} in {:.1} s\n", began.elapsed().as_secs_f64()))?;
    Ok(if passed { Exit::Yes } else { Exit::No })
}

/// The tour so far.
struct Tour {
    failed: u32,
}

impl Tour {
    async fn walk(&mut self, mesh: &mut Mesh, requests: u64) -> Result<(), Failure> {
        self.starts(mesh).await?;
        self.canary(mesh, requests).await?;
        self.half(mesh, requests / 4).await?;
        self.by_user(mesh).await?;
        self.refuses(mesh).await?;
        self.survives(mesh).await
    }

    async fn starts(&mut self, mesh: &mut Mesh) -> Result<(), Failure> {
        let began = Instant::now();
        let spinner = Spinner::start("starting the mesh");
        mesh.synced().await?;
        let synced = began.elapsed();
        mesh.apply(&documents::first()).await?;
        mesh.answers().await?;
        drop(spinner);
        self.tell(
            true,
            "the mesh starts",
            &format!(
                "{} proxies in sync after {:.1} s, first answer after {:.1} s",
                mesh.plan.proxies(),
                synced.as_secs_f64(),
                began.elapsed().as_secs_f64()
            ),
        )
    }

    async fn canary(&mut self, mesh: &Mesh, requests: u64) -> Result<(), Failure> {
        let spinner = Spinner::start(format!("sending {requests} requests"));
        let began = Instant::now();
        let tally = send(mesh, requests, None).await;
        drop(spinner);
        let rate = tally.answered() as f64 / began.elapsed().as_secs_f64();
        let allowed = deviation(0.05, requests);
        self.tell(
            tally.failed() == 0 && (tally.share() - 0.05).abs() <= allowed,
            "a canary gets 5% of the requests",
            &format!("{}, allowed 5% +- {:.1}%, {rate:.0} requests/s", tally.text(), allowed * 100.0),
        )
    }

    async fn half(&mut self, mesh: &Mesh, requests: u64) -> Result<(), Failure> {
        let began = Instant::now();
        mesh.apply(documents::HALF).await?;
        let live = began.elapsed();
        let spinner = Spinner::start(format!("sending {requests} requests"));
        let tally = send(mesh, requests, None).await;
        drop(spinner);
        let allowed = deviation(0.5, requests);
        self.tell(
            tally.failed() == 0 && (tally.share() - 0.5).abs() <= allowed,
            "new weights are live when apply --wait returns",
            &format!("{} ms; {}, allowed 50% +- {:.1}%", live.as_millis(), tally.text(), allowed * 100.0),
        )
    }

    async fn by_user(&mut self, mesh: &Mesh) -> Result<(), Failure> {
        mesh.apply(documents::BY_USER).await?;
        let jason = send(mesh, 200, Some("jason")).await;
        let others = send(mesh, 200, Some("mary")).await;
        let exact = jason.failed() + others.failed() == 0 && jason.share() == 1.0 && others.share() == 0.0;
        self.tell(
            exact,
            "a header chooses the version",
            &format!("jason: {}; mary: {}", jason.text(), others.text()),
        )
    }

    async fn refuses(&mut self, mesh: &Mesh) -> Result<(), Failure> {
        let (tally, answer) = tokio::join!(
            send(mesh, BACKGROUND_REQUESTS, None),
            mesh.ask(&["apply", "-f", "-", "--wait"], documents::BROKEN)
        );
        let answer = answer?;
        let place = answer.stderr.lines().find(|line| line.contains("-:")).unwrap_or_default().to_owned();
        self.tell(
            matches!(answer.code, Some(1 | 2)) && !place.is_empty(),
            "a broken document is refused with its place",
            &place,
        )?;
        self.tell(tally.failed() == 0 && tally.share() == 0.0, "and nothing changes", &tally.text())
    }

    async fn survives(&mut self, mesh: &mut Mesh) -> Result<(), Failure> {
        mesh.kill_control().await;
        let tally = send(mesh, BACKGROUND_REQUESTS, None).await;
        self.tell(tally.failed() == 0, "without a control plane traffic goes on", &tally.text())?;
        let began = Instant::now();
        mesh.restart_control()?;
        mesh.synced().await?;
        self.tell(
            began.elapsed() <= Duration::from_secs(5),
            "a restarted control plane finds its documents and its proxies",
            &format!("in sync after {:.1} s", began.elapsed().as_secs_f64()),
        )?;
        mesh.apply(documents::CANARY).await?;
        let requests = BACKGROUND_REQUESTS;
        let tally = send(mesh, requests, None).await;
        let allowed = deviation(0.05, requests);
        self.tell(
            tally.failed() == 0 && (tally.share() - 0.05).abs() <= allowed,
            "and takes changes again",
            &tally.text(),
        )
    }

    /// Prints one step.
    fn tell(&mut self, held: bool, claim: &str, seen: &str) -> Result<(), Failure> {
        let mark = if held { "✓" } else { "✗" };
        self.failed += u32::from(!held);
        output::print(&format!("{mark} {claim}\n    {seen}\n"))
    }
}

async fn send(mesh: &Mesh, requests: u64, user: Option<&str>) -> Tally {
    let tally = Tally::default();
    Load { ingress: mesh.plan.ingress(), requests, user }.run(&tally).await;
    tally
}

/// How far a share may be from what is wanted.
fn deviation(share: f64, requests: u64) -> f64 {
    let sigma = (share * (1.0 - share) / requests.max(1) as f64).sqrt();
    (DEVIATION_SIGMAS * sigma).max(DEVIATION_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_tour_allows_half_a_percent() {
        assert_eq!(deviation(0.05, 20_000), 0.005);
        assert!(deviation(0.05, 2_000) > 0.015);
    }
}
