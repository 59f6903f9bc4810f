//! A run's disputes, and its checks of shares.

use serde::{Deserialize, Serialize};
use tributary_attribution::run_books::{Dispute, Matter, RunBooks, Stage};
use tributary_protocol::filing::Finding;
use tributary_protocol::id::{PeerId, Round};
use tributary_protocol::round::EntryRef;
use utoipa::ToSchema;

use super::books::{AccountSignature, by_account};

/// A run's disputes about score sheets, and checks of the shares of answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DisputesView {
    /// The run.
    pub run: String,
    /// The height that comes next.
    pub expected: u32,
    /// All that were opened, ordered by id.
    pub disputes: Vec<DisputeView>,
    /// Sheets that can be disputed now, the oldest round first.
    pub disputable: Vec<SheetView>,
}

/// One dispute, or one check of shares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DisputeView {
    /// Its id.
    pub id: String,
    /// Whose word a jury recomputes: the evaluator's that made the sheet, or the server's that filed the answers.
    pub author: String,
    /// The score, if one is disputed.
    pub score: Option<DisputedScoreView>,
    /// Places of answers in the entry that this id names, of whose shares the check is; counted from 0.
    pub answers: Vec<u8>,
    /// `called`, `sitting`, `appealable`, `over`, `upheld`, `unproven` or `lapsed`.
    pub stage: String,
    /// Until which height the jury sits, or the loser may appeal.
    pub until: Option<u32>,
    /// Who lost.
    pub loser: Option<String>,
    /// Who appealed.
    pub appellant: Option<String>,
    /// What the loser's stake pays; none while it is not over, or where it pays nothing.
    pub sentence: Option<SentenceView>,
    /// Who judges, or judged last.
    pub jury: Vec<JurorView>,
}

/// A score that somebody disputes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DisputedScoreView {
    /// The round that the sheet judges.
    pub round: u32,
    /// Whose score is disputed.
    pub peer: String,
    /// What the challenger says of it.
    pub reason: String,
    /// Who opened the dispute.
    pub challenger: String,
}

/// What the loser of a dispute pays out of its stake, as the contract's `slash` takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SentenceView {
    /// The loser's account.
    pub account: String,
    /// How much, base units as decimal digits.
    pub units: String,
    /// Hash of the place of the entry that opened the dispute.
    pub evidence: String,
    /// Signatures that certificates put in order, ordered by account.
    pub signatures: Vec<AccountSignature>,
}

/// A juror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JurorView {
    /// The peer.
    pub peer: String,
    /// Its seats.
    pub seats: u32,
    /// `holds`, `fails`, `unshown` or `unreached`; none while it has found nothing.
    pub finding: Option<String>,
}

/// A sheet that can be disputed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SheetView {
    /// The round that it judges.
    pub round: u32,
    /// Who made it.
    pub evaluator: String,
    /// Whose scores became final with it.
    pub scored: Vec<String>,
}

/// A dispute's id, as people and programs name it.
pub fn dispute_id(at: &EntryRef) -> String {
    format!("{}-{}", at.block.0, at.index)
}

impl DisputesView {
    /// Of the books of a run.
    pub fn of(books: &RunBooks) -> Self {
        let mut disputes: Vec<DisputeView> = books.disputes().map(view).collect();
        disputes.sort_by(|one, other| one.id.cmp(&other.id));
        let sheets = books.disputable();
        let mut sheets: Vec<SheetView> = sheets
            .map(|(at, round, scored)| SheetView {
                round: round.0,
                evaluator: at.author.to_string(),
                scored: scored.iter().map(PeerId::to_string).collect(),
            })
            .collect();
        sheets.sort_by(|one, other| {
            (one.round, &one.evaluator).cmp(&(other.round, &other.evaluator))
        });
        Self {
            run: books.run().to_string(),
            expected: books.expected().0,
            disputes,
            disputable: sheets,
        }
    }
}

fn view((at, dispute): (&EntryRef, &Dispute)) -> DisputeView {
    let (stage, until, loser, sentence) = match &dispute.stage {
        Stage::Called(_) => ("called", None, None, None),
        Stage::Sitting(until) => ("sitting", Some(*until), None, None),
        Stage::Appealable(loser, until) => ("appealable", Some(*until), Some(*loser), None),
        Stage::Over(sentence) => ("over", None, Some(sentence.loser), Some(sentence)),
        Stage::Upheld => ("upheld", None, None, None),
        Stage::Unproven => ("unproven", None, None, None),
        Stage::Lapsed => ("lapsed", None, None, None),
    };
    let sentence = sentence.and_then(|sentence| {
        let slash = sentence.slash?;
        Some(SentenceView {
            account: slash.account.to_string(),
            units: slash.amount.0.to_string(),
            evidence: slash.evidence.to_string(),
            signatures: by_account(&sentence.signatures),
        })
    });
    DisputeView {
        id: dispute_id(at),
        author: dispute.matter.author().to_string(),
        score: dispute.matter.score().map(|score| DisputedScoreView {
            round: score.round.0,
            peer: score.peer.to_string(),
            reason: score.reason.clone(),
            challenger: score.challenger.to_string(),
        }),
        answers: match &dispute.matter {
            Matter::Shares { drawn, .. } => drawn.clone(),
            Matter::Score(_) => Vec::new(),
        },
        stage: stage.to_owned(),
        until: until.map(|Round(height)| height),
        loser: loser.map(|peer| peer.to_string()),
        appellant: dispute.appellant.map(|peer| peer.to_string()),
        sentence,
        jury: (dispute.jury.iter())
            .map(|(peer, seats)| JurorView {
                peer: peer.to_string(),
                seats,
                finding: dispute
                    .findings
                    .get(peer)
                    .map(|found| word(*found).to_owned()),
            })
            .collect(),
    }
}

fn word(finding: Finding) -> &'static str {
    match finding {
        Finding::Holds => "holds",
        Finding::Fails => "fails",
        Finding::Unshown => "unshown",
        Finding::Unreached => "unreached",
    }
}
