//! Members that vanish and never come back, at once or one by one, in the protocol's own roster and committees.

use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tributary_protocol::beacon::Chain;
use tributary_protocol::committee::Committee;
use tributary_protocol::entry::Role;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{BlockId, MerkleRoot, PeerId, Round, RunId, Seq};
use tributary_protocol::roster::{Roster, Work};
use tributary_protocol::round::{EntryRef, Joined, RoundValue};
use tributary_protocol::sign::SecretKey;

use super::random;

/// Heights of a run.
const HEIGHTS: u32 = 1_000;
/// Seats that are drawn where more than as many vote.
const DRAWN: usize = 64;
/// Contributors asked for work at each height.
const ASKED: usize = 64;

/// What became of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Absence {
    /// Members at the start, of equal weight.
    pub members: usize,
    /// The members that vanish, and when.
    pub vanish: &'static str,
    /// Heights that were decided.
    pub decided: u32,
    /// Heights that nobody could decide; the run is drawn on from there as if it had been.
    pub halted: u32,
}

/// Every case of the page.
pub fn absences() -> Vec<Absence> {
    let at_once = |members| {
        run(members, "30 % at once, at height 10", |n, height| {
            if height < 10 { 0 } else { n * 3 / 10 }
        })
    };
    let slowly = |members| {
        run(
            members,
            "60 %, one by one over the first 900 heights",
            |n, height| n * 6 / 10 * height.min(900) as usize / 900,
        )
    };
    vec![
        at_once(20),
        slowly(20),
        at_once(64),
        slowly(64),
        at_once(200),
        slowly(200),
    ]
}

struct Members {
    keys: Vec<SecretKey>,
    ids: Vec<PeerId>,
    chains: Vec<Chain>,
}

impl Members {
    fn new(count: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(count as u64);
        let keys: Vec<SecretKey> = (0..count)
            .map(|_| SecretKey::from_seed(rng.random()))
            .collect();
        let run = RunId::default();
        Self {
            ids: keys.iter().map(SecretKey::peer_id).collect(),
            chains: keys
                .iter()
                .map(|key| Chain::new(key, &run, Round(HEIGHTS + 1)))
                .collect(),
            keys,
        }
    }

    fn value(&self, round: u32, at: usize) -> RoundValue {
        RoundValue {
            run: RunId::default(),
            round: Round(round),
            link: self.chains[at].link(Round(round)),
            ..RoundValue::default()
        }
    }

    fn genesis(&self) -> Roster {
        let joined = |(id, chain): (&PeerId, &Chain)| Joined {
            entry: EntryRef {
                author: *id,
                seq: Seq(0),
                block: BlockId::default(),
                index: 0,
            },
            role: Role::Contributor,
            root: MerkleRoot::default(),
            tokens: 1,
            own_tokens: 1,
            beacon: chain.commitment(),
        };
        let mut value = self.value(0, 0);
        value.joins = self.ids.iter().zip(&self.chains).map(joined).collect();
        value.joins.sort();
        (Roster::default().apply(&value, &self.ids[0], &Work::default())).expect("all join")
    }
}

/// Members of equal weight; the electorate is everybody that is not idle.
fn committee(roster: &Roster, round: u32, beacon: &Digest) -> Committee {
    let voting = roster.iter().filter(|member| !member.is_idle());
    let weights: Vec<(PeerId, u64)> = voting.map(|member| (member.peer, 1)).collect();
    Committee::draw(
        &RunId::default(),
        Round(round),
        beacon,
        weights,
        |_| true,
        DRAWN,
    )
}

fn run(count: usize, vanish: &'static str, gone: impl Fn(usize, u32) -> usize) -> Absence {
    let members = Members::new(count);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut order: Vec<usize> = (0..members.keys.len()).collect();
    order.shuffle(&mut rng);
    let mut roster = members.genesis();
    let (mut decided, mut halted) = (0, 0);
    for height in 1..=HEIGHTS {
        let present = &order[gone(count, height)..];
        let committee = committee(&roster, height, &random(&mut rng));
        let here = present.iter().map(|at| members.ids[*at]);
        if committee.votes_of(here) < committee.quorum() {
            halted += 1;
        } else {
            decided += 1;
        }
        let mut asked = roster.members().to_vec();
        asked.shuffle(&mut rng);
        let asked = asked.iter().take(ASKED).map(|member| member.peer).collect();
        let work = Work {
            asked,
            done: Default::default(),
        };
        let done = present
            .iter()
            .map(|at| members.ids[*at])
            .filter(|id| work.asked.contains(id));
        let work = Work {
            done: done.collect(),
            ..work.clone()
        };
        let proposer = (0..)
            .map(|attempt| committee.proposer(attempt))
            .find_map(|peer| present.iter().copied().find(|at| members.ids[*at] == peer));
        let proposer = proposer.expect("somebody present has a seat");
        let value = members.value(height, proposer);
        roster = roster
            .apply(&value, &members.ids[proposer], &work)
            .expect("nobody joins or leaves");
    }
    Absence {
        members: count,
        vanish,
        decided,
        halted,
    }
}
