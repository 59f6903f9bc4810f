//! Every bound of this crate, with its unit and its reason.

/// Bytes of one answer of a node: a batch of [`MAX_BATCH`] contracts' code in hexadecimal, twice over. A longer one is
/// dropped while it arrives.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Questions in one request: what public nodes take at once. More go in several requests.
pub const MAX_BATCH: usize = 50;
/// Characters of a node's own words that are shown: enough for a sentence, and no page.
pub const SHOWN_CHARS: usize = 200;
/// Transactions of one account that are not final: each is asked about in every look. A person sends a handful.
pub const MAX_ROWS: usize = 64;
/// Outcomes kept in memory for those who wait for them: twice what one look can bring.
pub const MAX_FINISHED: usize = 2 * MAX_ROWS;
/// Versions of one transaction, each dearer than the one before by an eighth at least: the last costs 43 times the first.
pub const MAX_ATTEMPTS: usize = 32;
/// Gas that one transaction may take: 2^24, where Ethereum bounds it (EIP-7825).
pub const MAX_GAS: u64 = 1 << 24;
/// Of the gas that a node estimates, a quarter more is allowed, and [`GAS_SPARE`]; what is not used is not paid.
pub const GAS_MARGIN_DIVISOR: u64 = 4;
/// Three slots of storage (22,100 gas each) that were filled when the gas was estimated, and are empty when it is used: after a
/// reorganisation, or after somebody else's transaction.
pub const GAS_SPARE: u64 = 66_300;
/// A replacement pays one eighth more at least (12.5 %): nodes that ask for 10 % take it, and so do those that ask for more.
pub const RAISE_DIVISOR: u128 = 8;
/// Blocks that a transaction waits, although it pays the base fee, until its tip is raised.
pub const STUCK_BLOCKS: u64 = 10;
/// Blocks through which the chain refuses a transaction that was sent, until it is withdrawn: after a reorganisation what it
/// needs may only come back a few blocks later.
pub const REFUSED_BLOCKS: u64 = 5;
/// Past transactions of an account among which a deployed contract is looked for.
pub const DEPLOY_NONCES: u64 = 64;
/// Bytes of a key file: 64 digits, `0x`, and an end of line.
pub const MAX_KEY_FILE_BYTES: u64 = 80;
/// Bytes of a table of transactions: [`MAX_ROWS`] of [`MAX_ATTEMPTS`] versions would be more, and no account comes near.
pub const MAX_TABLE_BYTES: u64 = 64 << 20;
