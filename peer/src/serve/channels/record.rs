//! What is kept of one channel beside its account: deposits that the chain does not show yet, and answers whose claim it does
//! not show yet. Pure, and as JSON on the disk.

use std::collections::VecDeque;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tributary_attribution::settlement::{BaseUnits, Signature};
use tributary_attribution::voucher::{Authorization, ChannelConfig, OnChain};
use tributary_protocol::codec;
use tributary_protocol::filing::AgreedShares;
use tributary_protocol::id::{MicroOpen, RunId};

use super::super::book::{Account, AccountFile};
use super::super::cashier::{Deposit, Served};

/// Deposits of one channel that the chain does not show yet.
const MOST_PENDING: usize = 4;
/// Deposits of which is remembered that they were filed: clients repeat within seconds.
const MOST_SALTS: usize = 16;
/// Answers that are handed over in one call.
const MOST_COLLECTED: usize = 256;
/// So many answers are handed over whatever they cost.
const SOON: usize = 128;
/// Answers that may wait for their claim. Beyond them the channel is not served.
pub(super) const MOST_SERVED: usize = 1024;
/// How long after its end a deposit may still come, in seconds: the chain's clock is behind.
const LATE_S: u64 = 600;
/// Bytes of a channel's configuration.
const MOST_CONFIG_BYTES: usize = 256;
/// Bytes of shares that a payer agreed to.
const MOST_AGREED_BYTES: usize = 4096;
const SCHEMA: &str = "channel/1";

/// A deposit that this server filed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pending {
    pub(super) amount: BaseUnits,
    pub(super) authorization: Authorization,
    /// What the channel holds once it is there.
    level: BaseUnits,
    /// Whether the run's log has it.
    pub(super) is_filed: bool,
    /// Whether it is being filed.
    pub(super) is_filing: bool,
}

/// One channel. Times are milliseconds since the server began.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) run: RunId,
    pub(super) config: ChannelConfig,
    /// What the chain said last.
    pub(super) seen: OnChain,
    /// Whether it said anything since the server began.
    is_known: bool,
    pub(super) pending: Vec<Pending>,
    salts: VecDeque<[u8; 32]>,
    /// In order: each is charged on top of the one before.
    pub(super) served: VecDeque<Served>,
    /// Up to this total answers were handed over.
    collected: MicroOpen,
    /// When that was, or was tried.
    asked_ms: Option<u64>,
    /// Whether the last try was refused.
    was_refused: bool,
    /// Since when answers wait.
    since_ms: Option<u64>,
}

/// When answers are handed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Most that may be charged and not handed over.
    pub(super) exposure: MicroOpen,
    /// How long answers wait at most.
    pub(super) wait_ms: u64,
    /// How long the chain may take to show a claim before it is handed over again.
    pub(super) again_ms: u64,
    /// The server ends.
    pub(super) is_draining: bool,
}

impl Record {
    pub(super) fn new(run: RunId, config: ChannelConfig) -> Self {
        Self {
            run,
            config,
            seen: OnChain::default(),
            is_known: false,
            pending: Vec::new(),
            salts: VecDeque::new(),
            served: VecDeque::new(),
            collected: MicroOpen(0),
            asked_ms: None,
            was_refused: false,
            since_ms: None,
        }
    }

    /// What is to be filed or is filed, and not shown yet.
    pub(super) fn unseen(&self) -> BaseUnits {
        let sum = self.pending.iter().map(|one| one.amount.0);
        BaseUnits(sum.fold(0, u128::saturating_add))
    }

    /// What of it is in the run's log.
    pub(super) fn filed_unseen(&self) -> BaseUnits {
        let filed = self.pending.iter().filter(|one| one.is_filed);
        BaseUnits(filed.map(|one| one.amount.0).fold(0, u128::saturating_add))
    }

    /// What the channel holds with all of that.
    pub(super) fn full(&self) -> BaseUnits {
        BaseUnits(self.seen.deposit.0.saturating_add(self.unseen().0))
    }

    /// Whether this deposit was taken before.
    pub(super) fn knows(&self, authorization: &Authorization) -> bool {
        let salt = &authorization.salt;
        self.salts.contains(salt)
            || self
                .pending
                .iter()
                .any(|one| one.authorization.salt == *salt)
    }

    pub(super) fn takes_deposits(&self) -> bool {
        self.pending.len() < MOST_PENDING
    }

    /// Notes a deposit before it is filed.
    pub(super) fn expect(&mut self, amount: BaseUnits, authorization: Authorization) {
        let level = BaseUnits(self.full().0.saturating_add(amount.0));
        self.pending.push(Pending {
            amount,
            authorization,
            level,
            is_filed: false,
            is_filing: true,
        });
    }

    /// Tells whether the filing of a deposit went well.
    pub(super) fn filed(&mut self, salt: &[u8; 32], is_filed: bool) {
        for one in &mut self.pending {
            if one.authorization.salt == *salt {
                (one.is_filed, one.is_filing) = (is_filed, false);
            }
        }
    }

    /// Forgets a deposit that was refused.
    pub(super) fn forget(&mut self, salt: &[u8; 32]) {
        self.pending.retain(|one| one.authorization.salt != *salt);
    }

    /// Deposits that a crash or a refusal kept from being filed; they are being filed from now on.
    pub(super) fn unfiled(&mut self) -> Vec<Deposit> {
        let config = self.config;
        let open = self
            .pending
            .iter_mut()
            .filter(|one| !one.is_filed && !one.is_filing);
        let open = open.map(|one| {
            one.is_filing = true;
            Deposit {
                config,
                amount: one.amount,
                authorization: one.authorization,
            }
        });
        open.collect()
    }

    /// Takes in what the chain says. Whether something that is stored has changed.
    pub(super) fn see(&mut self, chain: OnChain, now_s: u64) -> bool {
        (self.seen, self.is_known) = (chain, true);
        let before = (self.pending.len(), self.served.len());
        let salts = &mut self.salts;
        self.pending.retain(|one| {
            let is_here = chain.deposit >= one.level;
            let is_late = now_s > one.authorization.valid_before_s.saturating_add(LATE_S);
            if is_here || is_late {
                salts.push_back(one.authorization.salt);
            }
            !is_here && !is_late
        });
        while self.salts.len() > MOST_SALTS {
            self.salts.pop_front();
        }
        let claimed = chain.claimed.to_micro_floor();
        while (self.served.front()).is_some_and(|one| one.charged_after() <= claimed) {
            self.served.pop_front();
        }
        before != (self.pending.len(), self.served.len())
    }

    /// Notes an answer that was charged.
    pub(super) fn serve(&mut self, served: Served, now_ms: u64) {
        self.served.push_back(served);
        self.since_ms.get_or_insert(now_ms);
    }

    /// The answer after which the channel was charged so much, if it waits still to be handed over.
    pub(super) fn served_at(&mut self, charged: MicroOpen) -> Option<&mut Served> {
        let collected = self.collected;
        let mut open = (self.served.iter_mut()).filter(|one| one.charged_before >= collected);
        open.find(|one| one.charged_after() == charged)
    }

    /// Whether nothing can come of the channel any more: all that is in it is claimed, and no more is expected.
    pub(super) fn is_over(&self) -> bool {
        self.is_known && self.pending.is_empty() && self.seen.deposit <= self.seen.claimed
    }

    /// Whether there is anything to do or to wait for.
    pub(super) fn is_busy(&self) -> bool {
        !self.pending.is_empty() || !self.served.is_empty()
    }

    /// Whether answers should be handed over before the next look.
    pub(super) fn presses(&self, exposure: MicroOpen) -> bool {
        let open = self
            .served
            .iter()
            .filter(|one| one.charged_before >= self.collected);
        let (count, fees) = open.fold((0, 0), |(count, fees), one| (count + 1, fees + one.fee.0));
        count >= SOON || fees > exposure.0
    }

    /// The answers to hand over now, in order; they count as handed over, until the chain shows nothing of it for too long.
    /// Only those that lie in what the chain shows are taken: a claim of more would be refused.
    pub(super) fn collect(&mut self, rule: &Rule, now_ms: u64) -> Vec<Served> {
        let claimed = self.seen.claimed.to_micro_floor();
        let waited = self.asked_ms.is_none_or(|at| now_ms - at >= rule.again_ms);
        let is_asked = self.was_refused || self.collected > claimed;
        if is_asked && !waited && !rule.is_draining {
            return Vec::new();
        }
        // What was handed over and does not show comes again: it may never have arrived.
        let deposit = self.seen.deposit.to_micro_floor();
        let all = self
            .served
            .iter()
            .filter(|one| one.charged_before >= claimed);
        let all = all.take_while(|one| one.charged_after() <= deposit);
        let answers: Vec<Served> = all.take(MOST_COLLECTED).cloned().collect();
        let Some(last) = answers.last() else {
            return answers;
        };
        let fees = answers.iter().map(|one| one.fee.0).sum::<u128>();
        let is_old = self
            .since_ms
            .is_some_and(|since| now_ms - since >= rule.wait_ms);
        let is_due = (is_asked && waited)
            || rule.is_draining
            || self.seen.withdrawal.is_some()
            || fees > rule.exposure.0
            || answers.len() >= SOON
            || is_old;
        if !is_due {
            return Vec::new();
        }
        self.collected = last.charged_after();
        (self.asked_ms, self.was_refused) = (Some(now_ms), false);
        self.since_ms = Some(now_ms).filter(|_| answers.len() < self.served.len());
        answers
    }

    /// Takes back that answers from `charged_before` on were handed over. They are tried again after the same wait as those
    /// that no certificate shows.
    pub(super) fn uncollect(&mut self, charged_before: MicroOpen) {
        (self.collected, self.was_refused) = (charged_before, true);
    }
}

/// A channel and its account on the disk.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordFile {
    schema: String,
    run: String,
    config: String,
    account: AccountFile,
    deposits: Vec<PendingFile>,
    salts: Vec<String>,
    served: Vec<ServedFile>,
    collected: String,
}

#[derive(Serialize, Deserialize)]
struct PendingFile {
    amount: String,
    valid_after_s: u64,
    valid_before_s: u64,
    salt: String,
    signature: String,
    level: String,
    filed: bool,
}

#[derive(Serialize, Deserialize)]
struct ServedFile {
    adapter: String,
    request: String,
    response: String,
    prompt_tokens: u32,
    answer_tokens: u32,
    fee: String,
    charged_before: String,
    /// Canonical bytes of what the payer agreed to, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shares: Option<String>,
}

impl RecordFile {
    pub(super) fn of(record: &Record, account: &Account) -> Self {
        let pending = |one: &Pending| PendingFile {
            amount: one.amount.0.to_string(),
            valid_after_s: one.authorization.valid_after_s,
            valid_before_s: one.authorization.valid_before_s,
            salt: HEXLOWER.encode(&one.authorization.salt),
            signature: HEXLOWER.encode(one.authorization.signature.as_bytes()),
            level: one.level.0.to_string(),
            filed: one.is_filed,
        };
        let served = |one: &Served| ServedFile {
            adapter: one.adapter.to_string(),
            request: one.request.to_string(),
            response: one.response.to_string(),
            prompt_tokens: one.prompt_tokens,
            answer_tokens: one.answer_tokens,
            fee: one.fee.0.to_string(),
            charged_before: one.charged_before.0.to_string(),
            shares: (one.shares.as_ref()).map(|agreed| HEXLOWER.encode(&codec::encode(agreed))),
        };
        Self {
            schema: SCHEMA.into(),
            run: record.run.to_string(),
            config: HEXLOWER.encode(&codec::encode(&record.config)),
            account: AccountFile::of(account),
            deposits: record.pending.iter().map(pending).collect(),
            salts: record
                .salts
                .iter()
                .map(|salt| HEXLOWER.encode(salt))
                .collect(),
            served: record.served.iter().map(served).collect(),
            collected: record.collected.0.to_string(),
        }
    }

    /// The channel as it was stored. What was handed over then counts as handed over now, for one more wait.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(self) -> Result<(Record, Account), String> {
        if self.schema != SCHEMA {
            return Err(format!("it says `{}`, not {SCHEMA}", self.schema));
        }
        let config = codec::decode::<_, MOST_CONFIG_BYTES>(&bytes(&self.config)?);
        let run = self.run.parse().map_err(|_| "its run is no id")?;
        let mut record = Record::new(run, config.map_err(|e| e.to_string())?);
        for one in self.deposits {
            record.pending.push(one.read()?);
        }
        for salt in &self.salts {
            record.salts.push_back(word(salt)?);
        }
        for one in self.served {
            record.served.push_back(one.read()?);
        }
        record.collected = MicroOpen(number(&self.collected)?);
        record.asked_ms = Some(0);
        record.since_ms = Some(0).filter(|_| !record.served.is_empty());
        Ok((record, self.account.read()?))
    }
}

impl PendingFile {
    fn read(self) -> Result<Pending, String> {
        let signature = Signature::from_bytes(&bytes(&self.signature)?);
        Ok(Pending {
            amount: BaseUnits(number(&self.amount)?),
            authorization: Authorization {
                valid_after_s: self.valid_after_s,
                valid_before_s: self.valid_before_s,
                salt: word(&self.salt)?,
                signature: signature.map_err(|e| e.to_string())?,
            },
            level: BaseUnits(number(&self.level)?),
            is_filed: self.filed,
            is_filing: false,
        })
    }
}

impl ServedFile {
    fn read(self) -> Result<Served, String> {
        let digest = |text: &str| text.parse().map_err(|_| "a hash is none".to_owned());
        Ok(Served {
            adapter: digest(&self.adapter)?,
            request: digest(&self.request)?,
            response: digest(&self.response)?,
            prompt_tokens: self.prompt_tokens,
            answer_tokens: self.answer_tokens,
            fee: MicroOpen(number(&self.fee)?),
            charged_before: MicroOpen(number(&self.charged_before)?),
            shares: self.shares.map(|text| agreed(&text)).transpose()?,
        })
    }
}

fn agreed(text: &str) -> Result<AgreedShares, String> {
    codec::decode::<_, MOST_AGREED_BYTES>(&bytes(text)?).map_err(|e| e.to_string())
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    HEXLOWER.decode(text.as_bytes()).map_err(|e| e.to_string())
}

fn word(text: &str) -> Result<[u8; 32], String> {
    let word = bytes(text)?.try_into();
    word.map_err(|_| "32 bytes are not 32".into())
}

fn number(text: &str) -> Result<u128, String> {
    text.parse().map_err(|_| "an amount is no number".into())
}
