//! What an adapter folder says of its adapter beside the numbers: `README.md` for people and hubs, `tributary.json` for
//! programs.
//!
//! Both are written with the adapter and hold what the run's certificates say of it then: the base, who contributed, by
//! which rule, what the hold-outs measured, and what all of that cannot tell. Names come from strangers, so they are
//! quoted wherever they stand.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tributary_ledger::view::{CreditView, MemberView, RoundView};
use tributary_ledger::{IndexedRun, RunAccount};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash;
use tributary_protocol::id::{PeerId, Ppb, Round};
use tributary_protocol::manifest::{Aggregation, Manifest};

use super::{BROOK, folder_of, share};
use crate::home::HomePaths;

/// Names of the files that are a card's.
pub(crate) const FILES: [&str; 2] = [README, FACTS];
/// The card for people, as hubs read it.
const README: &str = "README.md";
/// The same for programs.
const FACTS: &str = "tributary.json";
/// What `tributary.json` is.
const SCHEMA: &str = "adapter-card/1";
/// Largest `tributary.json` that is read, in bytes: members and rounds of the largest run at 300 bytes each.
const MAX_FACTS_BYTES: u64 = 16 << 20;

/// `tributary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// `adapter-card/1`.
    pub schema: String,
    /// The adapter's id, as certificates and `tributary adapter get` name it.
    pub adapter: String,
    /// Identity of what it computes: shape and numbers.
    pub content: String,
    /// The run.
    pub run: String,
    /// The run's name.
    pub name: String,
    /// The round that certified it.
    pub round: u32,
    /// Rounds of the run.
    pub rounds: u32,
    /// The base's name.
    pub base: String,
    /// Hash of the base's files.
    pub base_hash: String,
    /// The base's licence, with the file that says so; empty where nothing is known of it.
    pub base_licence: String,
    /// What the members' texts belong to.
    pub datanet: String,
    /// The peer that opened the run.
    pub creator: String,
    /// Peers that scored it.
    pub evaluators: Vec<String>,
    /// How updates were combined.
    pub rule: String,
    /// Rank of the adapter.
    pub rank: u32,
    /// Its alpha.
    pub alpha: u32,
    /// Losses of its rounds on the hold-outs.
    pub history: Vec<RoundView>,
    /// Members.
    pub members: Vec<MemberView>,
    /// What contributors earned up to that round.
    pub credits: Vec<CreditView>,
}

/// What the certificates of a run say of those that took part.
#[derive(Debug, Default)]
pub struct Known {
    members: Vec<MemberView>,
    rounds: Vec<RoundView>,
    credits: Vec<CreditView>,
}

impl Known {
    /// From an index. Credits that contradict themselves are left out; `ledger verify` reports them.
    pub fn of_index(run: &IndexedRun) -> Self {
        Self {
            members: run.members(),
            rounds: run.rounds(),
            credits: run.credits().unwrap_or_default(),
        }
    }

    /// From an account.
    pub fn of_account(account: &RunAccount<'_>) -> Self {
        Self {
            members: account.members(),
            rounds: account.rounds(),
            credits: account.credits().unwrap_or_default(),
        }
    }
}

impl Card {
    /// Of the adapter that `round` of a run certified.
    pub fn of(manifest: &Manifest, adapter: &Adapter, round: Round, known: Known) -> Self {
        let mut history = known.rounds;
        history.retain(|r| r.round <= round.0);
        Self {
            schema: SCHEMA.to_owned(),
            adapter: hash::blob(adapter.as_bytes()).to_string(),
            content: adapter.content().to_string(),
            run: manifest.run_id().to_string(),
            name: manifest.name.clone(),
            round: round.0.min(manifest.plan.rounds),
            rounds: manifest.plan.rounds,
            base: manifest.model.base.name.clone(),
            base_hash: manifest.model.base.hash.to_string(),
            base_licence: String::new(),
            datanet: manifest.datanet.clone(),
            creator: manifest.creator.to_string(),
            evaluators: (manifest.scoring.evaluators.iter())
                .map(PeerId::to_string)
                .collect(),
            rule: rule(manifest.updates.aggregation),
            rank: manifest.model.adapter.rank,
            alpha: manifest.model.adapter.alpha,
            history,
            members: known.members,
            credits: known.credits,
        }
    }

    /// Adds the licence of the base, where its folder is on this machine and says.
    #[must_use]
    pub fn with_licence(mut self, home: &HomePaths) -> Self {
        self.base_licence = match folder_of(home, &self.base_hash) {
            Some(folder) => share::licence(&folder),
            None if self.base == BROOK => "MIT OR Apache-2.0 (Tributary)".to_owned(),
            None => String::new(),
        };
        self
    }

    /// The card of a folder, where it has one that is understood.
    pub fn read(folder: &Path) -> Option<Self> {
        let bytes =
            tributary_engine::model::files::open::read(&folder.join(FACTS), MAX_FACTS_BYTES);
        let card: Self = serde_json::from_slice(&bytes.ok()?).ok()?;
        (card.schema == SCHEMA).then_some(card)
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let json = serde_json::to_string_pretty(self).expect("plain data always serialises");
        std::fs::write(folder.join(FACTS), json + "\n")?;
        std::fs::write(folder.join(README), self.markdown())
    }

    fn markdown(&self) -> String {
        let contributors = self.credits.len();
        let mut out = self.front_matter();
        out.push_str(&format!(
            "# {}\n\nA LoRA adapter of {}, trained by {contributors} peers on texts that stayed with them, and certified by \
             round {} of {} of a run of Tributary.\n\n",
            cell(&self.name),
            cell(&self.base),
            self.round,
            self.rounds
        ));
        let facts = [
            ("adapter", self.adapter.clone()),
            ("content", self.content.clone()),
            ("run", self.run.clone()),
            ("base", cell(&self.base)),
            ("hash of the base's files", self.base_hash.clone()),
            (
                "rank and alpha",
                format!("{} and {}", self.rank, self.alpha),
            ),
            ("Datanet", cell(&self.datanet)),
            ("opened by", self.creator.clone()),
            ("scored by", self.evaluators.join(", ")),
            ("updates combined by", self.rule.clone()),
        ];
        out.push_str("| fact | value |\n|---|---|\n");
        for (fact, value) in facts {
            out.push_str(&format!("| {fact} | {value} |\n"));
        }
        out.push_str(&self.losses());
        out.push_str(&self.contributors());
        out.push_str(&self.licences());
        out.push_str(LIMITS);
        out
    }

    /// The settings that hubs read.
    fn front_matter(&self) -> String {
        let licence = self.base_licence.rsplit_once(" (").map(|(name, _)| name);
        let licence = licence.filter(|name| is_plain(name)).unwrap_or("unknown");
        format!(
            "---\nbase_model: {}\nlibrary_name: peft\nlicense: {}\npipeline_tag: text-generation\ntags:\n- lora\n- peft\n- \
             tributary\n---\n\n",
            quoted(&self.base),
            quoted(&licence.to_ascii_lowercase())
        )
    }

    fn losses(&self) -> String {
        let scored: Vec<(u32, f64, f64)> = (self.history.iter())
            .filter_map(|r| Some((r.round, r.loss_before?, r.loss_after?)))
            .collect();
        let mut out = "\n## Loss on the hold-outs\n\n".to_owned();
        let (Some(first), Some(last)) = (scored.first(), scored.last()) else {
            out.push_str("No round was scored yet when this was written.\n");
            return out;
        };
        out.push_str(&format!(
            "Nats per token, median over the evaluators: {:.4} before round {}, {:.4} after round {}.\n\n| round | before | \
             after |\n|---:|---:|---:|\n",
            first.1, first.0, last.2, last.0
        ));
        for (round, before, after) in scored {
            out.push_str(&format!("| {round} | {before:.4} | {after:.4} |\n"));
        }
        out
    }

    fn contributors(&self) -> String {
        let total: u64 = self.credits.iter().map(|c| c.credit).sum();
        let mut out = "\n## Contributors\n\n| name | peer | tokens | its own | score (interval) | share of credits |\n\
                       |---|---|---:|---:|---:|---:|\n"
            .to_owned();
        for credit in &self.credits {
            let member = self.members.iter().find(|m| m.peer == credit.peer);
            let (tokens, own) = member.map_or((0, 0), |m| (m.tokens, m.own_tokens));
            let milli = |nanonats: i64| nanonats as f64 / 1e6;
            let share = match total {
                0 => 0.0,
                total => credit.credit as f64 / total as f64 * 100.0,
            };
            out.push_str(&format!(
                "| {} | {} | {tokens} | {own} | {:+.3} ({:+.3} to {:+.3}) | {share:.1} %{} |\n",
                cell(&credit.name),
                credit.peer,
                milli(credit.score_nanonats),
                milli(credit.low_nanonats),
                milli(credit.high_nanonats),
                match credit.beyond_luck {
                    true => "",
                    false => " (not beyond luck)",
                }
            ));
        }
        out.push_str("\nScores are in thousandths of a nat per token, summed over rounds.\n");
        out
    }

    fn licences(&self) -> String {
        let base = match self.base_licence.as_str() {
            "" => "nothing is known of it here; ask its authors".to_owned(),
            licence => cell(licence),
        };
        format!(
            "\n## Licences\n\n- Base model: {base}.\n- Contributors' texts: the run does not record their licences. Ask the \
             contributors before you pass the adapter on.\n"
        )
    }
}

/// What the numbers above leave open.
const LIMITS: &str = "
## What this does not tell

- A score says how far a contributor's updates moved the loss on the evaluators' hold-outs. It says nothing of texts that
  these do not resemble.
- The interval covers which hold-out windows were drawn, and not whether the hold-out was a fair one.
- A contributor whose scores are not beyond luck has no credits yet. That does not mean that its text is worthless.
- A share of the credits is no share of an answer: `tributary why` estimates that, for each answer anew.
- Tokens are counted by their owners. The column of own tokens leaves out what others had committed before.
- Nobody but its owner has seen a contributor's text. Assume neither that it is free of errors nor that it is harmless.

`tributary adapter verify` checks this folder against its base. `tributary adapter get` fetches the adapter anew and checks
it against the run's certificates.
";

fn rule(aggregation: Aggregation) -> String {
    let tolerating = |rule: &str, tolerate: Ppb| {
        let percent = f64::from(tolerate.0) / 1e7;
        format!("{rule}, tolerating liars with up to {percent} % of a round's tokens")
    };
    match aggregation {
        Aggregation::Mean => "mean weighted by tokens".to_owned(),
        Aggregation::ClippedMean => "mean of updates clipped to their median norm".to_owned(),
        Aggregation::MultiKrum { tolerate } => tolerating("Multi-Krum", tolerate),
        Aggregation::CentredClip { tolerate } => tolerating("centred clipping", tolerate),
        Aggregation::GeometricMedian { tolerate } => tolerating("geometric median", tolerate),
        Aggregation::Agreement { tolerate } => {
            tolerating("mean of the updates that agree in direction", tolerate)
        }
    }
}

/// A word as licences are named.
fn is_plain(name: &str) -> bool {
    let usual = |b: u8| b.is_ascii_alphanumeric() || b"-. +".contains(&b);
    !name.is_empty() && name.bytes().all(usual)
}

/// A text in the settings: YAML reads strings of JSON.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text always serialises")
}

/// A stranger's text in a line or table: neither markup nor another cell.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '!' => {
                out.extend(['\\', c])
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
