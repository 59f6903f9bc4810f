//! How peers are reached, and how others are invited: requests and answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The way to a connected peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WayName {
    /// Straight to its address, in the network that this peer is in itself.
    Lan,
    /// Straight to its address.
    Direct,
    /// Through a relay.
    Relayed,
}

/// How a connected peer is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PathView {
    /// The peer's id.
    pub peer: String,
    /// The way.
    pub way: WayName,
    /// `quic` or `tcp`.
    pub transport: String,
    /// Its address, or the relay's.
    pub address: Option<String>,
    /// Seconds for which it has been reached in this way.
    pub for_s: u64,
    /// Round trip in milliseconds.
    pub latency_ms: Option<f64>,
    /// Packets lost, in a million; not known of TCP.
    pub lost_ppm: Option<u32>,
}

/// A peer that a round waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AwaitedView {
    /// Its id.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// Seconds since it was last connected; null where this daemon has not seen it.
    pub seen_s: Option<u64>,
}

/// A relay that this peer uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RelayView {
    /// Where it is, and whose.
    pub address: String,
    /// Whether this peer can be reached through it now.
    pub connected: bool,
    /// Round trip in milliseconds.
    pub latency_ms: Option<f64>,
    /// Why not, when it is not connected.
    pub why: Option<String>,
}

/// A relay that this peer serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServingView {
    /// What others pass to `--via`.
    pub address: String,
    /// Peers that use it now.
    pub clients: u32,
    /// Bytes that it passed on since the daemon started.
    pub bytes: u64,
}

/// What is wrong with how this peer can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReachCode {
    /// The owner limits it to this machine.
    LoopbackOnly,
    /// No UDP packet comes back.
    UdpBlocked,
    /// The router gives each destination another port: two such routers cannot meet without a relay.
    MappingVaries,
    /// Peers outside the network find no way to this one, and no relay helps.
    NoWayIn,
    /// A relay does not let this peer in, or does not answer.
    RelayDown,
    /// A peer is reached through a relay.
    PeerRelayed,
    /// An address that the owner gave does not answer.
    Unreached,
}

/// A warning with its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReachWarning {
    /// What kind.
    pub code: ReachCode,
    /// What is wrong, and what to do.
    pub text: String,
}

/// How this peer reaches others, and they it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReachView {
    /// Layout of this answer.
    pub schema: String,
    /// `loopback`, `lan` or `wan`.
    pub reach: String,
    /// Where it tells others that it is: TCP and UDP.
    pub addresses: Vec<String>,
    /// Whether UDP over IPv4 comes back from a relay; null while no relay was asked.
    pub udp_v4: Option<bool>,
    /// The same over IPv6.
    pub udp_v6: Option<bool>,
    /// What a relay sees of this peer over IPv4.
    pub public_v4: Option<String>,
    /// What a relay sees of this peer over IPv6.
    pub public_v6: Option<String>,
    /// Whether the router's port differs by destination; null while fewer than two relays were asked.
    pub mapping_varies: Option<bool>,
    /// Whether the router opened a port when it was asked; null where it was not asked.
    pub port_mapped: Option<bool>,
    /// Relays.
    pub relays: Vec<RelayView>,
    /// The relay that it serves.
    #[serde(default)]
    pub serving: Option<ServingView>,
    /// Connected peers.
    pub peers: Vec<PathView>,
    /// What is degraded.
    pub warnings: Vec<ReachWarning>,
}

/// Invites to a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InviteRequest {
    /// The run, in full or by its first digits.
    pub run: String,
    /// Seconds until the ticket ends; from 60 to 7,776,000.
    pub expires_s: u64,
}

/// A ticket that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TicketView {
    /// The ticket: what others pass to `tributary join`.
    pub ticket: String,
    /// By what it is revoked.
    pub invitation: String,
    /// The run.
    pub run: String,
    /// Its name.
    pub name: String,
    /// When it ends, seconds since 1970.
    pub expires: u64,
    /// Peers that it names, with where they are.
    pub peers: Vec<String>,
    /// What may keep others from using it.
    pub warnings: Vec<String>,
}

/// A ticket that this peer gave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitationView {
    /// By what it is revoked.
    pub invitation: String,
    /// The run.
    pub run: String,
    /// When it was made, seconds since 1970.
    pub made: u64,
    /// When it ends, seconds since 1970.
    pub expires: u64,
    /// Whether its owner took it back.
    pub revoked: bool,
}

/// Takes a ticket: connects to the peers that it names and learns what the run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TicketRequest {
    /// The ticket.
    pub ticket: String,
    /// Folder of the base model, when it is not `brook`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub base: Option<PathBuf>,
}

/// What a run asks of a member, and what would leave its machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OfferView {
    /// The run.
    pub run: String,
    /// Its name.
    pub name: String,
    /// Its Datanet: the name of the shard that a member trains on.
    pub datanet: String,
    /// Who opened it.
    pub creator: String,
    /// Its base model.
    pub base: String,
    /// Whether the base model is on this machine.
    pub has_base: bool,
    /// Bytes of the base model that would be fetched from peers; 0 where it is here, or nobody connected has it to give.
    pub base_bytes: u64,
    /// Whether the run's creator lets members hand the base on.
    pub base_shared: bool,
    /// Its licence, as its listing says, with the file that names it; empty where nothing is known of it.
    pub base_licence: String,
    /// Training rounds in all.
    pub rounds: u32,
    /// Last certified round.
    pub certified: Option<u32>,
    /// Members.
    pub members: u32,
    /// Whether it is over.
    pub finished: bool,
    /// Steps of a round on this machine.
    pub local_steps: u32,
    /// The most that a round pays in OPEN, in millionths.
    pub budget_micro_open: u64,
    /// What would leave the machine, a sentence each.
    pub leaves: Vec<String>,
    /// What stays on it, a sentence each.
    pub stays: Vec<String>,
}
