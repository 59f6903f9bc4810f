//! Attackers that only take up room, with as many sockets, connections, keys or names as they are told.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::daemon::Peer;

/// How often what was lost is taken up again.
const STEP: Duration = Duration::from_millis(50);

/// What is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Siege {
    /// TCP connections on which nothing is ever said.
    MuteSockets(usize),
}

impl Siege {
    pub(crate) fn size(self) -> usize {
        match self {
            Self::MuteSockets(size) => size,
        }
    }
}

/// Attacks a daemon until told to stop, and tells how many places were taken in all.
pub(crate) fn besiege(siege: Siege, host: &Peer, stop: &AtomicBool) -> u64 {
    match siege {
        Siege::MuteSockets(size) => hold_mute_sockets(host, size, stop),
    }
}

fn hold_mute_sockets(host: &Peer, size: usize, stop: &AtomicBool) -> u64 {
    let to: SocketAddr = host.address().parse().expect("IP and port");
    let (mut held, mut opened) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        held.retain(|socket: &TcpStream| is_open(socket));
        while held.len() < size {
            let Ok(socket) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) else {
                break;
            };
            socket
                .set_nonblocking(true)
                .expect("a socket that does not block");
            held.push(socket);
            opened += 1;
        }
        std::thread::sleep(STEP);
    }
    opened
}

/// Whether the other side has not hung up.
fn is_open(mut socket: &TcpStream) -> bool {
    match socket.read(&mut [0; 64]) {
        Ok(bytes) => bytes > 0,
        Err(why) => why.kind() == ErrorKind::WouldBlock,
    }
}
