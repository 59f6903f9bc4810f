//! One member under many names: the first name's training is published by all, its tokens split among them.

use super::AttackerView;

pub(super) fn blob(view: &AttackerView<'_>, at: usize, tokens: u64) -> (Vec<u8>, u64) {
    let names = view.attackers as u64;
    let rest = u64::from((at as u64) < tokens % names);
    (view.encode(&view.trained[0]), tokens / names + rest)
}
