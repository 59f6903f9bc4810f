//! A tokenizer's tokens as a tree of bytes, and the grammars that were compiled for it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use llguidance::api::{GrammarWithLexer, ParserLimits, StopReason, TopLevelGrammar};
use llguidance::toktrie::{
    INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Matcher, ParserFactory};
use serde_json::json;

use super::{GrammarError, Source};
use crate::request::Constraint;
use crate::tokenizer::{Spelling, TokenText, Tokenizer, TokenizerError};

/// Between two signs of JSON: one space, or a line end with an indentation.
const WHITESPACE: &str = "\\x20|\\x0A[\\x20\\x09]{0,32}";

/// Stack of a thread that compiles, in bytes. The compiler recurses over the schema and its references, which have at
/// most [`super::MAX_SCHEMA_BYTES`]; what is not needed is never touched.
const STACK_BYTES: usize = 64 << 20;

/// Grammars that are kept compiled: clients repeat few schemas. Each takes about a megabyte.
const MAX_KEPT: usize = 32;

/// What compiling, and each mask, may spend.
fn limits() -> ParserLimits {
    ParserLimits {
        // Fifty thousand take a millisecond.
        initial_lexer_fuel: 1_000_000,
        // Fourteen thousand take a millisecond.
        step_lexer_fuel: 200_000,
        // One to two kilobytes each.
        max_lexer_states: 20_000,
        max_grammar_size: 100_000,
        // Objects of as many optional properties as are allowed have four for each.
        max_items_in_row: 8_000,
        // A name and what it stands for are the requester's alone: they do not go into messages.
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// The tokens of a tokenizer, as grammars need them. Built once and shared: for 49 thousand tokens it takes a
/// third of a second and 13 MiB.
pub struct Vocabulary {
    factory: ParserFactory,
    /// Most recently used last.
    kept: Mutex<Vec<(String, Matcher)>>,
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.factory.tok_env().tok_trie().vocab_size();
        f.debug_struct("Vocabulary")
            .field("tokens", &tokens)
            .finish()
    }
}

impl Vocabulary {
    /// Reads the tokens. `ends` are those that end an answer; `rows` is the size of the model's vocabulary, which may
    /// be padded.
    ///
    /// # Errors
    /// [`TokenizerError::Parse`] when the bytes of tokens cannot be told.
    pub fn new(tokenizer: &Tokenizer, ends: &[u32], rows: usize) -> Result<Self, TokenizerError> {
        let unusable = |e: String| TokenizerError::Parse(format!("it makes no grammar: {e}"));
        let mut words: Vec<Vec<u8>> = (tokenizer.token_texts()?.into_iter())
            .map(|text| match text {
                TokenText::Bytes(bytes) => bytes,
                TokenText::Special(name) => marked(&name),
                TokenText::Absent => Vec::new(),
            })
            .collect();
        words.resize(rows.max(words.len()), Vec::new());
        let mut real: Vec<TokenId> = ends.to_vec();
        real.retain(|id| (*id as usize) < words.len());
        for id in &real {
            if !words[*id as usize].starts_with(&[TokTrie::SPECIAL_TOKEN_MARKER]) {
                words[*id as usize] = marked(&format!("end {id}"));
            }
        }
        let end = real.first().copied().unwrap_or(INVALID_TOKEN);
        let mut trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        if !real.is_empty() {
            trie = trie.with_eos_tokens(&real);
        }
        let env: TokEnv = Arc::new(Tokens {
            trie,
            canonical: tokenizer.spelling()? == Spelling::ByteLevel,
            tokenizer: tokenizer.clone(),
        });
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices);
        let mut factory = factory.map_err(|e| unusable(e.to_string()))?;
        *factory.limits_mut() = limits();
        factory.quiet();
        Ok(Self {
            factory,
            kept: Mutex::new(Vec::new()),
        })
    }

    /// What holds an answer to a grammar: compiled, or taken from those that are kept.
    pub(super) fn constraint(&self, source: Source) -> Result<Box<dyn Constraint>, GrammarError> {
        let mut key = source.rules.clone();
        for schema in &source.schemas {
            key.push('\n');
            key += &schema.value.to_string();
        }
        if let Some(matcher) = self.find(&key) {
            return Ok(Box::new(Held { matcher }));
        }
        let matcher = self.compile(source)?;
        let copy = matcher.deep_clone();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.remove(0);
        }
        kept.push((key, matcher));
        Ok(Box::new(Held { matcher: copy }))
    }

    /// A copy that shares nothing with other answers: what one spends is not another's.
    fn find(&self, key: &str) -> Option<Matcher> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(other, _)| other == key)?;
        let entry = kept.remove(at);
        let copy = entry.1.deep_clone();
        kept.push(entry);
        Some(copy)
    }

    fn compile(&self, source: Source) -> Result<Matcher, GrammarError> {
        let param = match &source.schemas[..] {
            [one] => one.param.clone(),
            _ => "tools".into(),
        };
        let failed = |why: String| GrammarError::Compile {
            param: param.clone(),
            why,
        };
        let schemas = source.schemas.into_iter().enumerate().map(|(at, schema)| {
            let mut value = schema.value;
            if let Some(fields) = value.as_object_mut() {
                fields.insert(
                    "x-guidance".into(),
                    json!({"whitespace_pattern": WHITESPACE}),
                );
            }
            let mut grammar = GrammarWithLexer::from_json_schema(value);
            grammar.name = Some(format!("s{at}"));
            grammar
        });
        let mut grammars = vec![GrammarWithLexer::from_lark(source.rules)];
        grammars.extend(schemas);
        let grammar = TopLevelGrammar {
            grammars,
            max_tokens: None,
        };
        let compile = || match self.factory.create_parser(grammar) {
            Ok(parser) => Ok(Matcher::new(Ok(parser))),
            Err(error) => Err(short(&error.to_string())),
        };
        let compiled = thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            let thread = thread.spawn_scoped(scope, compile);
            let thread = thread.map_err(|e| format!("no thread could be started ({e})"))?;
            (thread.join()).unwrap_or_else(|_| Err("the compiler failed on it".into()))
        });
        let mut matcher = compiled.map_err(failed)?;
        match matcher.get_error() {
            None => {}
            Some(error) => return Err(failed(short(&error))),
        }
        // A schema that nothing satisfies shows with the first mask, and so does one that is too costly.
        (matcher.compute_mask()).map_err(|e| failed(short(&e.to_string())))?;
        Ok(matcher)
    }
}

/// The name of a token that is no text, as the tree of tokens marks it.
fn marked(name: &str) -> Vec<u8> {
    let mut bytes = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// A message of the library for people: its first line.
fn short(message: &str) -> String {
    /// Bytes of it that are shown.
    const MOST: usize = 200;
    let message = message.strip_prefix("panic: ").unwrap_or(message);
    let line = message.lines().next().unwrap_or_default();
    match line {
        line if line.contains("oneOf constraints are not supported") => {
            "the members of a oneOf overlap; use anyOf".into()
        }
        line if line.contains("NoExtensionBias") => "no answer satisfies it".into(),
        line => line.chars().take(MOST).collect(),
    }
}

/// The tokenizer as the library asks for it.
struct Tokens {
    trie: TokTrie,
    /// Whether a text is cut the same way wherever it stands.
    canonical: bool,
    tokenizer: Tokenizer,
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// Tokens as the model was taught them. Where the tokenizer changes the text, or reads a mark in it, the longest
    /// tokens that spell it.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let ids = self.tokenizer.encode(text).unwrap_or_default();
            let spelled: Vec<u8> = (ids.iter())
                .flat_map(|id| self.trie.token(*id).iter().copied())
                .collect();
            match spelled == text.as_bytes() {
                true => ids,
                false => self.trie.greedy_tokenize(text.as_bytes()),
            }
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}

/// A grammar, and how far the answer has come in it.
struct Held {
    matcher: Matcher,
}

impl Constraint for Held {
    fn allowed(&mut self) -> Result<Vec<u32>, String> {
        let mask = self.matcher.compute_mask();
        let mask = mask.map_err(|e| {
            let why = short(&e.to_string());
            format!("the answer's form could not be worked out: {why}; simplify the schema")
        })?;
        Ok(mask.as_slice().to_vec())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        self.matcher.consume_token(token).map_err(|e| {
            let why = short(&e.to_string());
            format!("token {token} is not allowed by the answer's form: {why}")
        })
    }

    fn is_finished(&self) -> bool {
        use StopReason::{EndOfSentence, NoExtension, NoExtensionBias};
        let reason = self.matcher.stop_reason();
        matches!(reason, EndOfSentence | NoExtension | NoExtensionBias)
    }
}
