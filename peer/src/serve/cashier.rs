//! What a server asks of the chain of one run, and has it take: the seam between payments over HTTP and a run's log.
//!
//! Tills know channels, vouchers and prices; who keeps a run's books, how filings become durable and when a certificate
//! shows them is behind [`Cashier`].

use futures::future::BoxFuture;
use std::sync::Arc;

use tributary_attribution::settlement::{
    Address, BaseUnits, Deployment, EvmKey, Keccak, Signature, SignatureError,
};
use tributary_attribution::voucher::{ChannelConfig, ChannelId, Claim, OnChain, Requirements};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, RunId};

use super::x402;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Served {
    /// What the channel was charged for everything up to it, in micro-OPEN.
    pub fn charged_after(&self) -> MicroOpen {
        MicroOpen(self.charged_before.0 + self.fee.0)
    }
}

/// A payer's signature that moves tokens into a channel, as EIP-3009 has it and x402's stock client makes it: good for one
/// channel, one amount and one use, between two times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Authorization {
    /// Not before this second of the chain's clock.
    pub valid_after_s: u64,
    /// Not from this second on.
    pub valid_before_s: u64,
    /// Tells deposits of one channel apart.
    pub salt: [u8; 32],
    /// Of the payer.
    pub signature: Signature,
}

/// Why an authorization moves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// Nobody's signature.
    #[error("the deposit is not signed: {0}")]
    Signature(#[from] SignatureError),
    /// Another key's signature, or one of something else.
    #[error(
        "the deposit is signed by {found}, and the channel's payer is {wanted}; sign this amount for this channel with the \
         payer's key"
    )]
    OtherSigner {
        /// Whose key it was.
        found: Address,
        /// Whose it should be.
        wanted: Address,
    },
}

/// Where stock clients send deposits on every chain.
const COLLECTOR: Address = Address([
    0x40, 0x20, 0x80, 0x60, 0x89, 0x47, 0x0a, 0x89, 0x82, 0x6c, 0xb9, 0xfb, 0x1f, 0x40, 0x59, 0x15,
    0x0b, 0x55, 0x00, 0x04,
]);

impl Authorization {
    /// Signs with a payer's key.
    pub fn sign(
        key: &EvmKey,
        config: &ChannelConfig,
        amount: BaseUnits,
        scheme: &Deployment,
        (valid_after_s, valid_before_s): (u64, u64),
        salt: [u8; 32],
    ) -> Self {
        let digest = digest(
            config,
            amount,
            scheme,
            (valid_after_s, valid_before_s),
            salt,
        );
        Self {
            valid_after_s,
            valid_before_s,
            salt,
            signature: key.sign(&digest),
        }
    }

    /// Whether the channel's payer signed it for this amount.
    ///
    /// # Errors
    /// [`AuthorizationError`].
    pub fn verify(
        &self,
        config: &ChannelConfig,
        amount: BaseUnits,
        scheme: &Deployment,
    ) -> Result<(), AuthorizationError> {
        let times = (self.valid_after_s, self.valid_before_s);
        let digest = digest(config, amount, scheme, times, self.salt);
        let found = self.signature.recover(&digest)?;
        match found == config.payer {
            true => Ok(()),
            false => Err(AuthorizationError::OtherSigner {
                found,
                wanted: config.payer,
            }),
        }
    }
}

/// What a payer signs: EIP-712's hash of a `ReceiveWithAuthorization` of the token.
fn digest(
    config: &ChannelConfig,
    amount: BaseUnits,
    scheme: &Deployment,
    (valid_after_s, valid_before_s): (u64, u64),
    salt: [u8; 32],
) -> Keccak {
    let of_text = |text: &str| Keccak::of(&[text.as_bytes()]).0;
    let nonce = Keccak::of(&[&config.id(scheme).0.0, &salt]);
    let domain = Keccak::of(&[
        &of_text(
            "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
        ),
        &of_text(x402::TOKEN_NAME),
        &of_text(x402::TOKEN_VERSION),
        &word(&scheme.chain.0.to_be_bytes()),
        &word(&config.token.0),
    ]);
    let message = Keccak::of(&[
        &of_text(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)",
        ),
        &word(&config.payer.0),
        &word(&COLLECTOR.0),
        &word(&amount.0.to_be_bytes()),
        &word(&valid_after_s.to_be_bytes()),
        &word(&valid_before_s.to_be_bytes()),
        &nonce.0,
    ]);
    Keccak::of(&[&[0x19, 0x01], &domain.0, &message.0])
}

/// A number or an address as a contract reads it: 32 bytes, zeros first.
fn word(bytes: &[u8]) -> [u8; 32] {
    let mut word = [0; 32];
    word[32 - bytes.len()..].copy_from_slice(bytes);
    word
}
