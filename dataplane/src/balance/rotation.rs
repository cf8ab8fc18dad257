//! Smooth weighted round robin: earliest deadline first, O(log n) a pick, O(1) when weights are equal and stay so. Pure.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::Rng;

/// Whose turn it is.
#[derive(Debug)]
pub(super) enum Rotation {
    /// Equal weights: one after the other.
    Equal { next: usize, size: usize },
    /// Each comes back after a period that is the inverse of its weight at the moment of its turn.
    Weighted { turns: BinaryHeap<Reverse<(u64, usize)>>, weights: Vec<f64> },
}

/// Virtual time between two turns of weight 1. Shares stay exact to one in 2^20 of the largest weight.
const PERIOD: f64 = (1u64 << 36) as f64;

/// Longest period: the least weight is 2^-20.
const PERIOD_MAX: u64 = 1 << 56;

/// Virtual time is taken back to zero before it could overflow.
const TIME_MAX: u64 = 1 << 62;

impl Rotation {
    /// Starts at a random place, so that many proxies do not all begin with the same endpoint.
    pub(super) fn new(weights: Vec<f64>, rng: &mut impl Rng) -> Self {
        let size = weights.len();
        if size == 0 || weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Equal { next: if size == 0 { 0 } else { rng.random_range(0..size) }, size };
        }
        Self::scaled(weights, |_| 1.0, rng)
    }

    /// One whose weights are scaled anew at every turn.
    pub(super) fn scaled(weights: Vec<f64>, scale: impl Fn(usize) -> f64, rng: &mut impl Rng) -> Self {
        let first = |(index, weight): (usize, &f64)| {
            Reverse((rng.random_range(0..period(weight * scale(index))), index))
        };
        Self::Weighted { turns: weights.iter().enumerate().map(first).collect(), weights }
    }

    /// Only called when there are endpoints. `scale` is what an endpoint's weight is multiplied by at this moment.
    pub(super) fn next(&mut self, scale: impl Fn(usize) -> f64) -> usize {
        match self {
            Self::Equal { next, size } => {
                let picked = *next;
                *next = if picked + 1 == *size { 0 } else { picked + 1 };
                picked
            }
            Self::Weighted { turns, weights } => {
                let Some(Reverse((time, picked))) = turns.pop() else { return 0 };
                turns.push(Reverse((time + period(weights[picked] * scale(picked)), picked)));
                if time > TIME_MAX {
                    *turns = turns.drain().map(|Reverse((at, i))| Reverse((at - time, i))).collect();
                }
                picked
            }
        }
    }
}

fn period(weight: f64) -> u64 {
    // A cast of what is too large, or of no number, saturates.
    ((PERIOD / weight) as u64).clamp(1, PERIOD_MAX)
}
