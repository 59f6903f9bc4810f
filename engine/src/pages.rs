//! Which pages of keys and values hold what: a cache of prefixes, without the keys and values themselves.
//!
//! A page holds [`PAGE_TOKENS`] positions. A request owns the pages that it still writes; a full page is put into a tree
//! of prefixes and never written again, so that requests that begin alike use the same pages, without a copy:
//!
//! ```text
//! (consumer, base, precision, adapter) -> page of tokens 0..32 -> page of tokens 32..64 -> ...
//!                                      -> another first page   -> ...
//! ```
//!
//! A child is found by its parent and its 32 tokens, compared as they are. No hash names a page, so nobody can make two
//! prefixes that pass for one another. The consumer is part of the root: what others asked cannot be told from how fast
//! an answer comes.
//!
//! Whoever uses a page uses its parents as well. Pages that nobody uses stay until their place is needed; the one not
//! used for the longest time goes first. Since pages are given back from the last to the first, that one has no child.

use std::collections::BTreeMap;

use tributary_protocol::hash::Digest;

use crate::request::Consumer;

/// Positions of a page. Attention reads keys and values in runs of this length; on average half a page of a request and
/// what it shares of its last page are lost.
pub const PAGE_TOKENS: usize = 32;

/// A page, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PageId(pub u32);

/// What comes before a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parent {
    /// Nothing; for whom, and with what the page is computed.
    Root(Consumer, Digest),
    /// A page of the tree.
    Page(PageId),
}

/// The tokens of a full page.
pub type PageTokens = [u32; PAGE_TOKENS];

#[derive(Clone, Copy, Default)]
struct Page {
    /// Requests that use it.
    uses: u32,
    /// Pages that follow it in the tree.
    children: u32,
    /// Its place in the tree, when it is full.
    name: Option<(Parent, PageTokens)>,
    /// When the last request gave it back: its place among the unused ones.
    given_back: u64,
}

/// The pages of an engine.
pub struct Pages {
    pages: Vec<Page>,
    /// Pages that hold nothing.
    empty: Vec<PageId>,
    tree: BTreeMap<(Parent, PageTokens), PageId>,
    /// Pages of the tree that nobody uses, by when they were given back.
    unused: BTreeMap<u64, PageId>,
    clock: u64,
}

impl Pages {
    /// So many pages, all empty.
    ///
    /// # Panics
    /// When there are more than a `u32` counts.
    pub fn new(count: usize) -> Self {
        let count = u32::try_from(count).expect("a page's number fits 32 bits");
        Self {
            pages: vec![Page::default(); count as usize],
            empty: (0..count).rev().map(PageId).collect(),
            tree: BTreeMap::new(),
            unused: BTreeMap::new(),
            clock: 0,
        }
    }

    /// All pages.
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// Pages that [`Self::take`] can give: empty ones and such that nobody uses.
    pub fn available(&self) -> usize {
        self.empty.len() + self.unused.len()
    }

    /// Whether nobody uses a page.
    pub fn is_unused(&self, page: PageId) -> bool {
        self.page(page).uses == 0
    }

    /// Whether only one request uses a page.
    pub fn is_sole(&self, page: PageId) -> bool {
        self.page(page).uses == 1
    }

    /// The page of the tree that holds `tokens` after `parent`.
    pub fn find(&self, parent: Parent, tokens: &PageTokens) -> Option<PageId> {
        self.tree.get(&(parent, *tokens)).copied()
    }

    /// Counts one more request that uses a page of the tree.
    pub fn hold(&mut self, id: PageId) {
        let page = &mut self.pages[id.0 as usize];
        assert!(page.name.is_some(), "only pages of the tree are shared");
        page.uses += 1;
        if page.uses == 1 {
            let unused = self.unused.remove(&page.given_back);
            assert_eq!(unused, Some(id));
        }
    }

    /// A page to write, for one request; it may have held a prefix that nobody used for the longest time. None when
    /// all are in use.
    pub fn take(&mut self) -> Option<PageId> {
        let id = self.empty.pop().or_else(|| self.evict())?;
        let page = &mut self.pages[id.0 as usize];
        assert!(page.uses == 0 && page.name.is_none() && page.children == 0);
        page.uses = 1;
        Some(id)
    }

    fn evict(&mut self) -> Option<PageId> {
        let (_, id) = self.unused.pop_first()?;
        let page = &mut self.pages[id.0 as usize];
        assert!(page.uses == 0 && page.children == 0, "leaves go first");
        let name = page.name.take().expect("an unused page is in the tree");
        self.tree.remove(&name);
        if let Parent::Page(parent) = name.0 {
            self.pages[parent.0 as usize].children -= 1;
        }
        Some(id)
    }

    /// Puts a full page, which one request holds and nobody will write any more, into the tree. Gives the page to use
    /// from now on: another one, held in its place, when the tree has these tokens already.
    ///
    /// # Panics
    /// When the page is shared or in the tree, or nobody uses its parent.
    pub fn publish(&mut self, parent: Parent, tokens: &PageTokens, id: PageId) -> PageId {
        assert!(self.is_sole(id) && self.page(id).name.is_none());
        if let Parent::Page(parent) = parent {
            let parent = self.page(parent);
            assert!(parent.uses > 0 && parent.name.is_some());
        }
        if let Some(same) = self.find(parent, tokens) {
            self.hold(same);
            self.give_back(id);
            return same;
        }
        let name = (parent, *tokens);
        self.tree.insert(name, id);
        self.pages[id.0 as usize].name = Some(name);
        if let Parent::Page(parent) = parent {
            self.pages[parent.0 as usize].children += 1;
        }
        id
    }

    /// Counts one request less that uses a page. Of a request's pages the last one must come first.
    pub fn give_back(&mut self, id: PageId) {
        let clock = self.clock;
        let page = &mut self.pages[id.0 as usize];
        assert!(page.uses > 0, "a page is given back once by each");
        page.uses -= 1;
        if page.uses > 0 {
            return;
        }
        if page.name.is_some() {
            page.given_back = clock;
            self.clock += 1;
            self.unused.insert(clock, id);
        } else {
            self.empty.push(id);
        }
    }

    fn page(&self, id: PageId) -> &Page {
        &self.pages[id.0 as usize]
    }

    /// Checks every count against every other one.
    #[cfg(test)]
    pub(crate) fn check(&self, tables: &[&[PageId]]) {
        let mut uses = vec![0; self.pages.len()];
        for page in tables.iter().flat_map(|table| table.iter()) {
            uses[page.0 as usize] += 1;
        }
        let mut children = vec![0; self.pages.len()];
        for ((parent, tokens), id) in &self.tree {
            assert_eq!(self.page(*id).name, Some((*parent, *tokens)));
            if let Parent::Page(parent) = parent {
                assert!(self.page(*parent).name.is_some(), "parents stay");
                assert!(self.page(*parent).uses >= self.page(*id).uses);
                children[parent.0 as usize] += 1;
            }
        }
        let mut named = 0;
        for (number, page) in self.pages.iter().enumerate() {
            let id = PageId(number as u32);
            assert_eq!(page.uses, uses[number], "page {number}");
            assert_eq!(page.children, children[number]);
            named += usize::from(page.name.is_some());
            let is_empty = page.uses == 0 && page.name.is_none();
            assert_eq!(self.empty.contains(&id), is_empty);
            let is_unused = page.uses == 0 && page.name.is_some();
            assert_eq!(
                self.unused.get(&page.given_back) == Some(&id),
                is_unused,
                "page {number}"
            );
        }
        assert_eq!(named, self.tree.len());
    }
}

#[cfg(test)]
mod tests;
