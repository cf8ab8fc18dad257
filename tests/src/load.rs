//! A steady load over HTTP/1.1 and HTTP/2 at once: a fixed rate, every request accounted for by what became of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

use crate::client::{Connection, Failure, Protocol, empty, get};

/// Time for a number of answers that an idle machine gives in a second or two.
const ANSWERS: Duration = Duration::from_secs(180);

/// What to send, and how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The proxy.
    pub target: SocketAddr,
    /// Host to ask for.
    pub host: String,
    /// Path to ask for.
    pub path: String,
    /// Requests a second in all, half of them HTTP/2.
    pub rate: u32,
    /// Connections of each protocol.
    pub connections: u32,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers with status 200, by the version that answered.
    pub versions: BTreeMap<String, u64>,
    /// The same answers, by the protocol of the connection that they came on.
    pub protocols: BTreeMap<Protocol, u64>,
    /// Everything else, by what happened.
    pub failures: BTreeMap<String, u64>,
}

impl Tally {
    /// Requests that were answered with 200.
    pub fn good(&self) -> u64 {
        self.versions.values().sum()
    }

    /// Requests that were answered with 200 over a protocol.
    pub fn good_over(&self, protocol: Protocol) -> u64 {
        self.protocols.get(&protocol).copied().unwrap_or(0)
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// A load that is running.
pub struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    workers: JoinSet<()>,
    started: Instant,
}

impl Load {
    /// Starts it.
    pub fn start(plan: Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let period = Duration::from_secs(1) * plan.connections * 2 / plan.rate;
        let mut workers = JoinSet::new();
        for i in 0..plan.connections * 2 {
            let protocol = if i % 2 == 0 { Protocol::H1 } else { Protocol::H2 };
            // Workers are spread over the period, so that the load is even.
            let first = Instant::now() + period * i / (plan.connections * 2);
            workers.spawn(worker(plan.clone(), protocol, first, period, stop.clone(), tally.clone()));
        }
        Self { stop, tally, workers, started: Instant::now() }
    }

    /// What became of the requests so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().expect("no holder panics").clone()
    }

    /// Waits until so many requests in all were answered, however busy the machine is.
    pub async fn answered(&self, count: u64) {
        crate::wait::until(&format!("{count} answers"), ANSWERS, async || {
            let tally = self.tally();
            if tally.good() + tally.failed() >= count { Ok(()) } else { Err(format!("{tally:?}")) }
        })
        .await;
    }

    /// Lets the requests in flight finish, and returns the tally with the rate that was reached.
    pub async fn stop(mut self) -> (Tally, f64) {
        self.stop.store(true, Ordering::Relaxed);
        let lasted = self.started.elapsed().as_secs_f64();
        while let Some(ended) = self.workers.join_next().await {
            ended.expect("a load worker does not panic");
        }
        let tally = self.tally();
        let rate = (tally.good() + tally.failed()) as f64 / lasted;
        (tally, rate)
    }
}

async fn worker(
    plan: Plan,
    protocol: Protocol,
    first: Instant,
    period: Duration,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
) {
    let mut ticks = tokio::time::interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let outcome = one(&plan, protocol, &mut connection).await;
        let mut tally = tally.lock().expect("no holder panics");
        match outcome {
            Ok((200, version)) => {
                *tally.versions.entry(version).or_default() += 1;
                *tally.protocols.entry(protocol).or_default() += 1;
            }
            Ok((status, _)) => {
                *tally.failures.entry(format!("{protocol:?} status {status}")).or_default() += 1
            }
            Err(failure) => *tally.failures.entry(format!("{protocol:?} {failure}")).or_default() += 1,
        }
    }
}

/// One request. A connection that the proxy closed in between is no failure: the request goes on a new one.
async fn one(
    plan: &Plan,
    protocol: Protocol,
    connection: &mut Option<Connection>,
) -> Result<(u16, String), Failure> {
    let mut reopened = false;
    loop {
        let open = match connection.take() {
            Some(open) => open,
            None => {
                reopened = true;
                Connection::open(plan.target, protocol).await?
            }
        };
        let open = connection.insert(open);
        let request = get(protocol, &plan.host, &plan.path).body(empty()).expect("the plan is valid HTTP");
        match open.send(request).await {
            Ok(answer) => {
                let version = answer.version().to_owned();
                return Ok((answer.status.as_u16(), version));
            }
            Err(Failure::Unsent) if !reopened => *connection = None,
            Err(failure) => {
                *connection = None;
                return Err(failure);
            }
        }
    }
}
