//! What an inviter has given out: `invitations.json` in its home, so that it can list and revoke.
//!
//! Commands and the daemon use the file at the same time. A change holds `invitations.lock` from reading to renaming;
//! a reader needs no lock, since the file is always whole. Where a ticket leads stands in the ticket alone.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tributary_protocol::id::RunId;
use tributary_protocol::time::Timestamp;
use tributary_trainer::input;

use super::InvitationId;
use crate::home::{HomePaths, disk};

/// Invitations kept at once. Nobody lists more, and a reader of the file takes a quarter of a MiB at most.
const MAX_INVITATIONS: usize = 1024;
/// Bytes of the file: twice what so many entries take.
const MAX_FILE_BYTES: u64 = 512 << 10;
/// How long an expired invitation is still listed: 30 days, in milliseconds.
const KEPT_MS: u64 = 30 * 86_400_000;
/// How long a change waits for another one, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Names the layout of the file.
const FORMAT: &str = "tributary-invitations/1";

/// One that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its number in the ticket.
    pub id: InvitationId,
    /// To which run.
    pub run: RunId,
    /// When it was made.
    pub made: Timestamp,
    /// From when it is refused.
    pub expires: Timestamp,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// Why the list could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum InvitationsError {
    /// Too many are good at once.
    #[error(
        "{MAX_INVITATIONS} invitations of this home are good at once; wait until some expire, or give out one that exists"
    )]
    Full,
    /// No such invitation.
    #[error(
        "there is no invitation {0} in this home; `tributary invite --list` shows those that there are"
    )]
    Unknown(InvitationId),
    /// Another command keeps the lock.
    #[error(
        "another command has been changing the invitations for {PATIENCE:?}; wait for it, or end it, and try again"
    )]
    Busy,
    /// Not what was written.
    #[error(
        "{path} is damaged ({why}), so that no ticket of this home is accepted; restore it from your backup, or delete it, \
         which makes revoked tickets good again until they expire"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refused.
    #[error("could not use {path}: {source}; check the rights and the free space there")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The list of one home. Nothing is read before it is asked for.
#[derive(Clone, Debug)]
pub struct Invitations {
    path: PathBuf,
    lock: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    invitations: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    run: String,
    made_ms: u64,
    expires_ms: u64,
    revoked: bool,
}

impl From<&Invitation> for Row {
    fn from(invitation: &Invitation) -> Self {
        Self {
            id: invitation.id.to_string(),
            run: invitation.run.to_string(),
            made_ms: invitation.made.0,
            expires_ms: invitation.expires.0,
            revoked: invitation.revoked,
        }
    }
}

impl Row {
    fn read(self) -> Result<Invitation, String> {
        let run = self.run.parse();
        Ok(Invitation {
            id: self
                .id
                .parse()
                .map_err(|_| format!("{} is no invitation", self.id))?,
            run: run.map_err(|_| format!("{} is no run", self.run))?,
            made: Timestamp(self.made_ms),
            expires: Timestamp(self.expires_ms),
            revoked: self.revoked,
        })
    }
}

impl Invitations {
    /// Those of a home.
    pub fn of(home: &HomePaths) -> Self {
        Self {
            path: home.invitations(),
            lock: home.invitations_lock(),
        }
    }

    /// All that are kept, the oldest first.
    ///
    /// # Errors
    /// [`InvitationsError::Damaged`] and [`InvitationsError::Io`].
    pub fn list(&self) -> Result<Vec<Invitation>, InvitationsError> {
        let io = |source| InvitationsError::Io {
            path: self.path.clone(),
            source,
        };
        let damaged = |why| InvitationsError::Damaged {
            path: self.path.clone(),
            why,
        };
        match input::finite(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io(e)),
            Ok(found) if found.len() > MAX_FILE_BYTES => {
                return Err(damaged(format!(
                    "{} bytes are more than it can have",
                    found.len()
                )));
            }
            Ok(_) => {}
        }
        let bytes = input::bytes(&self.path).map_err(io)?;
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if stored.format != FORMAT {
            return Err(damaged(format!("its format is not {FORMAT}")));
        }
        let rows = stored.invitations.into_iter().map(Row::read);
        rows.collect::<Result<_, _>>().map_err(damaged)
    }

    /// The numbers of those that were taken back.
    ///
    /// # Errors
    /// As [`Invitations::list`]; a caller that cannot know accepts none.
    pub fn revoked(&self) -> Result<BTreeSet<InvitationId>, InvitationsError> {
        let revoked = self.list()?.into_iter().filter(|held| held.revoked);
        Ok(revoked.map(|held| held.id).collect())
    }

    /// Notes a new one, before its ticket is shown to anybody.
    ///
    /// # Errors
    /// See [`InvitationsError`].
    pub fn add(
        &self,
        id: InvitationId,
        run: RunId,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<Invitation, InvitationsError> {
        let new = Invitation {
            id,
            run,
            made: now,
            expires,
            revoked: false,
        };
        self.change(now, |held| {
            if held.len() >= MAX_INVITATIONS {
                // What is expired is refused by its date, listed or not.
                held.retain(|held| held.expires > now);
            }
            if held.len() >= MAX_INVITATIONS {
                return Err(InvitationsError::Full);
            }
            held.push(new);
            Ok(new)
        })
    }

    /// Takes one back. Doing it twice is no fault.
    ///
    /// # Errors
    /// [`InvitationsError::Unknown`], else see [`InvitationsError`].
    pub fn revoke(&self, id: InvitationId, now: Timestamp) -> Result<Invitation, InvitationsError> {
        self.change(now, |held| {
            let found = held.iter_mut().find(|held| held.id == id);
            let found = found.ok_or(InvitationsError::Unknown(id))?;
            found.revoked = true;
            Ok(*found)
        })
    }

    /// Changes the list alone, and forgets what expired long ago.
    fn change<T>(
        &self,
        now: Timestamp,
        change: impl FnOnce(&mut Vec<Invitation>) -> Result<T, InvitationsError>,
    ) -> Result<T, InvitationsError> {
        let _lock = self.hold()?;
        let mut held = self.list()?;
        held.retain(|held| held.expires.0.saturating_add(KEPT_MS) > now.0);
        let done = change(&mut held)?;
        let stored = Stored {
            format: FORMAT.to_owned(),
            invitations: held.iter().map(Row::from).collect(),
        };
        let text = serde_json::to_vec_pretty(&stored).expect("plain fields always serialise");
        disk::write_whole(&self.path, &text).map_err(|source| InvitationsError::Io {
            path: self.path.clone(),
            source,
        })?;
        Ok(done)
    }

    fn hold(&self) -> Result<File, InvitationsError> {
        let io = |source| InvitationsError::Io {
            path: self.lock.clone(),
            source,
        };
        let mut options = disk::private();
        let lock = options.create(true).truncate(false).open(&self.lock);
        let lock = lock.map_err(io)?;
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(PATIENCE / 1000);
                }
                Err(TryLockError::WouldBlock) => return Err(InvitationsError::Busy),
                Err(TryLockError::Error(e)) => return Err(io(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn home() -> (tempfile::TempDir, Invitations) {
        let dir = tempfile::tempdir().unwrap();
        let list = Invitations::of(&HomePaths::new(dir.path()));
        (dir, list)
    }

    fn id(n: u64) -> InvitationId {
        InvitationId(n.to_le_bytes())
    }

    fn add(
        list: &Invitations,
        n: u64,
        now_ms: u64,
        days: u64,
    ) -> Result<Invitation, InvitationsError> {
        let now = Timestamp(now_ms);
        let expires = Timestamp(now_ms + days * DAY_MS);
        list.add(id(n), RunId::default(), now, expires)
    }

    #[test]
    fn invitations_are_listed_and_revoked_and_survive_a_restart() {
        let (dir, list) = home();
        assert_eq!(list.list().unwrap(), []);
        let one = add(&list, 1, 0, 7).unwrap();
        let two = add(&list, 2, 5, 7).unwrap();
        assert!(list.revoke(id(1), Timestamp(9)).unwrap().revoked);
        list.revoke(id(1), Timestamp(9)).unwrap();
        let again = Invitations::of(&HomePaths::new(dir.path()));
        let one = Invitation {
            revoked: true,
            ..one
        };
        assert_eq!(again.list().unwrap(), [one, two]);
        assert_eq!(again.revoked().unwrap(), [id(1)].into());
        let error = list.revoke(id(3), Timestamp(9)).unwrap_err();
        assert!(matches!(error, InvitationsError::Unknown(_)), "{error}");
    }

    #[test]
    fn those_that_expired_thirty_days_ago_are_forgotten() {
        let (_dir, list) = home();
        add(&list, 1, 0, 1).unwrap();
        add(&list, 2, 31 * DAY_MS - 1, 1).unwrap();
        assert_eq!(list.list().unwrap().len(), 2);
        add(&list, 3, 31 * DAY_MS, 1).unwrap();
        let left: Vec<_> = list.list().unwrap().iter().map(|held| held.id).collect();
        assert_eq!(left, [id(2), id(3)]);
    }

    #[test]
    fn the_list_is_bounded_and_expired_ones_make_room() {
        let (_dir, list) = home();
        let made = |n| Invitation {
            id: id(n),
            run: RunId::default(),
            made: Timestamp(0),
            expires: Timestamp(DAY_MS),
            revoked: false,
        };
        let fill = |held: &mut Vec<Invitation>| {
            held.extend((0..MAX_INVITATIONS as u64).map(made));
            Ok(())
        };
        list.change(Timestamp(0), fill).unwrap();
        let size = std::fs::metadata(&list.path).unwrap().len();
        assert!(size < MAX_FILE_BYTES, "{size}");
        let error = add(&list, 9999, 0, 1).unwrap_err();
        assert!(matches!(error, InvitationsError::Full), "{error}");
        add(&list, 9999, DAY_MS, 1).unwrap();
        assert_eq!(list.list().unwrap().len(), 1);
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let (dir, _) = home();
        let paths = HomePaths::new(dir.path());
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let list = Invitations::of(&paths);
                scope.spawn(move || {
                    for n in 0..4 {
                        add(&list, writer * 4 + n, 0, 7).unwrap();
                    }
                });
            }
        });
        let list = Invitations::of(&paths).list().unwrap();
        let ids: BTreeSet<_> = list.iter().map(|held| held.id).collect();
        assert_eq!(ids, (0..32).map(id).collect());
    }

    #[test]
    fn a_damaged_list_says_so_and_accepts_nothing() {
        let (_dir, list) = home();
        add(&list, 1, 0, 7).unwrap();
        for bad in ["{", "{\"format\":\"other\",\"invitations\":[]}"] {
            std::fs::write(&list.path, bad).unwrap();
            for error in [
                list.revoked().unwrap_err(),
                add(&list, 2, 0, 7).unwrap_err(),
            ] {
                assert!(matches!(error, InvitationsError::Damaged { .. }), "{error}");
            }
            assert_eq!(std::fs::read_to_string(&list.path).unwrap(), bad);
        }
    }
}
