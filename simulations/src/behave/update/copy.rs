//! Publishes somebody else's work: the bytes of an honest update under another name.

use super::AttackerView;

pub(super) fn blob(view: &AttackerView<'_>, at: usize) -> Vec<u8> {
    view.blobs[at % view.blobs.len()].clone()
}
