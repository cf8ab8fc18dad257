//! What documents say of hosts: an exact name first, then the longest pattern that takes it.

use std::{collections::BTreeMap, sync::Arc};

use super::hosts::host_matches;

/// Something for each host name or pattern that documents name.
#[derive(Debug)]
pub struct ByHost<T> {
    exact: BTreeMap<Arc<str>, T>,
    /// The longest first.
    patterns: Vec<(Arc<str>, T)>,
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

impl<T> ByHost<T> {
    /// From each name or pattern and what is said of it.
    pub fn new(hosts: BTreeMap<Arc<str>, T>) -> Self {
        let (patterns, exact): (Vec<_>, Vec<_>) =
            hosts.into_iter().partition(|(host, _)| host.starts_with('*'));
        let mut patterns = patterns;
        patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
        Self { exact: exact.into_iter().collect(), patterns }
    }

    /// What is said of a host.
    pub fn of(&self, host: &str) -> Option<&T> {
        let pattern = || self.patterns.iter().find(|(pattern, _)| host_matches(pattern, host));
        self.exact.get(host).or_else(|| pattern().map(|(_, found)| found))
    }

    /// All that is said of a host: by its name, then by patterns, the longest first.
    pub fn all_of<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a T> {
        let patterns = self.patterns.iter().filter(move |(pattern, _)| host_matches(pattern, host));
        self.exact.get(host).into_iter().chain(patterns.map(|(_, found)| found))
    }

    /// What is said of a host by its name.
    pub fn exact(&self, host: &str) -> Option<&T> {
        self.exact.get(host)
    }

    /// Every name and pattern, patterns last.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &T)> {
        let patterns = self.patterns.iter().map(|(pattern, found)| (pattern, found));
        self.exact.iter().chain(patterns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_beats_a_pattern_and_a_longer_pattern_a_shorter_one() {
        let hosts = ["*", "*.a.b", "*.b", "c.a.b"].map(|host| (Arc::from(host), host));
        let by_host = ByHost::new(hosts.into());
        for (host, expected) in [("c.a.b", "c.a.b"), ("d.a.b", "*.a.b"), ("a.b", "*.b"), ("x", "*")] {
            assert_eq!(by_host.of(host), Some(&expected), "{host}");
        }
        assert_eq!(ByHost::<()>::default().of("x"), None);
    }
}
