//! `config.toml` in the home: the owner's settings. Short on purpose.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tributary_protocol::id::PeerId;
use tributary_protocol::limits::MAX_NAME_BYTES;

use crate::terminal::Failure;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name that other people see; ids decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Settings {
    /// With a name given by the owner.
    ///
    /// # Errors
    /// When the name is empty, too long, or not one line.
    pub fn named(name: Option<&str>) -> Result<Self, Failure> {
        if let Some(name) = name
            && (name.trim().is_empty()
                || name.len() > MAX_NAME_BYTES
                || name.chars().any(char::is_control))
        {
            return Err(Failure::environment(format!(
                "the name {name:?} is empty, longer than {MAX_NAME_BYTES} bytes, or not one line"
            ))
            .hint("choose a short name without line breaks"));
        }
        Ok(Self {
            name: name.map(str::to_owned),
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
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|e| {
                Failure::environment(format!("{shown} is not a settings file: {e}"))
                    .hint("mend the line, or delete the file to go back to the defaults")
            }),
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
        std::fs::write(path, text).map_err(|e| {
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
        std::fs::write(&path, "nmae = \"bob\"\n").unwrap();
        let error = Settings::read(&path).unwrap_err();
        assert!(error.to_string().contains("nmae"), "{error}");
    }

    #[test]
    fn names_that_break_a_line_are_refused() {
        for name in ["", "  ", "a\nb", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(Settings::named(Some(name)).is_err(), "{name:?}");
        }
    }
}
