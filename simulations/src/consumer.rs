//! The consumer of paid answers. It is no member and has no machine: it signs, and a server files for it.

use tributary_attribution::settlement::EvmKey;

/// The key of its account, which whoever plays its part may use.
pub(crate) fn key() -> EvmKey {
    EvmKey::from_bytes(&[0x77; 32]).expect("a secret below the order of the curve")
}
