//! Token buckets: how much one neighbour or one address may ask of this peer.

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

    fn refill(&mut self, now: Instant) {
        let gained = now.since_ms(self.at).saturating_mul(self.per_second);
        self.level = self.level.saturating_add(gained).min(self.capacity * 1000);
        self.at = self.at.max(now);
    }

    /// Takes `amount` tokens, or nothing when there are fewer.
    pub(super) fn take(&mut self, amount: u64, now: Instant) -> bool {
        self.refill(now);
        let Some(rest) = self.level.checked_sub(amount.saturating_mul(1000)) else {
            return false;
        };
        self.level = rest;
        true
    }

    /// Gives tokens back that turned out to be owed to nobody.
    pub(super) fn give(&mut self, amount: u64, now: Instant) {
        self.refill(now);
        let more = self.level.saturating_add(amount.saturating_mul(1000));
        self.level = more.min(self.capacity * 1000);
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
/// Greetings of a burst: one for each contact that a large run brings while everybody meets.
const GREETING_BURST: u64 = 64;
/// Greetings a second: one a beat, see `task`.
const GREETINGS_PER_SECOND: u64 = 4;
/// Gossip messages of a burst, copies of known ones included: each costs a signature check before we
/// hear of it, and each of six neighbours may bring its copy.
const COPY_BURST: u64 = 6 * MESSAGE_BURST;
/// Gossip messages a second, copies included: 5 % of a core.
const COPIES_PER_SECOND: u64 = 6 * MESSAGES_PER_SECOND;
/// Blob requests of a burst: two for each update of sixty-four rounds with eight contributions.
const REQUEST_BURST: u64 = 1024;
/// Blob requests a second that go on.
const REQUESTS_PER_SECOND: u64 = 128;

/// Tokens of one question about a shard, so that fewer than one a second can be allowed.
const QUESTION: u64 = 10;
/// Questions of a burst: the answers of one conversation.
const QUESTIONS: u64 = 8 * QUESTION;
/// One question in ten seconds goes on: as often as a person asks.
const QUESTIONS_PER_SECOND: u64 = 1;

/// Refused messages that are forgiven at once. Who sends so many more than its allowance does not read
/// what comes back, or does not care.
const PATIENCE: u64 = 1024;
/// And each second.
const PATIENCE_PER_SECOND: u64 = 16;

/// Tokens of one fault, so that fewer than one a second can be forgiven.
const FAULT: u64 = 10;
/// Faults that are forgiven at once: an honest program sends none, but a disk or a memory may be bad.
const FAULTS: u64 = 8 * FAULT;
/// One fault in ten seconds is forgiven.
const FAULTS_PER_SECOND: u64 = 1;

/// Bytes on a neighbour's sockets that no message accounts for: framing of a burst, messages under way,
/// and whatever is sent to protocols or topics that do not exist.
const UNHEARD_BURST: u64 = 8 << 20;
/// And each second: framing of the messages that go on, with room to spare.
const UNHEARD_PER_SECOND: u64 = 256 << 10;

/// Connections of a burst from one address: a laboratory behind one router starts at once.
const CONNECTION_BURST: u64 = 64;
/// Connections a second from one address: peers that nobody wants dial again every fifteen seconds.
const CONNECTIONS_PER_SECOND: u64 = 4;
/// Connections beyond it that are forgiven before the address is refused.
const CONNECTION_PATIENCE: u64 = 256;
/// And each second.
const CONNECTION_PATIENCE_PER_SECOND: u64 = 4;

/// What a neighbour wants to be heard with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A direct message, or gossip that nobody brought before.
    Message,
    /// A hello.
    Greeting,
    /// Gossip, known or not.
    Copy,
    /// A request for a blob.
    Request,
    /// A question about a shard.
    Question,
}

/// What one neighbour may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    messages: Bucket,
    bytes: Bucket,
    greetings: Bucket,
    copies: Bucket,
    requests: Bucket,
    questions: Bucket,
    patience: Bucket,
    faults: Bucket,
    unheard: Bucket,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        let bucket = |capacity, per_second| Bucket::new(capacity, per_second, now);
        Self {
            messages: bucket(MESSAGE_BURST, MESSAGES_PER_SECOND),
            bytes: bucket(BYTE_BURST, BYTES_PER_SECOND),
            greetings: bucket(GREETING_BURST, GREETINGS_PER_SECOND),
            copies: bucket(COPY_BURST, COPIES_PER_SECOND),
            requests: bucket(REQUEST_BURST, REQUESTS_PER_SECOND),
            questions: bucket(QUESTIONS, QUESTIONS_PER_SECOND),
            patience: bucket(PATIENCE, PATIENCE_PER_SECOND),
            faults: bucket(FAULTS, FAULTS_PER_SECOND),
            unheard: bucket(UNHEARD_BURST, UNHEARD_PER_SECOND),
        }
    }

    /// Whether a message of this many bytes may still be heard.
    pub(super) fn admit(&mut self, kind: Kind, bytes: usize, now: Instant) -> bool {
        let (count, tokens) = match kind {
            Kind::Message => (&mut self.messages, 1),
            Kind::Greeting => (&mut self.greetings, 1),
            Kind::Copy => (&mut self.copies, 1),
            Kind::Request => (&mut self.requests, 1),
            Kind::Question => (&mut self.questions, QUESTION),
        };
        // The bytes of gossip are charged with the message, not with its copies.
        let bytes = if kind == Kind::Copy { 0 } else { bytes as u64 };
        count.take(tokens, now) && self.bytes.take(bytes, now)
    }

    /// Whether something beyond the allowance is still forgiven.
    pub(super) fn forgive(&mut self, now: Instant) -> bool {
        self.patience.take(1, now)
    }

    /// Whether a fault is still forgiven.
    pub(super) fn forgive_fault(&mut self, now: Instant) -> bool {
        self.faults.take(FAULT, now)
    }

    /// Whether bytes that no message accounts for are still within bounds.
    pub(super) fn bear(&mut self, unheard: u64, now: Instant) -> bool {
        self.unheard.take(unheard, now)
    }

    /// Bytes borne earlier that a message accounts for after all.
    pub(super) fn make_good(&mut self, heard: u64, now: Instant) {
        self.unheard.give(heard, now);
    }
}

/// Connections that one address may open.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionAllowance {
    connections: Bucket,
    patience: Bucket,
}

impl ConnectionAllowance {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            connections: Bucket::new(CONNECTION_BURST, CONNECTIONS_PER_SECOND, now),
            patience: Bucket::new(CONNECTION_PATIENCE, CONNECTION_PATIENCE_PER_SECOND, now),
        }
    }

    pub(super) fn admit(&mut self, now: Instant) -> bool {
        self.connections.take(1, now)
    }

    pub(super) fn forgive(&mut self, now: Instant) -> bool {
        self.patience.take(1, now)
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

    #[test]
    fn tokens_given_back_never_exceed_the_capacity() {
        let mut bucket = Bucket::new(3, 1, Instant(0));
        assert!(bucket.take(2, Instant(0)));
        bucket.give(9, Instant(0));
        assert!(bucket.take(3, Instant(0)) && !bucket.take(1, Instant(0)));
    }

    #[test]
    fn a_burst_of_questions_is_heard_then_one_in_ten_seconds() {
        let mut allowance = Allowance::new(Instant(0));
        let mut heard = |ms: u64| allowance.admit(Kind::Question, 100, Instant(ms));
        assert_eq!((0..20).filter(|_| heard(0)).count(), 8);
        assert!(!heard(9_900) && heard(10_000) && !heard(19_900));
    }
}
