//! What people do with a run's money, each step once: look at the chain, and send only what is still to be done.
//!
//! ```text
//!   on its way? ──► wait ──► finalized facts ──► already so? ──► done
//!                                            └─► allow the token ──► send ──► final ──► done
//! ```
//!
//! Where an amount is named it is the one that is to be there in the end, and not what is added, so that a step may be repeated at any
//! time: after a crash, a reorganisation, or out of doubt.

use tokio::sync::Mutex;
use tracing::warn;
use tributary_attribution::settlement::calls::{Call, Payment, ascending};
use tributary_attribution::settlement::{
    Address, BaseUnits, Confirm, Keccak, Key, Refused, Root, Signature, SignatureError, Slash,
    Terms, TermsError,
};

use crate::chain::{AccountFacts, Asked, Chain, Facts};
use crate::node::{At, Block, NodeError};
use crate::sender::{Receipt, SendError, Sender, Until};
use crate::table::Purpose;

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// The chain was not read.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A transaction was not sent, or did nothing.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The contract takes no money under these terms.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// A signature is nobody's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The root is not there to be challenged or confirmed.
    #[error(
        "the root {digest} of run {run} is not pending, and another one may be; look at the run again"
    )]
    NotPending {
        /// The run.
        run: Key,
        /// What members signed.
        digest: Keccak,
    },
}

/// A step that is done, and final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// As of this block there was nothing to do.
    AlreadySo(Block),
    /// By this transaction.
    Sent(Receipt),
}

/// A call that is still to be sent, and what it takes of the account's token.
struct Step {
    call: Call,
    spends: BaseUnits,
}

impl From<Call> for Step {
    fn from(call: Call) -> Self {
        Self {
            call,
            spends: BaseUnits(0),
        }
    }
}

/// Steps of one account with one contract. They wait until they are final; several may be under way at once.
#[derive(Debug)]
pub struct Actions {
    chain: Chain,
    sender: Sender,
    /// Held from the look at the chain until the transaction is written down, so that two steps of one kind see each other.
    deciding: Mutex<()>,
}

impl Actions {
    /// Of an account that sends to the chain of the contract.
    ///
    /// # Panics
    /// If the sender's node is on another chain than the contract.
    pub fn new(chain: Chain, sender: Sender) -> Self {
        assert_eq!(
            chain.deployment().chain,
            sender.node().config().chain,
            "one chain"
        );
        Self {
            chain,
            sender,
            deciding: Mutex::new(()),
        }
    }

    /// The contract.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The account's transactions.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The account.
    pub fn account(&self) -> Address {
        self.sender.account()
    }

    /// Does a step that `decide` finds to be due as of a finalized block.
    async fn once<F>(
        &self,
        purpose: &Purpose,
        decide: impl Fn(Block) -> F,
    ) -> Result<Done, ActionError>
    where
        F: Future<Output = Result<Option<Step>, ActionError>>,
    {
        let mut before = None;
        loop {
            before = self.earlier(purpose, Until::Final).await?.or(before);
            let deciding = self.deciding.lock().await;
            if self.sender.is_on_its_way(purpose).await {
                continue;
            }
            // Whatever was sent for this purpose is final, and so in this block.
            let block = self.chain.finalized().await?;
            let Some(step) = decide(block).await? else {
                return Ok(before.map_or(Done::AlreadySo(block), Done::Sent));
            };
            let nonce = match step.spends.0 {
                0 => self.sender.submit(purpose, step.call.into()).await?,
                _ => self.spend(purpose, step).await?,
            };
            drop(deciding);
            return Ok(Done::Sent(
                self.sender.wait(purpose, nonce, Until::Final).await?,
            ));
        }
    }

    /// Waits for an earlier transaction. One that did nothing is no error here: what follows looks at the chain.
    async fn earlier(&self, purpose: &Purpose, until: Until) -> Result<Option<Receipt>, SendError> {
        match self.sender.resume(purpose, until).await {
            Err(
                error @ (SendError::Withdrawn { .. }
                | SendError::Superseded { .. }
                | SendError::Reverted { .. }),
            ) => {
                warn!("{error}");
                Ok(None)
            }
            other => other,
        }
    }

    /// Sends a step that takes some of the account's token, and waits until it is in a block: the next step must see what is
    /// left of the allowance.
    async fn spend(&self, purpose: &Purpose, step: Step) -> Result<u64, ActionError> {
        let allowing = Purpose::new(&[&"approve for", purpose]);
        self.allow(&allowing, step.spends).await?;
        let nonce = match self.sender.submit(purpose, step.call.clone().into()).await {
            Err(SendError::Refused { refused, .. }) if may_lack_allowance(&refused) => {
                // A reorganisation may have undone the allowance after it was seen; once it is final none does.
                self.earlier(&allowing, Until::Final).await?;
                self.allow(&allowing, step.spends).await?;
                self.sender.submit(purpose, step.call.into()).await?
            }
            other => other?,
        };
        self.sender.wait(purpose, nonce, Until::Included).await?;
        Ok(nonce)
    }

    /// Lets the contract take `amount` of the account's token.
    ///
    /// An allowance that the chain shows now may be meant for an earlier transaction that a reorganisation has undone, and that
    /// comes again. So it is used only where nothing of the account is on its way; else each step has an approval of its own,
    /// whose number is just before the step's.
    async fn allow(&self, purpose: &Purpose, amount: BaseUnits) -> Result<(), ActionError> {
        let contract = self.chain.deployment().contract;
        let allowance = self.chain.token().allowance(self.account(), contract);
        let approve = self.chain.token().approve(contract, amount);
        loop {
            match self.sender.last_on_its_way().await {
                None if self.chain.node().ask_at(&allowance, At::Latest).await? >= amount => {
                    return Ok(());
                }
                Some((last, data)) if last == *purpose && data == approve.data => {
                    if self.earlier(purpose, Until::Included).await?.is_some() {
                        return Ok(());
                    }
                }
                // Left by a program that ended; others have come after it.
                Some(_) if self.sender.is_on_its_way(purpose).await => {
                    self.earlier(purpose, Until::Final).await?;
                }
                _ => {
                    self.sender
                        .send(purpose, approve.into(), Until::Included)
                        .await?;
                    return Ok(());
                }
            }
        }
    }

    async fn facts(&self, run: Key, block: &Block) -> Result<(Facts, AccountFacts), NodeError> {
        let accounts = vec![self.account()];
        let asked = Asked {
            accounts,
            channels: Vec::new(),
        };
        let facts = self.chain.facts(run, &asked, block).await?;
        let own = facts
            .accounts
            .get(&self.account())
            .copied()
            .unwrap_or_default();
        Ok((facts, own))
    }
}

/// Whether a refusal may mean that the contract may not take the token; not every token says it as OpenZeppelin's does.
fn may_lack_allowance(refused: &Refused) -> bool {
    use Refused::{InsufficientAllowance, Message, Other, Silent, TokenFailed};
    matches!(
        refused,
        InsufficientAllowance { .. } | TokenFailed { .. } | Message(_) | Other(_) | Silent
    )
}

/// The sponsor's money.
impl Actions {
    /// Pays in until the run's deposit is `total`, ever.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn deposit(&self, terms: &Terms, total: BaseUnits) -> Result<Done, ActionError> {
        terms.check()?;
        let key = terms.key();
        let decide = move |block: Block| async move {
            let (facts, _) = self.facts(key, &block).await?;
            let spends = total.saturating_sub(facts.run.deposited);
            let call = self.chain.settlement().deposit(terms, spends);
            Ok((spends.0 != 0).then_some(Step { call, spends }))
        };
        self.once(&Purpose::new(&[&"deposit", &key]), decide).await
    }

    /// Begins the end of a run that has accepted no root for the terms' time, as its sponsor.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn halt(&self, terms: &Terms) -> Result<Done, ActionError> {
        let key = terms.key();
        let decide = move |block: Block| async move {
            let (facts, _) = self.facts(key, &block).await?;
            Ok(facts
                .run
                .halted_s
                .is_none()
                .then(|| self.chain.settlement().halt(terms).into()))
        };
        self.once(&Purpose::new(&[&"halt", &key]), decide).await
    }

    /// Gives the sponsor of an ended run what no root promised, in the token.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn reclaim(&self, terms: &Terms) -> Result<Done, ActionError> {
        let key = terms.key();
        let decide = move |block: Block| async move {
            let call = self.chain.settlement().reclaim(terms, false);
            // What is left depends on how the run ended: the contract says it best.
            let at = At::Hash(block.hash);
            let refused = self
                .chain
                .node()
                .refusal(self.account(), Some(call.to), &call.data, at)
                .await?;
            Ok((refused != Some(Refused::NothingToReclaim)).then_some(call.into()))
        };
        self.once(&Purpose::new(&[&"reclaim", &key]), decide).await
    }

    /// Moves what lies in the run's till into its fees; anyone may.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn sweep(&self, run: Key) -> Result<Done, ActionError> {
        let decide = move |block: Block| async move {
            let (facts, _) = self.facts(run, &block).await?;
            Ok((facts.in_till.0 != 0).then(|| self.chain.settlement().sweep(run).into()))
        };
        self.once(&Purpose::new(&[&"sweep", &run]), decide).await
    }
}

/// Stake of the account.
impl Actions {
    /// Puts up stake until the account has `total` of it in the run, without what is leaving.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn bond(&self, terms: &Terms, total: BaseUnits) -> Result<Done, ActionError> {
        terms.check()?;
        let key = terms.key();
        let decide = move |block: Block| async move {
            let (_, own) = self.facts(key, &block).await?;
            let spends = total.saturating_sub(staying(&own));
            let call = self.chain.settlement().bond(terms, spends);
            Ok((spends.0 != 0).then_some(Step { call, spends }))
        };
        self.once(&Purpose::new(&[&"bond", &key]), decide).await
    }

    /// Makes stake of an account count that has waited its window; anyone may.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn activate(&self, run: Key, account: Address) -> Result<Done, ActionError> {
        let decide = move |block: Block| async move {
            let stake = self
                .chain
                .ask(&self.chain.settlement().stakes(run, account), &block)
                .await?;
            let call = self.chain.settlement().activate(run, account);
            Ok((stake.maturing.0 != 0).then_some(call.into()))
        };
        self.once(&Purpose::new(&[&"activate", &run, &account]), decide)
            .await
    }

    /// Stops stake from counting until no more than `rest` stays. What leaves can be withdrawn after the cool-down.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn unbond(&self, terms: &Terms, rest: BaseUnits) -> Result<Done, ActionError> {
        let key = terms.key();
        let decide = move |block: Block| async move {
            let (_, own) = self.facts(key, &block).await?;
            let amount = staying(&own).saturating_sub(rest);
            Ok((amount.0 != 0).then(|| self.chain.settlement().unbond(terms, amount).into()))
        };
        self.once(&Purpose::new(&[&"unbond", &key]), decide).await
    }

    /// Takes out stake whose cool-down is over.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn withdraw(&self, run: Key) -> Result<Done, ActionError> {
        let decide = move |block: Block| async move {
            let (_, own) = self.facts(run, &block).await?;
            let call = self.chain.settlement().withdraw(run);
            Ok((own.stake.leaving.0 != 0).then_some(call.into()))
        };
        self.once(&Purpose::new(&[&"withdraw", &run]), decide).await
    }
}

/// Stake that others lose.
impl Actions {
    /// Brings a sentence that the run's stake signed, or carries it out once it has waited its window. Signatures may come in
    /// any order; those of the sentenced account do not count.
    ///
    /// # Errors
    /// [`ActionError`]; the contract's, while the sentence waits.
    pub async fn slash(
        &self,
        terms: &Terms,
        slash: &Slash,
        signatures: &[Signature],
    ) -> Result<Done, ActionError> {
        let (key, deployment) = (terms.key(), self.chain.deployment());
        let digest = slash.digest(deployment);
        let signatures = &ascending(&digest, signatures)?;
        let settlement = self.chain.settlement();
        let decide = move |block: Block| async move {
            let stakes = settlement.stakes(key, slash.account);
            let stake = self.chain.ask(&stakes, &block).await?;
            let call = match stake.sentence {
                Some(_) => settlement.execute_slash(key, slash.account),
                None => settlement.slash(terms, slash, signatures),
            };
            // Whether it was carried out is known to the contract alone.
            let at = At::Hash(block.hash);
            let refused = self
                .chain
                .node()
                .refusal(self.account(), Some(call.to), &call.data, at)
                .await?;
            Ok((refused != Some(Refused::AlreadySigned)).then_some(call.into()))
        };
        self.once(&Purpose::new(&[&"slash", &key, &digest]), decide)
            .await
    }
}

fn staying(own: &AccountFacts) -> BaseUnits {
    BaseUnits(own.stake.counting.0.saturating_add(own.stake.maturing.0))
}

/// Roots, and what they pay.
impl Actions {
    /// Posts a root with its signatures, which may come in any order. A root that is pending or accepted, or below the
    /// accepted one, is there already.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn post(
        &self,
        terms: &Terms,
        root: &Root,
        signatures: &[Signature],
    ) -> Result<Done, ActionError> {
        let (key, digest) = (terms.key(), root.digest(self.chain.deployment()));
        let signatures = &ascending(&digest, signatures)?;
        let decide = move |block: Block| async move {
            let (facts, _) = self.facts(key, &block).await?;
            let is_pending = facts
                .run
                .pending
                .is_some_and(|pending| pending.digest == digest);
            let accepted = facts.run.accepted;
            let is_accepted = (accepted.height, accepted.balances) == (root.height, root.balances);
            let is_there = is_pending || is_accepted || accepted.height > root.height;
            Ok((!is_there).then(|| self.chain.settlement().post(terms, root, signatures).into()))
        };
        self.once(&Purpose::new(&[&"post", &key, &root.height]), decide)
            .await
    }

    /// Challenges the pending root with this digest, for the terms' bond. The contract challenges whatever is pending, so the last block
    /// is looked at too, just before.
    ///
    /// # Errors
    /// [`ActionError`]; [`ActionError::NotPending`] where another root is.
    pub async fn challenge(&self, terms: &Terms, digest: Keccak) -> Result<Done, ActionError> {
        let key = terms.key();
        let decide = move |block: Block| async move {
            let view = self.chain.settlement().runs(key);
            for at in [At::Hash(block.hash), At::Latest] {
                let run = self.chain.node().ask_at(&view, at).await?;
                let pending = run.pending.filter(|pending| pending.digest == digest);
                let pending = pending.ok_or(ActionError::NotPending { run: key, digest })?;
                if pending.challenger.is_some() || pending.confirmed {
                    return Ok(None);
                }
            }
            let call = self.chain.settlement().challenge(terms);
            Ok(Some(Step {
                call,
                spends: terms.challenge_bond,
            }))
        };
        self.once(&Purpose::new(&[&"challenge", &key, &digest]), decide)
            .await
    }

    /// Answers a challenge of a root by signatures of [`Confirm`], which may come in any order.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn confirm(
        &self,
        terms: &Terms,
        root: &Root,
        signatures: &[Signature],
    ) -> Result<Done, ActionError> {
        let (key, deployment) = (terms.key(), self.chain.deployment());
        let digest = root.digest(deployment);
        let statement = Confirm {
            run: key,
            height: root.height,
            root: digest,
        };
        let signatures = &ascending(&statement.digest(deployment), signatures)?;
        let decide = move |block: Block| async move {
            let (facts, _) = self.facts(key, &block).await?;
            let is_confirmed = facts
                .run
                .pending
                .is_some_and(|pending| pending.digest == digest && pending.confirmed);
            let is_done = is_confirmed || facts.run.accepted.height >= root.height;
            Ok((!is_done).then(|| {
                self.chain
                    .settlement()
                    .confirm(terms, root, signatures)
                    .into()
            }))
        };
        self.once(&Purpose::new(&[&"confirm", &key, &digest]), decide)
            .await
    }

    /// Pays accounts what accepted roots promise them, in one transaction. Those that have it are left out.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn claim(&self, payments: &[Payment]) -> Result<Done, ActionError> {
        let settlement = self.chain.settlement();
        let mut named: Vec<u8> = Vec::new();
        for payment in payments {
            named.extend(payment.run.0.0);
            named.extend(payment.proof.address.0);
        }
        let decide = move |block: Block| async move {
            let paid: Vec<_> = payments
                .iter()
                .map(|one| settlement.claimed(one.run, one.proof.address))
                .collect();
            let calls: Vec<&Call> = paid.iter().map(|query| &query.call).collect();
            let answers = self
                .chain
                .node()
                .answers(&calls, At::Hash(block.hash))
                .await?;
            let mut due = Vec::new();
            for ((payment, query), answer) in payments.iter().zip(&paid).zip(&answers) {
                if query.decode(answer).map_err(NodeError::from)? < payment.proof.balance {
                    due.push(payment.clone());
                }
            }
            Ok((!due.is_empty()).then(|| settlement.claim(&due).into()))
        };
        self.once(&Purpose::new(&[&"claim", &Keccak::of(&[&named])]), decide)
            .await
    }

    /// Pays the account the bonds of challenges that came back to it. The contract writes that down with the next transaction of
    /// the run that does something, as a deposit, a root or a claim; until then there is nothing to collect.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn collect(&self) -> Result<Done, ActionError> {
        let settlement = self.chain.settlement();
        let decide = move |block: Block| async move {
            let credits = self
                .chain
                .ask(&settlement.credits(self.account()), &block)
                .await?;
            Ok((credits.0 != 0).then(|| settlement.collect(self.account()).into()))
        };
        self.once(&Purpose::new(&[&"collect", &self.account()]), decide)
            .await
    }
}
