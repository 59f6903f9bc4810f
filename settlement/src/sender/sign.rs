//! A row of the table as signed bytes.

use alloy::consensus::{SignableTransaction, TxEip1559};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address as Wire, Bytes, Signature as WireSignature, TxKind, U256};
use tributary_attribution::settlement::Keccak;

use super::Sender;
use crate::table::{Attempt, Price, Row};

/// Gas of a transaction that does nothing.
const BARE_GAS: u64 = 21_000;

impl Sender {
    /// The row's own transaction at this price.
    pub(super) fn sign(&self, row: &Row, price: Price, block: u64) -> Attempt {
        let to = row.to.map_or(TxKind::Create, TxKind::Call);
        self.sign_any(
            row.nonce,
            (to, row.gas, row.data.clone()),
            price,
            (block, None),
        )
    }

    /// A transaction of the row's number that does nothing: it sends nothing to the account itself.
    pub(super) fn sign_nothing(&self, row: &Row, price: Price, block: u64, why: String) -> Attempt {
        let to = TxKind::Call(Wire::from(self.account().0));
        self.sign_any(
            row.nonce,
            (to, BARE_GAS, Bytes::new()),
            price,
            (block, Some(why)),
        )
    }

    fn sign_any(
        &self,
        nonce: u64,
        (to, gas_limit, input): (TxKind, u64, Bytes),
        price: Price,
        (block, withdraws): (u64, Option<String>),
    ) -> Attempt {
        let transaction = TxEip1559 {
            chain_id: self.node().config().chain.0,
            nonce,
            gas_limit,
            max_fee_per_gas: price.most_wei,
            max_priority_fee_per_gas: price.tip_wei,
            to,
            value: U256::ZERO,
            access_list: Default::default(),
            input,
        };
        let digest = Keccak(transaction.signature_hash().0);
        let signed = self.wallet().key().sign(&digest);
        let bytes = signed.as_bytes();
        let word = |at: usize| U256::from_be_slice(&bytes[at..at + 32]);
        let signature = WireSignature::new(word(0), word(32), bytes[64] == 28);
        let whole = transaction.into_signed(signature);
        Attempt {
            price,
            raw: whole.encoded_2718().into(),
            hash: *whole.hash(),
            block,
            withdraws,
        }
    }
}
