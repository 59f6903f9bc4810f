//! How gossip is flooded, judged and scored.
//!
//! Every message is signed by who publishes it, named by its content and held back until the node has
//! judged it. Scores punish what is provably bad (P4) and nothing else: the default parameters let
//! sixty invalid messages cost nothing, and punish a quiet run for being quiet (P3).

mod watch;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libp2p::gossipsub::{
    self, ConfigBuilder, IdentTopic, MaxCountSubscriptionFilter, MessageAuthenticity, MessageId,
    PeerScoreParams, PeerScoreThresholds, TopicHash, TopicScoreParams, TopicSubscriptionFilter,
    ValidationMode,
};
use libp2p::identity::Keypair;
use tributary_protocol::hash;
use tributary_protocol::id::{NetworkId, RunId};

use super::admission::Admission;
pub(super) use watch::Gossip;

/// Bytes of a gossipsub frame. Messages are lost silently within 8 KiB of it, and payloads are at most
/// 16 KiB, so there is room for several in one frame.
const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Topics that one neighbour may subscribe to; the same number bounds our own runs.
pub(super) const MAX_TOPICS: usize = 256;
/// How long a message's name is remembered. Longer than a flood takes, shorter than a lost vote may
/// wait to be said again with the same bytes.
const REMEMBER: Duration = Duration::from_secs(15);

/// The topic of a run.
pub(super) fn topic(network: NetworkId, run: RunId) -> IdentTopic {
    IdentTopic::new(format!("tributary/1/{}/{run}", network.0))
}

/// The run of a topic; `None` for topics of others.
pub(super) fn run_of(network: NetworkId, topic: &TopicHash) -> Option<RunId> {
    let text = topic.as_str().strip_prefix("tributary/1/")?;
    let (id, run) = text.split_once('/')?;
    (id == network.0.to_string()).then_some(())?;
    run.parse().ok()
}

/// Lets neighbours name only topics that are runs of this network. What they follow must be remembered
/// even before we follow it ourselves, so the bound is on form and number, not on our own list.
#[derive(Clone, Debug)]
pub(super) struct OnlyRuns(NetworkId);

impl TopicSubscriptionFilter for OnlyRuns {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        run_of(self.0, topic).is_some()
    }
}

/// Below this score a neighbour is cut off: gossipsub would go on reading what it no longer heeds.
pub(super) const WORTHLESS: f64 = -200.0;

/// The behaviour, ready for [`topic_scores`] of each run.
pub(super) fn behaviour(
    keys: &Keypair,
    network: NetworkId,
    admission: Admission,
) -> Result<Gossip, String> {
    let config = ConfigBuilder::default()
        .protocol_id_prefix(format!("/tributary/1/gossip/{}", network.0))
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(|message| {
            let text = [message.topic.as_str().as_bytes(), &message.data].concat();
            MessageId::from(hash::blob(&text).as_bytes().to_vec())
        })
        .max_transmit_size(MAX_FRAME_BYTES)
        .duplicate_cache_time(REMEMBER)
        .heartbeat_interval(Duration::from_millis(700))
        .flood_publish(false)
        .build()
        .map_err(|e| e.to_string())?;
    let filter = MaxCountSubscriptionFilter {
        filter: OnlyRuns(network),
        max_subscribed_topics: MAX_TOPICS,
        max_subscriptions_per_request: MAX_TOPICS,
    };
    let signed = MessageAuthenticity::Signed(keys.clone());
    Gossip::new(admission, |transform| {
        let mut gossip = gossipsub::Behaviour::new_with_subscription_filter_and_transform(
            signed, config, filter, transform,
        )?;
        gossip.with_peer_score(peer_scores(), thresholds())?;
        Ok(gossip)
    })
}

fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -50.0,
        publish_threshold: -100.0,
        graylist_threshold: WORTHLESS,
        accept_px_threshold: 0.0,
        opportunistic_graft_threshold: 1.0,
    }
}

fn peer_scores() -> PeerScoreParams {
    let loopback = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    PeerScoreParams {
        topic_score_cap: 10.0,
        // Many peers of one machine are one machine, unless they are a demo or a test.
        ip_colocation_factor_whitelist: HashSet::from(loopback),
        ..PeerScoreParams::default()
    }
}

/// Two provably bad messages silence a neighbour for minutes; quiet runs cost nothing.
pub(super) fn topic_scores() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.1,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 10.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.9,
        first_message_deliveries_cap: 20.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -100.0,
        invalid_message_deliveries_decay: 0.98,
        ..TopicScoreParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_its_run_and_network() {
        let run = RunId(hash::blob(b"run"));
        let name = topic(NetworkId(3), run).hash();
        assert_eq!(run_of(NetworkId(3), &name), Some(run));
        assert_eq!(run_of(NetworkId(4), &name), None);
        let other = IdentTopic::new("tributary/1/3/zz").hash();
        assert!(!OnlyRuns(NetworkId(3)).can_subscribe(&other));
    }

    #[test]
    fn parameters_are_accepted_by_gossipsub() {
        topic_scores().validate().unwrap();
        peer_scores().validate().unwrap();
        thresholds().validate().unwrap();
        let keys = Keypair::generate_ed25519();
        behaviour(&keys, NetworkId(1), Admission::default()).unwrap();
    }
}
