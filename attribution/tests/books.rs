//! The books under everything that can happen to facts: they come twice, in another order, forked, senseless, and again
//! after a crash. Money is conserved at every step, and whoever holds the same facts holds the same books.

use std::collections::BTreeMap;
use std::time::Instant;

use tributary_attribution::credit::{Offer, Served};
use tributary_attribution::fee::{Fees, Shaped, Source};
use tributary_attribution::fold::{FoldError, Forfeit};
use tributary_attribution::settlement::{Address, Balances, BaseUnits, SumNode};
use tributary_attribution::significance::{CumulativeScore, TestedScore};
use tributary_attribution::{Balance, Books, CertifiedRound, Closing, Fact};
use tributary_protocol::hash::{Digest, Domain, Hasher, Stream};
use tributary_protocol::id::{BlockId, MicroOpen, NanoNats, PeerId, Ppb, Round, RunId};
use tributary_protocol::manifest::{RevenueSplit, RoundSplit};
use tributary_protocol::round::{EntryRef, FinalScore};

const RUNS: u64 = 6;
const PEERS: u64 = 40;
/// One operation in so many is a fact that is new.
const FRESH: u64 = 20;
/// Operations between two copies that a crash goes back to.
const SAVED: u64 = 100_000;

fn name(kind: u8, n: u64) -> Digest {
    let mut bytes = [kind; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    Digest::from_bytes(bytes)
}

fn peer(n: u64) -> PeerId {
    PeerId(name(1, n))
}

fn run(n: u64) -> RunId {
    RunId(name(2, n))
}

struct Facts {
    draws: Stream,
    rounds: [u32; RUNS as usize],
    answers: u64,
}

impl Facts {
    fn new(seed: u64) -> Self {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(&seed.to_le_bytes());
        Self {
            draws: hasher.finalize_xof(),
            rounds: [0; RUNS as usize],
            answers: 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draws.below(bound)
    }

    fn amount(&mut self) -> MicroOpen {
        let bits = self.below(61);
        MicroOpen(u128::from(self.below(1 << bits)))
    }

    /// One peer in so many.
    fn some(&mut self, of: u64) -> Vec<u64> {
        (0..PEERS).filter(|_| self.draws.below(of) == 0).collect()
    }

    fn round(&mut self, of: u64) -> Fact {
        let number = &mut self.rounds[of as usize];
        *number += 1;
        let round = Round(*number);
        let mut scores = Vec::new();
        for n in self.some(8) {
            let score = self.draws.below(2_000_000) as i64 - 500_000;
            scores.push(TestedScore {
                score: FinalScore {
                    peer: peer(n),
                    score: NanoNats(score),
                    low: NanoNats(score - 9),
                    high: NanoNats(score + 9),
                    luck: NanoNats(2),
                },
                shown: CumulativeScore {
                    scores: self.draws.below(40).into(),
                    squares: 4,
                },
            });
        }
        scores.sort_by_key(|tested| tested.score.peer);
        Fact::Round(CertifiedRound {
            run: run(of),
            round,
            sponsor: peer(100 + of),
            offer: Offer {
                budget: self.amount(),
                price_per_nat: self.amount(),
                funded: self.amount(),
                arrived: Ppb(self.below(1_000_000_001) as u32),
                split: RoundSplit::default(),
            },
            scores,
            served: Served {
                evaluators: self.some(4).into_iter().map(peer).collect(),
                signers: self.some(6).into_iter().map(|n| (peer(n), n + 1)).collect(),
            },
        })
    }

    fn weighed(&mut self, most: u64, base: u64) -> Vec<(PeerId, u64)> {
        let some = self.some(most);
        some.into_iter().map(|n| (peer(base + n), n + 1)).collect()
    }

    fn fees(&mut self, of: u64) -> Fact {
        self.answers += 1;
        let wide = |weights: Vec<(PeerId, u64)>| -> Vec<(PeerId, u128)> {
            let weights = weights.into_iter();
            weights
                .map(|(peer, weight)| (peer, u128::from(weight) << 40))
                .collect()
        };
        let at = EntryRef {
            author: peer(300 + self.below(5)),
            block: BlockId(name(3, self.answers)),
            ..EntryRef::default()
        };
        Fact::Fees(Fees {
            run: run(of),
            round: Round(self.below(1000) as u32),
            source: Source::Answers {
                at,
                server: at.author,
                payer: Address([self.below(20) as u8; 20]),
            },
            amount: self.amount(),
            revenue: RevenueSplit {
                contributors: Ppb(700_000_000),
                base_author: Ppb(100_000_000),
                server: Ppb(100_000_000),
                committee: Ppb(60_000_000),
                stakers: Ppb(40_000_000),
            },
            base: (self.below(2) == 0).then(|| name(4, of)),
            committee: self.weighed(9, 400),
            stakers: self.weighed(9, 400),
            shaped: Shaped {
                agreed: wide(self.weighed(10, 0)),
                nobody: self.below(1 << 40).into(),
                by_credits: 1,
            },
            credits: wide(self.weighed(10, 0)),
        })
    }

    fn forfeit(&mut self, of: u64) -> Fact {
        self.answers += 1;
        let evaluator = peer(self.below(PEERS));
        let dispute = EntryRef {
            author: peer(self.below(PEERS)),
            block: BlockId(name(3, self.answers)),
            ..EntryRef::default()
        };
        Fact::Forfeit(Forfeit {
            run: run(of),
            round: Round(self.below(1000) as u32),
            dispute,
            evaluator,
            amount: self.amount(),
        })
    }

    fn fresh(&mut self) -> Fact {
        let of = self.below(RUNS);
        match self.below(8) {
            0 | 1 => self.round(of),
            2 => self.forfeit(of),
            _ => self.fees(of),
        }
    }

    /// Under the name of a fact, something else.
    fn forked(&mut self, fact: &Fact) -> Fact {
        let mut forked = fact.clone();
        match &mut forked {
            Fact::Round(round) => round.sponsor = peer(999),
            Fact::Fees(fees) => fees.amount.0 += 1,
            Fact::Closing(closing) => closing.waiting.0 += 1,
            Fact::Forfeit(forfeit) => forfeit.amount.0 += 1,
        }
        forked
    }

    /// What no certificate can say, under a new name.
    fn senseless(&mut self) -> Fact {
        let mut fact = self.fees(0);
        if let Fact::Fees(fees) = &mut fact {
            match self.draws.below(3) {
                0 => fees.revenue.server = Ppb(0),
                1 => fees.shaped = Shaped::default(),
                _ => fees.amount = MicroOpen(u128::MAX),
            }
        }
        fact
    }
}

/// What was done, by kind.
#[derive(Debug, Default)]
struct Done {
    fresh: u64,
    repeated: u64,
    forked: u64,
    senseless: u64,
    crashes: u64,
}

/// Books that took everything at once, and books that heard of it late, in another order and through crashes.
struct Pair {
    facts: Facts,
    known: Vec<Fact>,
    prompt: Books,
    late: Books,
    /// What the late books have not heard of, by place in `known`.
    unheard: Vec<usize>,
    saved: (Books, Vec<usize>, usize),
    done: Done,
}

impl Pair {
    fn new(seed: u64) -> Self {
        Self {
            facts: Facts::new(seed),
            known: Vec::new(),
            prompt: Books::new(),
            late: Books::new(),
            unheard: Vec::new(),
            saved: (Books::new(), Vec::new(), 0),
            done: Done::default(),
        }
    }

    fn hear(&mut self, at: usize) {
        let place = self.unheard.swap_remove(at);
        assert_eq!(self.late.add(self.known[place].clone()), Ok(true));
    }

    fn add(&mut self) {
        let fact = self.facts.fresh();
        assert_eq!(self.prompt.add(fact.clone()), Ok(true));
        self.unheard.push(self.known.len());
        self.known.push(fact);
        self.done.fresh += 1;
        // Half of the time something, not always the newest.
        while self.facts.below(2) == 0 && !self.unheard.is_empty() {
            let at = self.facts.below(self.unheard.len() as u64) as usize;
            self.hear(at);
        }
    }

    fn step(&mut self, step: u64) {
        if self.known.is_empty() || self.facts.below(FRESH) == 0 {
            return self.add();
        }
        let at = self.facts.below(self.known.len() as u64) as usize;
        match self.facts.below(20) {
            0 => {
                let forked = self.facts.forked(&self.known[at]);
                let refused = Err(FoldError::Conflict(Box::new(forked.id())));
                assert_eq!(self.prompt.add(forked), refused);
                self.done.forked += 1;
            }
            1 => {
                assert!(self.prompt.add(self.facts.senseless()).is_err());
                self.done.senseless += 1;
            }
            _ => {
                assert_eq!(self.prompt.add(self.known[at].clone()), Ok(false));
                self.done.repeated += 1;
            }
        }
        if step.is_multiple_of(SAVED) {
            self.saved = (self.late.clone(), self.unheard.clone(), self.known.len());
        }
        if self.facts.below(2 * SAVED) == 0 {
            let (books, unheard, known) = self.saved.clone();
            self.late = books;
            self.unheard = unheard;
            self.unheard.extend(known..self.known.len());
            self.done.crashes += 1;
        }
        if step.is_multiple_of(1_000) {
            assert_eq!(self.prompt.total(), Ok(Balance::default()));
            assert_eq!(self.late.total(), Ok(Balance::default()));
        }
    }

    /// Closes every run, lets the late books hear of everything, and compares.
    fn finish(mut self) -> Done {
        for of in 0..RUNS {
            let closing = closing(&self.prompt, run(of));
            assert_eq!(self.prompt.add(Fact::Closing(closing.clone())), Ok(true));
            self.unheard.push(self.known.len());
            self.known.push(Fact::Closing(closing));
        }
        while !self.unheard.is_empty() {
            let at = self.facts.below(self.unheard.len() as u64) as usize;
            self.hear(at);
        }
        assert!(self.prompt == self.late, "equal facts, other books");
        for of in 0..RUNS {
            assert_eq!(root(&self.prompt, run(of)), root(&self.late, run(of)));
        }
        assert_eq!(self.prompt.total(), Ok(Balance::default()));
        assert_eq!(self.prompt.facts().count(), self.known.len());
        self.done
    }
}

/// The root that members of a run would sign: what each peer holds of what was earned.
fn root(books: &Books, run: RunId) -> SumNode {
    let mut accounts = BTreeMap::<Address, BaseUnits>::new();
    for (account, balance) in books.balances_of(run) {
        let Some(holder) = account.holder().filter(|_| balance.0 > 0) else {
            continue;
        };
        let mut address = [0; 20];
        address.copy_from_slice(&holder.as_bytes()[..20]);
        let held = accounts.entry(Address(address)).or_default();
        let earned = MicroOpen(balance.0.unsigned_abs());
        let earned = BaseUnits::from_micro(earned).expect("within 128 bits");
        *held = held.checked_add(earned).expect("within 128 bits");
    }
    Balances::build(&accounts)
        .expect("no reserved address")
        .root()
}

/// What the rounds of a run left waiting.
fn closing(books: &Books, run: RunId) -> Closing {
    let mut waiting = 0;
    let mut earned = BTreeMap::<PeerId, u128>::new();
    for (_, credits) in books.rounds(run) {
        waiting += credits.waiting.0;
        for line in credits.lines.iter().filter(|line| line.amount.0 > 0) {
            *earned.entry(line.peer()).or_default() += line.amount.0;
        }
    }
    let earned = earned.into_iter();
    Closing {
        run,
        sponsor: peer(0),
        waiting: MicroOpen(waiting),
        returned: MicroOpen(waiting / 3),
        earned: earned
            .map(|(peer, amount)| (peer, MicroOpen(amount)))
            .collect(),
    }
}

fn operate(operations: u64, seed: u64) -> Done {
    let mut pair = Pair::new(seed);
    for step in 0..operations {
        pair.step(step);
    }
    pair.finish()
}

#[test]
fn money_is_conserved_through_repeats_forks_other_orders_and_crashes() {
    let done = operate(300_000, 1);
    println!("{done:?}");
    let all = [
        done.fresh,
        done.repeated,
        done.forked,
        done.senseless,
        done.crashes,
    ];
    assert!(all.iter().all(|times| *times > 0), "{done:?}");
}

/// Writes the figures of `docs/numbers/books.md`.
#[test]
#[ignore = "a measurement of minutes"]
fn ten_million_operations() {
    let start = Instant::now();
    let done = operate(10_000_000, 2);
    println!(
        "books: {} new, {} repeated, {} forked, {} senseless, {} crashes, {:.0} s",
        done.fresh,
        done.repeated,
        done.forked,
        done.senseless,
        done.crashes,
        start.elapsed().as_secs_f64()
    );
}
