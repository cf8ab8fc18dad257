//! The virtual hosts that are asked for by name because requests needed them, and when they are let go. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

/// Most names; more are not asked for until others are let go.
pub const NAMES_MAX: usize = 4096;

/// How long a host is kept that no request uses.
pub const IDLE_MAX: Duration = Duration::from_secs(600);

/// How long a host stays asked for that does not exist. Until then the control plane tells when it appears.
pub const ABSENT_MAX: Duration = Duration::from_secs(30);

/// Names (`TABLE/HOST`), each with its last use.
#[derive(Debug, Default)]
pub struct Demand {
    names: BTreeMap<String, Instant>,
}

impl Demand {
    /// Asks for a name, or uses it again. False when there is no room.
    pub fn want(&mut self, name: String, now: Instant) -> bool {
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(&name) {
            return false;
        }
        self.names.insert(name, now);
        true
    }

    /// Whether a name is asked for.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Every name.
    pub fn names(&self) -> BTreeSet<String> {
        self.names.keys().cloned().collect()
    }

    /// Lets go of what was not used for long. `used` tells of a name whether it was used since the last look; nothing for one
    /// that does not exist. Whether any name went.
    pub fn expire(&mut self, now: Instant, used: impl Fn(&str) -> Option<bool>) -> bool {
        let before = self.names.len();
        self.names.retain(|name, last| {
            let limit = match used(name) {
                Some(true) => {
                    *last = now;
                    return true;
                }
                Some(false) => IDLE_MAX,
                None => ABSENT_MAX,
            };
            now.duration_since(*last) < limit
        });
        self.names.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes_in_its_time() {
        let mut demand = Demand::default();
        let start = Instant::now();
        for name in ["used", "idle", "absent"] {
            assert!(demand.want(name.to_owned(), start));
        }
        let used = |name: &str| (name != "absent").then_some(name == "used");
        assert!(!demand.expire(start + ABSENT_MAX / 2, used));
        assert!(demand.expire(start + ABSENT_MAX, used));
        assert!(!demand.contains("absent") && demand.contains("idle"));
        assert!(demand.expire(start + IDLE_MAX, used));
        assert_eq!(demand.names().into_iter().collect::<Vec<_>>(), ["used"]);
        assert!(demand.expire(start + IDLE_MAX * 2, |_| Some(false)));
    }

    #[test]
    fn there_is_room_for_so_many_names_and_no_more() {
        let mut demand = Demand::default();
        let now = Instant::now();
        assert!((0..NAMES_MAX).all(|i| demand.want(i.to_string(), now)));
        assert!(!demand.want("more".to_owned(), now));
        assert!(demand.want("0".to_owned(), now));
    }
}
