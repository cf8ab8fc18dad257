//! Finds the route of a request: virtual host by name, then the first route that matches. Pure.

mod matching;
mod spread;

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, Method};

pub(crate) use matching::{
    absent_matches, field_matches, header_matches, header_value, lines_match, matches, value_matches, whole,
};
pub use spread::{Spread, Spreads};

use crate::spec::{Route, RouteConfig, VirtualHost, WeightedCluster};

/// The one normalised view of a request that every decision is made on.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host with its port if it was given, lower case.
    pub host: &'a str,
    /// Normalised path without the query.
    pub path: &'a str,
    /// Query without the question mark.
    pub query: Option<&'a str>,
    /// Headers.
    pub headers: &'a HeaderMap,
}

/// A route table with its hosts indexed.
#[derive(Debug)]
pub struct Router {
    config: Arc<RouteConfig>,
    /// `a.b` and `a.b:80` to the index of the virtual host.
    exact: HashMap<String, usize>,
    /// `*.b` as `.b`, longest first.
    suffixes: Vec<(String, usize)>,
    /// `a.*` as `a.`, longest first.
    prefixes: Vec<(String, usize)>,
    any: Option<usize>,
}

/// Where fractions and weights are drawn from: a number below the given one.
pub trait Dice {
    /// A uniform number in `0..below`; `below` is not zero.
    fn roll(&mut self, below: u32) -> u32;
}

impl<R: rand::Rng> Dice for R {
    fn roll(&mut self, below: u32) -> u32 {
        self.random_range(0..below)
    }
}

impl Router {
    /// Indexes a route table.
    pub fn new(config: Arc<RouteConfig>) -> Self {
        let mut router =
            Self { exact: HashMap::new(), suffixes: Vec::new(), prefixes: Vec::new(), any: None, config };
        for (index, host) in router.config.virtual_hosts.iter().enumerate() {
            for domain in &host.domains {
                if domain == "*" {
                    router.any.get_or_insert(index);
                } else if let Some(suffix) = domain.strip_prefix('*') {
                    router.suffixes.push((suffix.to_owned(), index));
                } else if let Some(prefix) = domain.strip_suffix('*') {
                    router.prefixes.push((prefix.to_owned(), index));
                } else {
                    router.exact.entry(domain.clone()).or_insert(index);
                }
            }
        }
        router.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        router.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        router
    }

    /// The table that this was made from.
    pub fn config(&self) -> &Arc<RouteConfig> {
        &self.config
    }

    /// The route of a request, if any.
    pub fn route(&self, view: &View<'_>, dice: &mut impl Dice) -> Option<&Arc<Route>> {
        let name = if self.config.ignore_port { without_port(view.host) } else { view.host };
        let host = &self.config.virtual_hosts[self.host(name)?];
        host.used.iter().for_each(|used| used.note());
        host.routes.iter().find(|route| matching::matches(&route.matches, view, dice))
    }

    /// The virtual host of a request's host, if any.
    pub fn virtual_host(&self, host: &str) -> Option<&VirtualHost> {
        let name = if self.config.ignore_port { without_port(host) } else { host };
        self.host(name).map(|index| &self.config.virtual_hosts[index])
    }

    /// The virtual host: exact, else longest suffix, else longest prefix, else any. A wildcard stands for at least
    /// one character.
    fn host(&self, host: &str) -> Option<usize> {
        if let Some(&index) = self.exact.get(host) {
            return Some(index);
        }
        let longer = |part: &str| host.len() > part.len();
        let suffix = self.suffixes.iter().find(|(suffix, _)| longer(suffix) && host.ends_with(suffix));
        let found = suffix
            .or_else(|| self.prefixes.iter().find(|(prefix, _)| longer(prefix) && host.starts_with(prefix)));
        found.map(|(_, index)| *index).or(self.any)
    }
}

/// The host alone. The colons of a bare IPv6 address in brackets are not a port's.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Picks a cluster by weight, and gives its place; none when all weights are zero.
pub fn weighted(clusters: &[WeightedCluster], dice: &mut impl Dice) -> Option<usize> {
    if let [_] = clusters {
        return Some(0);
    }
    let total = clusters.iter().map(|cluster| cluster.weight).fold(0u32, u32::saturating_add);
    if total == 0 {
        return None;
    }
    let mut point = dice.roll(total);
    clusters.iter().position(|cluster| match point.checked_sub(cluster.weight) {
        Some(rest) => {
            point = rest;
            false
        }
        None => true,
    })
}

#[cfg(test)]
mod tests;
