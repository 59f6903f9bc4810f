//! One call: as the contracts are sent it, and as the model takes it.

use tributary_attribution::settlement::calls::{Call, Payment, Settlement, Token, ascending};
use tributary_attribution::settlement::{
    Address, BalanceProof, BaseUnits, Confirm, EvmKey, Keccak, Root, Signature, Slash, Terms,
};
use tributary_attribution::test_chain::TestChain;
use tributary_attribution::voucher::calls::{Channels, Collector};
use tributary_attribution::voucher::{Authorization, Claim, Refund, Voucher, claim_digest};

use crate::cast::Cast;
use crate::channels::Shown;
use crate::model::{Model, Signers};

/// What somebody does; `run` and `channel` are places in the model.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Mint(Address, u128),
    Transfer(Address, u128),
    /// With terms that take no money, if the last is true.
    Deposit(usize, u128, bool),
    Sweep(usize),
    Post(usize, Root, Signers),
    Challenge(usize),
    Confirm(usize, Root, Signers),
    Decide(usize, bool),
    /// Run, leaf, and whether in the native coin.
    Claim(Vec<(usize, BalanceProof, bool)>),
    Halt(usize),
    Reclaim(usize, bool),
    Collect(Address),
    Fork([Root; 2], [Address; 2]),
    Lowered(usize, Root, Signers, BalanceProof, Vec<BalanceProof>),
    Bond(usize, u128),
    Activate(usize, Address),
    Unbond(usize, u128),
    Withdraw(usize),
    Slash(usize, Address, u128, u8, Signers),
    Execute(usize, Address),
    Fund(usize, u128),
    /// Channel, amount, salt, and whether the payer signed just that.
    FundSigned(usize, u128, u8, bool),
    Count(Vec<Shown>),
    /// By the authorizer's signature, if the last is true.
    CountSigned(Vec<Shown>, bool),
    Settle(Address),
    Announce(usize, u128),
    Finish(usize),
    Refund(usize, u128),
    /// Channel, amount, number, and whether the authorizer signed.
    RefundSigned(usize, u128, u64, bool),
}

impl Action {
    /// Names the kind, to be counted.
    pub(crate) fn kind(&self) -> String {
        let text = format!("{self:?}");
        let name = text.split(|letter: char| !letter.is_alphanumeric());
        name.map(str::to_owned).next().unwrap_or_default()
    }

    /// What the model makes of it; nothing where the contract has to refuse.
    pub(crate) fn apply(&self, model: &mut Model, from: Address) -> Option<()> {
        match self {
            Self::Mint(to, amount) => {
                model.purse.mint(*to, *amount);
                Some(())
            }
            Self::Transfer(to, amount) => model.purse.send(from, *to, *amount),
            Self::Deposit(run, amount, false) => model.deposit(from, *run, *amount),
            Self::Deposit(_, _, true) => None,
            Self::Sweep(run) => model.sweep(*run),
            Self::Post(run, root, signers) => model.post(*run, root, signers),
            Self::Challenge(run) => model.challenge(from, *run),
            Self::Confirm(run, root, signers) => model.confirm(*run, root, signers),
            Self::Decide(run, uphold) => model.decide(from, *run, *uphold),
            Self::Claim(payments) => payments.iter().try_for_each(|(run, proof, unwrap)| {
                let may = !unwrap || proof.address == from;
                may.then_some(())?;
                model.claim(*run, proof, *unwrap)
            }),
            Self::Halt(run) => model.halt(from, *run),
            Self::Reclaim(run, unwrap) => model.reclaim(*run, *unwrap),
            Self::Collect(account) => model.collect(*account),
            Self::Fork(roots, signers) => model.fork(from, roots, *signers),
            Self::Lowered(run, root, signers, accepted, shown) => {
                model.lowered(from, *run, root, signers, accepted, shown)
            }
            Self::Bond(run, amount) => model.bond(from, *run, *amount),
            Self::Activate(run, account) => model.activate(*run, *account),
            Self::Unbond(run, amount) => model.unbond(from, *run, *amount),
            Self::Withdraw(run) => model.withdraw(from, *run),
            Self::Slash(run, account, amount, evidence, signers) => {
                let digest = slash(model, *run, *account, *amount, *evidence).1;
                model.slash(*run, (*account, *amount, digest), signers)
            }
            Self::Execute(run, account) => model.execute(*run, *account),
            _ => self.apply_to_channels(model, from),
        }
    }

    fn apply_to_channels(&self, model: &mut Model, from: Address) -> Option<()> {
        match self {
            Self::Fund(channel, amount) => model.fund(from, *channel, *amount),
            Self::FundSigned(channel, amount, salt, sound) => {
                sound.then_some(())?;
                model.fund_signed(*channel, *amount, *salt)
            }
            Self::Count(shown) => {
                (!shown.is_empty()).then_some(())?;
                shown.iter().try_for_each(|one| {
                    model.speaks(from, one.channel).then_some(())?;
                    model.count(one)
                })
            }
            Self::CountSigned(shown, sound) => {
                (*sound && !shown.is_empty()).then_some(())?;
                shown.iter().try_for_each(|one| model.count(one))
            }
            Self::Settle(receiver) => model.settle(*receiver),
            Self::Announce(channel, amount) => model.announce(from, *channel, *amount),
            Self::Finish(channel) => model.finish(from, *channel),
            Self::Refund(channel, amount) => {
                model.speaks(from, *channel).then_some(())?;
                model.refund(*channel, *amount)
            }
            Self::RefundSigned(channel, amount, nonce, sound) => {
                let fits = *sound && *nonce == model.channels.all[*channel].refunds;
                fits.then_some(())?;
                model.refund(*channel, *amount)
            }
            other => unreachable!("{other:?} is no call of channels"),
        }
    }

    /// What the chain is sent.
    pub(crate) fn call(&self, model: &Model, cast: &Cast) -> Call {
        let deployed = TestChain::deployed();
        let (token, settlement) = (Token(deployed.token), Settlement(deployed.settlement));
        let terms = |run: &usize| &model.runs[*run].terms;
        let key = |run: &usize| model.runs[*run].terms.key();
        let digest = |root: &Root| root.digest(&model.settlement);
        match self {
            Self::Mint(to, amount) => token.mint(*to, BaseUnits(*amount)),
            Self::Transfer(to, amount) => token.transfer(*to, BaseUnits(*amount)),
            Self::Deposit(run, amount, bad) => {
                let mut terms = *terms(run);
                if *bad {
                    terms.cooldown_s = 3 * terms.window_s - 1;
                }
                settlement.deposit(&terms, BaseUnits(*amount))
            }
            Self::Sweep(run) => settlement.sweep(key(run)),
            Self::Post(run, root, signers) => {
                settlement.post(terms(run), root, &sign(cast, digest(root), signers))
            }
            Self::Challenge(run) => settlement.challenge(terms(run)),
            Self::Confirm(run, root, signers) => {
                let confirm = Confirm {
                    run: key(run),
                    height: root.height,
                    root: digest(root),
                };
                let signatures = sign(cast, confirm.digest(&model.settlement), signers);
                settlement.confirm(terms(run), root, &signatures)
            }
            Self::Decide(run, uphold) => settlement.decide(terms(run), *uphold),
            Self::Claim(payments) => {
                let payments = payments.iter().map(|(run, proof, unwrap)| Payment {
                    run: key(run),
                    proof: proof.clone(),
                    unwrap: *unwrap,
                });
                settlement.claim(&payments.collect::<Vec<_>>())
            }
            Self::Halt(run) => settlement.halt(terms(run)),
            Self::Reclaim(run, unwrap) => settlement.reclaim(terms(run), *unwrap),
            Self::Collect(account) => settlement.collect(*account),
            _ => self.call_of_stake(model, cast, settlement),
        }
    }

    fn call_of_stake(&self, model: &Model, cast: &Cast, settlement: Settlement) -> Call {
        let terms = |run: &usize| &model.runs[*run].terms;
        let key = |run: &usize| model.runs[*run].terms.key();
        let digest = |root: &Root| root.digest(&model.settlement);
        match self {
            Self::Fork([one, other], signers) => {
                let signed = |root, signer| cast.key(signer).sign(&digest(root));
                let (first, second) = (signed(one, signers[0]), signed(other, signers[1]));
                settlement.slash_fork((one, &first), (other, &second))
            }
            Self::Lowered(_, root, signers, accepted, shown) => {
                let signatures = sign(cast, digest(root), signers);
                settlement.slash_lowered(root, &signatures, accepted, shown)
            }
            Self::Bond(run, amount) => settlement.bond(terms(run), BaseUnits(*amount)),
            Self::Activate(run, account) => settlement.activate(key(run), *account),
            Self::Unbond(run, amount) => settlement.unbond(terms(run), BaseUnits(*amount)),
            Self::Withdraw(run) => settlement.withdraw(key(run)),
            Self::Slash(run, account, amount, evidence, signers) => {
                let (slash, digest) = slash(model, *run, *account, *amount, *evidence);
                settlement.slash(terms(run), &slash, &sign(cast, digest, signers))
            }
            Self::Execute(run, account) => settlement.execute_slash(key(run), *account),
            _ => self.call_of_channels(model, cast),
        }
    }

    fn call_of_channels(&self, model: &Model, cast: &Cast) -> Call {
        let deployed = TestChain::deployed();
        let channels = Channels(deployed.channels);
        let config = |channel: &usize| &model.channels.all[*channel].config;
        let claims = |shown: &[Shown]| -> Vec<Claim> {
            shown.iter().map(|one| claim(model, cast, one)).collect()
        };
        match self {
            Self::Fund(channel, amount) => {
                let amount = BaseUnits(*amount);
                Collector(deployed.collector).deposit(channels, config(channel), amount)
            }
            Self::FundSigned(channel, amount, salt, sound) => {
                let (config, scheme) = (config(channel), &model.channels.scheme);
                // Unsound: over a unit more.
                let signed = BaseUnits(amount + u128::from(!sound));
                let (valid_s, salt) = (0..u64::MAX, [*salt; 32]);
                let token = deployed.token_domain();
                let key = cast.key(config.payer);
                let authorization =
                    Authorization::sign(key, config, signed, scheme, &token, valid_s, salt);
                channels.deposit_authorized(config, BaseUnits(*amount), &authorization)
            }
            Self::Count(shown) => channels.claim(&claims(shown)),
            Self::CountSigned(shown, sound) => {
                let claims = claims(shown);
                let entries: Vec<_> = claims.iter().map(Claim::entry).collect();
                let digest = claim_digest(&entries, &model.channels.scheme);
                channels.claim_signed(&claims, &authorizer(cast, *sound).sign(&digest))
            }
            Self::Settle(receiver) => channels.settle(*receiver, deployed.token),
            Self::Announce(channel, amount) => {
                channels.initiate_withdraw(config(channel), BaseUnits(*amount))
            }
            Self::Finish(channel) => channels.finalize_withdraw(config(channel)),
            Self::Refund(channel, amount) => channels.refund(config(channel), BaseUnits(*amount)),
            Self::RefundSigned(channel, amount, nonce, sound) => {
                let refund = Refund {
                    channel: config(channel).id(&model.channels.scheme),
                    nonce: *nonce,
                    amount: BaseUnits(*amount),
                };
                let digest = refund.digest(&model.channels.scheme);
                let signature = authorizer(cast, *sound).sign(&digest);
                channels.refund_signed(config(channel), &refund, &signature)
            }
            other => unreachable!("{other:?} is a call of the settlement"),
        }
    }
}

fn authorizer(cast: &Cast, sound: bool) -> &EvmKey {
    match sound {
        true => cast.key(cast.authorizer),
        false => cast.key(cast.stranger),
    }
}

fn slash(
    model: &Model,
    run: usize,
    account: Address,
    amount: u128,
    evidence: u8,
) -> (Slash, Keccak) {
    let terms: &Terms = &model.runs[run].terms;
    let slash = Slash {
        run: terms.key(),
        account,
        amount: BaseUnits(amount),
        evidence: Keccak([evidence; 32]),
    };
    (slash, slash.digest(&model.settlement))
}

/// Signatures of the signers; unsound ones are out of order, and one stands there twice.
fn sign(cast: &Cast, digest: Keccak, signers: &Signers) -> Vec<Signature> {
    let signed = signers
        .accounts
        .iter()
        .map(|one| cast.key(*one).sign(&digest));
    let mut signatures = ascending(&digest, &signed.collect::<Vec<_>>()).expect("keys");
    if !signers.sound {
        signatures.reverse();
        signatures.extend(signatures.last().copied());
    }
    signatures
}

fn claim(model: &Model, cast: &Cast, shown: &Shown) -> Claim {
    let config = model.channels.all[shown.channel].config;
    let scheme = &model.channels.scheme;
    let (channel, max) = (config.id(scheme), BaseUnits(shown.max));
    let signer = match shown.sound {
        true => config.voucher_signer(),
        false => cast.stranger,
    };
    let signature = cast
        .key(signer)
        .sign(&Voucher::digest(channel, max, scheme));
    Claim {
        config,
        voucher: Voucher {
            channel,
            max,
            signature,
        },
        total_claimed: BaseUnits(shown.total),
    }
}
