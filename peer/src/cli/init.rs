//! `tributary init`: makes the peer's folder and key.

use serde::Serialize;

use super::Context;
use super::args::InitArgs;
use crate::home::{Home, HomeError};
use crate::identity::IdentityError;
use crate::settings::Settings;
use crate::terminal::Failure;

#[derive(Serialize)]
struct Made {
    peer: String,
    name: String,
    home: String,
}

pub(super) fn run(context: &Context, args: &InitArgs) -> Result<(), Failure> {
    let settings = Settings::named(args.name.as_deref())?;
    let home = Home::create(&context.home).map_err(|error| match &error {
        HomeError::Identity(IdentityError::Exists(_)) => {
            Failure::from_error(&error).hint("this home is ready: `tributary up` starts its daemon")
        }
        _ => Failure::from_error(&error),
    })?;
    let name = settings.name_of(&home.identity().peer_id());
    settings.write(&home.paths().config())?;
    let made = Made {
        peer: home.identity().peer_id().to_string(),
        name,
        home: context.home.display().to_string(),
    };
    context.out.answer(&made, |made| {
        format!(
            "peer  {}\nname  {}\nhome  {}\n\nThe file `key` in the home is this peer: keep a copy \
             in a safe place.\nnext: tributary datanet add NAME FILE...   then   tributary up",
            made.peer, made.name, made.home
        )
    })
}
