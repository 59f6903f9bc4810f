//! `ledger verify` on a demo's folder: every peer's home, and what the demo wrote beside them.

use std::fs;
use std::path::Path;

use tributary_ledger::Archive;
use tributary_ledger::{Fault, Report};

use super::plan::Plan;
use crate::home::HomePaths;
use crate::model::card;
use crate::verify::files::list;
use crate::verify::{self, Depth, VerifyError, stopped};

/// Checks a stopped home, or the homes of a demo's peers and what the demo wrote beside them.
///
/// # Errors
/// [`VerifyError`] when it cannot be read at all.
pub fn home_or_demo(root: &Path, depth: Depth) -> Result<Report, VerifyError> {
    if !Plan::is_home(root) {
        return verify::home(root, depth);
    }
    let mut report = Report::default();
    check(root, depth, &mut report)?;
    Ok(report.concluded())
}

/// A demo's folder: its own file, every peer's home, and the exported adapter.
fn check(root: &Path, depth: Depth, report: &mut Report) -> Result<(), VerifyError> {
    let plan = match Plan::read(root) {
        Ok(plan) => Some(plan),
        Err(e) => {
            report.faults.push(Fault::of(e));
            None
        }
    };
    let mut exported = None;
    for path in list(&Plan::peers_folder(root))? {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default()
            .to_owned();
        let archive = match stopped(&HomePaths::new(&path), (&name, depth), report) {
            Ok(archive) => archive,
            // A demo that was killed while it made its homes; the next start makes the rest.
            Err(VerifyError::Home(e)) => {
                report.faults.push(Fault::of(e));
                continue;
            }
            Err(e) => return Err(e),
        };
        exported = exported.or(Some((HomePaths::new(&path), archive)));
    }
    let expected = plan.as_ref().map_or(0, |plan| plan.actors().len());
    let homes = list(&Plan::peers_folder(root))?.len();
    if plan.is_some() && homes != expected {
        let why = format!("{homes} peers' homes are here and the demo has {expected} peers");
        report.faults.push(Fault::of(why));
    }
    let folder = Plan::adapter_folder(root);
    // Where a ledger is as it was, nothing of it was decoded yet; one that is damaged is reported already.
    let archive = exported.filter(|_| folder.is_dir());
    let archive =
        archive.and_then(|(home, archive)| archive.or_else(|| verify::archive(&home).ok()));
    if let Some(archive) = archive
        && let Err(why) = same_adapter(&archive, &folder)
    {
        report.faults.push(Fault::of(why));
    }
    Ok(())
}

/// Writes the certified adapter again and compares every byte. A card repeats what the ledger says, and a demo of an
/// earlier version wrote none.
fn same_adapter(archive: &Archive, folder: &Path) -> Result<(), String> {
    let view = (archive.books())
        .find_map(|(here, account)| account.adapter(here))
        .ok_or("the exported adapter belongs to no certified run")?;
    let (manifest, adapter) = archive.adapter(&view).map_err(|e| e.to_string())?;
    let again = folder.with_extension("check");
    let _ = fs::remove_dir_all(&again);
    let compared = crate::model::export(&again, &manifest, &adapter, None)
        .map_err(|e| e.to_string())
        .and_then(|()| same_files(folder, &again));
    let _ = fs::remove_dir_all(&again);
    compared
}

fn same_files(one: &Path, two: &Path) -> Result<(), String> {
    let names = |folder: &Path| -> Result<Vec<_>, String> {
        let paths = list(folder).map_err(|e| e.to_string())?;
        Ok(paths
            .iter()
            .filter_map(|p| Some(p.file_name()?.to_owned()))
            .filter(|name| !card::FILES.iter().any(|file| name == file))
            .collect())
    };
    if names(one)? != names(two)? {
        return Err(format!(
            "{} has other files than were exported",
            one.display()
        ));
    }
    for name in names(one)? {
        let read = |folder: &Path| fs::read(folder.join(&name)).map_err(|e| e.to_string());
        if read(one)? != read(two)? {
            return Err(format!(
                "{} differs from the certified adapter",
                one.join(&name).display()
            ));
        }
    }
    Ok(())
}
