//! Follows the protocol. What strategies earn is compared with what the same members earn by this.

use super::Behaviour;

/// A member that alters nothing.
pub(super) struct Honest;

impl Behaviour for Honest {}
