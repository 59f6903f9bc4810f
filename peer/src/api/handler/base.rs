//! The base model of a run: whether it is here, and fetching it from peers.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::RunId;
use tributary_protocol::listing::Listing;
use tributary_protocol::manifest::{Base, Manifest};

use super::{Answer, DaemonHandler};
use crate::api::types::base::BaseView;
use crate::model::fetch::{self, BaseFetch, BaseFetchError, Progress};
use crate::model::{self, ModelError, share};
use crate::problem::{Code, Problem};
use crate::settings::{BASE_MIB, MIB};
use crate::terminal::Failure;

/// How long a listing may take when a ticket is looked at: the offer is shown without it otherwise.
const GLANCE: Duration = Duration::from_secs(10);

/// The fetches of a daemon.
pub(super) struct Fetches {
    /// The most that the owner gives a base, in MiB.
    most_mib: u64,
    /// One at a time: two would share the line and count the same free disk twice.
    one: tokio::sync::Mutex<()>,
    running: Mutex<BTreeMap<Digest, Progress>>,
}

impl Default for Fetches {
    fn default() -> Self {
        Self::within(BASE_MIB)
    }
}

impl Fetches {
    pub(super) fn within(most_mib: u64) -> Self {
        Self {
            most_mib,
            one: tokio::sync::Mutex::default(),
            running: Mutex::default(),
        }
    }
}

/// What shows that a fetch runs, until it is dropped: whoever asked may go away at any moment.
struct Running<'a>(&'a Fetches, Digest);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.lock().remove(&self.1);
    }
}

/// Whether a run's base is here, and how far it is fetched.
pub(super) async fn view(handler: &DaemonHandler, id: &str) -> Answer<BaseView> {
    let (_, manifest) = handler.followed(id).await?;
    let base = &manifest.model.base;
    let running = handler.fetches.running.lock().get(&base.hash).cloned();
    let mut view = BaseView {
        base: base.name.clone(),
        shared: base.files.is_some(),
        fetching: running.is_some(),
        ..BaseView::default()
    };
    match running {
        Some(progress) => {
            let far = progress.at();
            view.bytes_done = far.done;
            view.bytes_total = far.total;
            view.bytes_per_second = far.rate;
            view.providers = far.providers.iter().map(ToString::to_string).collect();
        }
        None => view.here = is_here(handler, base)?,
    }
    Ok(view)
}

/// Fetches a run's base, unless it is here.
pub(super) async fn fetch(handler: &DaemonHandler, id: &str) -> Answer<BaseView> {
    let (run, manifest) = handler.followed(id).await?;
    let base = &manifest.model.base;
    // Of two that ask, the second finds it here.
    let one = handler.fetches.one.lock().await;
    if !is_here(handler, base)? {
        let progress = Progress::default();
        (handler.fetches.running.lock()).insert(base.hash, progress.clone());
        let _running = Running(&handler.fetches, base.hash);
        let job = job(handler, run, base, &progress);
        fetch::fetch(&job)
            .await
            .map_err(|why| problem(&why, &job))?;
        handler.daemon.has_new_base();
    }
    drop(one);
    view(handler, id).await
}

fn job<'a>(
    handler: &'a DaemonHandler,
    run: RunId,
    base: &'a Base,
    progress: &'a Progress,
) -> BaseFetch<'a> {
    BaseFetch {
        net: handler.daemon.net(),
        home: handler.home.paths(),
        run,
        base,
        most_mib: handler.fetches.most_mib,
        free: &fetch::free_bytes,
        progress,
    }
}

fn is_here(handler: &DaemonHandler, base: &Base) -> Answer<bool> {
    let paths = handler.home.paths();
    match tokio::task::block_in_place(|| model::provide(paths, base, None)) {
        Ok(_) => Ok(true),
        // Whatever was remembered is no more what it was: peers have it.
        Err(ModelError::Unknown { .. }) => Ok(false),
        Err(ModelError::NoFolder(_) | ModelError::Other { .. }) if base.files.is_some() => {
            Ok(false)
        }
        Err(other) => Err(Failure::from(other).into()),
    }
}

/// The listing of a run's base, where members hand it on and one gives it soon.
pub(super) async fn listing(
    handler: &DaemonHandler,
    run: RunId,
    manifest: &Manifest,
) -> Option<Listing> {
    let (base, progress) = (&manifest.model.base, Progress::default());
    let job = job(handler, run, base, &progress);
    let asked = fetch::listing(&job, base.files?);
    tokio::time::timeout(GLANCE, asked).await.ok()?.ok()
}

fn problem(why: &BaseFetchError, job: &BaseFetch<'_>) -> Problem {
    let (code, hint) = match why {
        BaseFetchError::NotShared(_) => (Code::Refused, BRING.to_owned()),
        BaseFetchError::NoProvider { .. } => (
            Code::Unreachable,
            format!(
                "ask members to start their daemons and give the command again, which goes on with what is here; or {BRING}"
            ),
        ),
        BaseFetchError::Listing(_) | BaseFetchError::Model(_) => (
            Code::CheckFailed,
            format!("ask the run's creator for a run whose base is in order; or {BRING}"),
        ),
        BaseFetchError::TooLarge { bytes, .. } => {
            let asks = bytes.div_ceil(MIB);
            (
                Code::BeyondBounds,
                format!(
                    "to give it that much, start `tributary up` with --max-base-mib {asks} or put `max_base_mib = {asks}` \
                     under [bounds] in {}",
                    job.home.config().display()
                ),
            )
        }
        BaseFetchError::Disk { .. } | BaseFetchError::Write { .. } | BaseFetchError::Share(_) => (
            Code::Environment,
            "free some disk space and give the command again: it goes on with what is here"
                .to_owned(),
        ),
        BaseFetchError::Defect(_) => (Code::Environment, "give the command again".to_owned()),
    };
    Problem::new(code, why.to_string()).hint(hint)
}

/// What always helps.
const BRING: &str = "bring the folder by other means and name it with --base DIR";

/// Refuses to open a run whose base members could not hand on because nobody has its listing.
pub(super) fn check_listed(handler: &DaemonHandler, manifest: &Manifest) -> Answer<()> {
    let Some(files) = manifest.model.base.files else {
        return Ok(());
    };
    if share::kept(handler.home.paths(), files).is_some() {
        return Ok(());
    }
    let text = "the manifest names a listing of its base's files that is not in this home";
    Err(Problem::new(Code::Refused, text)
        .hint("open the run with `tributary run create FILE.toml` on this home, which lists them"))
}

#[cfg(test)]
mod tests;
