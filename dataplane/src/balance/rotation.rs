//! Smooth weighted round robin: earliest deadline first, O(log n) a pick, O(1) when weights are equal. Pure.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::Rng;

/// Whose turn it is.
#[derive(Debug)]
pub(super) enum Rotation {
    /// Equal weights: one after the other.
    Equal { next: usize, size: usize },
    /// Each comes back after a period that is the inverse of its weight.
    Weighted { turns: BinaryHeap<Reverse<(u64, usize)>>, periods: Vec<u64> },
}

/// Virtual time between two turns of weight 1. Shares stay exact to one in 2^20 of the largest weight.
const PERIOD: u64 = 1 << 36;

/// Virtual time is taken back to zero before it could overflow.
const TIME_MAX: u64 = 1 << 62;

impl Rotation {
    /// Starts at a random place, so that many proxies do not all begin with the same endpoint.
    pub(super) fn new(weights: &[u64], rng: &mut impl Rng) -> Self {
        let size = weights.len();
        if size == 0 || weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Equal { next: if size == 0 { 0 } else { rng.random_range(0..size) }, size };
        }
        let periods: Vec<u64> = weights.iter().map(|weight| (PERIOD / weight.max(&1)).max(1)).collect();
        let turns = periods
            .iter()
            .enumerate()
            .map(|(i, period)| Reverse((rng.random_range(0..*period), i)))
            .collect();
        Self::Weighted { turns, periods }
    }

    /// Only called when there are endpoints.
    pub(super) fn next(&mut self) -> usize {
        match self {
            Self::Equal { next, size } => {
                let picked = *next;
                *next = (picked + 1) % *size;
                picked
            }
            Self::Weighted { turns, periods } => {
                let Some(Reverse((time, picked))) = turns.pop() else { return 0 };
                turns.push(Reverse((time + periods[picked], picked)));
                if time > TIME_MAX {
                    *turns = turns.drain().map(|Reverse((at, i))| Reverse((at - time, i))).collect();
                }
                picked
            }
        }
    }
}
