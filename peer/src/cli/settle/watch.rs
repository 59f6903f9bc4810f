//! `tributary settle watch` and `challenge`: posted roots held against the books.

use serde::Serialize;
use tributary_attribution::settlement::Root;
use tributary_ledger::view::short;
use tributary_settlement::{ActionError, Actions, Answer, Done, NodeError, Seen, SendError, Watch};

use super::{Context, Found, of_action, of_node, open};
use crate::cli::up::interrupted;
use crate::problem::{Code, Problem};
use crate::terminal::{Failure, note};

/// `settle-watch/1`: what a look at a run found, where it is news.
#[derive(Serialize)]
struct Look {
    schema: &'static str,
    run: String,
    /// `nothing`, `right`, `unjudged`, `wrong` or `accepted_wrong`.
    seen: &'static str,
    /// Of the root.
    height: Option<u64>,
    /// What its members signed, of a wrong one.
    digest: Option<String>,
    /// The transaction by which this account challenges it.
    challenge: Option<String>,
    /// In words.
    says: String,
}

impl Look {
    fn of(found: &Found, seen: &Seen) -> Self {
        let (kind, height, digest, answer) = match *seen {
            Seen::Nothing => ("nothing", None, None, None),
            Seen::Right { height, .. } => ("right", Some(height), None, None),
            Seen::Unjudged { height, .. } => ("unjudged", Some(height), None, None),
            Seen::AcceptedWrong { height } => ("accepted_wrong", Some(height), None, None),
            Seen::Wrong {
                height,
                digest,
                answer,
            } => ("wrong", Some(height), Some(digest), Some(answer)),
        };
        let challenge = match answer {
            Some(Answer::Challenged(Done::Sent(receipt))) => Some(receipt.hash.to_string()),
            _ => None,
        };
        Self {
            schema: "settle-watch/1",
            run: found.run(),
            seen: kind,
            height,
            digest: digest.map(|digest| digest.to_string()),
            challenge,
            says: seen.to_string(),
        }
    }

    fn answer(&self, context: &Context) -> Result<(), Failure> {
        context.out.answer(self, |look| {
            format!("run {}: {}", short(&look.run), look.says)
        })
    }
}

/// The root that the books have where the chain has one: of the pending, else of the accepted height.
async fn expected(actions: &Actions, found: &Found) -> Result<Option<Root>, Failure> {
    let chain = actions.chain();
    let block = chain.finalized().await.map_err(|why| of_node(&why))?;
    let run = chain.settlement().runs(found.terms.key());
    let run = chain.ask(&run, &block).await.map_err(|why| of_node(&why))?;
    let height = (run.pending).map_or(run.accepted.height, |pending| pending.root.height);
    match height {
        0 => Ok(None),
        height => Ok(found.at(height).await?.root()),
    }
}

/// Looks again and again, until it is stopped.
pub(super) async fn watch(context: &Context, found: &Found) -> Result<(), Failure> {
    let actions = found.actions().await?;
    note(format_args!(
        "watching run {} from account {}, which puts up {} OPEN for a challenge",
        short(&found.run()),
        actions.account(),
        open(found.terms.challenge_bond)
    ));
    tokio::select! {
        failed = look_on(context, (found, &actions)) => failed,
        stopped = interrupted() => stopped.map(|_| ()),
    }
}

async fn look_on(context: &Context, (found, actions): (&Found, &Actions)) -> Result<(), Failure> {
    let mut watch = Watch::new(actions, found.terms);
    let mut last = String::new();
    loop {
        // The books go on in the daemon meanwhile, so they are asked before each look.
        let looked = match expected(actions, found).await {
            Ok(root) => {
                let of = |height| root.filter(|root| root.height == height);
                watch.look(of).await.map_err(Looked::Action)
            }
            Err(why) => Err(Looked::Books(why)),
        };
        let words = match &looked {
            Ok(seen) => seen.to_string(),
            Err(why) => why.words(),
        };
        if words != last {
            match &looked {
                Ok(seen) => Look::of(found, seen).answer(context)?,
                Err(why) => note(format_args!("warning: {}; it is tried again", why.words())),
            }
            last = words;
        }
        if let Err(why) = looked
            && !why.passes()
        {
            return Err(why.failure());
        }
        tokio::time::sleep(found.way.settings.every()).await;
    }
}

/// Why a look came to nothing.
enum Looked {
    Action(ActionError),
    Books(Failure),
}

impl Looked {
    fn words(&self) -> String {
        match self {
            Self::Action(why) => why.to_string(),
            Self::Books(why) => why.message().to_owned(),
        }
    }

    /// Whether the next look may go better: a node, or a daemon that starts again, may be away for a while.
    fn passes(&self) -> bool {
        match self {
            Self::Action(ActionError::Node(why) | ActionError::Send(SendError::Node(why))) => {
                matches!(why, NodeError::Rpc(_) | NodeError::Backwards { .. })
            }
            Self::Action(ActionError::NotPending { .. }) => true,
            Self::Action(ActionError::Send(why)) => !matches!(why, SendError::Table(_)),
            Self::Action(ActionError::Terms(_) | ActionError::Signature(_)) => false,
            Self::Books(why) => matches!(
                why.problem().code,
                Code::Unreachable | Code::Stopped | Code::NotRunning
            ),
        }
    }

    fn failure(self) -> Failure {
        match self {
            Self::Action(why) => of_action(&why),
            Self::Books(why) => why,
        }
    }
}

/// Looks once.
pub(super) async fn challenge(context: &Context, found: &Found) -> Result<(), Failure> {
    let actions = found.actions().await?;
    let root = expected(&actions, found).await?;
    let mut watch = Watch::new(&actions, found.terms);
    let seen = watch
        .look(|height| root.filter(|root| root.height == height))
        .await
        .map_err(|why| of_action(&why))?;
    if matches!(
        seen,
        Seen::Wrong {
            answer: Answer::Challenged(_) | Answer::By(_),
            ..
        }
    ) {
        return Look::of(found, &seen).answer(context);
    }
    let text = format!(
        "run {}: {seen}, so nothing was challenged",
        short(&found.run())
    );
    match seen {
        Seen::Wrong { .. } | Seen::AcceptedWrong { .. } => Err(Failure::finding(text).hint(
            "tell the members of the run: what lowers a balance that was accepted can still be proven on the chain",
        )),
        _ => Err(Problem::new(Code::Refused, text).into()),
    }
}
