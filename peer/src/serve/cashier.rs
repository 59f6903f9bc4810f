//! What a server asks of the chain of one run, and has it take: the seam between payments over HTTP and a run's log.
//!
//! Tills know channels, vouchers and prices; who keeps a run's books, how filings become durable and when a certificate
//! shows them is behind [`Cashier`].

use std::sync::Arc;

use futures::future::BoxFuture;
use tributary_attribution::settlement::{BaseUnits, Deployment};
use tributary_attribution::voucher::{
    Authorization, ChannelConfig, ChannelId, Claim, OnChain, Requirements,
};
use tributary_protocol::filing::AgreedShares;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, RunId};

/// The cashiers of the runs that this server's peer follows.
pub trait Cashiers: Send + Sync {
    /// The cashier of a run; none where this peer has nothing to do with it.
    fn of(&self, run: RunId) -> Option<Arc<dyn Cashier>>;
}

/// What a server asks of the chain of one run, and has it take.
pub trait Cashier: Send + Sync {
    /// Whom channels pay (the run's till), who signs for it (this server's account), token and withdraw delay; and where the
    /// scheme's contract is. None: the run takes no pay here, because this peer is no member, the run has no chain, or its
    /// books are not there yet.
    fn requirements(&self) -> Option<(Requirements, Deployment)>;

    /// What the chain says of a channel now; of one that it does not know, zeros.
    fn channel(&self, id: ChannelId) -> OnChain;

    /// Files a payer's signed deposit. Ok once it is durable in this peer's log; a certificate follows, after which
    /// [`Cashier::channel`] shows it. The same deposit may come twice, after a crash.
    ///
    /// # Errors
    /// [`CashierError`]; nothing was filed.
    fn deposit<'a>(&'a self, deposit: Deposit) -> BoxFuture<'a, Result<(), CashierError>>;

    /// Files answers of one channel together with the claim that pays them: the claim's total is what was charged up to the
    /// last of them. Ok once that is durable. The same answers may come again, where no certificate showed their claim;
    /// [`Served::charged_before`] tells them.
    ///
    /// # Errors
    /// [`CashierError`]; nothing was filed.
    fn collect<'a>(
        &'a self,
        answers: Vec<Served>,
        claim: Claim,
    ) -> BoxFuture<'a, Result<(), CashierError>>;
}

/// Why nothing was filed, what to do about it included.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CashierError(pub String);

/// Money that a payer signed over to a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deposit {
    /// The channel.
    pub config: ChannelConfig,
    /// How much, in base units.
    pub amount: BaseUnits,
    /// The payer's signature, and how long it is good.
    pub authorization: Authorization,
}

/// One answer that a channel was charged for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The adapter that gave it, by the id under which the run certified it.
    pub adapter: Digest,
    /// Hash of the request's body.
    pub request: Digest,
    /// Hash of the answer's tokens: for each choice its number of tokens and the tokens, all in four bytes, little endian.
    pub response: Digest,
    /// Tokens of the prompt, counted once for each choice.
    pub prompt_tokens: u32,
    /// Tokens of all choices.
    pub answer_tokens: u32,
    /// What the channel was charged for it.
    pub fee: MicroOpen,
    /// What the channel was charged for everything before.
    pub charged_before: MicroOpen,
    /// Whose data shaped it, if its payer agreed before it was handed over.
    pub shares: Option<AgreedShares>,
}

impl Served {
    /// What the channel was charged for everything up to it, in micro-OPEN.
    pub fn charged_after(&self) -> MicroOpen {
        MicroOpen(self.charged_before.0 + self.fee.0)
    }
}
