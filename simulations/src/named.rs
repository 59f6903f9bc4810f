//! Things of one kind by name: what a scenario or a study can choose from.

use std::sync::Arc;

use crate::suggest::nearest;

/// Things of one kind, in the order in which they were added.
pub struct Named<T: ?Sized> {
    kind: &'static str,
    entries: Vec<Entry<T>>,
}

/// One of them.
pub struct Entry<T: ?Sized> {
    /// Its name.
    pub name: String,
    /// What it is, in one line.
    pub about: String,
    /// The thing itself.
    pub thing: Arc<T>,
}

/// There is nothing of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unknown {
    /// The name.
    pub name: String,
    why: String,
}

impl Unknown {
    /// The same with other advice.
    pub(crate) fn because(self, why: &str) -> Self {
        Self {
            why: why.to_owned(),
            ..self
        }
    }
}

impl<T: ?Sized> std::fmt::Debug for Named<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|entry| &entry.name))
            .finish()
    }
}

/// Case, spaces, hyphens and underscores do not distinguish names: `Multi-Krum` is `multi_krum`.
fn plain(name: &str) -> String {
    let letters = name.chars().map(|letter| match letter {
        ' ' | '-' => '_',
        other => other.to_ascii_lowercase(),
    });
    letters.collect()
}

impl<T: ?Sized> Named<T> {
    /// Nothing yet. `kind` is what errors call one of them.
    pub fn new(kind: &'static str) -> Self {
        let entries = Vec::new();
        Self { kind, entries }
    }

    /// Adds one.
    ///
    /// # Panics
    /// If the name is taken: two things of one name would make results ambiguous.
    pub fn add(&mut self, name: &str, about: &str, thing: Arc<T>) {
        assert!(
            self.get(name).is_err(),
            "{} `{name}` is there twice",
            self.kind
        );
        self.entries.push(Entry {
            name: name.to_owned(),
            about: about.to_owned(),
            thing,
        });
    }

    /// The one of that name.
    ///
    /// # Errors
    /// [`Unknown`] suggests the nearest name.
    pub fn get(&self, name: &str) -> Result<&Entry<T>, Unknown> {
        let found = self.iter().find(|entry| plain(&entry.name) == plain(name));
        found.ok_or_else(|| {
            let known: Vec<&str> = self.iter().map(|entry| entry.name.as_str()).collect();
            Unknown {
                name: name.to_owned(),
                why: nearest(self.kind, name, &known),
            }
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> Named<u32> {
        let mut numbers = Named::new("number");
        numbers.add("Twenty-one", "half the truth", Arc::new(21));
        numbers.add("two", "a pair", Arc::new(2));
        numbers
    }

    #[test]
    fn spelling_apart_a_name_finds_its_thing_and_another_gets_the_nearest() {
        assert_eq!(*numbers().get("twenty_one").unwrap().thing, 21);
        let why = numbers().get("tow").err().expect("no such number");
        assert_eq!(why.name, "tow");
        assert!(why.to_string().contains("did you mean `two`"), "{why}");
    }

    #[test]
    #[should_panic(expected = "number `TWO` is there twice")]
    fn a_name_is_given_once() {
        numbers().add("TWO", "again", Arc::new(3));
    }
}
