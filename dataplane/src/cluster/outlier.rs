//! Outlier detection of one cluster: whom to eject, for how long, and whom to take back. Envoy's rules; `now` and `rng` come in.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rand::Rng;
use tokio::time::Instant;

use super::{
    tally::{Suspicion, Taken},
    vital::{Vital, Vitals},
};
use crate::spec::{EndpointAddress, Outlier};

/// The endpoints of one cluster under watch.
#[derive(Debug, Default)]
pub struct Detector {
    hosts: HashMap<EndpointAddress, Watched>,
}

#[derive(Debug)]
struct Watched {
    vital: Arc<Vital>,
    /// Since when it is ejected.
    ejected: Option<Instant>,
    /// Ejections in a row; one less for each sweep that finds it in service.
    times: u32,
    jitter: Duration,
}

/// What an endpoint was found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Consecutive 5xx.
    Consecutive5xx,
    /// Consecutive 502, 503 or 504.
    ConsecutiveGateway,
    /// Consecutive failures to connect or to answer in time.
    ConsecutiveLocal,
    /// Success rate below the others'.
    SuccessRate,
    /// The same of being answered at all.
    SuccessRateLocal,
    /// Too great a share of failures.
    FailurePercentage,
    /// The same of being answered at all.
    FailurePercentageLocal,
}

impl Reason {
    /// Its word in metrics, Envoy's.
    pub fn word(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGateway => "consecutive_gateway_failure",
            Self::ConsecutiveLocal => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::SuccessRateLocal => "local_origin_success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::FailurePercentageLocal => "local_origin_failure_percentage",
        }
    }

    fn enforcing(self, config: &Outlier) -> u32 {
        let enforcing = &config.enforcing;
        match self {
            Self::Consecutive5xx => enforcing.consecutive_5xx,
            Self::ConsecutiveGateway => enforcing.consecutive_gateway,
            Self::ConsecutiveLocal => enforcing.consecutive_local,
            Self::SuccessRate => enforcing.success_rate,
            Self::SuccessRateLocal => enforcing.success_rate_local,
            Self::FailurePercentage => enforcing.failure_percentage,
            Self::FailurePercentageLocal => enforcing.failure_percentage_local,
        }
    }
}

/// What was done about an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It gets no requests for a while.
    Ejected(EndpointAddress, Reason),
    /// Found, but chance (`enforcing`) let it go.
    Spared(EndpointAddress, Reason),
    /// Found, but too many are ejected already.
    TooMany(EndpointAddress, Reason),
    /// It gets requests again.
    Returned(EndpointAddress),
}

/// The moment of a look.
pub struct Look<'a, R> {
    /// How to judge.
    pub config: &'a Outlier,
    /// Where ejections are told to.
    pub vitals: &'a Vitals,
    /// Now.
    pub now: Instant,
    /// Chance.
    pub rng: &'a mut R,
}

impl Detector {
    /// Watches these endpoints and no others.
    pub fn watch(&mut self, endpoints: impl Iterator<Item = (EndpointAddress, Arc<Vital>)>) {
        let mut before = std::mem::take(&mut self.hosts);
        self.hosts = endpoints
            .map(|(address, vital)| {
                let kept = before.remove(&address).filter(|kept| Arc::ptr_eq(&kept.vital, &vital));
                let fresh = Watched { vital, ejected: None, times: 0, jitter: Duration::ZERO };
                (address, kept.unwrap_or(fresh))
            })
            .collect();
    }

    /// Ends the watch: nobody stays ejected.
    pub fn end(&mut self, vitals: &Vitals) {
        for (_, host) in self.hosts.drain() {
            host.vital.tally.forgive();
            vitals.set_ejected(&host.vital, false);
        }
    }

    /// Endpoints that are ejected.
    pub fn ejected(&self) -> usize {
        self.hosts.values().filter(|host| host.ejected.is_some()).count()
    }

    /// Looks at the endpoints that attempts or health checks marked.
    pub fn look(&mut self, look: &mut Look<'_, impl Rng>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut marked = Vec::new();
        for (address, host) in &self.hosts {
            marked.extend(host.vital.tally.take_suspicions().map(|mark| (address.clone(), mark)));
        }
        for (address, mark) in marked {
            let reason = match mark {
                Suspicion::Pardon => {
                    verdicts.extend(self.take_back(&address, look.vitals));
                    continue;
                }
                Suspicion::ServerErrors => Reason::Consecutive5xx,
                Suspicion::GatewayErrors => Reason::ConsecutiveGateway,
                Suspicion::LocalErrors => Reason::ConsecutiveLocal,
            };
            verdicts.extend(self.judge(&address, reason, look));
        }
        verdicts
    }

    /// The sweep of an interval: ends ejections that lasted long enough, compares the interval's volumes.
    pub fn sweep(&mut self, look: &mut Look<'_, impl Rng>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let over: Vec<_> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.ejected.is_some_and(|since| look.now >= since + host.time(look.config)))
            .map(|(address, _)| address.clone())
            .collect();
        verdicts.extend(over.iter().filter_map(|address| self.take_back(address, look.vitals)));
        let volumes: Vec<_> = self
            .hosts
            .iter()
            .map(|(address, host)| (address.clone(), host.vital.tally.take_volumes()))
            .collect();
        let answers = volumes.iter().map(|(address, (answers, _))| (address, *answers)).collect();
        let local = volumes.iter().map(|(address, (_, local))| (address, *local)).collect();
        let reasons = (Reason::SuccessRate, Reason::FailurePercentage);
        verdicts.extend(self.compare(answers, reasons, look));
        let reasons = (Reason::SuccessRateLocal, Reason::FailurePercentageLocal);
        verdicts.extend(self.compare(local, reasons, look));
        for host in self.hosts.values_mut().filter(|host| host.ejected.is_none()) {
            host.times = host.times.saturating_sub(1);
        }
        verdicts
    }

    /// Compares the endpoints in service by an interval's volumes.
    fn compare(
        &mut self,
        volumes: Vec<(&EndpointAddress, Taken)>,
        (by_rate, by_percentage): (Reason, Reason),
        look: &mut Look<'_, impl Rng>,
    ) -> Vec<Verdict> {
        let config = look.config;
        let mut verdicts = Vec::new();
        let in_service =
            |address: &EndpointAddress| self.hosts.get(address).is_some_and(|host| host.ejected.is_none());
        let rates: Vec<_> = volumes
            .into_iter()
            .filter(|(address, volume)| volume.all > 0 && in_service(address))
            .map(|(address, volume)| {
                (address, volume.all, 100.0 * f64::from(volume.good) / f64::from(volume.all))
            })
            .collect();
        let enough = |least: u32| rates.iter().filter(move |(_, all, _)| *all >= least);
        let compared: Vec<_> = enough(config.success_rate_requests_min).map(|(_, _, rate)| *rate).collect();
        if !compared.is_empty() && compared.len() >= config.success_rate_hosts_min as usize {
            let least = threshold(&compared, config.success_rate_deviations);
            for (address, _, rate) in enough(config.success_rate_requests_min) {
                if *rate < least {
                    verdicts.extend(self.judge(address, by_rate, look));
                }
            }
        }
        let counted = enough(config.failure_percentage_requests_min).count();
        if counted > 0 && counted >= config.failure_percentage_hosts_min as usize {
            for (address, _, rate) in enough(config.failure_percentage_requests_min) {
                if 100.0 - rate >= f64::from(config.failure_percentage) {
                    verdicts.extend(self.judge(address, by_percentage, look));
                }
            }
        }
        verdicts
    }

    /// Ejects an endpoint that was found, unless it is ejected already, too many are, or chance spares it.
    fn judge(
        &mut self,
        address: &EndpointAddress,
        reason: Reason,
        look: &mut Look<'_, impl Rng>,
    ) -> Option<Verdict> {
        let (ejected, all) = (self.ejected(), self.hosts.len());
        let host = self.hosts.get_mut(address).filter(|host| host.ejected.is_none())?;
        let config = look.config;
        let may =
            ejected * 100 < config.ejections_max_percent as usize * all || config.always_one && ejected == 0;
        if !may {
            return Some(Verdict::TooMany(address.clone(), reason));
        }
        if look.rng.random_range(0..100) >= reason.enforcing(config) {
            return Some(Verdict::Spared(address.clone(), reason));
        }
        // Once the time cannot grow any more, neither does the number, so that it comes down again soon enough.
        if config.base_ejection_time.saturating_mul(host.times)
            < config.max_ejection_time + config.base_ejection_time
        {
            host.times += 1;
        }
        host.jitter = match config.ejection_jitter_max {
            Duration::ZERO => Duration::ZERO,
            max => look.rng.random_range(Duration::ZERO..=max),
        };
        host.ejected = Some(look.now);
        look.vitals.set_ejected(&host.vital, true);
        Some(Verdict::Ejected(address.clone(), reason))
    }

    fn take_back(&mut self, address: &EndpointAddress, vitals: &Vitals) -> Option<Verdict> {
        let host = self.hosts.get_mut(address)?;
        host.ejected.take()?;
        host.vital.tally.forgive();
        vitals.set_ejected(&host.vital, false);
        Some(Verdict::Returned(address.clone()))
    }
}

impl Watched {
    /// How long its ejection lasts.
    fn time(&self, config: &Outlier) -> Duration {
        config.base_ejection_time.saturating_mul(self.times).min(config.max_ejection_time) + self.jitter
    }
}

/// The least success rate that is not an outlier's.
fn threshold(rates: &[f64], deviations: f64) -> f64 {
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - deviations * variance.sqrt()
}

#[cfg(test)]
mod tests;
