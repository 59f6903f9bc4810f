//! A member that signs no root and posts none: it waits for others to do it, or means to keep everybody from being paid.

use tributary_protocol::entry::Entry;
use tributary_protocol::event::Input;

use super::{Behaviour, LiarContext, money};

/// Files no signature of a root and no posting.
#[derive(Default)]
pub(super) struct WithheldRoots;

impl Behaviour for WithheldRoots {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let books = cx.world.books;
        let is_of_roots = |filing: &Entry| {
            matches!(filing, Entry::RootSignature(_))
                || books.is_some_and(|books| money::is_post(filing, books))
        };
        let kept = |filing: Entry| (!is_of_roots(&filing)).then_some(filing);
        Some(money::refile(input, |filing| {
            kept(filing).into_iter().collect()
        }))
    }
}
