//! `tributary datanet ...`: the data this peer trains on. Works with and without the daemon.

use super::Context;
use super::args::DatanetCommand;
use crate::home::{HomeError, HomePaths};
use crate::shard;
use crate::terminal::output::{Align, Table, bytes};
use crate::terminal::{Failure, note};
use crate::view::ShardView;

pub(super) async fn run(context: &Context, command: DatanetCommand) -> Result<(), Failure> {
    let home = HomePaths::new(&context.home);
    if !home.key().exists() {
        return Err(HomeError::Missing(context.home.clone()).into());
    }
    match command {
        DatanetCommand::Add { name, files } => {
            let view = shard::add_telling(&home, &name, &files, &mut |line| note(line))?;
            context.out.answer(&view, |view| {
                format!(
                    "shard {}: files {}, size {}; it never leaves this machine\n\
                     next: {} run join ID   (with --base DIR, unless the run's base is brook)",
                    view.datanet,
                    view.files.len(),
                    bytes(view.bytes),
                    context.call
                )
            })
        }
        DatanetCommand::Remove { name, files, .. } => {
            let removed = shard::remove(&home, &name, &files)?;
            context.out.answer(&removed, |removed| {
                format!(
                    "removed from the shard {}: {}; {} files are left",
                    removed.datanet,
                    removed.removed.join(", "),
                    removed.left.len()
                )
            })
        }
        DatanetCommand::List { files } => {
            let shards = shard::list(&home)?;
            context.out.answer(&shards, |shards| match files {
                true => names(shards),
                false => table(shards),
            })
        }
    }
}

/// Every file with its Datanet.
fn names(shards: &[ShardView]) -> String {
    let mut table = Table::new(&[("datanet", Align::Left), ("file", Align::Left)]);
    for shard in shards {
        for file in &shard.files {
            table.row([shard.datanet.clone(), file.clone()]);
        }
    }
    table.render()
}

fn table(shards: &[ShardView]) -> String {
    if shards.is_empty() {
        return "no data yet; `tributary datanet add NAME FILE...` adds some\n".to_owned();
    }
    let mut table = Table::new(&[
        ("datanet", Align::Left),
        ("files", Align::Right),
        ("size", Align::Right),
    ]);
    for s in shards {
        table.row([s.datanet.clone(), s.files.len().to_string(), bytes(s.bytes)]);
    }
    table.render()
}
