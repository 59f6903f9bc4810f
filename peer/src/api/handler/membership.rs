//! Asking for membership: what a peer commits to when it joins a run.

use tributary_protocol::entry::{Entry, Join, Role};
use tributary_protocol::event::{self, Command};
use tributary_protocol::id::{MerkleRoot, RunId};
use tributary_protocol::manifest::Manifest;

use super::{Answer, DaemonHandler};
use crate::api::types::JoinRequest;
use crate::model;
use crate::problem::{Code, Problem};
use crate::shard::{Committed, neutral};
use crate::terminal::Failure;

/// Commits to data as the role needs. Nobody hears of it yet.
pub(super) fn prepare(
    handler: &DaemonHandler,
    run: RunId,
    manifest: &Manifest,
    request: &JoinRequest,
) -> Answer<event::JoinRequest> {
    let me = handler.daemon.peer_id();
    let role = Role::from(request.role);
    if role.evaluates() && !manifest.may_evaluate(&me) {
        let text = format!(
            "this peer ({}) is not among the run's evaluators",
            me.short()
        );
        let hint = "join as a contributor, or open a run whose `evaluators` name it";
        return Err(Problem::new(Code::Refused, text).hint(hint));
    }
    if let Some(warning) = fair(manifest, request)? {
        tracing::warn!("run {}: {warning}", run.short());
    }
    tokio::task::block_in_place(|| commit(handler, manifest, request, role))
}

/// Asks for membership.
pub(super) async fn ask(
    handler: &DaemonHandler,
    run: RunId,
    candidate: event::JoinRequest,
) -> Answer<()> {
    stands_alone(handler, run, candidate.join.root).await?;
    let follow = Command::Follow {
        run,
        join: Some(candidate),
    };
    handler.command(follow).await
}

/// Refuses a join beside an earlier one: with other data, because the node keeps to what it asked for first; and of a
/// home that does not know of it, because what the key signs now would contradict what it signed before.
async fn stands_alone(handler: &DaemonHandler, run: RunId, root: MerkleRoot) -> Answer<()> {
    let me = handler.daemon.peer_id();
    let asked = handler.inspect(move |node| {
        let run = node.run(&run)?;
        let mut asked = None;
        for (_, entry) in run.log().entries(me) {
            match entry {
                Entry::Join(join) => asked = Some((join.root, run.join().is_some())),
                Entry::Leave => asked = None,
                _ => {}
            }
        }
        asked
    });
    let short = run.short();
    let (text, hint) = match asked.await? {
        Some((_, false)) => (
            format!("this peer's key joined run {short} before, and this home knows nothing of it"),
            "restore the whole home from a backup, not the key alone; or take part with a new home, and so with a new key"
                .to_owned(),
        ),
        Some((asked, true)) if asked != root => (
            format!("this peer asked to join run {short} with other data"),
            format!(
                "`tributary run leave {short}` ends that membership; join again after the round that certifies it"
            ),
        ),
        _ => return Ok(()),
    };
    Err(Problem::new(Code::Refused, text).hint(hint))
}

/// Freezes the passages that the role needs. Reads files and loads the base: not for the event loop.
fn commit(
    handler: &DaemonHandler,
    manifest: &Manifest,
    request: &JoinRequest,
    role: Role,
) -> Answer<event::JoinRequest> {
    let paths = handler.home.paths();
    let base = model::provide(paths, &manifest.model.base, request.base.as_deref())
        .map_err(Failure::from)?;
    model::fits(&base, manifest).map_err(Failure::from)?;
    let committed = Committed::gather(
        paths,
        handler.home.identity(),
        (manifest.model.base.hash, manifest.training.context),
        request.datanet.as_deref().unwrap_or(&manifest.datanet),
        (role.contributes(), role.evaluates()),
        &request.holdout,
        |held| {
            let context = manifest.training.context;
            model::holdout(&base, held, context).map_err(|e| e.to_string())
        },
    )
    .map_err(Failure::from)?;
    let tokens = model::tokens(&base, &committed, role).map_err(Failure::from)?;
    let sketch = committed.sketch(manifest);
    if sketch.is_none() && role.contributes() && manifest.opens_sketches() {
        let text = "this shard has fewer than eight words to train on, and the run weighs by own text, which it tells by \
                    eight words in a row";
        return Err(Problem::new(Code::Refused, text).hint("add text with `tributary datanet add`"));
    }
    let join = Join {
        name: handler.name.clone(),
        role,
        root: committed.write(paths).map_err(Failure::from)?,
        tokens,
        fingerprints: committed.fingerprints(),
        beacon: Default::default(),
        sketch: None,
        bind: handler.daemon.keeper().bind(manifest),
    };
    Ok(event::JoinRequest { join, sketch })
}

/// Whether what a member asks for leaves it to score others on its own text; gives a warning.
fn fair(manifest: &Manifest, request: &JoinRequest) -> Answer<Option<String>> {
    neutral::check(manifest, request.role.into(), !request.holdout.is_empty())
        .map_err(|why| Problem::new(Code::Refused, why))
}
