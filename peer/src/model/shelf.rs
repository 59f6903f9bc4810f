//! Which bases this peer hands on: those of followed runs whose creators allow it, where folder and listing are here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{BlobRef, PeerId, RunId};
use tributary_protocol::listing::Listing;

use super::{remembered, share};
use crate::home::HomePaths;
use crate::net::{Net, Shelved};
use crate::progress::RunProgress;

/// How often a listing is asked for that no neighbour had.
const AGAIN: Duration = Duration::from_secs(30);

/// Hands bases on for as long as the daemon runs.
pub(crate) struct Shelf {
    pub(crate) net: Net,
    pub(crate) home: HomePaths,
    pub(crate) progress: watch::Receiver<Arc<Vec<RunProgress>>>,
    /// Told when a base came to this machine.
    pub(crate) changed: Arc<Notify>,
}

/// A base that followed runs let members hand on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    base: Digest,
    runs: BTreeSet<RunId>,
}

impl Shelf {
    pub(crate) async fn run(mut self) {
        let mut served = BTreeMap::new();
        loop {
            let wanted = wanted(&self.progress.borrow_and_update());
            if wanted != served {
                served = self.serve(&wanted).await;
            }
            let lacks = wanted != served;
            let again = async {
                match lacks {
                    true => tokio::time::sleep(AGAIN).await,
                    false => std::future::pending().await,
                }
            };
            let differs = self.progress.wait_for(|now| self::wanted(now) != wanted);
            tokio::select! {
                differs = differs => if differs.is_err() {
                    return;
                },
                () = self.changed.notified() => {}
                () = again => {}
            }
        }
    }

    /// Serves what is here, and says what that is.
    async fn serve(&self, wanted: &BTreeMap<BlobRef, Wanted>) -> BTreeMap<BlobRef, Wanted> {
        let hashes = wanted.keys().map(|listing| listing.hash).collect();
        self.net.keep_shelved(&hashes);
        let mut served = BTreeMap::new();
        for (listing, about) in wanted {
            let Some((found, folder)) = self.found(*listing, about).await else {
                continue;
            };
            let shelved = Shelved {
                listing: Arc::new(found),
                folder,
                runs: about.runs.clone(),
            };
            self.net.shelve(listing.hash, shelved);
            served.insert(*listing, about.clone());
        }
        served
    }

    /// A base's listing and folder. An owner that brought the folder has no listing yet; neighbours have.
    async fn found(&self, listing: BlobRef, about: &Wanted) -> Option<(Listing, PathBuf)> {
        let (home, base) = (self.home.clone(), about.base.to_string());
        let looking = tokio::task::spawn_blocking(move || {
            let folder = remembered(&home).ok()?.remove(&base)?;
            Some((share::kept(&home, listing), folder))
        });
        let (kept, folder) = looking.await.ok().flatten()?;
        if let Some(kept) = kept {
            return Some((kept, folder));
        }
        let known = self.net.known_runs();
        let of_runs = about.runs.iter().filter_map(|run| known.get(run));
        let peers: BTreeSet<PeerId> = of_runs.flatten().copied().collect();
        for peer in peers {
            if let Ok(bytes) = self.net.listing(peer, listing).await {
                let found = Listing::read(&bytes).ok()?;
                if let Err(why) = share::keep(&self.home, &bytes) {
                    tracing::warn!("a base is not handed on: {why}");
                    return None;
                }
                return Some((found, folder));
            }
        }
        None
    }
}

fn wanted(progress: &[RunProgress]) -> BTreeMap<BlobRef, Wanted> {
    let mut wanted: BTreeMap<BlobRef, Wanted> = BTreeMap::new();
    for run in progress {
        let base = run.manifest.as_ref().map(|manifest| &manifest.model.base);
        if let Some(base) = base
            && let Some(files) = base.files
        {
            let about = wanted.entry(files).or_insert_with(|| Wanted {
                base: base.hash,
                runs: BTreeSet::new(),
            });
            about.runs.insert(run.run);
        }
    }
    wanted
}
