//! Every bound of the protocol, with its unit and its reason.
//!
//! Remote input is measured against these before anything is allocated for it.

/// Rank of an adapter. 256 is four times the largest rank in common use.
pub const MAX_RANK: u32 = 256;
/// LoRA alpha. Larger scales make a step of f32 rounding visible in the output.
pub const MAX_ALPHA: u32 = 4096;
/// Adapted modules. 7 linears in 128 layers of the largest open models, rounded up.
pub const MAX_MODULES: usize = 1024;
/// Bytes of a module's name; the longest Hugging Face path in use has about 60.
pub const MAX_MODULE_NAME_BYTES: usize = 128;
/// Parameters of an adapter: 256 Mi numbers are 1 GiB, more than one peer should be asked to hold.
pub const MAX_ADAPTER_PARAMETERS: u64 = 1 << 28;

/// Bytes of one encoded block. Signed bytes fit one control message with room for framing.
pub const MAX_BLOCK_BYTES: usize = 48 * 1024;
/// Entries of one block: one signature is shared by at most this many.
pub const MAX_BLOCK_ENTRIES: usize = 256;
/// Heads of other logs that one block may name.
pub const MAX_SEEN_HEADS: usize = 64;
/// Bytes of an encoded manifest: 1,024 modules of 40 bytes and the rest of the fields.
pub const MAX_MANIFEST_BYTES: usize = 96 * 1024;
/// Bytes of a person-given name (run, Datanet, shard, peer).
pub const MAX_NAME_BYTES: usize = 64;
/// Evaluators of one run. The median needs few; each costs a scoring pass a round.
pub const MAX_EVALUATORS: usize = 32;
/// Members of one roster (scale beyond this is by sampling participants per round).
pub const MAX_MEMBERS: usize = 16_384;
/// Joins and leaves that one round certifies; the rest wait for the next.
pub const MAX_CHANGES_PER_ROUND: usize = 128;
/// Contributions that one round may include, so that its value stays within a control message.
pub const MAX_INCLUDED: usize = 64;
/// Committee members: certificates grow with it and quorum intersection is already strong at 16.
pub const MAX_COMMITTEE: usize = 64;
/// Bytes of a round value with 64 contributions, 128 joins and scores.
pub const MAX_VALUE_BYTES: usize = 48 * 1024;
/// Bytes of a certificate: a value and 64 precommits.
pub const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;
/// Bytes of a gossip payload. gossipsub 0.50 loses messages near its frame limit.
pub const MAX_GOSSIP_BYTES: usize = 16 * 1024;
/// Bytes of a direct message (sync answers are cut to fit).
pub const MAX_DIRECT_BYTES: usize = 256 * 1024;
/// Bytes of one update blob: a dense f32 update of the largest adapter.
pub const MAX_UPDATE_BYTES: u64 = 4 * MAX_ADAPTER_PARAMETERS + 4096;
