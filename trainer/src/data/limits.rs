//! Bounds of what is read as data, each with its reason.

/// Longest window, in tokens. Attention keeps a probability for every pair of them.
pub const MAX_CONTEXT: usize = 8192;
/// Largest data file that is read, in bytes: its rows and their tokens are held in memory.
pub(crate) const MAX_DATA_BYTES: u64 = 1 << 30;
/// Largest row, in bytes: six times a long novel. A longer one is a file without line ends or a quote
/// that was never closed, and would be parsed as one piece.
pub(crate) const MAX_ROW_BYTES: usize = 16 << 20;
/// Columns of a table: published ones have tens.
pub(crate) const MAX_COLUMNS: usize = 1024;
/// Messages of one conversation. A chat template is rendered once or twice for each assistant turn, so
/// the work grows with the square of this.
pub const MAX_MESSAGES: usize = 256;
/// Bad rows that a report keeps as examples unless asked otherwise; all of them are counted.
pub(crate) const BAD_ROW_EXAMPLES: usize = 8;
/// Names of unused fields that a report keeps: enough to tell what kind of table it is.
pub(crate) const MAX_UNUSED_FIELDS: usize = 24;
/// Bytes at the beginning of a file that tell its format: some hundred rows of most datasets.
pub(crate) const HEAD_BYTES: u64 = 64 << 10;
