//! Token buckets: how much one neighbour may send.

use tributary_protocol::time::Instant;

/// A budget that refills steadily. Times are milliseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    capacity: u64,
    per_second: u64,
    /// Thousandths of a token, so that short gaps count.
    level: u64,
    at: Instant,
}

impl Bucket {
    /// Full at `now`.
    pub(super) fn new(capacity: u64, per_second: u64, now: Instant) -> Self {
        Self {
            capacity,
            per_second,
            level: capacity * 1000,
            at: now,
        }
    }

    /// Takes `amount` tokens, or nothing when there are fewer.
    pub(super) fn take(&mut self, amount: u64, now: Instant) -> bool {
        let gained = now.since_ms(self.at).saturating_mul(self.per_second);
        self.level = self.level.saturating_add(gained).min(self.capacity * 1000);
        self.at = self.at.max(now);
        let Some(rest) = self.level.checked_sub(amount.saturating_mul(1000)) else {
            return false;
        };
        self.level = rest;
        true
    }
}

/// Messages of a burst: a peer that catches up sends one suffix per author and some certificates.
const MESSAGE_BURST: u64 = 1024;
/// Messages a second that go on: forty members each with a handful of votes and receipts a second.
const MESSAGES_PER_SECOND: u64 = 256;
/// Bytes of a burst: sixty-four full direct messages.
const BYTE_BURST: u64 = 16 << 20;
/// Bytes a second that go on; blobs travel elsewhere.
const BYTES_PER_SECOND: u64 = 4 << 20;

/// What one neighbour may send on the control plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    messages: Bucket,
    bytes: Bucket,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            messages: Bucket::new(MESSAGE_BURST, MESSAGES_PER_SECOND, now),
            bytes: Bucket::new(BYTE_BURST, BYTES_PER_SECOND, now),
        }
    }

    /// Whether a message of this many bytes may still be heard.
    pub(super) fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        self.messages.take(1, now) && self.bytes.take(bytes as u64, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_passes_then_the_rate_holds() {
        let mut bucket = Bucket::new(10, 2, Instant(0));
        assert_eq!((0..20).filter(|_| bucket.take(1, Instant(0))).count(), 10);
        assert!(!bucket.take(1, Instant(499)));
        assert!(bucket.take(1, Instant(500)));
        let passed = (501..10_501)
            .filter(|ms| bucket.take(1, Instant(*ms)))
            .count();
        assert!(
            (19..=21).contains(&passed),
            "{passed} in ten seconds at two a second"
        );
    }

    #[test]
    fn time_that_goes_backwards_refills_nothing() {
        let mut bucket = Bucket::new(1, 1, Instant(5000));
        assert!(bucket.take(1, Instant(5000)));
        assert!(!bucket.take(1, Instant(0)));
        assert!(!bucket.take(1, Instant(5000)));
    }
}
