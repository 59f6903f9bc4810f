//! One word that leads a newcomer to a run: where its peers are reached, and a token for their relays.
//!
//! ```text
//!   trib || base58( version, network, run, invitation, expiry, peers, relays || signature of the first peer || checksum )
//! ```
//! A ticket is no membership. It says where to connect and is shown to relays of the run's members as a token; the run
//! itself admits whom its manifest admits. What the inviter has given out and revoked is in [`Invitations`]. The bytes
//! are in `docs/protocol.md`.

mod address;
mod fit;
mod invitations;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;

use data_encoding::HEXLOWER;
use tributary_protocol::id::{NetworkId, PeerId, RunId};
use tributary_protocol::sign::SecretKey;
use tributary_protocol::time::Timestamp;

use crate::terminal::utc;

pub use invitations::{Invitation, Invitations, InvitationsError};

/// Characters of a ticket: it survives every messenger, and a line of 80 columns holds it in five.
pub const MAX_CHARACTERS: usize = 400;
/// Peers of a ticket: if one is away the next answers.
pub const MAX_PEERS: usize = 3;
/// Addresses of one peer: a public and a private one of both families.
pub const MAX_SOCKETS: usize = 4;
/// Characters of what is pasted, white space and all. A ticket that was broken into lines and indented is far shorter.
const MAX_PASTED: usize = 4096;
/// What every ticket begins with.
const PREFIX: &str = "trib";

/// By what an inviter knows a ticket again: random, so that it tells nothing.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode,
)]
pub struct InvitationId(pub [u8; 8]);

impl InvitationId {
    /// A new one.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system has no source of random numbers");
        Self(bytes)
    }
}

impl fmt::Display for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl std::str::FromStr for InvitationId {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEXLOWER.decode(text.to_ascii_lowercase().as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(TicketError::NoInvitation)
    }
}

/// A relay: whose, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Its certificate has this key.
    pub peer: PeerId,
    /// TCP for the relay, UDP for address discovery.
    pub socket: SocketAddr,
}

/// A peer of the run, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Who.
    pub peer: PeerId,
    /// Where, the best first. The same number is tried as TCP and as UDP.
    pub sockets: Vec<SocketAddr>,
    /// The relay that it is connected to.
    pub relay: Option<Relay>,
}

/// What a ticket is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Of which network.
    pub network: NetworkId,
    /// To which run.
    pub run: RunId,
    /// Its number at the inviter.
    pub invitation: InvitationId,
    /// From then on it is refused. Counted in whole seconds.
    pub expires: Timestamp,
}

/// A checked ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    terms: Terms,
    contacts: Vec<Contact>,
    text: String,
}

/// Why there is no ticket, or why one is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Something else was pasted.
    #[error(
        "this is no ticket; a ticket is one word that begins with `{PREFIX}`, as `tributary invite` prints it"
    )]
    NotATicket,
    /// More characters than any ticket has.
    #[error(
        "this is longer than the {MAX_CHARACTERS} characters that a ticket has at most; paste the ticket alone, and once"
    )]
    TooLong,
    /// Characters are wrong or missing.
    #[error(
        "the ticket is mistyped or incomplete (its checksum does not fit); copy all of it again"
    )]
    Mistyped,
    /// Made by a later release.
    #[error(
        "the ticket has version {0} of the format, which this release does not know; install a newer tributary"
    )]
    Newer(u8),
    /// For another network.
    #[error(
        "the ticket is for network {found} and this program speaks to network {expected}; ask for a ticket of your network"
    )]
    Network {
        /// Of the ticket.
        found: u32,
        /// Of the program.
        expected: u32,
    },
    /// Not signed by the first peer.
    #[error(
        "the ticket was not signed by the peer that it names as inviter; somebody changed it, so ask for a new one"
    )]
    Signature,
    /// Too late.
    #[error("the ticket expired on {}; ask for a new one", utc::shown(*.0))]
    Expired(Timestamp),
    /// An address at which nobody can be.
    #[error(
        "the ticket names {0}, an address that nobody can reach; ask the inviter for a new ticket"
    )]
    Unreachable(SocketAddr),
    /// From somebody who may not invite here.
    #[error("{} gave this ticket and is no member of a run that this relay serves; ask a member for a ticket", .0.short())]
    Issuer(PeerId),
    /// Taken back.
    #[error("the inviter has revoked this ticket ({0}); ask for a new one")]
    Revoked(InvitationId),
    /// A ticket could not be made because others cannot reach its maker.
    #[error(
        "no ticket can be made: this peer has no address that others could reach, and no relay; see `tributary reach`"
    )]
    NoAddress,
    /// A ticket could not be made because its maker is not the first peer.
    #[error("no ticket can be made: the first of its peers has to be the inviter, who signs it")]
    NotInviter,
    /// Not the name of an invitation.
    #[error(
        "an invitation is named by 16 hexadecimal digits, as `tributary invite --list` shows them"
    )]
    NoInvitation,
}

impl Ticket {
    /// Makes and signs a ticket. The first of the contacts is the inviter, whose key signs; addresses that nobody can
    /// reach are left out, and then as many sockets and further peers as do not fit [`MAX_CHARACTERS`].
    ///
    /// # Errors
    /// [`TicketError::NoAddress`] and [`TicketError::NotInviter`].
    pub fn new(key: &SecretKey, terms: Terms, contacts: Vec<Contact>) -> Result<Self, TicketError> {
        if contacts.first().map(|first| first.peer) != Some(key.peer_id()) {
            return Err(TicketError::NotInviter);
        }
        let mut contacts = fit::usable(contacts);
        if contacts.first().map(|first| first.peer) != Some(key.peer_id()) {
            return Err(TicketError::NoAddress);
        }
        let expires = Timestamp(terms.expires.0 / 1000 * 1000);
        let terms = Terms { expires, ..terms };
        loop {
            let text = spelled(&wire::encode(key, &terms, &contacts));
            if text.len() <= MAX_CHARACTERS {
                return Ok(Self {
                    terms,
                    contacts,
                    text,
                });
            }
            fit::shrink(&mut contacts);
        }
    }

    /// Reads and checks a ticket as it was pasted, at the time `now`, for `network`.
    ///
    /// # Errors
    /// See [`TicketError`].
    pub fn parse(text: &str, now: Timestamp, network: NetworkId) -> Result<Self, TicketError> {
        let text = plain(text)?;
        let digits = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        let bytes = bs58::decode(digits).into_vec();
        let bytes = bytes.map_err(|_| TicketError::Mistyped)?;
        let (terms, contacts) = wire::decode(&bytes, network)?;
        let sockets = contacts.iter().flat_map(|contact| {
            let relay = contact.relay.map(|relay| relay.socket);
            contact.sockets.iter().copied().chain(relay)
        });
        if let Some(socket) = sockets.into_iter().find(|at| !address::is_reachable(at)) {
            return Err(TicketError::Unreachable(socket));
        }
        if terms.expires <= now {
            return Err(TicketError::Expired(terms.expires));
        }
        Ok(Self {
            terms,
            contacts,
            text,
        })
    }

    /// Whether a relay serves the bearer of this text, and for the sake of which run: `issuers` says who may invite to
    /// it, `revoked` what the inviter took back, as far as that is known here.
    ///
    /// # Errors
    /// As [`Ticket::parse`], [`TicketError::Issuer`] and [`TicketError::Revoked`]; each is written for the bearer.
    pub fn admits(
        text: &str,
        now: Timestamp,
        network: NetworkId,
        issuers: impl Fn(&PeerId) -> bool,
        revoked: impl Fn(&InvitationId) -> bool,
    ) -> Result<RunId, TicketError> {
        let ticket = Self::parse(text, now, network)?;
        let inviter = ticket.inviter();
        if !issuers(&inviter) {
            return Err(TicketError::Issuer(inviter));
        }
        match revoked(&ticket.terms.invitation) {
            true => Err(TicketError::Revoked(ticket.terms.invitation)),
            false => Ok(ticket.terms.run),
        }
    }

    /// What it is about.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The peer that made and signed it.
    pub fn inviter(&self) -> PeerId {
        self.contacts[0].peer
    }

    /// Peers of the run, the inviter first.
    pub fn contacts(&self) -> &[Contact] {
        &self.contacts
    }

    /// The ticket itself, which is also the token for relays.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn spelled(bytes: &[u8]) -> String {
    format!("{PREFIX}{}", bs58::encode(bytes).into_string())
}

/// Without the white space of messengers and terminals.
fn plain(pasted: &str) -> Result<String, TicketError> {
    if pasted.len() > MAX_PASTED {
        return Err(TicketError::TooLong);
    }
    let text: String = pasted.split_whitespace().collect();
    match text.len() <= MAX_CHARACTERS {
        true => Ok(text),
        // A long text that is none at all is not called a long ticket.
        false if text.starts_with(PREFIX) => Err(TicketError::TooLong),
        false => Err(TicketError::NotATicket),
    }
}
