//! Why a contract did nothing: the errors of `Settlement`, `Channels`, `Collector`, `Till` and their token.
//!
//! A contract that refuses undoes everything and answers with a selector of four bytes and words of 32. Tests hold the list
//! against the ABI in `contracts/artifacts`.

use alloy_primitives::hex;
use alloy_sol_types::{Revert, SolError};

use super::{Address, BaseUnits, Keccak};

/// Bytes of an unknown answer that are kept and shown: a selector and two words.
const SHOWN_BYTES: usize = 68;
/// Characters of a message that are kept: more than any contract here or token has.
const MESSAGE_CHARS: usize = 200;

/// One word of what a contract answers.
trait Word {
    fn read(word: &[u8; 32]) -> Self;
}

impl Word for Address {
    fn read(word: &[u8; 32]) -> Self {
        Self(word[12..].try_into().expect("20 bytes"))
    }
}

/// More than 128 bits, which no amount of a run has, reads as all 128.
impl Word for BaseUnits {
    fn read(word: &[u8; 32]) -> Self {
        let (high, low) = word.split_at(16);
        match high.iter().all(|byte| *byte == 0) {
            true => Self(u128::from_be_bytes(low.try_into().expect("16 bytes"))),
            false => Self(u128::MAX),
        }
    }
}

/// More than 64 bits reads as all 64.
impl Word for u64 {
    fn read(word: &[u8; 32]) -> Self {
        let BaseUnits(value) = BaseUnits::read(word);
        Self::try_from(value).unwrap_or(Self::MAX)
    }
}

impl Word for Keccak {
    fn read(word: &[u8; 32]) -> Self {
        Self(*word)
    }
}

/// Writes the enum, and which signature of the ABI is which variant.
macro_rules! refusals {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $({ $($(#[doc = $of:literal])+ $field:ident: $type:ty,)+ })?
        is $signature:literal, $text:literal;
    )+) => {
        /// Why a contract did nothing. Everything that the call had changed is undone.
        ///
        /// Amounts beyond 128 bits and numbers beyond 64 read as the greatest that their type holds.
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        pub enum Refused {
            $(
                $(#[doc = $doc])+
                #[error($text)]
                $name $({ $($(#[doc = $of])+ $field: $type,)+ })?,
            )+
            /// A text of the contract, its first 200 characters.
            #[error("the contract refused: {0}")]
            Message(String),
            /// No reason at all.
            #[error(
                "the contract refused without a reason: nothing is deployed there, or it has no such function; check the address"
            )]
            Silent,
            /// An answer that none of these contracts gives: its first 68 bytes.
            #[error(
                "the contract refused with {}, which is no error of Tributary's contracts; check the address",
                hex::encode_prefixed(.0)
            )]
            Other(Vec<u8>),
        }

        impl Refused {
            /// Every error of the ABI that has a variant of its own, by signature.
            #[cfg(test)]
            const SIGNATURES: &'static [&'static str] = &[$($signature),+];

            /// The variant of a selector, with its words.
            fn known(selector: [u8; 4], words: &[[u8; 32]]) -> Option<Self> {
                $(
                    if selector == select($signature) {
                        #[allow(unused_mut, unused_variables)]
                        let mut words = words.iter();
                        return Some(Self::$name $({ $($field: <$type>::read(words.next()?),)+ })?);
                    }
                )+
                None
            }
        }
    };
}

fn select(signature: &str) -> [u8; 4] {
    let Keccak(hash) = Keccak::of(&[signature.as_bytes()]);
    [hash[0], hash[1], hash[2], hash[3]]
}

impl Refused {
    /// Reads what a call that reverted answered. Any bytes are some refusal.
    pub fn decode(answer: &[u8]) -> Self {
        if answer.is_empty() {
            return Self::Silent;
        }
        if let Ok(revert) = Revert::abi_decode(answer) {
            return Self::Message(revert.reason.chars().take(MESSAGE_CHARS).collect());
        }
        let known = answer.split_first_chunk().and_then(|(selector, rest)| {
            let (words, _) = rest.as_chunks();
            Self::known(*selector, words)
        });
        known.unwrap_or_else(|| Self::Other(answer[..answer.len().min(SHOWN_BYTES)].to_vec()))
    }
}

refusals! {
    /// The terms take no money.
    BadTerms is "BadTerms()",
        "the contract takes no money under these terms: they have no sponsor, or times that let stake leave before it can be \
         slashed; check the terms";
    /// The amount is zero.
    NoAmount is "NoAmount()", "the amount is 0, so there is nothing to move; name an amount";
    /// The token delivered another amount.
    Inexact {
        /// What arrived.
        arrived: BaseUnits,
    } is "Inexact(uint256)",
        "{arrived} OPEN arrived, which is not what was sent; the token keeps a fee, so use another";
    /// The till is empty.
    NothingToSweep is "NothingToSweep()",
        "the run's till is empty; settle the channels that pay it first";
    /// The run takes no deposit or halt any more, or, halted, no root.
    RunEnded is "RunEnded()",
        "the run has ended: its closing root is accepted, or its sponsor halted it; a closed run still takes roots over fees, \
         and one that was halted takes none a window later";
    /// The run goes on.
    RunNotEnded is "RunNotEnded()",
        "the run has not ended; wait until its closing root is accepted, or a window after its halt";
    /// Everything was promised or reclaimed.
    NothingToReclaim is "NothingToReclaim()",
        "nothing is left for the sponsor: roots promised everything, or it was reclaimed before, and fees of a closed run are \
         its members'; nothing needs to be done";
    /// The statement names another run.
    WrongRun is "WrongRun()",
        "the root is not of the run with these terms, or not the pending one; send the terms and the root that belong together";
    /// Not above the height that stands.
    HeightTooLow {
        /// The height that stands.
        height: u64,
    } is "HeightTooLow(uint64)",
        "height {height} is posted already, and only a greater one follows it; post a newer root, or none";
    /// The first window of the pending root's place is over.
    PendingIsFixed is "PendingIsFixed()",
        "the pending root can no longer be replaced, because its place has been taken for a window; post again when it is \
         accepted";
    /// The pending root waits for an answer.
    PendingIsChallenged is "PendingIsChallenged()",
        "the pending root is challenged; wait until it is confirmed or void";
    /// Fees cover less of a root than of the accepted one.
    FeesFell {
        /// What they cover of the accepted one.
        accepted: BaseUnits,
    } is "FeesFell(uint128)",
        "fees cover less of the root than the {accepted} OPEN of the accepted one, and never less; check the books";
    /// Fees would cover more of a root than it promises.
    FeesAboveTotal {
        /// What it promises.
        total: BaseUnits,
    } is "FeesAboveTotal(uint128)",
        "the root says that fees cover more than the {total} OPEN that it promises; check the books";
    /// Fees would cover more of a root than was swept.
    FeesAboveMoney {
        /// What was swept.
        fees: BaseUnits,
    } is "FeesAboveMoney(uint256)",
        "the root says that fees cover more than the {fees} OPEN that were swept; sweep the run's till, or check the books";
    /// A root promises less of the deposit than the accepted one.
    TotalFell {
        /// What the accepted one promises of it.
        accepted: BaseUnits,
    } is "TotalFell(uint128)",
        "the root promises less of the deposit than the {accepted} OPEN of the accepted one, and never less; check the books";
    /// A root promises more of the deposit than there is.
    TotalAboveMoney {
        /// The deposit.
        deposited: BaseUnits,
    } is "TotalAboveMoney(uint256)",
        "the root promises more of the deposit than its {deposited} OPEN; deposit more, or check the books";
    /// A root promises more of the deposit than the rate allows.
    TotalRoseTooFast {
        /// By how much that may rise now.
        allowed: BaseUnits,
    } is "TotalRoseTooFast(uint256)",
        "what the root promises of the deposit rises by more than the {allowed} OPEN that the rate of the terms allows now; post \
         it later, or check the books: of a closed run nothing more is promised but fees";
    /// The signatures are not a multiple of 65 bytes.
    BadSignatures is "BadSignatures()",
        "the signatures are not 65 bytes each; send r, s and v of every one";
    /// Signatures out of order.
    SignersNotAscending {
        /// The signer that is out of place.
        signer: Address,
    } is "SignersNotAscending(address)",
        "the signature of {signer} is out of place; sort signatures by signer, each once, and check that all are of this \
         statement";
    /// Too little stake signed.
    NoQuorum {
        /// Stake that signed.
        signed: BaseUnits,
        /// Stake that could.
        all: BaseUnits,
    } is "NoQuorum(uint256,uint256)",
        "{signed} OPEN of stake signed, and it takes more than two thirds of {all} OPEN; gather more signatures of this statement";
    /// Less stake counts than the terms ask for.
    StakeTooLow {
        /// Stake that counts.
        all: BaseUnits,
        /// What the terms ask for.
        least: BaseUnits,
    } is "StakeTooLow(uint256,uint256)",
        "{all} OPEN of stake count where the terms ask for {least} OPEN; bond more and activate it after a window";
    /// The proof leads to another root.
    BadProof is "BadProof()",
        "the proof does not lead to the root that stands; make it from the tree of the accepted root";
    /// No lowered balance is proven.
    NotLowered is "NotLowered()",
        "the leaves do not prove that the root lowers or drops the account; show its lower leaf, or the two that bracket it";
    /// A root that is no evidence.
    NotEvidence is "NotEvidence()",
        "the root was never posted, or is not above the accepted one, so it wrongs nobody; nothing needs to be done";
    /// Two statements that do not contradict each other.
    NotAFork is "NotAFork()",
        "the two roots are not one signer's at one height of one run, or are the same; nothing is proven";
    /// Nothing waits.
    NothingPending is "NothingPending()",
        "nothing is pending there; read the run and the stake again";
    /// No challenge waits.
    NotChallenged is "NotChallenged()",
        "the pending root is not challenged, or no longer; read the run again";
    /// The stake has answered before.
    AlreadyConfirmed is "AlreadyConfirmed()",
        "the root was challenged and confirmed before, and is challenged once at most; wait until it is accepted";
    /// A halted run takes no challenge.
    NobodyToAnswer is "NobodyToAnswer()",
        "the run is halted and has no arbiter, so nobody would answer a challenge; wait until the root is accepted";
    /// The caller is not the arbiter.
    NotArbiter is "NotArbiter()",
        "only the arbiter that the terms name decides; send it from that account, or let the stake confirm";
    /// The terms name an arbiter.
    ArbiterDecides is "ArbiterDecides()",
        "the terms name an arbiter, who decides instead of the stake; ask it";
    /// The caller is not the sponsor.
    NotSponsor is "NotSponsor()", "only the run's sponsor may do that; send it from that account";
    /// A time has not come.
    TooEarly {
        /// When it comes: seconds of the chain's clock.
        due_s: u64,
    } is "TooEarly(uint256)",
        "it is too early: the chain's clock has to reach {due_s} s; send it again then";
    /// There is no stake of that kind.
    NoStake is "NoStake()",
        "the account has no such stake in this run, or less; read its stake again";
    /// A slash waits.
    SlashPending is "SlashPending()",
        "a slash waits for its window, and holds the account's stake until then; send it again later";
    /// The slash was used.
    AlreadySigned is "AlreadySigned()",
        "this slash was posted before, and is good once; sign one with other evidence";
    /// Only the account itself may ask for native coin.
    NotYours is "NotYours()",
        "only the account itself may ask for the native coin; send it from that account, or without unwrapping";
    /// The token wraps nothing.
    NotWrapped is "NotWrapped()",
        "the contract's token wraps no native coin; ask for the token itself";
    /// Native coin came or went where it may not.
    NativeRefused is "NativeRefused()",
        "the native coin was refused by its receiver; ask for the token itself";
    /// The channel has no party or no token.
    InvalidChannel is "InvalidChannel()",
        "the channel's payer, receiver, receiver authorizer or token is address 0; name all four";
    /// The delay is out of bounds.
    WithdrawDelayOutOfRange is "WithdrawDelayOutOfRange()",
        "withdrawals of the channel wait shorter than 15 minutes or longer than 30 days; open another channel";
    /// The collector brought another amount.
    DepositCollectionFailed is "DepositCollectionFailed()",
        "the collector brought another amount than the deposit's; the token keeps a fee, or the collector is another contract";
    /// A batch of nothing.
    EmptyBatch is "EmptyBatch()", "the batch has no claim; send at least one";
    /// Somebody else's signature.
    InvalidSignature is "InvalidSignature()",
        "the signature is not of the key that has to sign, or of other numbers; sign this with the key that the channel names";
    /// The caller does not speak for the receiver.
    NotReceiver is "NotReceiver()",
        "only the channel's receiver or its authorizer may do that; send it from that account, or with its signature";
    /// The caller is not the payer.
    NotPayer is "NotPayer()", "only the channel's payer may do that; send it from that account";
    /// A batch of several authorizers.
    NotReceiverAuthorizer is "NotReceiverAuthorizer()",
        "the batch has a channel of another receiver authorizer than the first; send one batch for each";
    /// More than the voucher.
    ClaimExceedsCeiling is "ClaimExceedsCeiling()",
        "the claim is above its voucher's total; claim that much at most, or ask the payer for a higher voucher";
    /// More than the channel holds.
    ClaimExceedsBalance is "ClaimExceedsBalance()",
        "the claim is above what lies in the channel; claim that much at most";
    /// Announced before.
    WithdrawalAlreadyPending is "WithdrawalAlreadyPending()",
        "a withdrawal of the channel is announced already; wait until it can be finished";
    /// Nothing was announced.
    WithdrawalNotPending is "WithdrawalNotPending()",
        "no withdrawal of the channel is announced; announce one first";
    /// The delay is not over.
    WithdrawDelayNotElapsed is "WithdrawDelayNotElapsed()",
        "the withdrawal's delay is not over; send it again when it is";
    /// More than is unclaimed.
    WithdrawAmountExceedsAvailable is "WithdrawAmountExceedsAvailable()",
        "the withdrawal is above what is not claimed; withdraw that much at most";
    /// Another refund came before.
    InvalidRefundNonce is "InvalidRefundNonce()",
        "the refund's number is not the channel's next; read it again and sign anew";
    /// Nobody asked for the payment.
    NotAskedFor is "NotAskedFor()",
        "the payer did not ask for this payment in this transaction; fund the channel through the collector's deposit";
    /// Only the contract of channels has the collector use a payer's signature.
    NotChannels is "NotChannels()",
        "the collector brings signed deposits to the contract of channels alone, at the address that clients expect; send the \
         deposit to it";
    /// Only who is paid may use an authorization.
    NotForCaller {
        /// Who is paid.
        to: Address,
    } is "NotForCaller(address)",
        "the authorization pays {to}, and only that account may use it; deposit through the contract of channels";
    /// An authorization is not good now.
    NotValidNow {
        /// After which second it is good.
        valid_after_s: u64,
        /// Before which second it is good.
        valid_before_s: u64,
    } is "NotValidNow(uint256,uint256)",
        "the authorization is good after second {valid_after_s} of the chain's clock and before {valid_before_s}; send it \
         between them, or sign another one";
    /// An authorization is good once.
    AlreadyUsed {
        /// Its number.
        nonce: Keccak,
    } is "AlreadyUsed(bytes32)",
        "the authorization {nonce} was used before; read the channel again, or sign one with another salt";
    /// The till obeys the settlement alone.
    NotSettlement is "NotSettlement()", "only the settlement empties a till; call its sweep";
    /// Too little of the token.
    InsufficientBalance {
        /// Whose.
        account: Address,
        /// What it has.
        balance: BaseUnits,
        /// What it would take.
        needed: BaseUnits,
    } is "ERC20InsufficientBalance(address,uint256,uint256)",
        "{account} has {balance} OPEN where {needed} OPEN are needed; get more first";
    /// Too small an allowance.
    InsufficientAllowance {
        /// Who would take.
        spender: Address,
        /// What it may take.
        allowance: BaseUnits,
        /// What it would take.
        needed: BaseUnits,
    } is "ERC20InsufficientAllowance(address,uint256,uint256)",
        "{spender} may take {allowance} OPEN where {needed} OPEN are needed; approve more first";
    /// The token has no such account.
    InvalidApprover {
        /// Who.
        account: Address,
    } is "ERC20InvalidApprover(address)", "{account} cannot approve anything; send it from an account";
    /// The token has no such account.
    InvalidReceiver {
        /// Who.
        account: Address,
    } is "ERC20InvalidReceiver(address)", "{account} cannot receive the token; name an account";
    /// The token has no such account.
    InvalidSender {
        /// Who.
        account: Address,
    } is "ERC20InvalidSender(address)", "{account} cannot send the token; name an account";
    /// The token has no such account.
    InvalidSpender {
        /// Who.
        account: Address,
    } is "ERC20InvalidSpender(address)", "{account} cannot spend the token; name an account";
    /// The token said no.
    TokenFailed {
        /// The token.
        token: Address,
    } is "SafeERC20FailedOperation(address)",
        "the token {token} refused the transfer, or is no token; check its address, the balance and the allowance";
    /// Nobody's signature.
    NobodysSignature is "ECDSAInvalidSignature()",
        "a signature is no key's; send r, s and v as they were signed";
    /// Not 65 bytes.
    SignatureLength {
        /// How many.
        bytes: u64,
    } is "ECDSAInvalidSignatureLength(uint256)",
        "a signature has {bytes} bytes where 65 are needed; send r, s and v";
    /// The higher of the two s.
    HighS {
        /// The s.
        s: Keccak,
    } is "ECDSAInvalidSignatureS(bytes32)",
        "s of a signature is {s}, the higher of its two values; use the order less s, and the other v";
    /// A call into a call.
    Reentrant is "ReentrancyGuardReentrantCall()",
        "the contract was called again from within a call; send the calls one after the other";
    /// A call within a multicall failed without a reason.
    FailedCall is "FailedCall()", "a call within the batch failed without a reason; send the calls one by one";
    /// A library called an address without code.
    EmptyCode {
        /// The address.
        target: Address,
    } is "AddressEmptyCode(address)", "nothing is deployed at {target}; check the address";
    /// Only while deploying.
    ShortString is "InvalidShortString()", "the contract's name is damaged; deploy it again";
    /// Arithmetic, or a broken assumption of the compiler.
    Panic {
        /// Solidity's code: 17 is overflow.
        code: u64,
    } is "Panic(uint256)",
        "a number leaves what the contract can hold (Solidity's code {code}); send smaller amounts";
}

#[cfg(test)]
mod tests;
