//! What requests meet at an endpoint, counted by all workers for outlier detection. A request costs relaxed increments.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use crate::spec::Outlier;

/// What an attempt met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An answer with this HTTP status.
    Status(u16),
    /// A connection, where that is all that can be told.
    Connected,
    /// No connection, or one that broke off before the answer.
    Broken,
    /// No answer in time.
    Late,
}

/// Why an endpoint is looked at before the next sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// Consecutive 5xx.
    ServerErrors = 1,
    /// Consecutive 502, 503 or 504.
    GatewayErrors = 2,
    /// Consecutive failures to connect or to answer in time.
    LocalErrors = 4,
    /// A health check passed while it was ejected.
    Pardon = 8,
}

/// The counts of one endpoint.
#[derive(Debug, Default)]
pub struct Tally {
    server_errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_errors: AtomicU32,
    /// Answers of this interval.
    answers: Volume,
    /// Attempts of this interval, by whether there was an answer.
    local: Volume,
    suspicions: AtomicU8,
}

/// Attempts in one interval, and those of them that went well.
#[derive(Debug, Default)]
struct Volume {
    all: AtomicU32,
    good: AtomicU32,
}

/// A volume that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Attempts.
    pub all: u32,
    /// Those that went well.
    pub good: u32,
}

impl Tally {
    /// Counts an attempt; whether the endpoint became suspect by it.
    pub fn note(&self, config: &Outlier, seen: Seen) -> bool {
        match (seen, config.split_local) {
            (Seen::Status(status), split) => {
                if split {
                    self.local_good();
                }
                self.answer(config, status)
            }
            (Seen::Connected, true) => {
                self.local_good();
                false
            }
            (Seen::Broken | Seen::Late, true) => {
                self.local.all.fetch_add(1, Relaxed);
                self.grow(&self.local_errors, config.consecutive_local, Suspicion::LocalErrors)
            }
            (Seen::Connected, false) => self.answer(config, 200),
            (Seen::Broken, false) => self.answer(config, 503),
            (Seen::Late, false) => self.answer(config, 504),
        }
    }

    fn answer(&self, config: &Outlier, status: u16) -> bool {
        self.answers.all.fetch_add(1, Relaxed);
        if !(500..600).contains(&status) {
            self.answers.good.fetch_add(1, Relaxed);
            clear(&self.server_errors);
            clear(&self.gateway_errors);
            return false;
        }
        let mut suspect = false;
        if (502..=504).contains(&status) {
            suspect |= self.grow(&self.gateway_errors, config.consecutive_gateway, Suspicion::GatewayErrors);
        } else {
            clear(&self.gateway_errors);
        }
        suspect | self.grow(&self.server_errors, config.consecutive_5xx, Suspicion::ServerErrors)
    }

    fn local_good(&self) {
        self.local.all.fetch_add(1, Relaxed);
        self.local.good.fetch_add(1, Relaxed);
        clear(&self.local_errors);
    }

    /// Counts one more failure in a row; whether these are now enough.
    fn grow(&self, count: &AtomicU32, enough: u32, suspicion: Suspicion) -> bool {
        let count = count.fetch_add(1, Relaxed).saturating_add(1);
        enough > 0 && count >= enough && self.suspect(suspicion)
    }

    /// Marks the endpoint; whether it was not marked so before.
    pub fn suspect(&self, suspicion: Suspicion) -> bool {
        self.suspicions.fetch_or(suspicion as u8, Relaxed) & suspicion as u8 == 0
    }

    /// Takes the marks away, and with those of errors in a row their counts, so that they are found again.
    pub fn take_suspicions(&self) -> impl Iterator<Item = Suspicion> + use<> {
        let marks = self.suspicions.swap(0, Relaxed);
        let of = |(suspicion, count): (Suspicion, Option<&AtomicU32>)| {
            if marks & suspicion as u8 == 0 {
                return None;
            }
            if let Some(count) = count {
                count.store(0, Relaxed);
            }
            Some(suspicion)
        };
        let all = [
            of((Suspicion::Pardon, None)),
            of((Suspicion::ServerErrors, Some(&self.server_errors))),
            of((Suspicion::GatewayErrors, Some(&self.gateway_errors))),
            of((Suspicion::LocalErrors, Some(&self.local_errors))),
        ];
        all.into_iter().flatten()
    }

    /// Takes the interval's volumes: of answers, and of attempts by whether there was one.
    pub fn take_volumes(&self) -> (Taken, Taken) {
        let take = |volume: &Volume| {
            let (all, good) = (volume.all.swap(0, Relaxed), volume.good.swap(0, Relaxed));
            Taken { all, good: good.min(all) }
        };
        (take(&self.answers), take(&self.local))
    }

    /// Forgets failures in a row, as when an ejection ends: a new one needs new reasons.
    pub fn forgive(&self) {
        for count in [&self.server_errors, &self.gateway_errors, &self.local_errors] {
            count.store(0, Relaxed);
        }
        self.suspicions.store(0, Relaxed);
    }
}

/// Writes only where there is something to write, so that good answers leave the cache line alone.
fn clear(count: &AtomicU32) {
    if count.load(Relaxed) != 0 {
        count.store(0, Relaxed);
    }
}

/// The HTTP status that a gRPC status stands for.
pub fn status_of_grpc(code: u16) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}
