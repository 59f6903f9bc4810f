//! The two network stacks behind one face: libp2p for control, iroh for blobs.

pub(crate) mod address;
pub(crate) mod keys;

pub use address::{Address, AddressError};
