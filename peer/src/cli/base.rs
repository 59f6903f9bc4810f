//! `tributary base ...`: base models of this program, for other programs.

use std::path::PathBuf;

use serde::Serialize;
use tributary_trainer::brook;

use super::Context;
use super::args::BaseCommand;
use super::run::absolute;
use crate::model::BROOK;
use crate::terminal::Failure;

/// `base/1`.
#[derive(Serialize)]
struct Exported {
    schema: &'static str,
    name: String,
    path: PathBuf,
}

pub(super) fn run(context: &Context, command: &BaseCommand) -> Result<(), Failure> {
    let BaseCommand::Export { name, dir } = command;
    if name != BROOK {
        return Err(Failure::environment(format!(
            "{name} is not in this program, so it cannot be exported"
        ))
        .hint("the program holds `brook`; any other base is a folder already"));
    }
    let dir = absolute(dir)?;
    if dir.exists() {
        return Err(
            Failure::environment(format!("{} is there already", dir.display()))
                .hint("name a folder that is not there yet"),
        );
    }
    brook::write_to(&dir).map_err(|e| {
        Failure::environment(format!("cannot write {}: {e}", dir.display()))
            .hint("check its permissions and the free space")
    })?;
    let exported = Exported {
        schema: "base/1",
        name: name.clone(),
        path: dir,
    };
    (context.out).answer(&exported, |e| {
        format!(
            "{} as a Hugging Face folder in {}\nadapters of {} name it as their base: load them from the folder \
             above, where that name leads to it",
            e.name,
            e.path.display(),
            e.name
        )
    })
}
