//! What a run file leaves to the base model that it names.

use tributary_protocol::adapter::Module;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::BlobRef;

/// What a manifest needs to know of a base model.
#[derive(Clone, Debug)]
pub struct BaseFacts {
    /// Name for people.
    pub name: String,
    /// Hash of the folder's config, weights and tokenizer.
    pub hash: Digest,
    /// The listing of its files. None: there is none, or nobody asked for it.
    pub files: Option<BlobRef>,
    /// Linear modules that can be adapted, in canonical order.
    pub modules: Vec<Module>,
}
