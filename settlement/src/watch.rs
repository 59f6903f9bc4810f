//! Guards a run: compares every posted root with the books, and challenges a wrong one within its window.
//!
//! A root waits one window before it pays. Whoever keeps the books knows what each height's root should be; where the books
//! are not so far yet, the root is looked at again. Roots are judged at finalized blocks, so a run's window has to be longer than the
//! chain takes to make blocks final, several times over.

use std::collections::BTreeMap;

use tracing::{info, warn};
use tributary_attribution::settlement::calls::RunView;
use tributary_attribution::settlement::{Address, Deployment, Keccak, Root, Terms};

use crate::actions::{ActionError, Actions, Done};
use crate::node::NodeError;
use crate::sender::SendError;

/// What one look at a run found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No root waits.
    Nothing,
    /// The root that waits is what the books say.
    Right {
        /// Its height.
        height: u64,
        /// When it is accepted, seconds of the chain's clock.
        due_s: u64,
    },
    /// The books are not so far; it is looked at again.
    Unjudged {
        /// Its height.
        height: u64,
        /// Until when it can be challenged, seconds of the chain's clock.
        due_s: u64,
    },
    /// The root that waits is not what the books say.
    Wrong {
        /// Its height.
        height: u64,
        /// What its members signed.
        digest: Keccak,
        /// What is done about it.
        answer: Answer,
    },
    /// A wrong root was accepted before anybody challenged it.
    AcceptedWrong {
        /// Its height.
        height: u64,
    },
}

/// What is done about a wrong root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is to be challenged.
    Due,
    /// It was challenged by this account, now or in an earlier look.
    Challenged(Done),
    /// Somebody else has challenged it.
    By(Address),
    /// The stake has confirmed it, so no challenge is taken any more: what is left is a proof that it lowers a balance.
    Confirmed,
}

/// What a look at a run means, without doing anything.
pub fn judge(
    run: &RunView,
    deployment: &Deployment,
    expected: impl Fn(u64) -> Option<Root>,
) -> Seen {
    let Some(pending) = run.pending else {
        let accepted = run.accepted;
        let is_wrong =
            expected(accepted.height).is_some_and(|root| root.balances != accepted.balances);
        return match accepted.height != 0 && is_wrong {
            true => Seen::AcceptedWrong {
                height: accepted.height,
            },
            false => Seen::Nothing,
        };
    };
    let (height, due_s, digest) = (pending.root.height, pending.due_s, pending.digest);
    match expected(height) {
        None => Seen::Unjudged { height, due_s },
        Some(root) if root.digest(deployment) == digest => Seen::Right { height, due_s },
        Some(_) => {
            let answer = match pending.challenger {
                Some(challenger) => Answer::By(challenger),
                None if pending.confirmed => Answer::Confirmed,
                None => Answer::Due,
            };
            Seen::Wrong {
                height,
                digest,
                answer,
            }
        }
    }
}

/// Guards one run with the bond of one account.
#[derive(Debug)]
pub struct Watch<'a> {
    actions: &'a Actions,
    terms: Terms,
    /// Own challenges by digest.
    challenged: BTreeMap<Keccak, Done>,
}

impl<'a> Watch<'a> {
    /// Of the run with these terms.
    pub fn new(actions: &'a Actions, terms: Terms) -> Self {
        Self {
            actions,
            terms,
            challenged: BTreeMap::new(),
        }
    }

    /// Looks once, and challenges a wrong root. `expected` is the books' root of a height, as members sign it; `None` while the
    /// books are not so far.
    ///
    /// # Errors
    /// [`ActionError`]; whether the root was challenged is seen in the next look.
    pub async fn look(
        &mut self,
        expected: impl Fn(u64) -> Option<Root>,
    ) -> Result<Seen, ActionError> {
        let chain = self.actions.chain();
        let block = chain.finalized().await?;
        let run = chain
            .ask(&chain.settlement().runs(self.terms.key()), &block)
            .await?;
        let seen = judge(&run, chain.deployment(), expected);
        let Seen::Wrong {
            height,
            digest,
            answer,
        } = seen
        else {
            return Ok(seen);
        };
        let answer = match (answer, self.challenged.get(&digest)) {
            (Answer::By(_), Some(done)) => Answer::Challenged(*done),
            (Answer::Due, _) => {
                let done = self.actions.challenge(&self.terms, digest).await?;
                self.challenged.insert(digest, done);
                Answer::Challenged(done)
            }
            (other, _) => other,
        };
        Ok(Seen::Wrong {
            height,
            digest,
            answer,
        })
    }

    /// Looks again and again, and tells `said` whatever is new: what was seen and done, and why a look or a challenge failed that
    /// is tried again, as where a node is away, the price is too high, or the account lacks the bond. It ends with an error that
    /// looking again does not mend.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn watch(
        &mut self,
        expected: impl Fn(u64) -> Option<Root>,
        mut said: impl FnMut(Result<Seen, &ActionError>),
    ) -> ActionError {
        let mut last = String::new();
        loop {
            let seen = self.look(&expected).await;
            let words = match &seen {
                Ok(seen) => seen.to_string(),
                Err(error) => error.to_string(),
            };
            if last != words {
                match &seen {
                    Ok(_) => info!("run {}: {words}", self.terms.key()),
                    Err(_) => warn!("run {}: {words}", self.terms.key()),
                }
                said(seen.as_ref().map(|seen| *seen));
                last = words;
            }
            match seen {
                Err(error) if !passes(&error) => return error,
                _ => tokio::time::sleep(self.actions.chain().node().config().every).await,
            }
        }
    }
}

/// Whether another look may go better.
fn passes(error: &ActionError) -> bool {
    match error {
        ActionError::NotPending { .. } => true,
        ActionError::Node(error) => {
            matches!(error, NodeError::Rpc(_) | NodeError::Backwards { .. })
        }
        ActionError::Send(error) => !matches!(error, SendError::Table(_)),
        ActionError::Terms(_) | ActionError::Signature(_) => false,
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => write!(f, "no root waits"),
            Self::Right { height, due_s } => {
                write!(
                    f,
                    "the root of height {height} is what the books say, and is accepted at {due_s} s"
                )
            }
            Self::Unjudged { height, due_s } => {
                write!(
                    f,
                    "the books do not reach height {height} yet, whose root can be challenged until {due_s} s"
                )
            }
            Self::AcceptedWrong { height } => {
                write!(
                    f,
                    "the accepted root of height {height} is not what the books say, and it is too late to challenge it"
                )
            }
            Self::Wrong {
                height,
                digest,
                answer,
            } => {
                write!(
                    f,
                    "the root {digest} of height {height} is not what the books say; "
                )?;
                match answer {
                    Answer::Due => write!(f, "it is to be challenged"),
                    Answer::Challenged(Done::Sent(receipt)) => {
                        write!(f, "transaction {} challenges it", receipt.hash)
                    }
                    Answer::Challenged(Done::AlreadySo(_)) => write!(f, "it is challenged already"),
                    Answer::By(account) => write!(f, "{account} challenges it"),
                    Answer::Confirmed => write!(
                        f,
                        "the run's stake has confirmed it, so it can no longer be challenged"
                    ),
                }
            }
        }
    }
}
