//! Addresses that stand for services: stable, never shared, from ranges that no network routes. Pure.

use std::{
    collections::{BTreeMap, HashSet},
    net::Ipv4Addr,
};

use sha2::{Digest, Sha256};

use crate::model::ServiceKey;

/// Usable host numbers of a range: all but the first and the last.
const HOSTS: u32 = 0xfffe;

/// A /16 of its own for every kind of service, so that one kind cannot take what the other has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Range {
    /// Services that platforms register: 240.240.0.0/16.
    #[default]
    Registered,
    /// Services that documents describe: 240.241.0.0/16.
    Documents,
}

impl Range {
    const fn first(self) -> u32 {
        match self {
            Self::Registered => u32::from_be_bytes([240, 240, 0, 0]),
            Self::Documents => u32::from_be_bytes([240, 241, 0, 0]),
        }
    }
}

/// Which virtual IP belongs to whom.
#[derive(Clone, Debug, Default)]
pub struct VirtualIps {
    range: Range,
    by_key: BTreeMap<ServiceKey, Ipv4Addr>,
    taken: HashSet<Ipv4Addr>,
}

impl VirtualIps {
    /// From what was assigned before; what repeats or lies outside the range is passed over.
    pub fn restore(range: Range, assigned: impl IntoIterator<Item = (ServiceKey, Ipv4Addr)>) -> Self {
        let mut ips = Self { range, ..Self::default() };
        for (key, ip) in assigned {
            let ours = u32::from(ip) & 0xffff_0000 == range.first();
            if ours && !ips.by_key.contains_key(&key) && ips.taken.insert(ip) {
                ips.by_key.insert(key, ip);
            }
        }
        ips
    }

    /// Every assignment, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceKey, Ipv4Addr)> {
        self.by_key.iter().map(|(key, ip)| (key, *ip))
    }

    /// The address of a service: the one it has, else the one its name hashes to, else the next free one.
    pub fn assign(&mut self, key: &ServiceKey) -> Option<Ipv4Addr> {
        if let Some(ip) = self.by_key.get(key) {
            return Some(*ip);
        }
        let digest = Sha256::digest(key.to_string());
        let start = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % HOSTS;
        let first = self.range.first() + 1;
        let mut candidates = (0..HOSTS).map(|step| Ipv4Addr::from(first + (start + step) % HOSTS));
        let ip = candidates.find(|ip| !self.taken.contains(ip))?;
        self.taken.insert(ip);
        self.by_key.insert(key.clone(), ip);
        Some(ip)
    }

    /// Gives an address back.
    pub fn release(&mut self, key: &ServiceKey) {
        if let Some(ip) = self.by_key.remove(key) {
            self.taken.remove(&ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_ips_are_stable_and_never_shared() {
        let mut ips = VirtualIps::default();
        let keys: Vec<_> = (0..2000).map(|i| ServiceKey::new("default", &format!("s{i}"))).collect();
        let first: Vec<_> = keys.iter().map(|key| ips.assign(key).unwrap()).collect();
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), keys.len());
        let mut again = VirtualIps::restore(Range::default(), ips.iter().map(|(key, ip)| (key.clone(), ip)));
        let second: Vec<_> = keys.iter().rev().map(|key| again.assign(key).unwrap()).collect();
        assert!(first.iter().eq(second.iter().rev()));
    }

    #[test]
    fn ranges_do_not_meet() {
        let key = ServiceKey::new("default", "api");
        let registered = VirtualIps::default().assign(&key).unwrap();
        let mut documents = VirtualIps::restore(Range::Documents, [(key.clone(), registered)]);
        assert_ne!(documents.assign(&key), Some(registered));
    }
}
