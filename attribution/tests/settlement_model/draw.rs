//! Random calls of every kind: most of them good, and bad in every way that a caller can be wrong.

use std::collections::BTreeMap;

use tributary_attribution::settlement::{Address, BalanceProof, Balances, BaseUnits, Keccak, Root};

use crate::action::Action;
use crate::cast::{Cast, WINDOW_S};
use crate::channels::Shown;
use crate::model::{Model, Run, Signers};

/// SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0, below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Mostly what somebody has, now and then nothing, or more than anybody has.
    fn amount(&mut self, most: u128) -> u128 {
        match self.below(20) {
            0 => 0,
            1 => u128::MAX >> self.below(64),
            _ => 1 + u128::from(self.next()) % most.max(1),
        }
    }
}

type Accounts = BTreeMap<Address, BaseUnits>;

/// Trees and roots that members made, posted or not.
#[derive(Clone, Default)]
pub(crate) struct Known {
    trees: BTreeMap<Keccak, Accounts>,
    roots: [Vec<Root>; 2],
}

impl Known {
    fn proof(&self, balances: &Keccak, account: Address) -> Option<BalanceProof> {
        let tree = Balances::build(self.trees.get(balances)?).expect("a tree");
        tree.prove(&account)
    }

    /// Leaves that prove that a root lowers or drops an account, if it does.
    fn lower(&self, balances: &Keccak, account: Address) -> Option<Vec<BalanceProof>> {
        let tree = Balances::build(self.trees.get(balances)?).expect("a tree");
        let dropped = tree.prove_absence(&account);
        let shown = dropped.map(|proof| vec![proof.below, proof.above]);
        shown.or_else(|| Some(vec![tree.prove(&account)?]))
    }

    /// Claims of all accounts of the root that stands.
    pub(crate) fn due(&self, at: usize, root: &Root) -> Vec<(usize, BalanceProof, bool)> {
        let accounts = self.trees.get(&root.balances).into_iter().flatten();
        let proofs = accounts.filter_map(|(account, _)| self.proof(&root.balances, *account));
        proofs.map(|proof| (at, proof, false)).collect()
    }
}

pub(crate) struct Draw<'a> {
    pub(crate) dice: &'a mut Dice,
    pub(crate) cast: &'a Cast,
    pub(crate) model: &'a Model,
    pub(crate) known: &'a mut Known,
}

impl Draw<'_> {
    /// Seconds until the next block: often none, now and then exactly to where something changes.
    pub(crate) fn pause(&mut self) -> u64 {
        let now_s = self.model.now_s;
        let run = self.dice.pick(&[0, 1]);
        let its = &self.model.runs[run];
        match self.dice.below(100) {
            0..60 => 0,
            60..84 => self.dice.below(20) as u64,
            84..93 => self.dice.below(WINDOW_S as usize) as u64,
            93..98 => {
                let due_s = its.pending.as_ref().map_or(now_s, |one| one.due_s);
                (due_s + self.dice.below(2) as u64).saturating_sub(now_s + 1)
            }
            98 => WINDOW_S * 4 + self.dice.below(3) as u64,
            _ => 850 + self.dice.below(60) as u64,
        }
    }

    /// What is rarely possible and would rarely be drawn: the end of a run that still has a root, and of a channel that
    /// still has vouchers.
    fn rare(&mut self) -> Option<(Address, Action)> {
        let now_s = self.model.now_s;
        let at = self.dice.below(2);
        let run = &self.model.runs[at];
        let due_s = run.clock_s? + run.terms.halt_s;
        match &run.pending {
            Some(_) if run.halted_s.is_some() && self.dice.percent(60) => {
                let root = self.root(at);
                return Some((self.cast.stranger, Action::Post(at, root, self.signers())));
            }
            Some(pending) if run.halted_s.is_none() && now_s >= due_s => {
                return Some(match pending.challenge.is_some() {
                    true => (run.terms.sponsor, Action::Halt(at)),
                    false => (self.cast.stranger, Action::Challenge(at)),
                });
            }
            None if run.halted_s.is_none() && now_s >= due_s && self.dice.percent(50) => {
                let root = self.root(at);
                return Some((self.cast.stranger, Action::Post(at, root, self.signers())));
            }
            _ => {}
        }
        let all = self.model.channels.all.iter().enumerate();
        let (at, channel) = all.rev().find(|(_, one)| one.withdrawal.is_some())?;
        if self.dice.percent(40) {
            return Some((channel.config.payer, Action::Finish(at)));
        }
        let shown = Shown {
            channel: at,
            max: channel.balance,
            total: channel.balance,
            sound: true,
        };
        Some((self.cast.authorizer, Action::Count(vec![shown])))
    }

    /// Somebody, and what it does.
    pub(crate) fn action(&mut self) -> (Address, Action) {
        if self.dice.percent(15)
            && let Some(rare) = self.rare()
        {
            return rare;
        }
        let run = self.dice.below(2);
        let member = self.dice.pick(&self.cast.members);
        let sponsor = self.cast.sponsors[run];
        let everybody = self.cast.everybody();
        let anybody = self.dice.pick(&everybody);
        let amount = self.dice.amount(200);
        let flag = self.dice.percent(8);
        let (from, action) = match self.dice.below(100) {
            0..2 => (anybody, Action::Mint(anybody, amount.min(1000))),
            2..6 => {
                let till = self.model.runs[run].till;
                let to = self.dice.pick(&[till, till, self.cast.stranger]);
                (anybody, Action::Transfer(to, amount))
            }
            6..11 => (sponsor, Action::Deposit(run, amount, flag)),
            11..15 => (anybody, Action::Sweep(run)),
            15..31 => {
                let root = self.root(run);
                (anybody, Action::Post(run, root, self.signers()))
            }
            31..35 => (anybody, Action::Challenge(run)),
            35..39 => self.confirm(anybody),
            39..42 => (
                self.cast.arbiter,
                Action::Decide(1 - usize::from(flag), amount.is_multiple_of(2)),
            ),
            42..54 => self.claim(anybody),
            54..56 => (sponsor, Action::Halt(run)),
            56..59 => (anybody, Action::Reclaim(run, flag)),
            59..61 => {
                let credited: Vec<_> = self.model.credits.keys().copied().collect();
                let some = [credited, vec![anybody]].concat();
                (anybody, Action::Collect(self.dice.pick(&some)))
            }
            61 => (anybody, self.fork(run)),
            62..66 => (anybody, self.lowered(run).unwrap_or(Action::Sweep(run))),
            66..71 => (member, Action::Bond(run, amount)),
            71..76 => (anybody, Action::Activate(run, member)),
            76 => (member, Action::Unbond(run, amount)),
            77..79 => (member, Action::Withdraw(run)),
            79..81 => {
                let evidence = self.dice.below(4) as u8;
                let signers = self.signers();
                (
                    anybody,
                    Action::Slash(run, member, amount >> 2, evidence, signers),
                )
            }
            81..83 => (anybody, Action::Execute(run, member)),
            _ => self.channel(amount, anybody),
        };
        match self.dice.percent(6) {
            true => (anybody, action),
            false => (from, action),
        }
    }

    /// Mostly enough members, in order.
    fn signers(&mut self) -> Signers {
        let mut accounts = self.cast.members.clone();
        let leave = [0, 0, 0, 0, 0, 1, 1, 2, 3, 4];
        for _ in 0..self.dice.pick(&leave) {
            accounts.remove(self.dice.below(accounts.len()));
        }
        if self.dice.percent(5) {
            accounts.push(self.cast.stranger);
        }
        accounts.sort();
        let sound = accounts.is_empty() || !self.dice.percent(4);
        Signers { accounts, sound }
    }

    /// The root that everybody builds on: the pending one, or the accepted one.
    fn newest(run: &Run) -> Option<Root> {
        let pending = run.pending.as_ref().map(|one| one.posted.root);
        pending.or(run.accepted.map(|one| one.root))
    }

    /// A root that pays more than the newest one; or a lie, or one that was made before.
    fn root(&mut self, at: usize) -> Root {
        if self.dice.percent(12) && !self.known.roots[at].is_empty() {
            let other = if self.dice.percent(10) { 1 - at } else { at };
            let roots = &self.known.roots[other];
            if !roots.is_empty() {
                return self.dice.pick(roots);
            }
        }
        let run = &self.model.runs[at];
        let newest = Self::newest(run);
        let before = newest.and_then(|root| self.known.trees.get(&root.balances));
        let mut accounts = before.cloned().unwrap_or_default();
        let promised: u128 = accounts.values().map(|held| held.0).sum();
        let most = run.total() + run.free_fees() + run.room(self.model.now_s);
        let room = most.saturating_sub(promised);
        let account = self.dice.pick(&self.cast.payees);
        let more = match self.dice.below(20) {
            0 => room + 1,
            1 | 2 => room,
            3 => 0,
            _ => room * self.dice.below(100) as u128 / 100,
        };
        accounts.entry(account).or_default().0 += more;
        if self.dice.percent(12) {
            let victim = self.dice.pick(&self.cast.payees);
            let held = accounts.remove(&victim).unwrap_or_default().0;
            if self.dice.percent(50) && held > 0 {
                accounts.insert(victim, BaseUnits(held / 2));
            }
            // What it loses goes to somebody else, so that the total does not fall.
            accounts
                .entry(self.dice.pick(&self.cast.payees))
                .or_default()
                .0 += held;
        }
        let tree = Balances::build(&accounts).expect("a tree");
        let height = newest.map_or(0, |root| root.height) + self.dice.pick(&[1, 1, 1, 1, 2, 3, 0]);
        let root = Root {
            run: run.terms.key(),
            height,
            balances: tree.root().hash,
            total: tree.root().sum,
            fees: self.fees(at, tree.root().sum.0),
            lines: Keccak([self.dice.below(3) as u8; 32]),
            closed: self.dice.percent(4),
        };
        self.known.trees.insert(root.balances, accounts);
        self.known.roots[at].push(root);
        root
    }

    /// Which part of a total a root says that fees cover: mostly between the least with which the deposit's rises by no more
    /// than the rate, and all fees there are; or just beside.
    fn fees(&mut self, at: usize, total: u128) -> BaseUnits {
        let run = &self.model.runs[at];
        let rise = total.saturating_sub(run.total());
        let least = rise.saturating_sub(run.room(self.model.now_s));
        let most = rise.min(run.free_fees());
        let fees = run.of_fees();
        BaseUnits(match self.dice.below(20) {
            0 => fees.saturating_sub(1),
            1 => (fees + least).saturating_sub(1),
            2 => fees + most + 1,
            3 => total + 1,
            4..12 => fees + least,
            _ => fees + most,
        })
    }

    fn confirm(&mut self, anybody: Address) -> (Address, Action) {
        let at = usize::from(self.dice.percent(5));
        let pending = self.model.runs[at].pending.as_ref();
        let root = match pending.filter(|_| self.dice.percent(90)) {
            Some(pending) => pending.posted.root,
            None => self.root(at),
        };
        (anybody, Action::Confirm(at, root, self.signers()))
    }

    /// Up to three payments out of both runs, now and then by another root than the accepted one.
    fn claim(&mut self, anybody: Address) -> (Address, Action) {
        let mut payments = Vec::new();
        for _ in 0..=self.dice.below(3) {
            let at = self.dice.below(2);
            let run = &self.model.runs[at];
            let standing = run
                .view(self.model.now_s, &self.model.settlement)
                .accepted
                .balances;
            let other = Self::newest(run).map_or(standing, |root| root.balances);
            let balances = self
                .dice
                .pick(&[standing, standing, standing, standing, other]);
            let account = self.dice.pick(&self.cast.payees);
            let Some(mut proof) = self.known.proof(&balances, account) else {
                continue;
            };
            if self.dice.percent(3) {
                proof.balance.0 += 1;
            }
            payments.push((at, proof, self.dice.percent(2)));
        }
        (anybody, Action::Claim(payments))
    }

    fn fork(&mut self, at: usize) -> Action {
        let signer = self.dice.pick(&self.cast.members);
        let one = self.root(at);
        let mut other = one;
        let mut signers = [signer; 2];
        match self.dice.below(12) {
            0 => {}
            1 => other.height += 1,
            2 => signers[1] = self.cast.stranger,
            3 => other.run = self.model.runs[1 - at].terms.key(),
            4 | 5 => other.fees.0 += 1,
            _ => other.total.0 += 1,
        }
        Action::Fork([one, other], signers)
    }

    /// Against the pending root or one that was replaced: whether it lowers somebody is for the contract to find.
    fn lowered(&mut self, at: usize) -> Option<Action> {
        let run = &self.model.runs[at];
        let view = run.view(self.model.now_s, &self.model.settlement);
        let standing = view.accepted.balances;
        let known = &self.known.roots[at];
        let dropped = known
            .iter()
            .filter(|root| run.dropped.contains(&root.digest(&self.model.settlement)));
        let pending = run.pending.iter().map(|pending| pending.posted.root);
        let roots: Vec<Root> = dropped.copied().chain(pending).collect();
        if roots.is_empty() {
            return None;
        }
        let last = self.dice.percent(70);
        let root = if last {
            roots[roots.len() - 1]
        } else {
            self.dice.pick(&roots)
        };
        // Whom the root wrongs, if anybody, so that proofs are found.
        let accounts = self.known.trees.get(&standing)?;
        let its = self.known.trees.get(&root.balances)?;
        let held = |account: &Address| its.get(account).copied().unwrap_or_default();
        let wronged: Vec<Address> = (accounts.iter())
            .filter(|(account, promised)| held(account) < **promised)
            .map(|(account, _)| *account)
            .collect();
        let account = match wronged.is_empty() || self.dice.percent(15) {
            true => self.dice.pick(&self.cast.payees),
            false => self.dice.pick(&wronged),
        };
        let accepted = self.known.proof(&standing, account)?;
        let mut shown = self.known.lower(&root.balances, account)?;
        if self.dice.percent(5) {
            shown.truncate(1);
        }
        Some(Action::Lowered(at, root, self.signers(), accepted, shown))
    }

    fn channel(&mut self, amount: u128, anybody: Address) -> (Address, Action) {
        let at = self.dice.below(self.model.channels.all.len());
        let channel = &self.model.channels.all[at];
        let payer = self
            .dice
            .pick(&[channel.config.payer, channel.config.voucher_signer()]);
        let receiver = channel.config.receiver;
        let speaker = self.cast.authorizer;
        let nonce = channel.refunds;
        match self.dice.below(19) {
            17 | 18 => {
                let (salt, sound) = (self.dice.below(6) as u8, !self.dice.percent(10));
                (anybody, Action::FundSigned(at, amount, salt, sound))
            }
            0..3 => (channel.config.payer, Action::Fund(at, amount)),
            3..7 => (speaker, Action::Count(self.vouchers())),
            7..9 => {
                let sound = !self.dice.percent(10);
                (anybody, Action::CountSigned(self.vouchers(), sound))
            }
            9..12 => (anybody, Action::Settle(receiver)),
            12 => (payer, Action::Announce(at, amount >> 2)),
            13 | 14 => (payer, Action::Finish(at)),
            15 => (speaker, Action::Refund(at, amount >> 3)),
            _ => {
                let sound = !self.dice.percent(10);
                let nonce = nonce + self.dice.pick(&[0, 0, 0, 0, 1]);
                (anybody, Action::RefundSigned(at, amount >> 3, nonce, sound))
            }
        }
    }

    fn vouchers(&mut self) -> Vec<Shown> {
        let some = self.dice.pick(&[0, 1, 1, 1, 1, 2, 3]);
        let one = |_| {
            let channel = self.dice.below(self.model.channels.all.len());
            let its = &self.model.channels.all[channel];
            let more = self.dice.below(its.unclaimed() as usize + 2) as u128;
            let total = its.claimed + more * u128::from(!self.dice.percent(10));
            let over = self.dice.pick(&[0, 0, 5, 1000]);
            let max = if self.dice.percent(5) {
                total / 2
            } else {
                total + over
            };
            Shown {
                channel,
                max,
                total,
                sound: !self.dice.percent(5),
            }
        };
        (0..some).map(one).collect()
    }
}
