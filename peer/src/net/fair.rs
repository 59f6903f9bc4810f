//! Fair shares of scarce places, by where those who ask for one come from.
//!
//! Keys cost nothing and an address costs little, but addresses of many networks cost money. So wherever
//! places run out, the one who loses its place is drawn at random from the *network* that holds the most
//! of them, and there from the *address* that does. Somebody whose network holds a smaller share loses
//! nothing, however many an attacker brings from elsewhere; fixed quotas for each network would either
//! waste places or turn away a university that joins together.
//!
//! A network is what a provider hands out to one customer at most: an IPv4 /24, an IPv6 /48. An address
//! is what one household has: an IPv4 address, an IPv6 /64. All addresses of this machine are one
//! network, since anybody on it may use any of them; there only what a neighbour does can tell it from
//! others.
//!
//! Pure functions; randomness is handed in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tributary_protocol::id::PeerId;

/// First byte of the addresses of [`of_key`]: fc00::/8 is reserved and nobody is given an address of it (RFC 4193).
const BY_KEY: u8 = 0xfc;

/// Randomness that no attacker can foresee.
pub(super) fn dice() -> StdRng {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has no source of random numbers");
    StdRng::from_seed(seed)
}

/// Where a peer comes from whose packets a relay passes on: a range that no network has, in which every key is an
/// address of its own and all of them are one network. The relay's address would make one crowd of all its peers.
pub(super) fn of_key(peer: &PeerId) -> IpAddr {
    let mut octets = [0; 16];
    octets[0] = BY_KEY;
    octets[6..].copy_from_slice(&peer.as_bytes()[..10]);
    IpAddr::V6(octets.into())
}

fn is_of_key(v6: &Ipv6Addr) -> bool {
    v6.octets().starts_with(&[BY_KEY, 0, 0, 0, 0, 0])
}

/// The address of one household.
pub(super) fn address(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if is_of_key(&v6) => ip,
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        other => other,
    }
}

/// The network of an address.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        ip if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

/// Whether an address means something only in a network of its own.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || is_carrier_grade(v4)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// 100.64.0.0/10, which providers share out behind a router of their own (RFC 6598).
fn is_carrier_grade(v4: Ipv4Addr) -> bool {
    let [a, b, ..] = v4.octets();
    a == 100 && (64..128).contains(&b)
}

/// The items of the group that has the most; of all such groups when several have as many.
pub(super) fn largest<T, K: Ord>(items: Vec<T>, group: impl Fn(&T) -> K) -> Vec<T> {
    let mut sizes: BTreeMap<K, usize> = BTreeMap::new();
    for item in &items {
        *sizes.entry(group(item)).or_default() += 1;
    }
    let most = sizes.values().copied().max();
    let of_largest = |item: &T| sizes.get(&group(item)).copied() == most;
    items.into_iter().filter(of_largest).collect()
}

/// One of the items, each as likely as any other.
pub(super) fn draw<T>(mut items: Vec<T>, dice: &mut StdRng) -> Option<T> {
    if items.is_empty() {
        return None;
    }
    let at = dice.random_range(0..items.len());
    Some(items.swap_remove(at))
}

/// The items in random order in which groups take turns: the first of each group comes before the second
/// of any. Whoever takes from the front gives each group the same share.
pub(super) fn in_turns<T, K: Ord>(
    items: Vec<T>,
    group: impl Fn(&T) -> K,
    dice: &mut StdRng,
) -> Vec<T> {
    let mut drawn: Vec<(u64, T)> = items
        .into_iter()
        .map(|item| (dice.random(), item))
        .collect();
    drawn.sort_by_key(|(order, _)| *order);
    take_turns(drawn.into_iter().map(|(_, item)| item).collect(), group)
}

/// As [`in_turns`], but keeps the order within each group.
pub(super) fn take_turns<T, K: Ord>(items: Vec<T>, group: impl Fn(&T) -> K) -> Vec<T> {
    let mut before: BTreeMap<K, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, T)> = (items.into_iter())
        .map(|item| {
            let rank = before.entry(group(&item)).or_default();
            *rank += 1;
            (*rank, item)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_of_one_customer_are_one_network() {
        assert_eq!(network(ip("203.0.113.7")), network(ip("203.0.113.200")));
        assert_ne!(network(ip("203.0.113.7")), network(ip("203.0.114.7")));
        assert_eq!(
            network(ip("2001:db8:7:1::1")),
            network(ip("2001:db8:7:ffff::1"))
        );
        assert_ne!(network(ip("2001:db8:7::1")), network(ip("2001:db8:8::1")));
        assert_eq!(network(ip("::ffff:127.0.0.1")), network(ip("127.3.2.1")));
        assert_eq!(network(ip("::1")), network(ip("127.0.0.1")));
        assert_eq!(
            address(ip("2001:db8:7:1::1")),
            address(ip("2001:db8:7:1::2"))
        );
        assert_ne!(address(ip("203.0.113.7")), address(ip("203.0.113.8")));
    }

    #[test]
    fn only_the_largest_groups_are_drawn_from() {
        let mut dice = StdRng::from_seed([1; 32]);
        let items = vec![(1, 'a'), (2, 'a'), (3, 'b'), (4, 'c'), (5, 'c')];
        let left = largest(items, |(_, group)| *group);
        let groups: Vec<char> = left.iter().map(|(_, group)| *group).collect();
        assert_eq!(groups, ['a', 'a', 'c', 'c']);
        assert!(draw(left, &mut dice).is_some());
        assert_eq!(draw(Vec::<u8>::new(), &mut dice), None);
    }

    proptest::proptest! {
        #[test]
        fn groups_that_take_turns_get_equal_shares(
            sizes in proptest::collection::vec(0usize..40, 1..6),
            seed in proptest::array::uniform32(0u8..),
            taken in 0usize..60,
        ) {
            let items: Vec<(usize, usize)> = (sizes.iter().enumerate())
                .flat_map(|(group, size)| (0..*size).map(move |n| (group, n)))
                .collect();
            let all = items.len();
            let mut dice = StdRng::from_seed(seed);
            let mut turns = in_turns(items, |(group, _)| *group, &mut dice);
            proptest::prop_assert_eq!(turns.len(), all, "nobody is lost");
            turns.truncate(taken);
            let share = |of: usize| turns.iter().filter(|(group, _)| *group == of).count();
            for a in 0..sizes.len() {
                for b in 0..sizes.len() {
                    // Whoever has less than another plus its turn has nothing left to give.
                    let even = share(a) + 1 >= share(b) || share(a) == sizes[a];
                    proptest::prop_assert!(even, "{:?}", (a, b, share(a), share(b)));
                }
            }
        }
    }
}
