//! Changes to a scenario from outside of its file: single settings, and grids of them to sweep.
//!
//! A setting is `key=value`, its key a path of names with dots (`link.loss`, `partitions.0.split`), its
//! value TOML, or a bare word. It is applied to the scenario's TOML and read again, so that a misspelt
//! key is refused with the same advice as in a file.

use std::sync::Arc;

use serde::Deserialize;
use toml::Value;

use super::{Scenario, ScenarioError, load_from};
use crate::catalogue::Catalogue;
use crate::suggest;

/// One changed key.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Names with dots between them.
    pub key: String,
    /// The new value.
    pub value: Value,
}

impl Setting {
    /// Its value as people write it.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::String(word) => word.clone(),
            other => other.to_string(),
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.key, self.shown())
    }
}

/// One key of a grid with the values that it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Names with dots between them.
    pub key: String,
    /// At least one.
    pub values: Vec<Value>,
}

/// What a sweep runs: every combination of the axes' values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grid {
    /// The first varies slowest.
    pub axes: Vec<Axis>,
    /// Seeds of each combination.
    pub seeds: Option<u64>,
}

fn refused(what: &str, why: impl Into<String>) -> ScenarioError {
    ScenarioError::Setting {
        what: what.into(),
        why: why.into(),
    }
}

fn split(text: &str) -> Result<(&str, &str), ScenarioError> {
    let parts = text.split_once('=').map(|(k, v)| (k.trim(), v.trim()));
    parts
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .ok_or_else(|| refused(text, "write KEY=VALUE, for example link.loss=0.2"))
}

/// A value as TOML reads it; what is no TOML is a word.
fn value(text: &str) -> Value {
    let line = toml::from_str::<toml::Table>(&format!("value = {text}"));
    let read = line.ok().and_then(|mut table| table.remove("value"));
    read.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Values apart by commas that stand outside of brackets, braces and quotes.
fn values(text: &str) -> Vec<Value> {
    let (mut depth, mut quoted, mut from) = (0, false, 0);
    let mut out = Vec::new();
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                out.push(value(text[from..at].trim()));
                from = at + 1;
            }
            _ => {}
        }
    }
    out.push(value(text[from..].trim()));
    out
}

/// Reads a scenario whose names `catalogue` explains, and changes what `set` says, each as `key=value`.
///
/// # Errors
/// See [`ScenarioError`].
pub fn load_with(
    catalogue: &Arc<Catalogue>,
    path: &str,
    set: &[String],
) -> Result<Scenario, ScenarioError> {
    let settings: Vec<Setting> = (set.iter())
        .map(|text| {
            let (key, text) = split(text)?;
            Ok(Setting {
                key: key.to_owned(),
                value: value(text),
            })
        })
        .collect::<Result<_, ScenarioError>>()?;
    with(path, &load_from(catalogue, path)?, &settings)
}

/// The scenario with these settings; `path` only names it in errors.
///
/// # Errors
/// [`ScenarioError::Setting`] names the first setting that makes it unreadable,
/// [`ScenarioError::Impossible`] says why all together cannot be run.
pub fn with(
    path: &str,
    scenario: &Scenario,
    settings: &[Setting],
) -> Result<Scenario, ScenarioError> {
    let mut out = scenario.clone();
    let mut whole = Value::try_from(scenario).map_err(|why| refused(path, why.to_string()))?;
    for setting in settings {
        put(&mut whole, setting)?;
        out = Scenario::deserialize(whole.clone())
            .map_err(|why| refused(&setting.to_string(), suggest::explain(why.message())))?;
    }
    out.catalogue = scenario.catalogue.clone();
    match out.check() {
        Ok(()) => Ok(out),
        Err(why) => Err(ScenarioError::Impossible {
            path: path.into(),
            why,
        }),
    }
}

fn put(whole: &mut Value, setting: &Setting) -> Result<(), ScenarioError> {
    let mut names: Vec<&str> = setting.key.split('.').collect();
    let last = names.pop().unwrap_or_default();
    let mut place = whole;
    for name in names {
        place = step(place, name, setting)?;
        if !place.is_table() && !place.is_array() {
            // A bare word stands where a table is wanted: `run.codec.top`.
            *place = Value::Table(toml::Table::new());
        }
    }
    match step(place, last, setting) {
        Ok(slot) => *slot = setting.value.clone(),
        Err(why) => return Err(why),
    }
    Ok(())
}

/// The value of a name, made when a table lacks it: whether it may be there is the scenario's to say.
fn step<'a>(
    place: &'a mut Value,
    name: &str,
    setting: &Setting,
) -> Result<&'a mut Value, ScenarioError> {
    match place {
        Value::Table(table) => Ok(table
            .entry(name)
            .or_insert_with(|| Value::Table(toml::Table::new()))),
        Value::Array(list) => {
            let count = list.len();
            let at = name.parse::<usize>().ok().filter(|at| *at < count);
            let Some(at) = at else {
                let why = format!("`{name}` is no place in a list of {count}; count from 0");
                return Err(refused(&setting.to_string(), why));
            };
            Ok(&mut list[at])
        }
        _ => Err(refused(
            &setting.to_string(),
            format!("there is nothing below the key before `{name}`"),
        )),
    }
}

impl Grid {
    /// The grid of a scenario's `[sweep]` table; `set` adds axes (`key=value,value`) or replaces them.
    ///
    /// # Errors
    /// [`ScenarioError::Setting`] for what is not a list of values.
    pub fn of(scenario: &Scenario, set: &[String]) -> Result<Self, ScenarioError> {
        let mut grid = Self::default();
        grid.read("", &scenario.sweep)?;
        for text in set {
            let (key, text) = split(text)?;
            let axis = Axis {
                key: key.to_owned(),
                values: values(text),
            };
            match grid.axes.iter_mut().find(|known| known.key == key) {
                Some(known) => *known = axis,
                None => grid.axes.push(axis),
            }
        }
        Ok(grid)
    }

    fn read(&mut self, above: &str, table: &toml::Table) -> Result<(), ScenarioError> {
        for (name, value) in table {
            let key = match above.is_empty() {
                true => name.clone(),
                false => format!("{above}.{name}"),
            };
            match value {
                Value::Integer(seeds) if key == "seeds" && *seeds > 0 => {
                    self.seeds = Some(*seeds as u64);
                }
                Value::Table(below) => self.read(&key, below)?,
                Value::Array(values) if !values.is_empty() => self.axes.push(Axis {
                    key,
                    values: values.clone(),
                }),
                other => {
                    let what = format!("[sweep] {key} = {other}");
                    let why =
                        "give the values as a list, for example [0, 0.1]; `seeds` is a number";
                    return Err(refused(&what, why));
                }
            }
        }
        Ok(())
    }

    /// Every combination, the last axis varying fastest. Without axes there is one, of no settings.
    pub fn cells(&self) -> Vec<Vec<Setting>> {
        let mut out = vec![Vec::new()];
        for axis in &self.axes {
            out = (out.iter())
                .flat_map(|before: &Vec<Setting>| {
                    axis.values.iter().map(move |value| {
                        let mut cell = before.clone();
                        cell.push(Setting {
                            key: axis.key.clone(),
                            value: value.clone(),
                        });
                        cell
                    })
                })
                .collect();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::load;

    fn set(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn settings_change_what_they_name_and_nothing_else() {
        let before = load("smoke").unwrap();
        let changes = set(&[
            "link.loss=0",
            "run.aggregation=multi-krum",
            "run.codec={ kind = \"sparse\", top = 8, feedback = 0.5 }",
            "partitions.0.split=0.5",
        ]);
        let after = load_with(&Arc::default(), "smoke", &changes).unwrap();
        assert_eq!(after.link.loss, 0.0);
        assert_eq!(after.partitions[0].split, 0.5);
        assert_eq!(after.partitions[0].at_ms, before.partitions[0].at_ms);
        assert_eq!(after.link.jitter_ms, before.link.jitter_ms);
        assert!(format!("{:?}", after.run.aggregation).contains("MultiKrum"));
        assert!(format!("{:?}", after.run.codec).contains("top: 8"));
    }

    #[test]
    fn a_misspelt_key_of_a_sweep_gets_a_suggestion() {
        let scenario = load("smoke").unwrap();
        let grid = Grid::of(&scenario, &set(&["link.los=0,0.1"])).unwrap();
        let error = with("smoke", &scenario, &grid.cells()[0])
            .unwrap_err()
            .to_string();
        assert!(error.contains("link.los=0"), "{error}");
        assert!(error.contains("did you mean `loss`"), "{error}");
        let grid = Grid::of(&scenario, &set(&["lnik.loss=0"])).unwrap();
        let error = with("smoke", &scenario, &grid.cells()[0])
            .unwrap_err()
            .to_string();
        assert!(error.contains("did you mean `link`"), "{error}");
    }

    #[test]
    fn impossible_settings_are_refused_before_anything_runs() {
        let error = load_with(&Arc::default(), "smoke", &set(&["link.loss=2"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("share from 0 to 1"), "{error}");
        let error = load_with(&Arc::default(), "smoke", &set(&["partitions.7.split=0"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no place in a list of 1"), "{error}");
        let error = load_with(&Arc::default(), "smoke", &set(&["link.loss"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("KEY=VALUE"), "{error}");
    }

    #[test]
    fn a_grid_is_every_combination_and_the_command_line_wins() {
        let mut scenario = load("smoke").unwrap();
        let table = "seeds = 4\nlink.loss = [0, 0.1]\n\"run.aggregation\" = [\"mean\"]";
        scenario.sweep = toml::from_str(table).unwrap();
        let grid = Grid::of(
            &scenario,
            &set(&["run.aggregation=mean,clipped-mean,agreement"]),
        );
        let grid = grid.unwrap();
        assert_eq!(grid.seeds, Some(4));
        let cells = grid.cells();
        assert_eq!(cells.len(), 6);
        let shown: Vec<String> = cells[1].iter().map(Setting::to_string).collect();
        assert_eq!(shown, ["link.loss=0", "run.aggregation=clipped-mean"]);
        for cell in &cells {
            with("smoke", &scenario, cell).unwrap();
        }
        scenario.sweep = toml::from_str("link.loss = 0.1").unwrap();
        let error = Grid::of(&scenario, &[]).unwrap_err().to_string();
        assert!(error.contains("as a list"), "{error}");
    }
}
