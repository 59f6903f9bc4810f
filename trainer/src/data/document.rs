//! Token ids of one document, and which of them are learned.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::base::BaseModel;
use crate::chat::{ChatTemplate, Conversation, Message};
use crate::progress::{Control, Progress};

use super::read::{Dataset, DatasetError};
use super::row::{BadRow, Record, Row, RowReport, alpaca_prompt};
use super::turns;

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

/// Pieces of one text that are encoded between two reports of progress: some for each of many threads.
const PIECES_AT_ONCE: usize = 64;

/// What became of one row.
#[derive(Default)]
pub(crate) struct Written {
    /// One, or one for each answer where the template writes earlier answers differently.
    pub(crate) documents: Vec<Document>,
    /// What the row holds that is not in them.
    pub(crate) unused: BTreeSet<String>,
}

impl Written {
    fn one(document: Document) -> Self {
        Self {
            documents: vec![document],
            unused: BTreeSet::new(),
        }
    }
}

/// Turns records into tokens for one model.
///
/// Texts and completions begin with the token that the tokenizer puts before a text, where it has one, and end with
/// the model's end token, so that it learns to stop; a passage does not end. Prompt and completion are encoded
/// apart, as a generation continues its prompt. A conversation gets what its template writes.
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

    /// As [`Encoder::documents`], of a row that may be one long text; None when `tell` says stop.
    fn one(
        &self,
        row: &Row,
        tell: &mut impl FnMut(usize) -> Control,
    ) -> Option<Result<Written, String>> {
        let Record::Passage(text) = &row.record else {
            let written = self.documents(&row.record);
            return (tell(row.record.bytes()) == Control::Continue).then_some(written);
        };
        let mut tokens = Vec::new();
        let pieces = self.base.tokenizer().pieces(text);
        for pieces in pieces.chunks(PIECES_AT_ONCE) {
            match self.base.tokenizer().encode_pieces(pieces) {
                Ok(more) => tokens.extend(more),
                Err(error) => return Some(Err(error.to_string())),
            }
            if tell(pieces.iter().map(|piece| piece.len()).sum()) == Control::Stop {
                return None;
            }
        }
        let whole = Document::whole(self.base.opened(tokens));
        Some(self.checked(Written::one(whole)))
    }

    /// The documents, or why there are none.
    pub(crate) fn documents(&self, record: &Record) -> Result<Written, String> {
        let written = match record {
            Record::Passage(text) => Written::one(Document::whole(self.opened(text)?)),
            Record::Text(text) => {
                let mut tokens = self.opened(text)?;
                tokens.extend(self.end);
                Written::one(Document::whole(tokens))
            }
            Record::Completion { prompt, completion } => {
                Written::one(self.pair(prompt, completion)?)
            }
            Record::Instruction {
                system,
                instruction,
                input,
                output,
            } => match self.template {
                Some(template) => {
                    let given = match input.trim().is_empty() {
                        true => instruction.clone(),
                        false => format!("{instruction}\n\n{input}"),
                    };
                    let said = [("system", system), ("user", &given), ("assistant", output)];
                    let said = (said.into_iter())
                        .filter(|(role, text)| *role != "system" || !text.trim().is_empty());
                    let messages = said.map(|(role, text)| Message::new(role, text)).collect();
                    let conversation = Conversation {
                        messages,
                        tools: None,
                    };
                    self.conversation(template, &conversation)?
                }
                None => {
                    let prompt = alpaca_prompt(system, instruction, input);
                    Written::one(self.pair(&prompt, output)?)
                }
            },
            Record::Messages(conversation) => {
                let template = self.template.ok_or(
                    "it is a conversation and the model has no chat template; \
                     use an instruction-tuned model or rows of \"prompt\" and \"completion\"",
                )?;
                self.conversation(template, conversation)?
            }
        };
        self.checked(written)
    }

    /// Documents whose tokens the model knows, and in which something is predicted.
    fn checked(&self, mut written: Written) -> Result<Written, String> {
        let vocab = self.base.config().vocab;
        for document in &written.documents {
            super::check_ids(&document.tokens, vocab).map_err(|e| e.to_string())?;
        }
        written
            .documents
            .retain(|document| document.predicted() > 0);
        match written.documents.is_empty() {
            true => Err("it has no token to predict".into()),
            false => Ok(written),
        }
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        self.base.encode(text).map_err(|e| e.to_string())
    }

    /// The tokens of a text that stands at the beginning.
    fn opened(&self, text: &str) -> Result<Vec<u32>, String> {
        self.base.encode_from_start(text).map_err(|e| e.to_string())
    }

    fn pair(&self, prompt: &str, completion: &str) -> Result<Document, String> {
        let mut tokens = self.opened(prompt)?;
        let given = tokens.len();
        tokens.extend(self.encode(completion)?);
        tokens.extend(self.end);
        let learned = (0..tokens.len()).map(|at| at >= given).collect();
        Ok(Document {
            tokens,
            learned: Some(learned),
        })
    }

    fn conversation(
        &self,
        template: &ChatTemplate,
        conversation: &Conversation,
    ) -> Result<Written, String> {
        let ends = self.base.end_tokens();
        let encoded = turns::encode(template, self.base.tokenizer(), conversation, &ends);
        encoded.map_err(|e| e.to_string())
    }
}

/// Bytes of rows, or of one text, that are encoded between two reports of progress.
const GROUP_BYTES: usize = 4 << 20;

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
        let progress = &mut |_: &(u64, u64)| Control::Continue;
        let encoded = self.encode_with(base, template, progress)?;
        Ok(encoded.expect("nobody says stop"))
    }

    /// As [`Dataset::encode`], and tells `progress` now and then how many bytes are encoded, and of how many; None
    /// when it says stop.
    ///
    /// # Errors
    /// See [`Dataset::encode`].
    pub(crate) fn encode_with(
        self,
        base: &BaseModel,
        template: Option<&ChatTemplate>,
        progress: &mut impl Progress<(u64, u64)>,
    ) -> Result<Option<Encoded>, DatasetError> {
        let encoder = Encoder::new(base, template);
        let total: usize = self.rows.iter().map(|row| row.record.bytes()).sum();
        let mut done = 0;
        let mut tell = |bytes: usize| {
            done += bytes;
            progress.report(&(done as u64, total as u64))
        };
        let (mut documents, mut report) = (Vec::new(), self.report);
        for group in groups(&self.rows) {
            let results = match group {
                [row] => match encoder.one(row, &mut tell) {
                    Some(result) => vec![result],
                    None => return Ok(None),
                },
                rows => {
                    let encode = |row: &Row| encoder.documents(&row.record);
                    let results = rows.par_iter().map(encode).collect();
                    if tell(rows.iter().map(|row| row.record.bytes()).sum()) == Control::Stop {
                        return Ok(None);
                    }
                    results
                }
            };
            for (row, result) in group.iter().zip(results) {
                let place = row.place;
                match result {
                    Ok(written) => {
                        written.unused.iter().for_each(|what| report.unused(what));
                        report.split += u64::from(written.documents.len() > 1);
                        documents.extend(written.documents);
                    }
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
        }
        match documents.is_empty() {
            true => Err(DatasetError::NoRows {
                path: self.path,
                report,
            }),
            false => Ok(Some(Encoded { documents, report })),
        }
    }
}

/// Consecutive rows, of about [`GROUP_BYTES`] together.
fn groups(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    let mut bytes = 0;
    rows.chunk_by(move |row, _| {
        bytes += row.record.bytes();
        let same = bytes < GROUP_BYTES;
        if !same {
            bytes = 0;
        }
        same
    })
}
