//! Who keeps a connection when more peers want one than there are places.
//!
//! A newcomer always gets in; somebody else loses its place. Members of the runs that this peer follows
//! are never drawn, as long as a quarter of the places is left for others, nor are connections that this
//! peer opened itself: those have places of their own. Among the rest, the loser is drawn from the
//! network that holds the most places (see `fair`), there from those of the lowest priority, and there
//! from the address and the peer that hold the most. So idle connections that never said anything of use
//! go first, and one network, address or key only ever competes with itself. Those that have just come are spared at the
//! cost of others that have done no more than greet, up to a quarter of the places.
//!
//! Pure bookkeeping for both planes; whoever holds the sockets closes them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use rand::rngs::StdRng;
use tributary_protocol::id::PeerId;
use tributary_protocol::time::Instant;

use super::fair;

/// A connection that has said nothing for so long has had its chance: a greeting follows the handshake
/// within a few round trips.
const YOUNG_MS: u64 = 3000;

/// What a peer has shown to be, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    /// It has not even greeted.
    #[default]
    Unheard,
    /// It has just connected.
    Young,
    /// It has greeted.
    Greeted,
    /// It brought gossip that was valid and new.
    Useful,
    /// It is a member of a run that this peer follows.
    Member,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    peer: PeerId,
    network: IpAddr,
    address: IpAddr,
    since: Instant,
}

/// The places. `K` names a connection.
#[derive(Debug)]
pub(super) struct Connections<K> {
    places: usize,
    held: BTreeMap<K, Held>,
    dice: StdRng,
}

impl<K: Ord + Copy> Connections<K> {
    pub(super) fn new(places: usize, dice: StdRng) -> Self {
        Self {
            places,
            held: BTreeMap::new(),
            dice,
        }
    }

    /// Gives a place to a new connection; the one that has to be closed for it, if any.
    pub(super) fn enter(
        &mut self,
        id: K,
        peer: PeerId,
        from: Option<IpAddr>,
        now: Instant,
        priority: impl Fn(PeerId) -> Priority,
    ) -> Option<(K, PeerId)> {
        let loser = if self.held.len() < self.places {
            None
        } else {
            self.loser(now, priority)
        };
        let loser = loser.and_then(|id| self.held.remove(&id).map(|held| (id, held.peer)));
        let ip = from.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let held = Held {
            peer,
            network: fair::network(ip),
            address: fair::address(ip),
            since: now,
        };
        self.held.insert(id, held);
        debug_assert!(self.held.len() <= self.places);
        loser
    }

    fn loser(&mut self, now: Instant, priority: impl Fn(PeerId) -> Priority) -> Option<K> {
        let judged = self.held.iter().map(|(id, held)| {
            let is_young = now.since_ms(held.since) < YOUNG_MS;
            let least = if is_young {
                Priority::Young
            } else {
                Priority::Unheard
            };
            (*id, *held, priority(held.peer).max(least))
        });
        let (members, others): (Vec<_>, Vec<_>) =
            judged.partition(|(_, _, priority)| *priority == Priority::Member);
        let spares_members = members.len() <= self.places / 4 * 3 && !others.is_empty();
        let mut rest = others;
        if !spares_members {
            rest.extend(members);
        }
        rest = fair::largest(rest, |(_, held, _)| held.network);
        let lowest = self.first_to_go(rest.iter().map(|(_, _, priority)| *priority).collect());
        rest.retain(|(_, _, priority)| Some(*priority) == lowest);
        rest = fair::largest(rest, |(_, held, _)| held.address);
        rest = fair::largest(rest, |(_, held, _)| held.peer);
        let ids = rest.into_iter().map(|(id, _, _)| id).collect();
        fair::draw(ids, &mut self.dice)
    }

    /// The priority that the loser is drawn from: the lowest, but a quarter of the places is left to those that have had
    /// no time to greet yet. Where greetings hold every place, each newcomer would else push out the one before it.
    fn first_to_go(&self, mut priorities: Vec<Priority>) -> Option<Priority> {
        priorities.sort_unstable();
        let young = priorities.partition_point(|priority| *priority <= Priority::Young);
        let lowest = *priorities.first()?;
        let next = priorities.get(young).copied();
        let spares_young = lowest == Priority::Young && young <= self.places / 4;
        match next {
            Some(Priority::Greeted) if spares_young => next,
            _ => Some(lowest),
        }
    }

    /// A connection is gone.
    pub(super) fn leave(&mut self, id: &K) {
        self.held.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use tributary_protocol::hash;

    use super::*;

    const PLACES: usize = 64;

    fn peer(n: u64) -> PeerId {
        PeerId(hash::blob(&n.to_le_bytes()))
    }
    fn connections() -> Connections<u64> {
        Connections::new(PLACES, StdRng::from_seed([5; 32]))
    }
    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Attackers from one network, each with a key of its own, a second apart.
    fn crowd(held: &mut Connections<u64>, many: u64, priority: impl Fn(PeerId) -> Priority) {
        for n in 1000..1000 + many {
            held.enter(n, peer(n), Some(LOCAL), Instant(n * 1000), &priority);
        }
    }

    #[test]
    fn idle_connections_push_each_other_out_and_never_one_that_greeted() {
        let mut held = connections();
        let priority = |who| match who == peer(1) {
            true => Priority::Greeted,
            false => Priority::Unheard,
        };
        held.enter(1, peer(1), Some(LOCAL), Instant(0), priority);
        crowd(&mut held, 5000, priority);
        assert!(held.held.contains_key(&1));
        assert_eq!(held.held.len(), PLACES);
    }

    #[test]
    fn newcomer_has_time_to_greet_though_peers_that_greeted_hold_every_place() {
        let mut held = connections();
        let greeted = |who| match who == peer(1) {
            true => Priority::Unheard,
            false => Priority::Greeted,
        };
        crowd(&mut held, PLACES as u64, greeted);
        let came = Instant(9_000_000);
        held.enter(1, peer(1), Some(LOCAL), came, greeted);
        // Sixteen a second of them go on coming, each of which has greeted when the next one comes.
        for n in 0..48 {
            let now = came.after_ms(n * 60);
            held.enter(5000 + n, peer(5000 + n), Some(LOCAL), now, greeted);
        }
        assert!(held.held.contains_key(&1));
    }

    #[test]
    fn many_newcomers_at_once_push_each_other_out_and_no_one_that_greeted() {
        let mut held = connections();
        let priority = |who| match who == peer(1) {
            true => Priority::Greeted,
            false => Priority::Unheard,
        };
        held.enter(1, peer(1), Some(LOCAL), Instant(0), priority);
        for n in 0..5000 {
            held.enter(
                1000 + n,
                peer(1000 + n),
                Some(LOCAL),
                Instant(5_000),
                priority,
            );
        }
        assert!(held.held.contains_key(&1));
    }

    #[test]
    fn members_keep_their_places_whatever_others_show() {
        let mut held = connections();
        let members = PLACES as u64 / 2;
        let is_member = |who| (0..members).any(|n| peer(n) == who);
        let priority = |who| match is_member(who) {
            true => Priority::Member,
            false => Priority::Useful,
        };
        for n in 0..members {
            held.enter(n, peer(n), Some(LOCAL), Instant(0), priority);
        }
        crowd(&mut held, 1000, priority);
        assert!((0..members).all(|n| held.held.contains_key(&n)));
    }

    #[test]
    fn members_leave_a_quarter_of_the_places_to_others() {
        let mut held = connections();
        let priority = |who| match who == peer(1) {
            true => Priority::Greeted,
            false => Priority::Member,
        };
        crowd(&mut held, PLACES as u64, priority);
        let lost = held.enter(1, peer(1), Some(LOCAL), Instant(9_000_000), priority);
        assert!(
            lost.is_some(),
            "a newcomer is let in though all are members"
        );
    }

    #[test]
    fn one_network_competes_with_itself_alone() {
        let mut held = connections();
        let far = IpAddr::from([203, 0, 113, 7]);
        held.enter(1, peer(1), Some(far), Instant(0), |_| Priority::Unheard);
        let useful_liars = |who| match who == peer(1) {
            true => Priority::Unheard,
            false => Priority::Useful,
        };
        crowd(&mut held, 5000, useful_liars);
        assert!(held.held.contains_key(&1));
    }

    #[test]
    fn key_with_several_connections_loses_one_before_a_key_with_one() {
        let mut held = connections();
        for n in 0..PLACES as u64 - 1 {
            held.enter(n, peer(n / 4), Some(LOCAL), Instant(0), |_| {
                Priority::Greeted
            });
        }
        held.enter(99, peer(99), Some(LOCAL), Instant(0), |_| Priority::Greeted);
        let lost = held.enter(100, peer(100), Some(LOCAL), Instant(0), |_| {
            Priority::Greeted
        });
        assert!(lost.is_some_and(|(_, who)| who != peer(99)), "{lost:?}");
    }

    #[test]
    fn connection_that_is_gone_leaves_its_place() {
        let mut held = connections();
        crowd(&mut held, PLACES as u64, |_| Priority::Greeted);
        held.leave(&1000);
        let lost = held.enter(1, peer(1), None, Instant(0), |_| Priority::Greeted);
        assert_eq!(lost, None);
    }
}
