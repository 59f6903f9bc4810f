//! Counters that matter, in Prometheus' text format.

use std::time::Instant;

use parking_lot::Mutex;
use prometheus::{
    Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use tributary_ledger::Snapshot;
use tributary_protocol::event::{Notice, Record, Verdict};

use crate::net::Traffic;

/// Counters of one daemon.
pub(crate) struct Metrics {
    registry: Registry,
    rounds: IntCounter,
    contributions: IntCounter,
    records: IntCounterVec,
    record_bytes: IntCounterVec,
    refused: IntCounterVec,
    verdicts: IntCounterVec,
    fetches: IntCounterVec,
    tokens: IntCounter,
    token_rate: IntGauge,
    traffic: IntGaugeVec,
    height: IntGaugeVec,
    connected: IntGauge,
    dropped: IntGauge,
    /// When training was last heard of, for the rate.
    last_trained: Mutex<Instant>,
}

impl Metrics {
    /// A registry of its own, so that several daemons of a process do not mix.
    ///
    /// # Panics
    /// Never: the names are fixed and different.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(name, help).expect("a fixed name");
            registry
                .register(Box::new(made.clone()))
                .expect("a name used once");
            made
        };
        let by = |name: &str, help: &str, label: &str| {
            let made = IntCounterVec::new(Opts::new(name, help), &[label]).expect("a fixed name");
            registry
                .register(Box::new(made.clone()))
                .expect("a name used once");
            made
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help).expect("a fixed name");
            registry
                .register(Box::new(made.clone()))
                .expect("a name used once");
            made
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels).expect("a fixed name");
            registry
                .register(Box::new(made.clone()))
                .expect("a name used once");
            made
        };
        let help = "Bytes on the sockets since the start";
        let traffic = gauges("tributary_bytes", help, &["plane", "direction"]);
        let help = "The last certified height of a run";
        let height = gauges("tributary_certified_height", help, &["run"]);
        Self {
            rounds: counter("tributary_rounds_certified_total", "Rounds certified"),
            contributions: counter("tributary_contributions_total", "Contributions included"),
            records: by("tributary_records_total", "Records made durable", "kind"),
            record_bytes: by("tributary_record_bytes_total", "Bytes made durable", "kind"),
            refused: by("tributary_refused_total", "Remote input refused", "code"),
            verdicts: by("tributary_gossip_total", "Gossip judged", "verdict"),
            fetches: by("tributary_fetches_total", "Blobs fetched", "outcome"),
            tokens: counter("tributary_tokens_trained_total", "Tokens trained on here"),
            token_rate: gauge(
                "tributary_tokens_per_second",
                "Of the latest local training",
            ),
            connected: gauge("tributary_connected_peers", "Peers with a connection"),
            dropped: gauge("tributary_dropped_messages", "Dropped by rate limits"),
            traffic,
            height,
            registry,
            last_trained: Mutex::new(Instant::now()),
        }
    }

    pub(crate) fn persisted(&self, records: &[Record]) {
        for record in records {
            let (kind, bytes) = match record {
                Record::Block(bytes) => ("block", bytes.len()),
                Record::Certificate { bytes, .. } => ("certificate", bytes.len()),
                Record::Blob { bytes, .. } => ("blob", bytes.len()),
                Record::Consensus { bytes, .. } => ("consensus", bytes.len()),
                Record::ConsensusDone { .. } => ("consensus_done", 0),
                Record::Residual { bytes, .. } => ("residual", bytes.len()),
                Record::Sent { bytes, .. } => ("sent", bytes.len()),
                Record::Followed { bytes, .. } => ("followed", bytes.len()),
                Record::Forgotten { last, .. } => ("forgotten", last.as_ref().map_or(0, Vec::len)),
            };
            self.records.with_label_values(&[kind]).inc();
            self.record_bytes
                .with_label_values(&[kind])
                .inc_by(bytes as u64);
        }
    }

    pub(crate) fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Certified { included, .. } => {
                self.rounds.inc();
                self.contributions.inc_by((*included).into());
            }
            Notice::Refused { why, .. } => {
                self.refused
                    .with_label_values(&[why.code().to_string().as_str()])
                    .inc();
            }
            _ => {}
        }
    }

    pub(crate) fn judged(&self, verdict: Verdict) {
        let name = match verdict {
            Verdict::Accept => "accept",
            Verdict::Reject => "reject",
            Verdict::Ignore => "ignore",
        };
        self.verdicts.with_label_values(&[name]).inc();
    }

    pub(crate) fn fetched(&self, ok: bool) {
        let name = if ok { "ok" } else { "failed" };
        self.fetches.with_label_values(&[name]).inc();
    }

    /// `tokens` since the last call.
    pub(crate) fn trained(&self, tokens: u64) {
        self.tokens.inc_by(tokens);
        let mut last = self.last_trained.lock();
        let seconds = last.elapsed().as_secs_f64();
        if seconds > 0.0 {
            self.token_rate.set((tokens as f64 / seconds) as i64);
        }
        *last = Instant::now();
    }

    /// How far each run is certified.
    pub(crate) fn certified(&self, index: &Snapshot) {
        for run_index in index.runs() {
            if let Some(last) = run_index.chain().last() {
                let run = run_index.id().to_string();
                let height = self.height.with_label_values(&[run.as_str()]);
                height.set(last.value.round.0.into());
            }
        }
    }

    /// Prometheus text.
    pub(crate) fn render(&self, traffic: Traffic, connected: usize, dropped: u64) -> String {
        for (plane, direction, bytes) in [
            ("control", "up", traffic.control_up),
            ("control", "down", traffic.control_down),
            ("payload", "up", traffic.payload_up),
            ("payload", "down", traffic.payload_down),
        ] {
            self.traffic
                .with_label_values(&[plane, direction])
                .set(bytes as i64);
        }
        self.connected.set(connected as i64);
        self.dropped.set(dropped as i64);
        let mut text = Vec::new();
        // Writing to memory does not fail, and the format is ASCII.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_protocol::id::PeerId;
    use tributary_protocol::reject::Rejection;

    #[test]
    fn what_is_counted_shows_in_the_text() {
        let metrics = Metrics::new();
        metrics.persisted(&[Record::Block(vec![0; 10]), Record::Block(vec![0; 5])]);
        metrics.notice(&Notice::Refused {
            from: PeerId::default(),
            why: Rejection::Network,
        });
        let traffic = Traffic {
            payload_up: 77,
            ..Traffic::default()
        };
        let text = metrics.render(traffic, 3, 0);
        for line in [
            "tributary_records_total{kind=\"block\"} 2",
            "tributary_record_bytes_total{kind=\"block\"} 15",
            "tributary_refused_total{code=\"3\"} 1",
            "tributary_bytes{direction=\"up\",plane=\"payload\"} 77",
            "tributary_connected_peers 3",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
