//! Keeps the index of a running daemon, on a thread of its own.
//!
//! The driver hands every block and certificate on as it sends them to the disk, which costs it a copy of their
//! bytes. The thread folds them and swaps the snapshot that readers take. So no question of the owner's is worked
//! out between two inputs of the node.

use std::sync::{Arc, mpsc};

use parking_lot::RwLock;
use tokio::sync::oneshot;
use tributary_ledger::{LedgerIndex, Snapshot};
use tributary_protocol::event::Record;

/// Batches that are folded before readers see a new snapshot: a newcomer's whole history comes at once.
const MAX_BATCH: usize = 256;

enum Job {
    Records(Vec<Record>),
    /// Answered once everything before is in the snapshot.
    Tell(oneshot::Sender<()>),
}

/// Hands records to the index, and readers what it makes of them. Cheap to clone; the thread ends with the last.
#[derive(Clone)]
pub(crate) struct Indexer {
    jobs: mpsc::Sender<Job>,
    latest: Arc<RwLock<Snapshot>>,
}

impl Indexer {
    /// Goes on from an index of what is stored already.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(mut index: LedgerIndex) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let latest = Arc::new(RwLock::new(index.snapshot()));
        let published = latest.clone();
        std::thread::Builder::new()
            .name("tributary-index".into())
            .spawn(move || keep(index, &queue, &published))?;
        Ok(Self { jobs, latest })
    }

    /// Hands on what readers are shown something of.
    pub(crate) fn feed(&self, records: &[Record]) {
        let shown = |record: &&Record| {
            matches!(
                record,
                Record::Block(_) | Record::Certificate { .. } | Record::Followed { .. }
            )
        };
        let records: Vec<Record> = records.iter().filter(shown).cloned().collect();
        if !records.is_empty() {
            // The thread ends only after this sender, or by a defect that its panic names.
            let _ = self.jobs.send(Job::Records(records));
        }
    }

    /// What is folded by now.
    pub(crate) fn latest(&self) -> Snapshot {
        self.latest.read().clone()
    }

    /// With everything that was handed on before.
    pub(crate) async fn current(&self) -> Snapshot {
        let (told, wait) = oneshot::channel();
        if self.jobs.send(Job::Tell(told)).is_ok() {
            let _ = wait.await;
        }
        self.latest()
    }
}

fn keep(mut index: LedgerIndex, queue: &mpsc::Receiver<Job>, published: &RwLock<Snapshot>) {
    while let Ok(first) = queue.recv() {
        let waiting = std::iter::once(first).chain(queue.try_iter());
        let mut asking = Vec::new();
        for job in waiting.take(MAX_BATCH) {
            match job {
                Job::Records(records) => index.extend(&records),
                Job::Tell(reader) => asking.push(reader),
            }
        }
        let snapshot = index.snapshot();
        *published.write() = snapshot;
        for reader in asking {
            // A reader may have stopped waiting.
            let _ = reader.send(());
        }
    }
}

#[cfg(test)]
#[cfg(test)]
mod tests {
    use tributary_ledger::fixture::finished;

    use super::*;
    use crate::NETWORK;

    #[tokio::test]
    async fn a_reader_sees_everything_that_was_handed_on_before_it_asked() {
        let (made, _, _) = finished();
        let indexer = Indexer::start(LedgerIndex::new(NETWORK)).unwrap();
        assert_eq!(indexer.current().await.runs().count(), 0);
        for records in made.records.chunks(3) {
            indexer.feed(records);
        }
        let snapshot = indexer.current().await;
        let run_index = snapshot.run(&made.run()).expect("the run was handed on");
        let certified = run_index.chain().last().map(|c| c.value.round.0);
        assert_eq!(certified, Some(4));
        assert_eq!(indexer.latest().runs().count(), 1);
    }
}
