//! One member under many names: the first name's training is published by all, its tokens split among them.

use super::Sight;

pub(super) fn blob(sight: &Sight<'_>, at: usize, tokens: u64) -> (Vec<u8>, u64) {
    let names = sight.attackers as u64;
    let rest = u64::from((at as u64) < tokens % names);
    (sight.encode(&sight.own[0]), tokens / names + rest)
}
