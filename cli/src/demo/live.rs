//! The demo for people: starts the mesh, says what to try, and shows the split of versions until Ctrl-C.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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

/// Requests sent for one update of the display.
const REQUESTS_A_STEP: u64 = 200;

/// Pace of the display.
const STEP: Duration = Duration::from_secs(1);

/// Steps that the display looks back.
const WINDOW: usize = 10;

/// Width of the bar.
const BAR: usize = 40;

/// Runs until Ctrl-C.
pub async fn run(keep: bool) -> Result<Exit, Failure> {
    let mut mesh = Mesh::start().await?;
    let outcome = tokio::select! {
        outcome = show(&mut mesh) => outcome,
        _ = ended() => Ok(()),
    };
    let directory = mesh.directory().display().to_string();
    mesh.stop(keep).await;
    if keep {
        eprintln!("logs and data are kept in {directory}");
    }
    outcome.map(|()| Exit::Yes)
}

/// Ends with Ctrl-C or SIGTERM.
async fn ended() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => futures::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

async fn show(mesh: &mut Mesh) -> Result<(), Failure> {
    let spinner = Spinner::start("starting the mesh");
    mesh.synced().await?;
    mesh.apply(&documents::first()).await?;
    mesh.answers().await?;
    drop(spinner);
    output::print(&greeting(mesh))?;
    if !std::io::stderr().is_terminal() {
        return futures::future::pending().await;
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    let mut steps = std::collections::VecDeque::with_capacity(WINDOW);
    let mut ticks = tokio::time::interval(STEP);
    loop {
        ticks.tick().await;
        let tally = Tally::default();
        Load { ingress: mesh.plan.ingress(), requests: REQUESTS_A_STEP, user: None }.run(&tally).await;
        if steps.len() == WINDOW {
            steps.pop_front();
        }
        steps.push_back((tally.answered(), tally.share(), tally.failed()));
        bar.set_message(line(steps.iter().copied()));
    }
}

/// "v1 ███████████░ v2  5.1%, 2000 answered, 0 failed".
fn line(steps: impl Iterator<Item = (u64, f64, u64)>) -> String {
    let (mut answered, mut second, mut failed) = (0, 0.0, 0);
    for (step_answered, share, step_failed) in steps {
        answered += step_answered;
        second += share * step_answered as f64;
        failed += step_failed;
    }
    let share = if answered == 0 { 0.0 } else { second / answered as f64 };
    let blocks = (share * BAR as f64).round() as usize;
    format!(
        "v1 {}{} v2 {:.1}%   {answered} answered, {failed} failed",
        "█".repeat(BAR.saturating_sub(blocks)),
        "░".repeat(blocks.min(BAR)),
        share * 100.0,
    )
}

fn greeting(mesh: &Mesh) -> String {
    let ingress = mesh.plan.ingress();
    let admin = mesh.plan.admin_url();
    let proxy = mesh.plan.ingress_admin_url();
    let rows = [
        "The mesh is ready: you -> ingress -> web -> api v1 | v2 -> db".to_owned(),
        String::new(),
        format!("shop           http://{ingress}/"),
        format!("control plane  {admin}"),
        format!("ingress proxy  {proxy}"),
        format!("logs           {}", mesh.directory().display()),
    ];
    let width = rows.iter().map(|row| row.chars().count()).max().unwrap_or(0);
    let edge = "─".repeat(width + 2);
    let mut text = format!("┌{edge}┐\n");
    for row in rows {
        text.push_str(&format!("│ {row:<width$} │\n"));
    }
    text.push_str(&format!("└{edge}┘\n"));
    text.push_str(&format!(
        "Try in another terminal:\n  \
         curl http://{ingress}/\n  \
         export WEFT_ADDR={admin}\n  \
         weft status\n  \
         weft get services\n  \
         weft get vs api -o yaml | sed 's/95/50/; s/weight: 5$/weight: 50/' | weft apply -f - --wait\n\
         Ctrl-C ends everything.\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_the_share_of_the_window() {
        let text = line([(100, 0.5, 0), (100, 0.0, 1)].into_iter());
        assert!(text.ends_with("v2 25.0%   200 answered, 1 failed"), "{text}");
        assert_eq!(text.matches('░').count(), 10);
    }
}
