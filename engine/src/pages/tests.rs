//! What is found, shared and given away.

use super::*;

const A: Consumer = Consumer([1; 32]);
const B: Consumer = Consumer([2; 32]);

fn root(consumer: Consumer) -> Parent {
    Parent::Root(consumer, Digest::from_bytes([7; 32]))
}

fn tokens(first: u32) -> PageTokens {
    std::array::from_fn(|i| first + i as u32)
}

/// A chain of full pages, published one after the other.
fn chain(pages: &mut Pages, consumer: Consumer, firsts: &[u32]) -> Vec<PageId> {
    let mut parent = root(consumer);
    let mut table = Vec::new();
    for first in firsts {
        let page = pages.take().unwrap();
        let page = pages.publish(parent, &tokens(*first), page);
        table.push(page);
        parent = Parent::Page(page);
    }
    table
}

fn give_back(pages: &mut Pages, table: &[PageId]) {
    for page in table.iter().rev() {
        pages.give_back(*page);
    }
}

#[test]
fn a_prefix_is_found_by_consumer_name_parent_and_every_token() {
    let mut pages = Pages::new(8);
    let table = chain(&mut pages, A, &[0, 100]);
    assert_eq!(pages.find(root(A), &tokens(0)), Some(table[0]));
    let parent = Parent::Page(table[0]);
    assert_eq!(pages.find(parent, &tokens(100)), Some(table[1]));
    // The same tokens elsewhere.
    assert_eq!(pages.find(root(A), &tokens(100)), None);
    assert_eq!(pages.find(Parent::Page(table[1]), &tokens(100)), None);
    // Another consumer, another adapter.
    assert_eq!(pages.find(root(B), &tokens(0)), None);
    let other = Parent::Root(A, Digest::from_bytes([8; 32]));
    assert_eq!(pages.find(other, &tokens(0)), None);
    for place in 0..PAGE_TOKENS {
        let mut changed = tokens(0);
        changed[place] += 1;
        assert_eq!(pages.find(root(A), &changed), None);
    }
    pages.check(&[&table]);
}

#[test]
fn equal_pages_computed_twice_become_one() {
    let mut pages = Pages::new(4);
    let first = chain(&mut pages, A, &[0, 100]);
    let second = chain(&mut pages, A, &[0, 100]);
    assert_eq!(first, second);
    assert_eq!(pages.available(), 2);
    pages.check(&[&first, &second]);
    give_back(&mut pages, &first);
    pages.check(&[&second]);
    give_back(&mut pages, &second);
    assert_eq!(pages.available(), 4);
    pages.check(&[]);
}

#[test]
fn consumers_share_no_page_even_for_equal_tokens() {
    let mut pages = Pages::new(4);
    let of_a = chain(&mut pages, A, &[0, 100]);
    let of_b = chain(&mut pages, B, &[0, 100]);
    assert!(of_a.iter().all(|page| !of_b.contains(page)));
    pages.check(&[&of_a, &of_b]);
}

#[test]
fn what_was_not_used_for_the_longest_time_goes_first_and_leaves_before_their_parents() {
    let mut pages = Pages::new(4);
    let old = chain(&mut pages, A, &[0, 100]);
    let new = chain(&mut pages, A, &[500, 600]);
    give_back(&mut pages, &old);
    give_back(&mut pages, &new);
    // Used again.
    pages.hold(old[0]);
    pages.give_back(old[0]);
    let order: Vec<PageId> = (0..4).map(|_| pages.take().unwrap()).collect();
    assert_eq!(order, [old[1], new[1], new[0], old[0]]);
    assert_eq!(pages.take(), None);
    pages.check(&[&order]);
}

#[test]
fn pages_in_use_are_never_given_away() {
    let mut pages = Pages::new(3);
    let table = chain(&mut pages, A, &[0, 100]);
    pages.hold(table[0]);
    give_back(&mut pages, &table);
    assert_eq!(pages.available(), 2);
    assert!(pages.take().is_some() && pages.take().is_some());
    assert_eq!(pages.take(), None);
    assert_eq!(pages.find(root(A), &tokens(0)), Some(table[0]));
}

#[test]
fn a_page_given_back_before_it_is_full_is_empty() {
    let mut pages = Pages::new(1);
    let page = pages.take().unwrap();
    pages.give_back(page);
    assert_eq!(pages.available(), 1);
    pages.check(&[]);
}
