//! Options of the commands about disputed scores.

use clap::Subcommand;

use super::parse_id;

/// Commands about scores that somebody holds to be wrong.
#[derive(Clone, Debug, Subcommand)]
pub enum DisputeCommand {
    /// Say that an evaluator's score is not what its windows give. If a jury finds that it is, this peer's stake loses a bond,
    /// else the evaluator's does.
    Open {
        /// The run's id, or its first digits.
        #[arg(value_parser = parse_id)]
        run: String,
        /// The round that was scored.
        round: u32,
        /// Whose sheet it is: the evaluator's id, or its first digits.
        #[arg(value_parser = parse_id)]
        evaluator: String,
        /// Whose score is wrong: the contributor's id, or its first digits.
        #[arg(value_parser = parse_id)]
        peer: String,
        /// What is wrong with it, in a line for people.
        #[arg(long)]
        reason: String,
    },
    /// What is disputed in a run, how far it is, and which sheets can be disputed now.
    List {
        /// The run's id, or its first digits.
        #[arg(value_parser = parse_id)]
        run: String,
    },
    /// Have a larger jury judge again, as who lost. Whoever loses again pays twice.
    Appeal {
        /// The run's id, or its first digits.
        #[arg(value_parser = parse_id)]
        run: String,
        /// The dispute's id, or its first digits.
        dispute: String,
    },
}
