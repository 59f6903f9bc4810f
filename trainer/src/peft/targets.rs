//! Which linears a configuration adapts, and with what rank and scale, as PEFT decides it.
//!
//! Sources: `check_target_module_exists` (`peft/tuners/tuners_utils.py`) and `get_pattern_key`
//! (`peft/utils/other.py`) of PEFT 0.21. The patterns are Python's and come from strangers: they run
//! with bounds on their compiled size and on backtracking.

use fancy_regex::{Regex, RegexBuilder};

use tributary_protocol::adapter::Module;

use super::ImportError;
use super::config::{LoraConfig, Names};

/// Steps of backtracking after which a pattern is given up; module paths have some 40 characters.
const MAX_BACKTRACKS: usize = 100_000;
/// Bytes of one compiled pattern.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// What PEFT could adapt in a model besides the linears of its layers.
const OTHERS: [&str; 2] = ["lm_head", "model.embed_tokens"];

/// How one linear is adapted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) module: Module,
    pub(super) rank: u32,
    /// What PEFT calls alpha; the product is scaled by it over the rank or its root.
    pub(super) alpha: f64,
    /// What the product is multiplied by.
    pub(super) scale: f64,
}

/// The linears of `modules` that `config` adapts, in their order.
pub(super) fn targets(
    config: &LoraConfig,
    modules: Vec<Module>,
) -> Result<Vec<Target>, ImportError> {
    let chosen = Chooser::new(config)?;
    if config.targets.is_some() {
        for other in OTHERS {
            if chosen.takes(other)? {
                return Err(ImportError::Unsupported {
                    field: "target_modules".into(),
                    value: format!("a choice with {other}"),
                    advice: "only the linears of the layers can be adapted",
                });
            }
        }
    }
    let mut taken = Vec::new();
    for module in modules {
        if chosen.takes(&module.name)? {
            taken.push(module);
        }
    }
    let ranks = by_pattern("rank_pattern", &config.rank_pattern, config.rank, &taken)?;
    let alphas = by_pattern("alpha_pattern", &config.alpha_pattern, config.alpha, &taken)?;
    let target = |(module, (rank, alpha)): (Module, (u32, f64))| {
        let divisor = match config.stabilised {
            true => f64::from(rank).sqrt(),
            false => f64::from(rank),
        };
        Target {
            module,
            rank,
            alpha,
            scale: alpha / divisor,
        }
    };
    let numbers = ranks.into_iter().zip(alphas);
    Ok(taken.into_iter().zip(numbers).map(target).collect())
}

/// For each module the value of the first pattern that matches its path or an end of it.
fn by_pattern<T: Copy>(
    field: &'static str,
    patterns: &[(String, T)],
    default: T,
    modules: &[Module],
) -> Result<Vec<T>, ImportError> {
    let mut found: Vec<Option<T>> = vec![None; modules.len()];
    // One pattern at a time, so that only one is compiled at a time.
    for (key, value) in patterns {
        let pattern = Pattern::new(field, key, &format!(r"\A(.*\.)?({key})\z"))?;
        for (slot, module) in found.iter_mut().zip(modules) {
            if slot.is_none() && pattern.matches(&module.name)? {
                *slot = Some(*value);
            }
        }
    }
    Ok(found.into_iter().map(|v| v.unwrap_or(default)).collect())
}

/// A compiled pattern and where it stands.
struct Pattern {
    field: &'static str,
    text: String,
    regex: Regex,
}

impl Pattern {
    /// `text` stands in `field`; `whole` is what it means.
    fn new(field: &'static str, text: &str, whole: &str) -> Result<Self, ImportError> {
        let regex = RegexBuilder::new(whole)
            .backtrack_limit(MAX_BACKTRACKS)
            .delegate_size_limit(MAX_COMPILED_BYTES)
            .delegate_dfa_size_limit(MAX_COMPILED_BYTES)
            .build()
            .map_err(|error| refused(field, text, &error))?;
        Ok(Self {
            field,
            text: text.into(),
            regex,
        })
    }

    fn matches(&self, path: &str) -> Result<bool, ImportError> {
        let found = self.regex.is_match(path);
        found.map_err(|error| refused(self.field, &self.text, &error))
    }

    /// The number that the group `idx` takes.
    fn number(&self, path: &str) -> Result<Option<Option<u64>>, ImportError> {
        let found = self.regex.captures(path);
        let found = found.map_err(|error| refused(self.field, &self.text, &error))?;
        Ok(found.map(|groups| groups.name("idx")?.as_str().parse().ok()))
    }
}

fn refused(field: &'static str, text: &str, error: &fancy_regex::Error) -> ImportError {
    let shown: String = text.chars().take(80).collect();
    ImportError::Pattern {
        field,
        pattern: shown,
        why: error.to_string(),
    }
}

/// Names or a pattern, ready to be asked.
enum Matcher<'a> {
    Pattern(Pattern),
    List(&'a [String]),
}

impl<'a> Matcher<'a> {
    fn new(field: &'static str, names: &'a Names) -> Result<Self, ImportError> {
        Ok(match names {
            Names::Pattern(text) => {
                Self::Pattern(Pattern::new(field, text, &format!(r"\A(?:{text})\z"))?)
            }
            Names::List(list) => Self::List(list),
        })
    }
}

fn is_end(path: &str, name: &str) -> bool {
    (path.strip_suffix(name)).is_some_and(|rest| rest.ends_with('.'))
}

/// `check_target_module_exists`.
struct Chooser<'a> {
    targets: Option<Matcher<'a>>,
    excluded: Option<Matcher<'a>>,
    layers: Option<&'a [u64]>,
    layer_patterns: Vec<Pattern>,
}

impl<'a> Chooser<'a> {
    fn new(config: &'a LoraConfig) -> Result<Self, ImportError> {
        let matcher = |field, names: &'a Option<Names>| match names {
            Some(names) => Matcher::new(field, names).map(Some),
            None => Ok(None),
        };
        let field = "layers_pattern";
        // Only the first number of a path is its layer.
        let mut layer_patterns = Vec::new();
        for text in &config.layers_pattern {
            let whole = format!(r"\A(?:|.*?\.){text}\.(?P<idx>\d+)\.");
            layer_patterns.push(Pattern::new(field, text, &whole)?);
        }
        if layer_patterns.is_empty() {
            let any = r"\A.*?\.[^.]*\.(?P<idx>\d+)\.";
            layer_patterns.push(Pattern::new(field, any, any)?);
        }
        Ok(Self {
            targets: matcher("target_modules", &config.targets)?,
            excluded: matcher("exclude_modules", &config.excluded)?,
            layers: config.layers.as_deref(),
            layer_patterns,
        })
    }

    fn takes(&self, path: &str) -> Result<bool, ImportError> {
        let excluded = match &self.excluded {
            Some(Matcher::Pattern(pattern)) => pattern.matches(path)?,
            Some(Matcher::List(list)) => list.iter().any(|n| n == path || is_end(path, n)),
            None => false,
        };
        if excluded {
            return Ok(false);
        }
        match &self.targets {
            // "all-linear" becomes the list of all full paths.
            None => Ok(true),
            Some(Matcher::Pattern(pattern)) => pattern.matches(path),
            // A full path is taken whatever `layers_to_transform` says.
            Some(Matcher::List(list)) if list.iter().any(|name| name == path) => Ok(true),
            Some(Matcher::List(list)) => {
                Ok(list.iter().any(|name| is_end(path, name)) && self.in_layers(path)?)
            }
        }
    }

    fn in_layers(&self, path: &str) -> Result<bool, ImportError> {
        let Some(layers) = self.layers else {
            return Ok(true);
        };
        for pattern in &self.layer_patterns {
            if let Some(layer) = pattern.number(path)? {
                return Ok(layer.is_some_and(|layer| layers.contains(&layer)));
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
