//! The inputs: pairs of an attack and its honest neighbour. [`classes`] has one pair per
//! class of attacks to which peers fell, [`generate`] makes as many more as wanted from a
//! grammar and a table of changes, [`answers`] are what an upstream sends.

mod answers;
mod changes;
mod classes;
mod generate;

/// What must come of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// It is refused.
    Refused,
    /// It is refused, or changed so that all readers read it alike.
    Harmless,
}

/// Which side sends the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A client, to the front end.
    Client,
    /// The upstream, as the answer to a request with this method; `then_close` ends the
    /// connection behind it.
    Upstream { method: &'static str, then_close: bool },
}

/// Bytes and what a reader should find in them.
#[derive(Clone, Debug)]
pub(super) struct Honest {
    pub(super) bytes: Vec<u8>,
    /// The body that must arrive.
    pub(super) body: Vec<u8>,
}

/// An attack and the honest message that is nearest to it.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) side: Side,
    pub(super) attack: Vec<u8>,
    pub(super) expect: Expect,
    pub(super) honest: Honest,
}

/// `count` generated pairs and all those of the classes.
pub(super) fn all(count: usize, seed: u64) -> Vec<Pair> {
    let mut all = classes::pairs();
    all.extend(answers::pairs());
    all.extend(generate::pairs(count, seed));
    all
}

/// A small generator (SplitMix64): one seed, one corpus.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of them; the first when there is none to choose from is the caller's fault.
    fn pick<T: Copy>(&mut self, from: &[T], otherwise: T) -> T {
        from.get(self.below(from.len())).copied().unwrap_or(otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_corpus_and_it_is_large() {
        let (one, other) = (all(600, 1), all(600, 1));
        assert!(one.len() * 2 >= 1_400, "{}", one.len());
        assert!(
            one.iter().zip(&other).all(|(a, b)| a.attack == b.attack && a.honest.bytes == b.honest.bytes)
        );
        let different = all(600, 2);
        assert!(one.iter().zip(&different).any(|(a, b)| a.attack != b.attack));
        for pair in &one {
            assert_ne!(pair.attack, pair.honest.bytes, "{}", pair.name);
        }
    }

    #[test]
    fn every_change_is_used() {
        let pairs = all(600, 1);
        for name in changes::names() {
            assert!(pairs.iter().any(|pair| pair.name.split(' ').any(|part| part == name)), "{name}");
        }
    }
}
