//! Envoy's response flags: what went wrong with a request, as short words in Envoy's order. Pure.

use std::fmt;

/// Envoy's words.
const WORDS: [&str; 30] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX",
    "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR", "UDO",
];

/// Most flags of one request; what comes after is left out.
const FLAGS_MAX: usize = 4;

/// Flags in the order in which they came about, which is how Envoy writes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags([Option<Flag>; FLAGS_MAX]);

/// A place in [`WORDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flag(u8);

impl Flags {
    /// The one flag; none where the word is not Envoy's.
    pub fn of(word: &str) -> Self {
        let mut flags = Self::default();
        flags.add(word);
        flags
    }

    /// Adds a flag.
    pub fn add(&mut self, word: &str) {
        let known = WORDS.iter().position(|known| *known == word);
        let Some(flag) = known.and_then(|place| u8::try_from(place).ok()).map(Flag) else { return };
        if let Some(slot) = self.0.iter_mut().find(|slot| slot.is_none_or(|there| there == flag)) {
            *slot = Some(flag);
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0[0].is_none()
    }

    /// Whether this flag is among them.
    pub fn has(self, word: &str) -> bool {
        self.words().any(|known| known == word)
    }

    fn words(self) -> impl Iterator<Item = &'static str> {
        self.0.into_iter().flatten().filter_map(|flag| WORDS.get(usize::from(flag.0)).copied())
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.words().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            f.write_str(word)?;
        }
        if self.is_empty() { f.write_str("-") } else { Ok(()) }
    }
}

/// The word as a constant of the program; none where it is not Envoy's.
pub fn known(word: &str) -> Option<&'static str> {
    WORDS.into_iter().find(|known| *known == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_in_the_order_in_which_they_came() {
        let mut flags = Flags::default();
        assert_eq!(flags.to_string(), "-");
        flags.add("URX");
        flags.add("UF");
        flags.add("no flag");
        flags.add("URX");
        assert_eq!(flags.to_string(), "URX,UF");
        assert!(flags.has("UF") && !flags.has("UH"));
    }
}
