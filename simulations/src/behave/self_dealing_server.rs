//! A server that is its own consumer: it buys answers of itself, signs as their payer that its own data shaped them, and
//! sends the fees around in the hope that more comes back than it put in.

use tributary_attribution::run_books::RunBooks;
use tributary_attribution::settlement::{Agreement, BaseUnits};
use tributary_attribution::test_chain::TestChain;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Input;
use tributary_protocol::filing::{AgreedShares, Answers, EvmSignature};
use tributary_protocol::id::{PeerId, Ppb};

use super::{Behaviour, LiarContext, money};
use crate::consumer;

/// Agrees with itself to shares of its own.
pub(super) struct SelfDealingServer;

/// The answers, each with all shares for `friend` under the payer's signature.
fn agreed(books: &RunBooks, cx: &LiarContext<'_>, mut answers: Answers) -> Option<Answers> {
    let settled = books.settled()?;
    let config = settled.channel_of(cx.account().address(), &answers)?;
    let channel = config.id(&TestChain::deployed().channels_deployment());
    let shares: Vec<(PeerId, Ppb)> = vec![(cx.me, Ppb::ONE)];
    let mut charged = answers.before;
    for answer in &mut answers.answers {
        charged.0 += answer.fee.0;
        let agreement = Agreement {
            channel: channel.0,
            charged: BaseUnits::from_micro(charged).ok()?,
            request: answer.request,
            text: answer.response,
            shares: &shares,
        };
        let signature = consumer::key().sign(&agreement.digest(settled.deployment()));
        answer.shares = Some(AgreedShares {
            text: answer.response,
            shares: shares.clone(),
            signature: EvmSignature(*signature.as_bytes()),
        });
    }
    Some(answers)
}

impl Behaviour for SelfDealingServer {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let books = cx.world.books;
        let input = money::refile(input, |filing| match filing {
            Entry::Answers(honest) => {
                let bent = books.and_then(|books| agreed(books, cx, honest.clone()));
                vec![Entry::Answers(bent.unwrap_or(honest))]
            }
            other => vec![other],
        });
        Some(input)
    }
}
