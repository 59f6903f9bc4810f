//! What a peer remembers of its network from one start to the next: its port, other peers, and relays.
//!
//! `network.json` in the home. A peer that starts again listens where it listened before, so that those who know its
//! address find it, and dials those that it knew, so that it finds them when the one it first met is gone. Everything in
//! it is hearsay to the next start: a peer is who its key proves it to be. Losing the file loses no more than time.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tributary_protocol::id::{PeerId, RunId};
use tributary_trainer::input;

use super::hello::{Contact, MAX_ADDRESSES, MAX_RELAYS, MAX_RUNS, RelayPlace};
use crate::home::disk;

/// Peers that are remembered: a small run whole.
pub(super) const MAX_PEERS: usize = 64;
/// Relays that are remembered; each is asked for its latency.
pub(super) const MAX_RELAYS_KNOWN: usize = 8;
/// Ports that are tried before the system is held to have none.
const TRIES: u32 = 16;

/// Held while the file is changed; one process holds the home.
static CHANGING: Mutex<()> = Mutex::new(());

/// A relay and what opens it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRelay {
    /// Whose key its certificate has.
    #[serde(with = "text")]
    pub peer: PeerId,
    /// Where it listens.
    pub socket: SocketAddr,
    /// The ticket whose bearer it lets in; members of its runs need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A peer and where it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Its key.
    #[serde(with = "text")]
    pub peer: PeerId,
    /// TCP.
    #[serde(default)]
    pub control: Vec<SocketAddr>,
    /// UDP.
    #[serde(default)]
    pub data: Vec<SocketAddr>,
    /// Its relays.
    #[serde(default)]
    pub relays: Vec<KnownRelay>,
    /// The runs it followed.
    #[serde(default, with = "texts")]
    pub runs: Vec<RunId>,
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The port of both planes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Peers, the best first.
    #[serde(default)]
    pub peers: Vec<KnownPeer>,
    /// Relays of this peer.
    #[serde(default)]
    pub relays: Vec<KnownRelay>,
}

impl Known {
    /// Reads the file. One that is missing or spoilt remembers nothing: it is no reason not to start.
    pub fn read(path: &Path) -> Self {
        let text = match input::text(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(e) => {
                tracing::warn!(
                    "cannot read {}: {e}; this peer starts with the addresses it is given",
                    path.display()
                );
                return Self::default();
            }
        };
        let mut known: Self = serde_json::from_str(&text).unwrap_or_else(|e| {
            tracing::warn!("{} is spoilt ({e}); it is written anew", path.display());
            Self::default()
        });
        known.peers.truncate(MAX_PEERS);
        known.relays.truncate(MAX_RELAYS_KNOWN);
        known
    }

    /// Reads the file, changes it and writes it, one at a time: the daemon writes down peers while its owner takes a
    /// ticket, and neither may undo the other. Nothing is written where nothing changed.
    ///
    /// # Errors
    /// The disk's.
    pub fn change(path: &Path, change: impl FnOnce(&mut Self)) -> io::Result<()> {
        let _alone = CHANGING.lock();
        let before = Self::read(path);
        let mut known = before.clone();
        change(&mut known);
        match known == before {
            true => Ok(()),
            false => known.write(path),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        disk::write_whole(path, text.as_bytes())
    }

    /// The port that was kept, if it is free on `socket`'s address, else one that is: the same for TCP and UDP.
    ///
    /// # Errors
    /// The system's, when it gives none.
    pub fn port_for(&self, socket: SocketAddr) -> io::Result<u16> {
        let at = |port| SocketAddr::new(socket.ip(), port);
        if let Some(port) = self.port {
            match both_free(at(port)) {
                Ok(port) => return Ok(port),
                Err(e) => tracing::warn!(
                    "port {port}, which this peer had before, is not free ({e}); others find it by those that it dials"
                ),
            }
        }
        let mut last = io::Error::other("no port was tried");
        for _ in 0..TRIES {
            match both_free(at(0)) {
                Ok(port) => return Ok(port),
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

/// A port that is free for TCP and for UDP. Port 0 stands for any.
fn both_free(socket: SocketAddr) -> io::Result<u16> {
    let tcp = TcpListener::bind(socket)?;
    let port = tcp.local_addr()?.port();
    UdpSocket::bind(SocketAddr::new(socket.ip(), port))?;
    Ok(port)
}

impl KnownRelay {
    fn place(&self) -> RelayPlace {
        RelayPlace {
            peer: self.peer,
            socket: self.socket.into(),
        }
    }
}

impl From<&Contact> for KnownPeer {
    fn from(contact: &Contact) -> Self {
        let relay = |place: &RelayPlace| KnownRelay {
            peer: place.peer,
            socket: place.socket.into(),
            token: None,
        };
        Self {
            peer: contact.peer,
            control: contact.control.iter().map(|s| (*s).into()).collect(),
            data: contact.data.iter().map(|s| (*s).into()).collect(),
            relays: contact.relays.iter().map(relay).collect(),
            runs: contact.runs.clone(),
        }
    }
}

impl From<&KnownPeer> for Contact {
    fn from(known: &KnownPeer) -> Self {
        let sockets = |sockets: &[SocketAddr]| {
            let sockets = sockets.iter().copied().map(Into::into);
            sockets.take(MAX_ADDRESSES).collect()
        };
        Self {
            peer: known.peer,
            control: sockets(&known.control),
            data: sockets(&known.data),
            relays: (known.relays.iter().map(KnownRelay::place).take(MAX_RELAYS)).collect(),
            runs: known.runs.iter().copied().take(MAX_RUNS).collect(),
        }
    }
}

/// Ids as people see them.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(id: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Lists of ids.
mod texts {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        ids: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(ids.iter().map(T::to_string))
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let ids = texts
            .iter()
            .map(|text| text.parse().map_err(D::Error::custom));
        ids.collect()
    }
}

#[cfg(test)]
mod tests {
    use tributary_protocol::hash;

    use super::*;

    fn known() -> Known {
        let peer = PeerId(hash::blob(b"peer"));
        Known {
            port: Some(4001),
            peers: vec![KnownPeer {
                peer,
                control: vec!["1.2.3.4:5".parse().unwrap()],
                data: vec!["[2001:db8::1]:6".parse().unwrap()],
                relays: vec![KnownRelay {
                    peer,
                    socket: "1.2.3.4:443".parse().unwrap(),
                    token: None,
                }],
                runs: vec![RunId(hash::blob(b"run"))],
            }],
            relays: Vec::new(),
        }
    }

    #[test]
    fn what_is_known_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network.json");
        assert_eq!(Known::read(&path), Known::default());
        known().write(&path).unwrap();
        assert_eq!(Known::read(&path), known());
        let contact = Contact::from(&known().peers[0]);
        assert_eq!(KnownPeer::from(&contact), known().peers[0]);
    }

    #[test]
    fn a_spoilt_file_remembers_nothing_and_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network.json");
        for text in [
            "",
            "{",
            "[]",
            "{\"port\": 70000}",
            "{\"peers\": [{\"peer\": \"x\"}]}",
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Known::read(&path), Known::default(), "{text}");
        }
    }

    #[test]
    fn a_port_is_kept_while_it_is_free_and_replaced_when_it_is_not() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let port = Known::default().port_for(any).unwrap();
        let known = Known {
            port: Some(port),
            ..Known::default()
        };
        assert_eq!(known.port_for(any).unwrap(), port);
        let _taken = UdpSocket::bind(SocketAddr::new(any.ip(), port)).unwrap();
        assert_ne!(known.port_for(any).unwrap(), port);
    }
}
