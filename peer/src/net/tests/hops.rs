//! What a hop of gossip costs over each transport, on loopback.

use super::*;

/// Messages of each size over each transport.
const MESSAGES: usize = 200;
/// Between two messages, so that one never waits for another and nobody takes them for a flood.
const PAUSE: Duration = Duration::from_millis(20);
/// What a hop over QUIC may take of one over TCP.
const MOST: f64 = 1.5;

/// Two connected peers that follow one run.
struct Pair {
    from: Peer,
    to: Peer,
    times: Vec<Duration>,
}

impl Pair {
    async fn over_tcp() -> Self {
        let from = Peer::start(Vec::new()).await;
        let to = Peer::start(from.net.addresses()).await;
        Self::ready(from, to).await
    }

    async fn over_quic() -> Self {
        let from = Peer::start_over_quic(Vec::new()).await;
        from.net.subscribe(run());
        let to = Peer::start_over_quic(vec![over_quic(&from)]).await;
        Self::ready(from, to).await
    }

    async fn ready(from: Peer, to: Peer) -> Self {
        from.net.subscribe(run());
        to.net.subscribe(run());
        until("a connection", || from.net.connected() == [to.id()]).await;
        // Subscriptions are told with the next heartbeat.
        tokio::time::sleep(Duration::from_secs(3)).await;
        Self {
            from,
            to,
            times: Vec::new(),
        }
    }

    async fn hop(&mut self, message: Vec<u8>) {
        let start = Instant::now();
        self.from.net.gossip(run(), message);
        let (_, id, _) = self.to.gossip().await;
        self.times.push(start.elapsed());
        self.to.net.verdict(id, Verdict::Accept);
        tokio::time::sleep(PAUSE).await;
    }

    fn median_us(&mut self) -> f64 {
        self.times.sort();
        let median = self.times[self.times.len() / 2];
        self.times.clear();
        median.as_secs_f64() * 1e6
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures: `python3 docs/numbers/update.py reach` runs it"]
async fn a_hop_over_quic_takes_at_most_half_as_long_again_as_over_tcp() {
    let (mut tcp, mut quic) = (Pair::over_tcp().await, Pair::over_quic().await);
    let mut ratios = Vec::new();
    for bytes in [200, 1_000, 16_000] {
        for n in 0..MESSAGES {
            let mut message = vec![7; bytes];
            message[..8].copy_from_slice(&(n as u64).to_le_bytes());
            // Each goes first as often as the other.
            let order = match n % 2 {
                0 => [&mut tcp, &mut quic],
                _ => [&mut quic, &mut tcp],
            };
            for pair in order {
                pair.hop(message.clone()).await;
            }
        }
        let (tcp, quic) = (tcp.median_us(), quic.median_us());
        let ratio = quic / tcp;
        println!("hop {bytes} bytes: tcp {tcp:.0} us, quic {quic:.0} us, ratio {ratio:.2}");
        ratios.push(ratio);
    }
    assert!(ratios.iter().all(|ratio| *ratio <= MOST), "{ratios:?}");
}
