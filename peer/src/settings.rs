//! `config.toml` in the home: the owner's settings. Short on purpose.

mod bounds;
mod chain;

use std::path::Path;

use serde::{Deserialize, Serialize};
use tributary_protocol::entry::is_name;
use tributary_protocol::id::PeerId;
use tributary_protocol::limits::MAX_NAME_BYTES;

use crate::home::disk;
use crate::net::Reach;
use crate::terminal::Failure;
pub(crate) use bounds::{BASE_MIB, MIB};
pub use bounds::{Bounds, declined_words};
pub use chain::{ChainAccess, ChainSettings};
use tributary_trainer::input;

/// The owner's settings, as `config.toml` in the home holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name that other people see; ids decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How far this peer reaches (`tributary up --reach`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// Whether to answer other members' questions about this peer's text (`tributary up --evidence`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evidence: bool,
    /// What runs may take of this machine.
    #[serde(default, skip_serializing_if = "Bounds::is_empty")]
    pub bounds: Bounds,
    /// How the real chain is reached on which the money of runs lies.
    #[serde(default, skip_serializing_if = "ChainSettings::is_empty")]
    pub chain: ChainSettings,
}

impl Settings {
    /// With a name given by the owner.
    ///
    /// # Errors
    /// When it is no name ([`is_name`]).
    pub fn named(name: Option<&str>) -> Result<Self, Failure> {
        if let Some(name) = name
            && !is_name(name)
        {
            return Err(Failure::environment(format!(
                "the name {name:?} is empty, longer than {MAX_NAME_BYTES} bytes, or has characters that do not show"
            ))
            .hint("choose a short name without line breaks, joiners and marks of direction"));
        }
        Ok(Self {
            name: name.map(str::to_owned),
            ..Self::default()
        })
    }

    /// The name, or one made of the id.
    pub fn name_of(&self, peer: &PeerId) -> String {
        (self.name.clone()).unwrap_or_else(|| format!("peer-{}", &peer.short()[..6]))
    }

    /// Reads the file; a missing one has every setting at its default.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        match input::text(path) {
            Ok(text) => {
                let settings: Self = toml::from_str(&text).map_err(|e| {
                    Failure::environment(format!("{shown} is not a settings file: {e}"))
                        .hint("mend the line, or delete the file to go back to the defaults")
                })?;
                Self::named(settings.name.as_deref())?;
                Ok(settings)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(
                Failure::environment(format!("cannot read the settings {shown}: {e}"))
                    .hint("make the file readable for your user"),
            ),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self)
            .map_err(|e| Failure::environment(format!("cannot write the settings: {e}")))?;
        disk::write_whole(path, text.as_bytes()).map_err(|e| {
            Failure::environment(format!("cannot write the settings {}: {e}", path.display()))
                .hint("free some disk space, or make the folder writable for your user")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_file_and_a_missing_file_is_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert_eq!(Settings::read(&path).unwrap(), Settings::default());
        let settings = Settings::named(Some("alice")).unwrap();
        settings.write(&path).unwrap();
        assert_eq!(Settings::read(&path).unwrap(), settings);
        std::fs::write(&path, "name = \"a\\u202Eb\"\n").unwrap();
        let error = Settings::read(&path).unwrap_err();
        assert!(error.to_string().contains("do not show"), "{error}");
        std::fs::write(&path, "nmae = \"bob\"\n").unwrap();
        let error = Settings::read(&path).unwrap_err();
        assert!(error.to_string().contains("nmae"), "{error}");
    }

    #[test]
    fn names_that_do_not_show_as_they_stand_are_refused() {
        for name in [
            "",
            "  ",
            "a\nb",
            "a\u{202e}b",
            "a\u{200b}b",
            &"x".repeat(MAX_NAME_BYTES + 1),
        ] {
            assert!(Settings::named(Some(name)).is_err(), "{name:?}");
        }
    }
}
