//! A payer, a server's folder, and a chain that certifies when it is told to.

use std::collections::BTreeSet;
use std::path::Path;

use axum::http::HeaderMap;
use serde_json::Map;
use tributary_attribution::settlement::{Address, Deployment, EvmKey};
use tributary_attribution::voucher::{ChannelConfig, Claim, Requirements, Voucher};
use tributary_engine::request::Consumer;
use tributary_protocol::id::RunId;

use super::super::super::cashier::{CashierError, Served};
use super::super::super::quote::named;
use super::super::super::said::Said;
use super::super::super::till::{Made, Open};
use super::super::super::x402::{self, Payment, Required, Terms};
use super::super::*;
use super::{hash_of, refused, x402_units};
use std::collections::BTreeMap;
use std::path::PathBuf;

const PRICES: Prices = Prices {
    prompt: MicroOpen(1000),
    answer: MicroOpen(2000),
};

pub(super) fn run() -> RunId {
    RunId(hash_of(b"run"))
}

/// An amount of micro-OPEN as the wire has it.
pub(super) fn on_wire(micro: u128) -> String {
    x402_units(micro).0.to_string()
}

/// What was asked with a body, and answered.
pub(super) fn said(body: &[u8]) -> Said {
    Said::new(std::str::from_utf8(body).unwrap(), &[7, 8])
}

/// What was made for 10 tokens of prompt.
pub(super) fn made(answer_tokens: usize) -> Made {
    Made {
        prompt_tokens: 10,
        answer_tokens,
        response: Some(said(b"").response()),
        ..Made::default()
    }
}

pub(super) fn required(refusal: &Refusal) -> Required {
    let mut headers = refusal.headers.iter();
    let header = headers.find(|(name, _)| name.as_str() == x402::REQUIRED);
    x402::decoded(header.unwrap().1.as_bytes()).unwrap()
}

/// Waits until it is so.
pub(super) async fn until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A chain.
#[derive(Default)]
pub(super) struct Chain {
    state: Mutex<ChainState>,
}

#[derive(Default)]
struct ChainState {
    channels: BTreeMap<ChannelId, OnChain>,
    deposits: Vec<Deposit>,
    claims: Vec<(Vec<Served>, Claim)>,
    /// Salts of deposits that were certified.
    spent: BTreeSet<[u8; 32]>,
    is_closed: bool,
    refuses: bool,
    stalls: bool,
}

impl Chain {
    pub(super) fn deposits(&self) -> Vec<Deposit> {
        self.state.lock().deposits.clone()
    }

    pub(super) fn claims(&self) -> Vec<(Vec<Served>, Claim)> {
        self.state.lock().claims.clone()
    }

    /// Everything that is filed comes about.
    pub(super) fn certify(&self) {
        let mut state = self.state.lock();
        let scheme = x402::chain().channels_deployment();
        for deposit in state.deposits.clone() {
            if state.spent.insert(deposit.authorization.salt) {
                let chain = state
                    .channels
                    .entry(deposit.config.id(&scheme))
                    .or_default();
                chain.deposit.0 += deposit.amount.0;
            }
        }
        for (_, claim) in state.claims.clone() {
            let chain = state.channels.entry(claim.voucher.channel).or_default();
            assert!(
                claim.total_claimed <= chain.deposit && claim.total_claimed <= claim.voucher.max
            );
            chain.claimed = chain.claimed.max(claim.total_claimed);
        }
    }

    pub(super) fn hold(&self, id: ChannelId, micro: u128) {
        self.change(id, |chain| chain.deposit = x402_units(micro));
    }

    pub(super) fn change(&self, id: ChannelId, change: impl FnOnce(&mut OnChain)) {
        change(self.state.lock().channels.entry(id).or_default());
    }

    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
    }

    pub(super) fn refuse(&self, refuses: bool) {
        self.state.lock().refuses = refuses;
    }

    pub(super) fn stall(&self, stalls: bool) {
        self.state.lock().stalls = stalls;
    }

    fn payee() -> (Requirements, Deployment) {
        let chain = x402::chain();
        let wanted = Requirements {
            receiver: Address([7; 20]),
            receiver_authorizer: Address([8; 20]),
            token: chain.token,
            withdraw_delay_s: 900,
        };
        (wanted, chain.channels_deployment())
    }
}

impl Cashier for Chain {
    fn requirements(&self) -> Option<(Requirements, Deployment)> {
        (!self.state.lock().is_closed).then(Self::payee)
    }

    fn channel(&self, id: ChannelId) -> OnChain {
        self.state
            .lock()
            .channels
            .get(&id)
            .copied()
            .unwrap_or_default()
    }

    fn deposit<'a>(&'a self, deposit: Deposit) -> BoxFuture<'a, Result<(), CashierError>> {
        Box::pin(async move {
            while self.state.lock().stalls {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let mut state = self.state.lock();
            if state.refuses {
                return Err(refused());
            }
            state.deposits.push(deposit);
            Ok(())
        })
    }

    fn collect<'a>(
        &'a self,
        answers: Vec<Served>,
        claim: Claim,
    ) -> BoxFuture<'a, Result<(), CashierError>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            if state.refuses {
                return Err(refused());
            }
            state.claims.push((answers, claim));
            Ok(())
        })
    }
}

struct OneRun(Arc<Chain>);

impl Cashiers for OneRun {
    fn of(&self, id: RunId) -> Option<Arc<dyn Cashier>> {
        (id == run()).then(|| self.0.clone() as Arc<dyn Cashier>)
    }
}

/// A payment in the making.
#[derive(Clone)]
pub(super) struct Pays {
    key: EvmKey,
    pub(super) config: ChannelConfig,
    max: BaseUnits,
    deposit: Option<u128>,
    valid_before_s: u64,
    is_forged: bool,
    is_refund: bool,
}

impl Pays {
    pub(super) fn id(&self) -> ChannelId {
        self.config.id(&x402::chain().channels_deployment())
    }

    /// With a deposit of so many micro-OPEN.
    pub(super) fn with(mut self, deposit: u128) -> Self {
        self.deposit = Some(deposit);
        self
    }

    /// Through another channel.
    pub(super) fn of(mut self, salt: u8) -> Self {
        self.config.salt = [salt; 32];
        self
    }

    pub(super) fn changed(mut self, change: impl FnOnce(&mut ChannelConfig)) -> Self {
        change(&mut self.config);
        self
    }

    pub(super) fn forged(mut self) -> Self {
        self.is_forged = true;
        self
    }

    pub(super) fn until_s(mut self, valid_before_s: u64) -> Self {
        self.valid_before_s = valid_before_s;
        self
    }

    pub(super) fn refund(mut self) -> Self {
        self.is_refund = true;
        self
    }

    /// One base unit more.
    pub(super) fn plus_one(mut self) -> Self {
        self.max.0 += 1;
        self
    }

    pub(super) fn authorization(&self) -> Authorization {
        let amount = x402_units(self.deposit.unwrap_or_default());
        let scheme = x402::chain().channels_deployment();
        let signer = match self.is_forged {
            true => EvmKey::from_bytes(&[99; 32]).unwrap(),
            false => self.key.clone(),
        };
        let (token, times) = (x402::token(), 0..self.valid_before_s);
        // One for each voucher.
        let salt = hash_of(format!("{:?}{}", self.config, self.max).as_bytes());
        let salt = *salt.as_bytes();
        Authorization::sign(&signer, &self.config, amount, &scheme, &token, times, salt)
    }

    fn headers(&self) -> HeaderMap {
        let (wanted, scheme) = Chain::payee();
        let channel = self.id();
        let voucher = Voucher {
            channel,
            max: self.max,
            signature: self.key.sign(&Voucher::digest(channel, self.max, &scheme)),
        };
        let terms = Terms::new(&wanted, &scheme, MicroOpen(0), Map::new());
        let signed = self.authorization();
        let deposit = self.deposit.map(|amount| (x402_units(amount), &signed));
        let mut payment = Payment::new(terms, &self.config, &voucher, deposit);
        if self.is_refund {
            payment.payload.kind = "refund".into();
        }
        HeaderMap::from_iter([named(x402::SIGNATURE, &payment)])
    }
}

pub(super) struct Scene {
    folder: tempfile::TempDir,
    pub(super) key: EvmKey,
    pub(super) chain: Arc<Chain>,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            key: EvmKey::from_bytes(&[1; 32]).unwrap(),
            chain: Arc::default(),
        }
    }

    pub(super) fn payee(&self) -> Payee {
        let (wanted, scheme) = Chain::payee();
        Payee { wanted, scheme }
    }

    /// A voucher of so many micro-OPEN.
    pub(super) fn pays(&self, total: u128) -> Pays {
        let (wanted, _) = Chain::payee();
        let payer = self.key.address();
        Pays {
            key: self.key.clone(),
            config: ChannelConfig {
                payer,
                payer_authorizer: payer,
                receiver: wanted.receiver,
                receiver_authorizer: wanted.receiver_authorizer,
                token: wanted.token,
                withdraw_delay_s: wanted.withdraw_delay_s,
                salt: [0; 32],
            },
            max: x402_units(total),
            deposit: None,
            valid_before_s: now() + 3600,
            is_forged: false,
            is_refund: false,
        }
    }

    pub(super) fn open(&self, exposure: u128) -> Channels {
        self.open_at(&self.folder, exposure)
    }

    /// Where its server keeps channels.
    pub(super) fn channels(&self) -> PathBuf {
        self.folder.path().join("channels")
    }

    pub(super) fn open_at(&self, folder: &tempfile::TempDir, exposure: u128) -> Channels {
        let options = ChannelOptions {
            prices: PRICES,
            exposure: MicroOpen(exposure),
            folder: folder.path().join("channels"),
        };
        let times = Times {
            poll: Duration::from_millis(20),
            patience: Duration::from_millis(400),
            wait: Duration::from_secs(600),
            again: Duration::from_millis(500),
        };
        let runs = Arc::new(OneRun(self.chain.clone()));
        Channels::open_with(options, runs, Arc::new(Open), times).unwrap()
    }

    /// What a crash leaves now.
    pub(super) fn copy(&self) -> tempfile::TempDir {
        self.copy_of(&self.folder)
    }

    pub(super) fn copy_of(&self, folder: &tempfile::TempDir) -> tempfile::TempDir {
        let to = tempfile::tempdir().unwrap();
        let (from, at) = (folder.path().join("channels"), to.path().join("channels"));
        crate::home::disk::make_folder(&at).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), Path::new(&at).join(entry.file_name())).unwrap();
        }
        to
    }

    /// Asks for 10 tokens of prompt and 5 of answer: 20 micro-OPEN.
    pub(super) async fn ask(
        &self,
        till: &Channels,
        pays: Option<&Pays>,
        body: &[u8],
    ) -> Result<Box<dyn Bill>, Refusal> {
        let origin = Origin {
            run: run(),
            adapter: hash_of(b"adapter"),
        };
        self.ask_for(till, Some(origin), pays, body).await
    }

    pub(super) async fn ask_for(
        &self,
        till: &Channels,
        origin: Option<Origin>,
        pays: Option<&Pays>,
        body: &[u8],
    ) -> Result<Box<dyn Bill>, Refusal> {
        let headers = pays.map(Pays::headers).unwrap_or_default();
        till.admit(Asked {
            headers: &headers,
            consumer: Consumer::default(),
            model: "poet",
            prompt_tokens: 10,
            max_tokens: 5,
            body: said(body).request(),
            origin,
        })
        .await
    }

    /// A whole answer, for 20 micro-OPEN.
    pub(super) async fn answer(&self, till: &Channels, total: u128, body: &[u8]) {
        let bill = self.ask(till, Some(&self.pays(total)), body).await;
        bill.unwrap_or_else(|refusal| panic!("{}", refusal.message))
            .settle(made(5))
            .await;
    }

    /// Long enough for some looks at the chain.
    pub(super) async fn settle_down(&self) {
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}
