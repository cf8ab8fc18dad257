//! MurmurHash64A as libstdc++'s `std::hash<std::string>` uses it, which Envoy offers for its ring. Pure.

/// libstdc++'s seed.
const SEED: u64 = 0xc70f_6907;
const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;

/// The hash of a text.
pub(super) fn murmur2(text: &[u8]) -> u64 {
    let mut hash = SEED ^ (text.len() as u64).wrapping_mul(MULTIPLIER);
    let mut words = text.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("a chunk has its size"));
        let mixed = shift_mix(word.wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
        hash = (hash ^ mixed).wrapping_mul(MULTIPLIER);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let rest = rest.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ rest).wrapping_mul(MULTIPLIER);
    }
    shift_mix(shift_mix(hash).wrapping_mul(MULTIPLIER))
}

fn shift_mix(value: u64) -> u64 {
    value ^ (value >> 47)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_libstdcxx() {
        for (text, hash) in [
            ("", 6142509188972423790),
            ("a", 4993892634952068459),
            ("foo", 9631199822919835226),
            ("foo\nbar", 16306510975912980159),
            ("abcdefg", 16063891478991045295),
            ("abcdefgh", 8664279048047335611),
            ("127.0.0.1:8080_17", 3591327324750848891),
        ] {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text:?}");
        }
    }
}
