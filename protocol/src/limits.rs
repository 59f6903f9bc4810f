//! Every bound of the protocol, with its unit and its reason.
//!
//! Remote input is compared with these before anything is allocated for it.

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
/// Blocks of one log: three a round for more rounds than a run may have, and sums stay far from
/// overflow.
pub const MAX_SEQ: u64 = 1 << 40;
/// Blocks of one author that wait for the block before them. Sync ships logs in order, so only
/// gossip that overtakes itself is ever out of order.
pub const MAX_PENDING_BLOCKS: usize = 64;
/// Waiting blocks of one scope, over all authors: 256 of the largest are 12 MiB.
pub const MAX_PENDING_IN_SCOPE: usize = 4096;
/// Bytes of the waiting blocks of one scope, with [`ENTRY_BYTES`] for each entry.
pub const MAX_PENDING_BYTES: usize = 16 << 20;
/// Blocks of one log that are taken before any round is certified, and from peers that are not members: a join, a
/// leave, and room for coming back. A peer that wants to say more has to be admitted first.
pub const MAX_STRANGER_BLOCKS: u64 = 4;
/// Bytes of a block of a peer that is not a member: a join and the largest list of seen heads.
pub const MAX_STRANGER_BLOCK_BYTES: usize = 16 * 1024;
/// Entries of a block of a peer that is not a member: a join, and what goes before or after it. Decoded, small entries
/// take a hundred times their bytes.
pub const MAX_STRANGER_ENTRIES: usize = 4;
/// Bytes of memory that the blocks of all strangers of one scope take: some four thousand joins with sketches, more
/// than a run admits in thirty rounds. What is beyond is dropped at random.
pub const MAX_STRANGERS_BYTES: usize = 48 << 20;
/// Milliseconds after which a peer that is not admitted floods its join again. Neighbours remember a flood for
/// fifteen seconds, and carry no copy of it for so long.
pub const REPEAT_JOIN_MS: u64 = 20_000;
/// Blocks of a member's log beyond those that certified rounds account for: opening, joins, leaves and
/// the open round.
pub const FREE_BLOCKS: u64 = 16;
/// Blocks of a member's log for each certified round: a receipt, a score sheet and its seal, a leave and a join, and
/// [`MAX_FILINGS_PER_AUTHOR`] filings.
pub const BLOCKS_PER_ROUND: u64 = 9;
/// Bytes of a member's log beyond those that certified rounds account for: the opening block of the creator, joins with
/// sketches and the open round are less than two thirds of it.
pub const FREE_LOG_BYTES: u64 = 192 * 1024;
/// Bytes of a member's log for each certified round: a receipt, a seal, a sheet of 64 scores and, as a join takes a round to be
/// certified before a leave can be, half a leave and half a join with a sketch, the signature of a root and the largest
/// transaction; each in a block of its own that names 64 heads.
pub const LOG_BYTES_PER_ROUND: u64 = 56 * 1024;
/// Bytes that an entry counts beside its own where a log's are counted: small entries take a hundred times their bytes
/// once decoded.
pub const ENTRY_BYTES: usize = 256;
/// Logs of one scope, without those of strangers. Four times the largest roster, so that it never decides who is
/// heard.
pub const MAX_AUTHORS: usize = 4 * MAX_MEMBERS;
/// Bytes of an encoded manifest: it travels in one block, with room for links and envelope. A model
/// of 1,024 modules with names of 36 bytes fits.
pub const MAX_MANIFEST_BYTES: usize = 44 * 1024;
/// Bytes of a piece of a base model: what a lying provider costs, and what is fetched again after a crash. Smaller ones
/// would make the largest base's listing too long.
pub const BASE_PIECE_BYTES: u64 = 8 << 20;
/// Files of a base model: 256 shards of weights, which is all that loads, and room for the small files.
pub const MAX_BASE_FILES: usize = 300;
/// Bytes of a file's name in a listing, as long as that of a shard that loads.
pub const MAX_FILE_NAME_BYTES: usize = 200;
/// Bytes of a base model's files: the most weights that load (8 billion numbers in f32), and room for the tokenizer.
pub const MAX_BASE_BYTES: u64 = 33 << 30;
/// Bytes of a listing's line on its licence.
pub const MAX_LICENCE_BYTES: usize = 200;
/// Bytes of a listing: 4,524 pieces and 300 long names, within what a decoder reads of strangers at once.
pub const MAX_LISTING_BYTES: usize = 256 * 1024;
/// Training rounds of one run; three years at one every quarter of an hour.
pub const MAX_ROUNDS: u32 = 100_000;
/// The last height that a run can certify: after its closing it may go on for as long as it could have trained.
pub const MAX_HEIGHT: u32 = 2 * MAX_ROUNDS;
/// Milliseconds that an epoch waits, from the first filing on, for what was filed with it.
pub const EPOCH_WAIT_MS: u64 = 500;
/// Milliseconds after which one epoch less counts for how long the next waits, so that a run which is asked for something
/// now and then answers as fast as on its first day.
pub const EPOCH_REST_MS: u64 = 60_000;
/// Filings that one height puts in order: a signature of each member of the largest electorate, and as many others.
pub const MAX_FILINGS: usize = 128;
/// Filings of one author that one height puts in order, so that nobody crowds out others.
pub const MAX_FILINGS_PER_AUTHOR: usize = 4;
/// Bytes of a transaction's data: a root with 64 signatures takes five thousand, five claims out of the largest tree as many.
pub const MAX_TRANSACTION_BYTES: usize = 6 * 1024;
/// Answers of one entry, all charged to one channel: four thousand bytes.
pub const MAX_ANSWERS: usize = 32;
/// Shares in one entry of answers, of all its answers together: two and a half thousand bytes.
pub const MAX_ANSWER_SHARES: usize = 64;
/// Bytes of a dispute's reason: two lines of a terminal.
pub const MAX_REASON_BYTES: usize = 160;
/// Seconds of any time in a run's terms of settlement: ten years, so that no sum of times leaves the chain's numbers.
pub const MAX_SETTLEMENT_S: u32 = 3650 * 24 * 3600;
/// Optimizer steps of one round. Beyond this, updates of different members drift too far apart to
/// be summed.
pub const MAX_LOCAL_STEPS: u32 = 100_000;
/// Windows of one optimizer step.
pub const MAX_BATCH: u32 = 4096;
/// Tokens of one window: the longest context of today's open models.
pub const MAX_CONTEXT: u32 = 131_072;
/// Hold-out windows an evaluator scores a round on.
pub const MAX_SCORE_WINDOWS: u32 = 65_536;
/// Milliseconds of any deadline: 30 days, beyond which a run is better closed.
pub const MAX_DEADLINE_MS: u32 = 30 * 24 * 3_600_000;
/// Micro-OPEN of a round's budget: a thousand times all OPEN there is, so that u128 never overflows
/// when budgets of all rounds of all runs are summed.
pub const MAX_BUDGET_MICRO_OPEN: u128 = 1_000_000_000_000_000_000;
/// Micro-OPEN of the price of a nat: the largest budget, for a gain of a millionth of a nat. No evaluator tells less
/// from nothing.
pub const MAX_PRICE_MICRO_OPEN: u128 = MAX_BUDGET_MICRO_OPEN * 1_000_000;
/// Tokens one entry may claim: sums over a full roster stay within u64.
pub const MAX_TOKENS: u64 = 1 << 48;
/// Billionths of a nat of any loss or score: no language model has a loss of a million nats a token, and sums over a
/// round stay far within i64.
pub const MAX_NANO_NATS: i64 = 1_000_000_000_000_000;
/// Bytes of a person-given name (run, Datanet, shard, peer).
pub const MAX_NAME_BYTES: usize = 64;
/// Micro-OPEN of stake that counts for one member: weights of the largest roster stay within a quarter of u64. More than a
/// quarter of all OPEN.
pub const MAX_STAKE: u64 = 1 << 48;
/// Stakes that one anchor changes: those of everybody whom a round admits.
pub const MAX_ANCHORED_STAKES: usize = MAX_CHANGES_PER_ROUND;
/// Channels that one anchor names: two and a half thousand bytes.
pub const MAX_ANCHORED_CHANNELS: usize = 64;
/// Milliseconds after which a proposer names the newest block that it has read of a run's chain: clients read a block some
/// seconds apart.
pub const ANCHOR_AGE_MS: u64 = 10_000;
/// Blocks of a run's chain whose facts a member keeps: those that others may name while it has seen later ones.
pub const MAX_CHAIN_FACTS: usize = 16;
/// Evaluators of one run. The median needs few; each costs a scoring pass a round.
pub const MAX_EVALUATORS: usize = 32;
/// Members of one roster (scale beyond this is by sampling participants per round).
pub const MAX_MEMBERS: usize = 16_384;
/// Joins, opened sketches and leaves that one round certifies; the rest wait for the next.
pub const MAX_CHANGES_PER_ROUND: usize = 128;
/// Joins that one call for openings names: with [`MAX_CALLS`] of them and the largest manifest a log stays within
/// [`FREE_LOG_BYTES`].
pub const MAX_CALLED: usize = 64;
/// Calls for openings that a creator makes before a genesis. Where those it called do not open, it waits twice as long
/// before the next: joins that never open cost a stranger nothing.
pub const MAX_CALLS: usize = 8;
/// Contributions that one round may include, so that its value stays within a control message.
pub const MAX_INCLUDED: usize = 64;
/// Turns of a round's factors, before it, whose certified updates its scores are compared with: two suffice for what
/// is worth replaying (`docs/numbers/gaming.md`), and an evaluator keeps so many rounds' updates.
pub const PUBLIC_TURNS: usize = 2;
/// Requests for work that a member may leave unanswered before it has no vote: as many rounds as a machine that
/// is switched off over a night misses at an hour each, and few enough that absence does not add up to a third.
pub const IDLE_REQUESTS: u8 = 8;
/// Committee members: certificates grow with it and quorum intersection is already strong at 16.
pub const MAX_COMMITTEE: usize = 64;
/// Bytes of a certificate: a value and 64 precommits.
pub const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;
/// Different messages of one kind that a peer without a seat passes on for one member and attempt: two
/// are the proof that the member contradicts itself, a third adds nothing.
pub const MAX_RELAYED_PER_SLOT: usize = 2;
/// Messages of one member that are kept for a height which has not started here: a proposal and both
/// votes of two attempts, and room for a straggler.
pub const MAX_EARLY_MESSAGES: usize = 8;
/// Attempts of a height in which a proposal with an update that was announced after updates were revealed is
/// left unanswered. Two: an honest proposer is then likely, and one that saw less than others costs one wait.
pub const TIMELY_ATTEMPTS: u32 = 2;
/// Attempts ahead of ours whose messages are kept. Members further ahead are only counted; they
/// repeat themselves once we have caught up.
pub const MAX_ATTEMPTS_AHEAD: u32 = 8;
/// Earlier attempts whose votes of our own are repeated: others may lack them for a quorum.
pub const REPEATED_ATTEMPTS: u32 = 8;
/// Milliseconds that the growing waits of consensus steps stop growing at.
pub const MAX_CONSENSUS_WAIT_MS: u64 = 60_000;
/// Bytes of a gossip payload. gossipsub 0.50 loses messages near its frame limit.
pub const MAX_GOSSIP_BYTES: usize = 16 * 1024;
/// Bytes of a direct message (sync answers are cut to fit).
pub const MAX_DIRECT_BYTES: usize = 256 * 1024;
/// Blocks of one sync answer; its bytes are bounded by [`MAX_DIRECT_BYTES`] as well.
pub const MAX_BLOCKS_PER_MESSAGE: usize = 4096;
/// Heads, and separately forks, of one message: 1,024 of 73 bytes fit a quarter of a direct message.
pub const MAX_HEADS_PER_MESSAGE: usize = 1024;
/// Ranges of authors that one summary compares.
pub const MAX_RANGES: usize = 256;
/// Certificates of one sync answer.
pub const MAX_CERTIFICATES_PER_MESSAGE: usize = 1024;
/// Blocks that one message may ask for by name.
pub const MAX_WANTED_BLOCKS: usize = 1024;
/// Bytes of one consensus message: a proposal carries a whole value and a quorum of prevotes.
pub const MAX_CONSENSUS_BYTES: usize = 56 * 1024;
/// Bytes of one update blob: a dense f32 update of the largest adapter.
pub const MAX_UPDATE_BYTES: u64 = 4 * MAX_ADAPTER_PARAMETERS + 4096;
/// Prints of a sketch: enough to tell a three-hundredth of the longer of two texts from new text, at eight kilobytes a
/// join.
pub const MAX_SKETCH: usize = 1024;
/// Tokens that a run of eight words, or the word it begins with, may stand for in a claim of own text. Tokenizers of
/// today's models take one to three a word.
pub const MAX_TOKENS_PER_WORD: u64 = 4;
/// Words of a shingle, and of a block of a shard. Holders confirm whole blocks only: a peer that knows one has to get
/// all words of the next right at once.
pub const BLOCK_WORDS: usize = 8;
/// Words of the shortest span that a holder gives: two blocks, so that eight known words are never enough, wherever
/// blocks begin.
pub const MIN_SPAN_WORDS: usize = 16;
/// Words of one question about a shard: those of the longest answer that shares are given for.
pub const MAX_QUESTION_WORDS: usize = 512;
/// Bytes of one question: its words, asker, run, root and signature.
pub const MAX_QUESTION_BYTES: usize = 12 * 1024;
/// Spans of one answer about a shard: beyond the longest sixteen nobody reads on.
pub const MAX_SPANS: usize = 16;
/// Bytes of one answer: sixteen proofs of two paths each, and a blinding a word.
pub const MAX_EVIDENCE_BYTES: usize = 64 * 1024;
