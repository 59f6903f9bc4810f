//! Where a demo lives that was given no folder: in the system's temporary one, for as long as nobody starts another.
//!
//! A finished demo stays, so that its ledger can be looked at and its adapter used. The next one removes it: folders of
//! finished demos that nobody works in, and nothing else. One that was cut short can be resumed, and stays.

use std::path::{Path, PathBuf};

use super::plan::Plan;
use crate::home::{self, HomePaths, disk};
use crate::terminal::{Failure, note};

/// What the name of a demo's folder begins with.
const PREFIX: &str = "tributary-demo-";

/// Removes the folders of earlier demos. To be called once the new one is known to begin: whoever mistypes an option keeps
/// what the last demo left.
pub(super) fn remove_earlier() {
    for folder in abandoned(&std::env::temp_dir()) {
        let shown = folder.display();
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => note(format_args!("removed {shown}: an earlier demo")),
            Err(e) => note(format_args!("cannot remove {shown}, an earlier demo: {e}")),
        }
    }
}

/// Removes the folder of a demo that did not begin, if nothing is in it.
pub(super) fn take_back(folder: &Path) {
    // A folder that holds something, or cannot be removed, harms nobody.
    let _ = std::fs::remove_dir(folder);
}

/// A new folder for a demo that was given none.
///
/// # Errors
/// When it cannot be made.
pub(super) fn new() -> Result<PathBuf, Failure> {
    let temporary = std::env::temp_dir();
    let mut draw = [0; 4];
    getrandom::fill(&mut draw).expect("the system has no source of random numbers");
    let path = temporary.join(format!("{PREFIX}{:08x}", u32::from_le_bytes(draw)));
    (disk::private_folders().create(&path))
        .map(|()| path.clone())
        .map_err(|e| {
            Failure::environment(format!("cannot make the folder {}: {e}", path.display()))
                .hint("name another folder with --home")
        })
}

/// Folders of finished demos in `temporary` that no process works in.
fn abandoned(temporary: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(temporary).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX));
        // A link is somebody else's.
        is_ours && entry.file_type().is_ok_and(|kind| kind.is_dir())
    });
    named
        .map(|entry| entry.path())
        .filter(|folder| Plan::read(folder).is_ok_and(|plan| plan.is_measured()))
        .filter(|folder| !is_worked_in(folder))
        .collect()
}

fn is_worked_in(demo: &Path) -> bool {
    let homes = std::fs::read_dir(Plan::peers_folder(demo));
    let mut homes = homes.into_iter().flatten().flatten();
    homes.any(|entry| home::is_held(&HomePaths::new(entry.path())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::plan::Measured;
    use crate::home::Home;

    #[test]
    fn only_folders_of_finished_demos_that_nobody_works_in_are_abandoned() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str, rounds: Option<u32>| {
            let folder = dir.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            if let Some(rounds) = rounds {
                let mut plan = Plan::for_tests();
                plan.measured = (1..=rounds).map(|r| (r, Measured::default())).collect();
                plan.write(&folder).unwrap();
            }
            folder
        };
        let finished = folder("tributary-demo-01", Some(2));
        folder("tributary-demo-02", None);
        folder("tributary-demo-03", Some(1));
        folder("other-demo", Some(2));
        let busy = folder("tributary-demo-04", Some(2));
        let held = Home::create(Plan::peers_folder(&busy).join("00-amy")).unwrap();
        assert_eq!(abandoned(dir.path()), std::slice::from_ref(&finished));
        drop(held);
        let mut both = abandoned(dir.path());
        both.sort();
        assert_eq!(both, [finished, busy]);
    }
}
