//! `tributary init`: makes the peer's folder and key.

use std::path::Path;

use serde::Serialize;

use super::Context;
use super::args::InitArgs;
use crate::home::{Home, HomeError, HomePaths, disk};
use crate::identity::IdentityError;
use crate::settings::Settings;
use crate::terminal::Failure;

/// A home that was made.
#[derive(Serialize)]
pub(super) struct Made {
    peer: String,
    name: String,
    pub(super) home: String,
}

/// The owner's settings, on the disk before there is a key: a home that has one is ready. A settings file that is there
/// is kept.
fn settings(root: &Path, name: Option<&str>) -> Result<Settings, Failure> {
    let (asked, paths) = (Settings::named(name)?, HomePaths::new(root));
    if paths.key().exists() || (root.exists() && !root.is_dir()) {
        // Making the home fails and says why.
        return Ok(asked);
    }
    foreign(&paths)?;
    if paths.config().exists() {
        let kept = Settings::read(&paths.config())?;
        return match asked.name {
            Some(_) if asked.name != kept.name => Err(Failure::environment(format!(
                "{} is there already and names this peer otherwise",
                paths.config().display()
            ))
            .hint("leave out --name, or mend the name in that file")),
            _ => Ok(kept),
        };
    }
    disk::make_folder(root).map_err(|e| {
        Failure::environment(format!("cannot make the folder {}: {e}", root.display()))
            .hint("choose another home with --home")
    })?;
    asked.write(&paths.config())?;
    Ok(asked)
}

/// Refuses a folder that holds what no home has: everything in a home is closed to others.
fn foreign(home: &HomePaths) -> Result<(), Failure> {
    let own = home.names();
    let entries = std::fs::read_dir(home.root())
        .into_iter()
        .flatten()
        .flatten();
    let mut others: Vec<String> = entries
        .filter(|entry| !own.contains(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    others.sort();
    let Some(first) = others.first() else {
        return Ok(());
    };
    Err(Failure::environment(format!(
        "{} holds other things, such as {first:?}; whatever lies in a home is closed to all but its owner",
        home.root().display()
    ))
    .hint("choose a new folder with --home"))
}

/// Makes the home and its key.
pub(super) fn make(context: &Context, args: &InitArgs) -> Result<Made, Failure> {
    let settings = settings(&context.home, args.name.as_deref())?;
    let home = Home::create(&context.home).map_err(|error| match &error {
        HomeError::Identity(IdentityError::Exists(_)) => {
            Failure::from_error(&error).hint("this home is ready: `tributary up` starts its daemon")
        }
        _ => Failure::from_error(&error),
    })?;
    Ok(Made {
        name: settings.name_of(&home.identity().peer_id()),
        peer: home.identity().peer_id().to_string(),
        home: context.home.display().to_string(),
    })
}

pub(super) fn run(context: &Context, args: &InitArgs) -> Result<(), Failure> {
    let made = make(context, args)?;
    let call = &context.call;
    context.out.answer(&made, |made| {
        format!(
            "peer  {}\nname  {}\nhome  {}\n\nThe file `key` in the home is this peer: keep a copy \
             in a safe place.\nnext: {call} datanet add NAME FILE...   then   {call} up",
            made.peer, made.name, made.home
        )
    })
}
