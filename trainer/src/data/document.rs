//! Token ids of one document, and which of them are learned.

use rayon::prelude::*;

use crate::base::BaseModel;
use crate::chat::ChatTemplate;

use super::read::{Dataset, DatasetError};
use super::row::{BadRow, Record, Row, RowReport};

/// One encoded document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// For every token whether it is predicted; None means all of them. The first never is.
    pub learned: Option<Vec<bool>>,
}

impl Document {
    /// A document of which every token is learned.
    pub fn whole(tokens: Vec<u32>) -> Self {
        Self {
            tokens,
            learned: None,
        }
    }

    /// Whether token `at` is predicted.
    pub(super) fn learns(&self, at: usize) -> bool {
        at > 0 && self.learned.as_ref().is_none_or(|learned| learned[at])
    }

    /// Tokens that are predicted.
    pub fn predicted(&self) -> usize {
        (1..self.tokens.len()).filter(|at| self.learns(*at)).count()
    }

    /// Consecutive pieces of at most `context` tokens; the first token of each is not predicted.
    pub(crate) fn cut(self, context: usize) -> Vec<Self> {
        if self.tokens.len() <= context {
            return vec![self];
        }
        let starts = (0..self.tokens.len()).step_by(context);
        let piece = |start: usize| {
            let range = start..self.tokens.len().min(start + context);
            Self {
                tokens: self.tokens[range.clone()].to_vec(),
                learned: self.learned.as_ref().map(|l| l[range].to_vec()),
            }
        };
        starts.map(piece).collect()
    }
}

/// Documents of a dataset for one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// In the order of their rows.
    pub documents: Vec<Document>,
    /// Rows used, and what was wrong with the others, reading and encoding together.
    pub report: RowReport,
}

/// Turns records into tokens for one model.
///
/// Texts and completions end with the model's end token, so that it learns to stop; a passage does not.
/// Prompt and completion are encoded apart, as a generation continues its prompt. Neither gets a token
/// before it; a conversation gets what its template writes.
pub(crate) struct Encoder<'a> {
    base: &'a BaseModel,
    template: Option<&'a ChatTemplate>,
    end: Option<u32>,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(base: &'a BaseModel, template: Option<&'a ChatTemplate>) -> Self {
        let configured = base.config().eos.first().copied();
        Self {
            base,
            template,
            end: configured.or_else(|| base.tokenizer().eos_ids().first().copied()),
        }
    }

    /// The document, or why there is none.
    pub(crate) fn document(&self, record: &Record) -> Result<Document, String> {
        let encode = |text: &str| self.base.encode(text).map_err(|e| e.to_string());
        let document = match record {
            Record::Passage(text) => Document::whole(encode(text)?),
            Record::Text(text) => {
                let mut tokens = encode(text)?;
                tokens.extend(self.end);
                Document::whole(tokens)
            }
            Record::Completion { prompt, completion } => {
                let mut tokens = encode(prompt)?;
                let given = tokens.len();
                tokens.extend(encode(completion)?);
                tokens.extend(self.end);
                let learned = (0..tokens.len()).map(|at| at >= given).collect();
                Document {
                    tokens,
                    learned: Some(learned),
                }
            }
            Record::Messages(messages) => {
                let template = self.template.ok_or(
                    "it is a conversation and the model has no chat template; \
                     use an instruction-tuned model or rows of \"prompt\" and \"completion\"",
                )?;
                let ends = self.base.end_tokens();
                let encoded = template.encode(self.base.tokenizer(), messages, &ends);
                encoded.map_err(|e| e.to_string())?
            }
        };
        let vocab = self.base.config().vocab;
        super::check_ids(&document.tokens, vocab).map_err(|e| e.to_string())?;
        match document.predicted() {
            0 => Err("it has no token to predict".into()),
            _ => Ok(document),
        }
    }
}

impl Dataset {
    /// Encodes every row. Rows that cannot be are counted with the bad ones.
    ///
    /// # Errors
    /// When no row is left, or at the first bad one if the dataset was read strictly.
    pub fn encode(
        self,
        base: &BaseModel,
        template: Option<&ChatTemplate>,
    ) -> Result<Encoded, DatasetError> {
        let encoder = Encoder::new(base, template);
        let encode = |row: &Row| encoder.document(&row.record);
        let encoded: Vec<Result<Document, String>> = self.rows.par_iter().map(encode).collect();
        let mut report = self.report;
        let mut documents = Vec::with_capacity(encoded.len());
        for (row, result) in self.rows.iter().zip(encoded) {
            let place = row.place;
            match result {
                Ok(document) => documents.push(document),
                Err(reason) if self.strict => {
                    return Err(DatasetError::Bad {
                        path: self.path,
                        row: BadRow { place, reason },
                    });
                }
                Err(reason) => {
                    report.good -= 1;
                    report.bad(BadRow { place, reason });
                }
            }
        }
        match documents.is_empty() {
            true => Err(DatasetError::NoRows {
                path: self.path,
                report,
            }),
            false => Ok(Encoded { documents, report }),
        }
    }
}
