//! A seeded source of bad bytes.

/// Draws mutations of valid inputs, and now and then noise.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    state: u64,
}

impl Mutator {
    /// Mutates `seeds`; equal `state`s give equal inputs.
    pub fn new(seeds: &[Vec<u8>], state: u64) -> Self {
        Self {
            seeds: seeds.to_vec(),
            state,
        }
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, drawn.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound.max(1) as u64) as usize
    }

    fn seed(&mut self) -> Vec<u8> {
        let at = self.below(self.seeds.len());
        self.seeds[at].clone()
    }

    /// The next input.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator"
    )]
    pub fn next(&mut self) -> Vec<u8> {
        if self.below(16) == 0 {
            let length = self.below(300);
            return (0..length).map(|_| self.draw() as u8).collect();
        }
        let mut bytes = self.seed();
        for _ in 0..1 + self.below(3) {
            self.mutate(&mut bytes);
        }
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            bytes.push(self.draw() as u8);
            return;
        }
        let at = self.below(bytes.len());
        match self.below(8) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.draw() as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = at + self.below(bytes.len() - at);
                bytes.drain(at..end);
            }
            4 => {
                let end = at + self.below((bytes.len() - at).min(100));
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            // A length or number becomes as large as its encoding allows.
            5 => {
                let mut large = vec![251 + self.below(4) as u8];
                let width = [2, 4, 8, 16][usize::from(large[0] - 251)];
                let top = [0xff, 0x7f, 0x00][self.below(3)];
                large.extend(std::iter::repeat_n(0xff, width - 1).chain([top]));
                bytes.splice(at..=at, large);
            }
            6 => {
                let other = self.seed();
                let from = self.below(other.len());
                let length = self.below((other.len() - from).min(64));
                let end = (at + length).min(bytes.len());
                bytes.splice(at..end, other[from..from + length].iter().copied());
            }
            _ => {
                let place = self.below(16);
                bytes.insert(
                    at,
                    [
                        0, 1, 2, 3, 4, 9, 127, 128, 249, 250, 251, 252, 253, 254, 255, 8,
                    ][place],
                );
            }
        }
    }
}
