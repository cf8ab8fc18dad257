//! The health of endpoints, watched beside the workers: outlier detection and active checks, once for the whole process.

mod checks;
mod outliers;
mod probe;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::worker::Shared;

/// Watches until stopped.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    tokio::join!(outliers::run(shared.clone(), stop.clone()), checks::run(shared, stop));
}
