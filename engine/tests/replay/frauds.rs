//! What a server may pass for an answer, and how a replay sees it.

use tributary_engine::{Base, Claim, Engine, Finish, Precision, Replay, Rule, Sampling, Verdict};

use crate::world::{self, Ask, World, answers, engine};

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fraud {
    OtherAdapter,
    NoAdapter,
    /// Linears of four bits instead of f32.
    FourBits,
    /// int8 instead of f32.
    EightBits,
    WrongSeed,
    /// Tokens chosen at a temperature higher by a tenth.
    OtherTemperature,
    /// One token of an honest answer is another one.
    ChangedToken,
    /// The last tenth is missing.
    Cut,
    /// The last token of the prompt was another one.
    OtherPrompt,
    /// No adapter instead of one that adds so large a part to the base.
    NoAdapterOf(f32),
    /// An adapter whose factors differ from the right ones by so large a part.
    Near(f32),
}

impl Fraud {
    /// Frauds that no rule may miss.
    pub(crate) const PLAIN: [Self; 8] = [
        Self::OtherAdapter,
        Self::NoAdapter,
        Self::FourBits,
        Self::WrongSeed,
        Self::OtherTemperature,
        Self::ChangedToken,
        Self::Cut,
        Self::OtherPrompt,
    ];

    pub(crate) fn name(self) -> String {
        match self {
            Self::OtherAdapter => "another adapter".into(),
            Self::NoAdapter => "no adapter".into(),
            Self::FourBits => "linears of 4 bits".into(),
            Self::EightBits => "int8 for f32".into(),
            Self::WrongSeed => "another seed".into(),
            Self::OtherTemperature => "temperature + 0.1".into(),
            Self::ChangedToken => "one token changed".into(),
            Self::Cut => "last 20 tokens cut".into(),
            Self::OtherPrompt => "last token of the prompt changed".into(),
            Self::NoAdapterOf(part) => format!("no adapter instead of one of {part}"),
            Self::Near(part) => format!("adapter {part} away"),
        }
    }

    /// Whether it changes nothing: a likeliest token needs no seed.
    pub(crate) fn is_none(self, sampling: &Sampling) -> bool {
        self == Self::WrongSeed && sampling.temperature == 0.0
    }

    /// The engine that answers.
    fn server(self, base: &Base) -> Engine {
        match self {
            Self::FourBits => engine(world::four_bits(base), Precision::F32),
            Self::EightBits => engine(base.clone(), Precision::Int8),
            _ => engine(base.clone(), Precision::F32),
        }
    }

    /// What is answered instead of `ask`.
    fn served(self, world: &World, ask: &Ask, at: usize) -> Ask {
        let mut ask = ask.clone();
        match self {
            Self::OtherAdapter => ask.adapter = Some(world.adapters[1 + at % 3].clone()),
            Self::NoAdapter | Self::NoAdapterOf(_) => ask.adapter = None,
            Self::WrongSeed => ask.sampling.seed ^= 1,
            Self::OtherTemperature => ask.sampling.temperature += 0.1,
            Self::OtherPrompt => {
                let last = ask.prompt.last_mut().unwrap();
                *last = world.text[at % world.text.len()]
                    .wrapping_add(u32::from(world.text[at % world.text.len()] == *last));
            }
            _ => {}
        }
        ask
    }

    fn changed(self, answer: (Vec<u32>, Finish), at: usize, vocab: usize) -> (Vec<u32>, Finish) {
        let (mut tokens, finish) = answer;
        match self {
            Self::ChangedToken => {
                let place = at * 7919 % tokens.len();
                tokens[place] = (tokens[place] + 1 + at as u32 % 100) % vocab as u32;
            }
            Self::Cut => tokens.truncate(tokens.len() * 9 / 10),
            _ => {}
        }
        (tokens, finish)
    }

    /// Claims of so many answers, and how many are what an honest server gives in spite of all.
    pub(crate) fn claims(
        self,
        world: &World,
        count: usize,
        sampling: &Sampling,
    ) -> (Vec<Claim>, usize) {
        let mut asks = world.asks(count, sampling, 77);
        let load = |adapter| world::loaded(&world.base, adapter);
        if let Self::NoAdapterOf(part) = self {
            let small = load(world::adapter(&world.base, 0, part));
            asks.iter_mut()
                .for_each(|ask| ask.adapter = Some(small.clone()));
        }
        let honest = answers(&mut engine(world.base.clone(), Precision::F32), &asks);
        let near = match self {
            Self::Near(part) => {
                let adapter = world::adapter(&world.base, 0, world::SIZE);
                Some(load(world::near(&adapter, part, 1000)))
            }
            _ => None,
        };
        let served = asks.iter().enumerate().map(|(at, ask)| {
            let mut served = self.served(world, ask, at);
            served.adapter = near.clone().or(served.adapter);
            served
        });
        let served: Vec<Ask> = served.collect();
        let found = answers(&mut self.server(&world.base), &served);
        let vocab = world.base.info.config.vocab;
        let changed = found.into_iter().enumerate();
        let found: Vec<_> = changed
            .map(|(at, found)| self.changed(found, at, vocab))
            .collect();
        let same = found.iter().zip(&honest).filter(|(a, b)| a == b).count();
        let claims = asks.iter().zip(found).map(|(ask, found)| ask.claim(found));
        (claims.collect(), same)
    }
}

/// Replays.
pub(crate) fn replays(checker: &mut Engine, claims: Vec<Claim>) -> Vec<Replay> {
    let replay = |claim| checker.replay(claim).unwrap();
    claims.into_iter().map(replay).collect()
}

/// How many a rule does not take for honest.
pub(crate) fn caught(replays: &[Replay], rule: Rule) -> usize {
    let is_caught = |replay: &&Replay| replay.verdict(rule) != Verdict::Honest;
    replays.iter().filter(is_caught).count()
}

/// How many tokens have a margin above `bound`.
pub(crate) fn beyond(replays: &[Replay], bound: f32) -> usize {
    let margins = replays.iter().flat_map(|replay| &replay.margins);
    margins.filter(|margin| **margin > bound).count()
}
