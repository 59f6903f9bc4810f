//! Accounts, code and storage, in order: what the virtual machine reads and writes.
//!
//! Nothing has native coin, because no transaction carries any and gas is free; so accounts have no balance here.

use std::collections::BTreeMap;
use std::convert::Infallible;

use alloy_primitives::{Address, B256, Keccak256, U256};
use revm::primitives::{AddressMap, KECCAK_EMPTY};
use revm::state::{Account as Changed, AccountInfo, Bytecode};
use revm::{DatabaseCommit, DatabaseRef};

use crate::settlement::Keccak;

/// Begins what the state's hash covers.
const DOMAIN: &[u8] = b"tributary test chain 1";

#[derive(Clone)]
struct Account {
    /// Transactions that it sent, or contracts that it created.
    nonce: u64,
    code: B256,
    /// Only words that are not zero.
    storage: BTreeMap<U256, U256>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            nonce: 0,
            code: KECCAK_EMPTY,
            storage: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct State {
    accounts: BTreeMap<Address, Account>,
    /// By hash; what no account has is not removed.
    codes: BTreeMap<B256, Bytecode>,
}

impl State {
    pub(super) fn nonce(&self, address: Address) -> u64 {
        self.accounts.get(&address).map_or(0, |one| one.nonce)
    }

    pub(super) fn has_code(&self, address: Address) -> bool {
        let account = self.accounts.get(&address);
        account.is_some_and(|account| account.code != KECCAK_EMPTY)
    }

    /// Puts code at an address, as genesis does.
    pub(super) fn place(&mut self, address: Address, code: Vec<u8>) {
        let code = Bytecode::new_raw(code.into());
        let account = Account {
            // A contract's count begins at 1 (EIP-161).
            nonce: 1,
            code: code.hash_slow(),
            storage: BTreeMap::new(),
        };
        self.codes.insert(account.code, code);
        self.accounts.insert(address, account);
    }

    /// Hash of everything, in order. Each list begins with its length, so that no two states read as the same bytes.
    pub(super) fn digest(&self, number: u64, time_s: u64) -> Keccak {
        let mut hasher = Keccak256::new();
        hasher.update(DOMAIN);
        hasher.update(number.to_be_bytes());
        hasher.update(time_s.to_be_bytes());
        hasher.update((self.accounts.len() as u64).to_be_bytes());
        for (address, account) in &self.accounts {
            hasher.update(address);
            hasher.update(account.nonce.to_be_bytes());
            hasher.update(account.code);
            hasher.update((account.storage.len() as u64).to_be_bytes());
            for (slot, value) in &account.storage {
                hasher.update(slot.to_be_bytes::<32>());
                hasher.update(value.to_be_bytes::<32>());
            }
        }
        Keccak(hasher.finalize().0)
    }
}

impl DatabaseRef for State {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        let account = self.accounts.get(&address);
        Ok(account.map(|account| AccountInfo {
            nonce: account.nonce,
            code_hash: account.code,
            code: self.codes.get(&account.code).cloned(),
            ..AccountInfo::default()
        }))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.codes.get(&hash).cloned().unwrap_or_default())
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        let account = self.accounts.get(&address);
        let value = account.and_then(|account| account.storage.get(&slot));
        Ok(value.copied().unwrap_or_default())
    }

    /// None of the contracts asks for it.
    fn block_hash_ref(&self, _: u64) -> Result<B256, Infallible> {
        Ok(B256::ZERO)
    }
}

impl DatabaseCommit for State {
    /// The changes come in no order; each goes to a place of its own.
    fn commit(&mut self, changes: AddressMap<Changed>) {
        for (address, changed) in changes {
            if !changed.is_touched() {
                continue;
            }
            // Accounts with nothing in them are none (EIP-161): the receiver of fees, which are 0, is touched every time.
            if changed.is_selfdestructed() || changed.is_empty() {
                self.accounts.remove(&address);
                continue;
            }
            let account = self.accounts.entry(address).or_default();
            account.nonce = changed.info.nonce;
            account.code = changed.info.code_hash;
            if let Some(code) = changed.info.code.filter(|code| !code.is_empty()) {
                self.codes.entry(account.code).or_insert(code);
            }
            for (slot, value) in changed.storage {
                match value.present_value.is_zero() {
                    true => account.storage.remove(&slot),
                    false => account.storage.insert(slot, value.present_value),
                };
            }
        }
    }
}
