//! The book alone, against a slow twin that adds up each voucher.

use proptest::prelude::*;
use tributary_attribution::settlement::Address;
use tributary_protocol::hash;

use super::*;

fn owner(seed: u8) -> Address {
    Address([seed; 20])
}

fn salt(number: u64) -> Salt {
    let mut salt = [0; 32];
    salt[24..].copy_from_slice(&number.to_be_bytes());
    salt
}

/// Nobody looks at it here.
fn signature() -> Signature {
    let mut bytes = [1; 65];
    bytes[64] = 27;
    Signature::from_bytes(&bytes).unwrap()
}

fn offer(channel: u64, total: u128, body: u8) -> Offer<Address> {
    Offer {
        owner: owner(1),
        channel: salt(channel),
        total: MicroOpen(total),
        signature: signature(),
        body: hash::blob(&[body]),
    }
}

fn book(granted: u128) -> Book<Address> {
    let mut book = Book::default();
    book.grant(owner(1), MicroOpen(granted));
    book
}

fn admit(
    book: &mut Book<Address>,
    offer: &Offer<Address>,
    price: u128,
) -> Result<Admitted<Address>, &'static str> {
    book.admit(offer, MicroOpen(price))
        .map_err(|denied| denied.code())
}

#[test]
fn a_price_is_rounded_up_and_never_overflows() {
    let prices = Prices {
        prompt: MicroOpen(1),
        answer: MicroOpen(3000),
    };
    assert_eq!(prices.cost(0, 0), MicroOpen(0));
    assert_eq!(prices.cost(1, 0), MicroOpen(1));
    assert_eq!(prices.cost(1000, 2), MicroOpen(7));
    let dear = Prices {
        prompt: MicroOpen(u128::MAX),
        answer: MicroOpen(u128::MAX),
    };
    assert_eq!(
        dear.cost(usize::MAX, usize::MAX),
        MicroOpen(u128::MAX.div_ceil(1000))
    );
}

#[test]
fn what_was_made_is_charged_and_what_was_reserved_is_free_again() {
    let mut book = book(1000);
    let admitted = admit(&mut book, &offer(1, 100, 1), 100).unwrap();
    let standing = book.standing(owner(1), salt(1));
    assert_eq!(
        (standing.reserved, standing.left),
        (MicroOpen(100), MicroOpen(900))
    );
    assert_eq!(book.settle(&admitted, Some(MicroOpen(30))), MicroOpen(30));
    let standing = book.standing(owner(1), salt(1));
    assert_eq!(
        (standing.charged, standing.reserved, standing.left),
        (MicroOpen(30), MicroOpen(0), MicroOpen(970))
    );
}

#[test]
fn a_failed_request_costs_nothing_and_may_be_tried_again_with_its_voucher() {
    let mut book = book(100);
    for _ in 0..5 {
        let admitted = admit(&mut book, &offer(1, 100, 1), 100).unwrap();
        assert_eq!(book.settle(&admitted, None), MicroOpen(0));
    }
    let admitted = admit(&mut book, &offer(1, 100, 1), 100).unwrap();
    assert_eq!(book.settle(&admitted, Some(MicroOpen(100))), MicroOpen(100));
}

#[test]
fn a_repeat_is_charged_once_and_not_answered_for_ever() {
    let mut book = book(1000);
    let first = admit(&mut book, &offer(1, 100, 1), 100).unwrap();
    assert_eq!(
        admit(&mut book, &offer(1, 100, 1), 100),
        Err("repeat_in_flight")
    );
    // The client left after a part.
    book.settle(&first, Some(MicroOpen(40)));
    let second = admit(&mut book, &offer(1, 100, 1), 100).unwrap();
    assert_eq!(book.settle(&second, Some(MicroOpen(90))), MicroOpen(90));
    let third = admit(&mut book, &offer(1, 100, 1), 100).unwrap();
    assert_eq!(book.settle(&third, Some(MicroOpen(90))), MicroOpen(90));
    assert_eq!(book.standing(owner(1), salt(1)).charged, MicroOpen(90));
    assert_eq!(
        admit(&mut book, &offer(1, 100, 1), 100),
        Err("repeated_too_often")
    );
}

#[test]
fn a_voucher_that_somebody_overheard_pays_for_no_other_request() {
    let mut book = book(1000);
    let admitted = admit(&mut book, &offer(1, 100, 1), 50).unwrap();
    assert_eq!(
        admit(&mut book, &offer(1, 100, 2), 50),
        Err("voucher_replayed")
    );
    book.settle(&admitted, Some(MicroOpen(10)));
    assert_eq!(
        admit(&mut book, &offer(1, 100, 2), 50),
        Err("voucher_replayed")
    );
    assert_eq!(
        admit(&mut book, &offer(1, 99, 2), 50),
        Err("voucher_falling")
    );
    // Not even after the request was forgotten.
    for total in 101..140 {
        let admitted = admit(&mut book, &offer(1, total, 3), 1).unwrap();
        book.settle(&admitted, None);
    }
    assert_eq!(
        admit(&mut book, &offer(1, 100, 2), 50),
        Err("voucher_falling")
    );
}

#[test]
fn requests_at_the_same_time_are_covered_together() {
    let mut book = book(250);
    admit(&mut book, &offer(1, 100, 1), 100).unwrap();
    assert_eq!(
        admit(&mut book, &offer(1, 150, 2), 100),
        Err("voucher_too_low")
    );
    admit(&mut book, &offer(1, 200, 2), 100).unwrap();
    assert_eq!(
        admit(&mut book, &offer(1, 300, 3), 100),
        Err("allowance_exhausted")
    );
    // Another channel draws on the same grant.
    assert_eq!(
        admit(&mut book, &offer(2, 100, 4), 100),
        Err("allowance_exhausted")
    );
    admit(&mut book, &offer(2, 50, 4), 50).unwrap();
}

#[test]
fn at_most_so_many_requests_of_a_consumer_are_open() {
    let mut book = book(1 << 40);
    for at in 1..=MOST_OPEN as u128 {
        admit(&mut book, &offer(at as u64 % 2, at * 100, 1), 1).unwrap();
    }
    assert_eq!(
        admit(&mut book, &offer(1, 1 << 20, 1), 1),
        Err("too_many_open")
    );
}

#[test]
fn a_closed_channel_stays_closed_so_that_its_vouchers_are_good_for_nothing() {
    let mut book = book(1000);
    let open = admit(&mut book, &offer(1, 10, 1), 1).unwrap();
    for number in 2..=MOST_CHANNELS as u64 {
        let admitted = admit(&mut book, &offer(number, 10, 1), 1).unwrap();
        book.settle(&admitted, Some(MicroOpen(1)));
    }
    let next = MOST_CHANNELS as u64 + 1;
    // The oldest one is being used.
    assert_eq!(
        admit(&mut book, &offer(next, 10, 1), 1),
        Err("channel_closed")
    );
    book.settle(&open, Some(MicroOpen(1)));
    admit(&mut book, &offer(next, 10, 1), 1).unwrap();
    assert_eq!(admit(&mut book, &offer(1, 20, 1), 1), Err("channel_closed"));
    assert_eq!(admit(&mut book, &offer(0, 20, 1), 1), Err("channel_closed"));
    // What it was charged is not forgotten.
    assert_eq!(
        book.standing(owner(1), salt(1)).left,
        MicroOpen(1000 - MOST_CHANNELS as u128 - 1)
    );
}

#[test]
fn what_others_claimed_of_a_channel_is_spent_and_no_voucher_up_to_it_is_good() {
    let mut book = book(1000);
    book.raise(owner(1), salt(1), MicroOpen(300));
    assert_eq!(
        admit(&mut book, &offer(1, 300, 1), 1),
        Err("voucher_falling")
    );
    assert_eq!(
        admit(&mut book, &offer(1, 301, 1), 2),
        Err("voucher_too_low")
    );
    let admitted = admit(&mut book, &offer(1, 400, 1), 100).unwrap();
    book.raise(owner(1), salt(1), MicroOpen(200));
    book.settle(&admitted, Some(MicroOpen(100)));
    let standing = book.standing(owner(1), salt(1));
    assert_eq!(
        (standing.charged, standing.left, standing.signature),
        (MicroOpen(400), MicroOpen(600), Some(signature()))
    );
}

#[test]
fn an_account_is_read_as_it_was_written() {
    let mut book = book(1 << 40);
    for number in 1..=MOST_CHANNELS as u64 + 2 {
        let admitted = admit(&mut book, &offer(number, 10, 1), 1).unwrap();
        book.settle(&admitted, Some(MicroOpen(1)));
    }
    let mut account = book.accounts[&owner(1)].clone();
    assert!(account.closed == Some(salt(2)));
    account.granted = MicroOpen(0);
    let text = serde_json::to_string(&AccountFile::of(&account)).unwrap();
    let read: AccountFile = serde_json::from_str(&text).unwrap();
    assert_eq!(read.read().unwrap(), account);
}

#[test]
fn a_consumer_without_a_grant_is_unknown() {
    let mut book = book(0);
    assert_eq!(
        admit(&mut book, &offer(1, 10, 1), 0),
        Err("unknown_consumer")
    );
    let other = Offer {
        owner: owner(2),
        ..offer(1, 10, 1)
    };
    assert_eq!(admit(&mut book, &other, 0), Err("unknown_consumer"));
}

/// What may happen, in any order.
#[derive(Clone, Debug)]
enum Step {
    Offer {
        channel: u64,
        total: u128,
        body: u8,
        price: u128,
    },
    /// Ends one of the open requests.
    Settle {
        which: usize,
        cost: Option<u128>,
    },
    /// The server stops and reads what it had stored.
    Crash,
    Grant(u128),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..12_u64, 0..3000_u128, 0..3_u8, 0..200_u128)
            .prop_map(|(channel, total, body, price)| Step::Offer { channel, total, body, price }),
        4 => (any::<usize>(), proptest::option::of(0..300_u128)).prop_map(|(which, cost)| Step::Settle { which, cost }),
        1 => Just(Step::Crash),
        1 => (0..5000_u128).prop_map(Step::Grant),
    ]
}

proptest! {
    #[test]
    fn money_is_conserved_and_every_charge_has_a_voucher_whatever_happens(steps in proptest::collection::vec(step(), 1..200)) {
        let who = owner(1);
        let mut book = book(2000);
        let mut granted = 2000_u128;
        let mut open: Vec<Admitted<Address>> = Vec::new();
        // The slow twin: what each voucher's request cost, and the highest voucher of each channel.
        let mut costs: BTreeMap<(Salt, u128), (u8, u128)> = BTreeMap::new();
        let mut highest: BTreeMap<Salt, u128> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Offer { channel, total, body, price } => {
                    let before = book.accounts.clone();
                    match book.admit(&offer(channel, total, body), MicroOpen(price)) {
                        Ok(admitted) => {
                            let paid = costs.entry((salt(channel), total)).or_insert((body, 0));
                            prop_assert_eq!(paid.0, body, "a voucher paid for two requests");
                            let top = highest.entry(salt(channel)).or_default();
                            *top = (*top).max(total);
                            open.push(admitted);
                        }
                        Err(_) => prop_assert_eq!(&book.accounts, &before),
                    }
                }
                Step::Settle { which, cost } if !open.is_empty() => {
                    let admitted = open.swap_remove(which % open.len());
                    let charged = book.settle(&admitted, cost.map(MicroOpen)).0;
                    let paid = costs.get_mut(&(admitted.channel, admitted.total.0)).unwrap();
                    prop_assert!(charged >= paid.1 && charged <= cost.unwrap_or(0).max(paid.1));
                    paid.1 = charged;
                }
                Step::Settle { .. } => {}
                Step::Crash => {
                    let stored = book.accounts.remove(&who).unwrap();
                    book.restore(who, stored);
                    book.grant(who, MicroOpen(granted));
                    open.clear();
                }
                Step::Grant(total) => {
                    granted = total;
                    book.grant(who, MicroOpen(total));
                }
            }
            let account = &book.accounts[&who];
            let spent: u128 = costs.values().map(|(_, cost)| cost).sum();
            prop_assert_eq!(account.charged.0, spent);
            let (reserved, left) = (account.reserved(), account.left());
            prop_assert_eq!(left, granted.saturating_sub(spent + reserved));
            prop_assert!(account.channels.len() <= MOST_CHANNELS);
            for (number, channel) in &account.channels {
                prop_assert!(channel.charged.0 + channel.reserved() <= highest[number], "no voucher covers it");
                prop_assert_eq!(channel.highest.0, highest[number]);
                prop_assert!(channel.attempts.len() <= MOST_REMEMBERED + MOST_OPEN);
            }
        }
    }
}
