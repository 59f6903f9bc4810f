//! One look at the chain: what of the table is final, what has to be sent again, and what has to pay more.

use serde_json::{Value, json};
use tracing::{info, warn};
use tributary_attribution::settlement::{Address, Keccak, Refused};

use super::{Outcome, Receipt, SendError, Sender, State, receipt};
use crate::fees::{Market, market};
use crate::limits::{MAX_ATTEMPTS, MAX_FINISHED, REFUSED_BLOCKS, STUCK_BLOCKS};
use crate::node::{At, Block, Head, NodeError};
use crate::rpc::RpcFailure;
use crate::table::{Attempt, Row};

impl Sender {
    /// Looks at the chain once, and does what the table's transactions need: sends again what was dropped, and replaces what is
    /// too cheap. Whoever waits does this too; it is for programs that start again.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn advance(&self) -> Result<(), SendError> {
        let mut state = self.state.lock().await;
        if state.rows.rows.is_empty() {
            return Ok(());
        }
        let block = self.node.finalized().await?;
        self.settle(&mut state, &block).await?;
        if state.rows.rows.is_empty() {
            return Ok(());
        }
        let (head, asked) = market(&self.node).await?;
        let mined = self.node.nonce(self.account(), At::Latest).await?;
        state.refused = state.refused.filter(|(nonce, _)| *nonce >= mined);
        let waiting = state.rows.rows.iter().filter(|row| row.nonce >= mined);
        let waiting: Vec<Row> = waiting.cloned().collect();
        for row in waiting {
            let is_next = row.nonce == mined;
            self.push(&mut state, row, is_next, (&head, &asked)).await?;
        }
        Ok(())
    }

    /// Takes out of the table what no reorganisation can undo.
    async fn settle(&self, state: &mut State, block: &Block) -> Result<(), SendError> {
        let used = self
            .node
            .nonce(self.account(), At::Hash(block.hash))
            .await?;
        let mut rows = state.rows.clone();
        let count = rows.rows.iter().take_while(|row| row.nonce < used).count();
        if count == 0 {
            return Ok(());
        }
        let mut ended = Vec::new();
        for row in rows.rows.drain(..count) {
            let outcome = self.outcome(&row, block).await?;
            info!("{}: {}", row.purpose, said(&outcome));
            ended.push((row.nonce, outcome));
        }
        self.save(state, rows).await?;
        state.finished.extend(ended);
        while state.finished.len() > MAX_FINISHED {
            state.finished.pop_first();
        }
        Ok(())
    }

    /// Which version of a row is final, and what it did.
    async fn outcome(&self, row: &Row, block: &Block) -> Result<Outcome, SendError> {
        let hashes: Vec<Keccak> = row.attempts.iter().map(Attempt::hash).collect();
        let included = self.node.included(&hashes).await?;
        let Some(one) = included
            .iter()
            .find(|one| one.block_number.to::<u64>() <= block.number)
        else {
            return Ok(Outcome::Superseded);
        };
        let attempt = row
            .attempts
            .iter()
            .find(|attempt| attempt.hash == one.transaction_hash);
        if let Some(why) = attempt.and_then(|attempt| attempt.withdraws.clone()) {
            return Ok(Outcome::Withdrawn(why));
        }
        let receipt = receipt(row.nonce, one);
        match one.status.to::<u64>() {
            1 => Ok(Outcome::Done(receipt)),
            _ => Ok(Outcome::Reverted(receipt, self.why(row, &receipt).await?)),
        }
    }

    /// Why a transaction did nothing: what the chain before its block says to the same call. Nodes forget old states.
    async fn why(&self, row: &Row, receipt: &Receipt) -> Result<Refused, SendError> {
        let before = At::Number(receipt.block.saturating_sub(1));
        let to = row.to.map(|to| Address(to.into()));
        let refused = self.node.refusal(self.account(), to, &row.data, before);
        match refused.await {
            Ok(Some(refused)) => Ok(refused),
            Ok(None) => Ok(Refused::Message(
                "another transaction of its block came before it, or its gas did not suffice; look at the chain, and do it again if it \
                 is still to be done".to_string(),
            )),
            Err(NodeError::Rpc(RpcFailure::Refused { .. })) => {
                Ok(Refused::Message("the node no longer knows why".to_string()))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Does what a transaction needs that is in no block.
    async fn push(
        &self,
        state: &mut State,
        row: Row,
        is_next: bool,
        (head, market): (&Head, &Market),
    ) -> Result<(), SendError> {
        let is_withdrawn = row.last().withdraws.is_some();
        if is_next && !is_withdrawn {
            // Only of the next one: those behind it may need what it does.
            let to = row.to.map(|to| Address(to.into()));
            match self
                .node
                .refusal(self.account(), to, &row.data, At::Latest)
                .await?
            {
                None => state.refused = None,
                Some(refused) => return self.refused(state, row, refused, (head, market)).await,
            }
        }
        let is_known = self.is_known(&row).await?;
        let last = row.last();
        // The next block may ask for an eighth less than the last one.
        let is_too_cheap = last.price.most_wei < market.base_wei - market.base_wei / 8;
        let is_stuck = is_next && is_known && head.number > last.block + STUCK_BLOCKS;
        if (is_too_cheap || is_stuck) && row.attempts.len() < MAX_ATTEMPTS {
            let price = match market.raise(self.node.config(), last.price) {
                Ok(price) => price,
                // It pays the base fee, so a block may take it yet.
                Err(_) if !is_too_cheap => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let attempt = match last.withdraws.clone() {
                Some(why) => self.sign_nothing(&row, price, head.number, why),
                None => self.sign(&row, price, head.number),
            };
            return self.replace(state, row, attempt).await;
        }
        match is_known {
            true => Ok(()),
            false => self.pass_on(&row).await,
        }
    }

    /// The chain has no use for the next transaction. It may have again in a few blocks; after those its number is used up, so
    /// that the others can go on.
    async fn refused(
        &self,
        state: &mut State,
        row: Row,
        refused: Refused,
        (head, market): (&Head, &Market),
    ) -> Result<(), SendError> {
        let since = match state.refused {
            Some((nonce, since)) if nonce == row.nonce => since,
            _ => head.number,
        };
        state.refused = Some((row.nonce, since));
        if head.number < since + REFUSED_BLOCKS {
            return Ok(());
        }
        warn!(
            "{}: it is withdrawn, because the chain refuses it now: {refused}",
            row.purpose
        );
        let price = market.raise(self.node.config(), row.last().price)?;
        let attempt = self.sign_nothing(&row, price, head.number, refused.to_string());
        self.replace(state, row, attempt).await
    }

    /// Another version of a transaction, written down before it is sent.
    async fn replace(
        &self,
        state: &mut State,
        mut row: Row,
        attempt: Attempt,
    ) -> Result<(), SendError> {
        row.attempts.push(attempt);
        let mut rows = state.rows.clone();
        for one in rows.rows.iter_mut().filter(|one| one.nonce == row.nonce) {
            one.clone_from(&row);
        }
        self.save(state, rows).await?;
        info!(
            "{}: transaction {} replaces the one before",
            row.purpose,
            row.last().hash()
        );
        self.pass_on(&row).await
    }

    async fn is_known(&self, row: &Row) -> Result<bool, SendError> {
        let hash = row.last().hash().to_string();
        let found = self
            .node
            .rpc()
            .ask("eth_getTransactionByHash", json!([hash]))
            .await;
        let found: Value = found.map_err(NodeError::from)?;
        Ok(!found.is_null())
    }

    /// Sends the dearest version of a row.
    pub(super) async fn pass_on(&self, row: &Row) -> Result<(), SendError> {
        let last = row.last();
        let answer = self
            .node
            .rpc()
            .ask::<Value>("eth_sendRawTransaction", json!([last.raw]))
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(RpcFailure::Refused { message, .. }) if is_there(&message) => Ok(()),
            Err(RpcFailure::Refused { message, .. }) => Err(SendError::NotTaken {
                purpose: row.purpose.clone(),
                hash: last.hash(),
                message,
            }),
            Err(other) => Err(NodeError::from(other).into()),
        }
    }
}

/// Whether a node refuses a transaction because it has it, or one of its number: the next look tells which.
fn is_there(message: &str) -> bool {
    let message = message.to_lowercase();
    let known = [
        "already known",
        "known transaction",
        "already imported",
        "already exists",
        "nonce too low",
        "replacement transaction underpriced",
    ];
    known.iter().any(|words| message.contains(words))
}

fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(receipt) => format!("transaction {} is final", receipt.hash),
        Outcome::Reverted(receipt, refused) => format!(
            "transaction {} is final and did nothing: {refused}",
            receipt.hash
        ),
        Outcome::Withdrawn(_) => "its number is used up, and it will not be done".to_string(),
        Outcome::Superseded => {
            "its number is used, and the node knows none of its versions".to_string()
        }
    }
}
