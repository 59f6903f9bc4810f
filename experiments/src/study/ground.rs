//! A researcher's own ground for a study: another base model, other texts, another number of members.
//!
//! Without these options a study is the one whose tables stand in `docs/numbers/`. With them its results have a file of
//! their own, so that one results folder never mixes both.

use std::path::Path;

use tributary_trainer::shards::DEMO_SHARDS;
use tributary_trainer::{BaseModel, DataError, brook};

use crate::learner::{Corpus, TinyModelError, read_texts, tiny_model};

/// Fewest members: of two, each knows what the other sent.
const LEAST: usize = 3;
/// Most members: as many contributions as one round may include.
const MOST: usize = tributary_protocol::limits::MAX_INCLUDED;
/// Pretraining steps of the tiny model.
const PRETRAINING: u64 = 600;
/// What the tiny model is pretrained on; no member holds it.
const PRETRAINED_ON: &str = "genesis";
/// The name of the embedded model.
const BROOK: &str = "brook";

/// What a study runs on, where it is not its own.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Ground {
    /// The base model: `brook`, or a folder in Hugging Face layout. By default the study's own.
    #[arg(long)]
    model: Option<String>,
    /// Texts to deal out among the members: files, and folders of files. By default the demo's.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    data: Vec<String>,
    /// The number of members. By default the study's own.
    #[arg(long)]
    members: Option<usize>,
}

/// Why a ground cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GroundError(String);

impl Ground {
    /// The number of members; `usual` unless another was asked for.
    ///
    /// # Errors
    /// Outside of what one round can include.
    pub fn members(&self, usual: usize) -> Result<usize, GroundError> {
        match self.members.unwrap_or(usual) {
            members @ LEAST..=MOST => Ok(members),
            members => Err(GroundError(format!(
                "--members {members} must lie between {LEAST} and {MOST}"
            ))),
        }
    }

    /// As [`Ground::members`], where one of them may take part under so many more names.
    ///
    /// # Errors
    /// When one round could not include all of them.
    pub fn members_beside(&self, usual: usize, names: usize) -> Result<usize, GroundError> {
        let why = format!(
            "one of them takes part under up to {} names, and a round includes {MOST}",
            names + 1
        );
        self.members_between(usual, LEAST, MOST - names, &why)
    }

    /// As [`Ground::members`], within bounds of the study's own; `why` says where they come from.
    ///
    /// # Errors
    /// Outside of them.
    pub fn members_between(
        &self,
        usual: usize,
        least: usize,
        most: usize,
        why: &str,
    ) -> Result<usize, GroundError> {
        match self.members(usual)? {
            members if (least..=most).contains(&members) => Ok(members),
            members => Err(GroundError(format!(
                "--members {members} must lie between {least} and {most}: {why}"
            ))),
        }
    }

    /// Refuses texts of which too little is held out.
    ///
    /// # Errors
    /// Names the first text with fewer than `least` held-out windows.
    pub fn check_held(corpus: &Corpus, least: usize) -> Result<(), GroundError> {
        let short = corpus
            .domains
            .iter()
            .find(|domain| domain.hold_out.len() < least);
        short.map_or(Ok(()), |domain| {
            Err(GroundError(format!(
                "--data: {} windows of {} are held out, but {least} are needed; give more text",
                domain.hold_out.len(),
                domain.name
            )))
        })
    }

    /// Whether it is the study's own.
    pub fn is_own(&self) -> bool {
        self.mark().is_empty()
    }

    /// What results depend on besides the study; nothing for the study's own ground.
    pub fn mark(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.model.as_ref().map(|model| format!("model {model}; ")));
        if !self.data.is_empty() {
            parts.push(format!("data {}; ", self.data.join(" ")));
        }
        parts.extend(self.members.map(|members| format!("{members} members; ")));
        parts.concat()
    }

    /// The options that ask for it.
    pub fn options(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.model.as_ref().map(|model| format!(" --model {model}")));
        if !self.data.is_empty() {
            parts.push(format!(" --data {}", self.data.join(" ")));
        }
        parts.extend(self.members.map(|members| format!(" --members {members}")));
        parts.concat()
    }

    /// The base model as it was named; `usual` for the study's own.
    pub fn model<'a>(&'a self, usual: &'a str) -> &'a str {
        self.model.as_deref().unwrap_or(usual)
    }

    /// What the members train, in words.
    pub fn words(&self, texts: &str, model: &str) -> String {
        let texts = match self.data.is_empty() {
            true => texts.to_owned(),
            false => self.data.join(", "),
        };
        format!("{texts}; LoRA on {}", self.model(model))
    }

    /// Base model and texts; where none are named, a miniature of brook, pretrained on a text that no member holds, and
    /// the other domains.
    ///
    /// # Errors
    /// When the model cannot be had, or the texts are too short.
    pub fn prepared<E>(&self, context: usize, held: usize) -> Result<(BaseModel, Corpus), E>
    where
        E: From<GroundError> + From<TinyModelError> + From<DataError>,
    {
        let base = match self.base()? {
            Some(base) => base,
            None => {
                let shard = DEMO_SHARDS.iter().find(|shard| shard.name == PRETRAINED_ON);
                tiny_model(shard.expect("a shard of the trainer").text, PRETRAINING)?
            }
        };
        let corpus = match self.corpus(&base, context, held)? {
            Some(corpus) => corpus,
            None => Corpus::new(&base, context, held)?.retain(|name| name != PRETRAINED_ON),
        };
        Ok((base, corpus))
    }

    /// The base model; `None` for the study's own.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn base(&self) -> Result<Option<BaseModel>, GroundError> {
        let Some(model) = self.model.as_deref() else {
            return Ok(None);
        };
        let base = match model {
            BROOK => brook::load(),
            folder => BaseModel::from_dir(Path::new(folder)),
        };
        base.map(Some)
            .map_err(|why| GroundError(format!("--model {model}: {why}")))
    }

    /// The texts, cut for a base model; `None` for the study's own.
    ///
    /// # Errors
    /// When they cannot be read, or are too short.
    pub fn corpus(
        &self,
        base: &BaseModel,
        context: usize,
        held: usize,
    ) -> Result<Option<Corpus>, GroundError> {
        if self.data.is_empty() {
            return Ok(None);
        }
        let texts = read_texts(&self.data).map_err(|why| GroundError(format!("--data: {why}")))?;
        Corpus::of(base, texts, context, held)
            .map(Some)
            .map_err(|why| GroundError(format!("--data: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_s_own_ground_has_no_mark_and_another_one_names_all_of_itself() {
        let own = Ground::default();
        assert_eq!((own.mark(), own.options()), (String::new(), String::new()));
        assert_eq!(own.members(15), Ok(15));
        let other = Ground {
            model: Some("brook".into()),
            data: vec!["a.txt".into(), "notes".into()],
            members: Some(30),
        };
        assert_eq!(other.mark(), "model brook; data a.txt notes; 30 members; ");
        assert_eq!(
            other.options(),
            " --model brook --data a.txt notes --members 30"
        );
        assert_eq!(other.members(15), Ok(30));
        assert_eq!(other.members_beside(8, 15), Ok(30));
        let crowd = Ground {
            members: Some(50),
            ..own.clone()
        };
        let refused = crowd.members_beside(8, 15).unwrap_err().to_string();
        assert!(
            refused.contains("50") && refused.contains("between 3 and 49"),
            "{refused}"
        );
        let many = Ground {
            members: Some(65),
            ..own
        };
        assert!(
            many.members(15)
                .unwrap_err()
                .to_string()
                .contains("between 3 and 64")
        );
    }
}
