//! `tributary run rm` and `tributary gc`: making a stopped home smaller.

use clap::Args;

use super::Context;
use crate::home::HomePaths;
use crate::terminal::output::bytes;
use crate::terminal::{Failure, confirm};
use crate::upkeep::HeldHome;
use crate::upkeep::removal::{self, Removal};
use crate::upkeep::waste::{self, Collection};

/// Options of `gc`.
#[derive(Clone, Copy, Debug, Args)]
pub struct GcArgs {
    /// Say what would be removed, and leave the home as it is.
    #[arg(long)]
    pub dry_run: bool,
}

/// Removes a run, once its owner has seen what goes and said so.
pub(super) fn remove(context: &Context, id: &str, yes: bool, abandon: bool) -> Result<(), Failure> {
    let planned = removal::plan(HeldHome::take(&context.home)?, id, abandon)?;
    if !yes {
        confirm(&question(&planned.removal), "remove it?", "--yes")?;
    }
    let removed = planned.carry_out()?;
    context.out.answer(&removed, |removed| {
        format!(
            "removed {}: {} records, {} blobs; {} are free\n\
             next: {} gc   (gives the ledger's part of that back to the disk)",
            title(removed),
            removed.records,
            removed.blobs,
            bytes(removed.record_bytes + removed.blob_bytes),
            context.call
        )
    })
}

/// Removes what no run needs.
pub(super) fn gc(context: &Context, args: GcArgs) -> Result<(), Failure> {
    let collection = match args.dry_run {
        true => waste::look(&HomePaths::new(&context.home))?,
        false => waste::collect(&context.home)?,
    };
    context.out.answer(&collection, collected)
}

fn title(removal: &Removal) -> String {
    let run = tributary_ledger::view::short(&removal.run);
    match &removal.name {
        Some(name) => format!("run {run} ({name})"),
        None => format!("run {run}"),
    }
}

fn question(removal: &Removal) -> String {
    let mut out = format!(
        "{}\n  goes    {} records ({}), {} blobs ({})\n  stays   ",
        title(removal),
        removal.records,
        bytes(removal.record_bytes),
        removal.blobs,
        bytes(removal.blob_bytes)
    );
    if removal.own_blocks > 0 {
        out.push_str(&format!(
            "{} blocks that this peer signed ({}), so that it never signs another history; ",
            removal.own_blocks,
            bytes(removal.own_bytes)
        ));
    }
    if removal.shared_blobs > 0 {
        out.push_str(&format!(
            "{} blobs that other runs name; ",
            removal.shared_blobs
        ));
    }
    out.push_str("exported adapters, base models and shards");
    if removal.abandoned {
        out.push_str(
            "\n  lost    what of this peer's work is not certified yet, and the updates that others would fetch from here",
        );
    }
    out
}

fn collected(collection: &Collection) -> String {
    let verb = match collection.dry_run {
        true => "would remove",
        false => "removed",
    };
    let ledger = match collection.ledger_bytes_after {
        Some(after) => format!(
            "ledger   {} before, {} after",
            bytes(collection.ledger_bytes_before),
            bytes(after)
        ),
        None => format!(
            "ledger   {}, to be compacted",
            bytes(collection.ledger_bytes_before)
        ),
    };
    format!(
        "blobs    {verb} {} ({}) that no run names; {} ({}) stay\n\
         files    {verb} {} ({}) that were not finished or that no run needs\n{ledger}",
        collection.blobs,
        bytes(collection.blob_bytes),
        collection.kept_blobs,
        bytes(collection.kept_blob_bytes),
        collection.files,
        bytes(collection.file_bytes)
    )
}
