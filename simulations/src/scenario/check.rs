//! What a scenario may say: a bound for every number, and together they must be a run that peers would open and this
//! machine can hold.
//!
//! Nothing is allocated for a number before it has passed. Messages name the key, the value and the remedy.

use tributary_protocol::limits;

use super::{ChainName, Estimate, Scenario, WeightsName, manifest, total};

/// Milliseconds of any time of a scenario: the longest deadline that a run may have.
const MAX_TIME_MS: u64 = limits::MAX_DEADLINE_MS as u64;
/// Seconds that a clock may be off: ten years, before which and after which clocks still tell a time.
const MAX_SKEW_S: u64 = 10 * 365 * 24 * 3_600;
/// Millionths that a clock may be fast or slow: a tenth, a thousand times the worst crystal.
const MAX_DRIFT_PPM: u64 = 100_000;
/// Connections that a peer opens: a hundred times what gossip needs.
const MAX_DEGREE: u64 = 1_000;
/// KiB a second: a terabyte, beyond which a transfer takes no time.
const MAX_BANDWIDTH_KIB_S: u64 = 1 << 30;
/// Spread and noise of the toy losses, whose squares stay far within what an adapter can hold.
const MAX_DEVIATION: f64 = 1e6;
/// Splits, kills, joins, leaves or kinds of liars that one scenario lists.
const MAX_LISTED: usize = 1_000;

fn share(key: &str, value: f64) -> Result<(), String> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(()),
        false => Err(format!("`{key}` is {value}; it is a share from 0 to 1")),
    }
}

fn range(key: &str, value: u64, [least, most]: [u64; 2]) -> Result<(), String> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(format!(
            "`{key}` is {value}, but must lie between {least} and {most}"
        )),
    }
}

fn ordered(key: &str, [least, most]: [u64; 2]) -> Result<(), String> {
    match least <= most {
        true => range(key, most, [0, MAX_TIME_MS]),
        false => Err(format!(
            "`{key}` is [{least}, {most}]; write the smaller number first"
        )),
    }
}

impl Scenario {
    /// Checks what the types cannot say.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_shares()?;
        self.check_times()?;
        self.check_sizes()?;
        match &self.draw {
            Some(draw) => draw.check()?,
            None => self.check_people()?,
        }
        self.check_names().map_err(|unknown| unknown.to_string())?;
        self.make_link()?;
        // The learner holds something for every peer, so the estimate comes first, and again when its adapter is known.
        Estimate::of(self, self.learner.dimension as u64).check()?;
        let subject = self.make_learner(self.seed)?.subject(&self.learner);
        Estimate::of(self, subject.adapter.parameters() as u64).check()?;
        match self.draw {
            // Each member of the family has numbers of its own.
            Some(_) => Ok(()),
            None => manifest::check(self, subject),
        }
    }

    /// Whether so many runs at once fit this machine.
    ///
    /// # Errors
    /// Says what they take, what there is, and what to change.
    pub fn check_room(&self, runs: usize) -> Result<(), String> {
        let subject = self.make_learner(self.seed)?.subject(&self.learner);
        Estimate::of(self, subject.adapter.parameters() as u64).check_many(runs)
    }

    fn check_shares(&self) -> Result<(), String> {
        share("link.loss", self.link.loss)?;
        share("link.duplicate", self.link.duplicate)?;
        share("link.reorder", self.link.reorder)?;
        share("link.replay", self.link.replay)?;
        share("churn.per_round", self.churn.per_round)?;
        share("chain.moves", self.chain.moves)?;
        share("chain.reorgs", self.chain.reorgs)?;
        share("learner.train_spread", self.learner.train_spread)?;
        for split in &self.partitions {
            share("partitions.split", split.split)?;
        }
        for kill in &self.kills {
            share("kills.share", kill.share)?;
        }
        for liars in &self.liars {
            share("liars.share", liars.share)?;
        }
        share("run.codec.feedback", self.run.codec.feedback)?;
        let tolerate = self.run.tolerate;
        match (0.0..0.5).contains(&tolerate) {
            true => self.check_weights(),
            false => Err(format!(
                "`run.tolerate` is {tolerate}; it is a share from 0 to below 0.5"
            )),
        }
    }

    fn check_weights(&self) -> Result<(), String> {
        match (self.run.weights, self.run.full_weight_tokens) {
            (WeightsName::Own, 0) => Err(
                "`run.weights` is \"own\" and `run.full_weight_tokens` is missing; say how many own tokens \
                 weigh fully"
                    .into(),
            ),
            (WeightsName::Stake, _) if self.run.chain == ChainName::None => Err(
                "`run.weights` is \"stake\" and `run.chain` is \"none\"; stake is put up on a chain: \"test\" or \"modelled\""
                    .into(),
            ),
            (WeightsName::Trained | WeightsName::Stake, 1..) => Err(
                "`run.full_weight_tokens` means something only with `weights = \"own\"`; remove one of them"
                    .into(),
            ),
            (WeightsName::Trained | WeightsName::Own, _) if self.run.chain == ChainName::Modelled => Err(
                "`run.chain` is \"modelled\", where members are bonded; set `run.weights` to \"stake\"".into(),
            ),
            _ => Ok(()),
        }
    }

    fn check_times(&self) -> Result<(), String> {
        let (learner, link) = (&self.learner, &self.link);
        for (key, ms) in [
            ("link.latency_ms", link.latency_ms),
            ("link.jitter_ms", link.jitter_ms),
            ("link.reorder_ms", link.reorder_ms),
            ("link.replay_ms", link.replay_ms),
            ("chain.block_ms", self.chain.block_ms),
            ("learner.train_ms", learner.train_ms),
            ("learner.score_ms", learner.score_ms),
            ("learner.compute_ms", learner.compute_ms),
            ("calm.after_ms", self.calm.after_ms),
            ("calm.round_within_ms", self.calm.round_within_ms),
        ] {
            range(key, ms, [0, MAX_TIME_MS])?;
        }
        for split in &self.partitions {
            range("partitions.at_ms", split.at_ms, [0, MAX_TIME_MS])?;
            range("partitions.for_ms", split.for_ms, [0, MAX_TIME_MS])?;
        }
        for kill in &self.kills {
            range("kills.at_ms", kill.at_ms, [0, MAX_TIME_MS])?;
        }
        range("run.tick_ms", self.run.tick_ms, [1, MAX_TIME_MS])?;
        range("clock.skew_s", self.clock.skew_s, [0, MAX_SKEW_S])?;
        range("clock.drift_ppm", self.clock.drift_ppm, [0, MAX_DRIFT_PPM])?;
        ordered("churn.down_ms", self.churn.down_ms)?;
        ordered("store.sync_ms", self.store.sync_ms)
    }

    fn check_sizes(&self) -> Result<(), String> {
        let (learner, link) = (&self.learner, &self.link);
        range("peers", self.peers as u64, [1, limits::MAX_MEMBERS as u64])?;
        let rounds = [1, u64::from(limits::MAX_ROUNDS)];
        range("rounds", u64::from(self.rounds), rounds)?;
        let most = limits::MAX_EVALUATORS as u64;
        range("evaluators", self.evaluators as u64, [0, most])?;
        range("link.degree", link.degree as u64, [0, MAX_DEGREE])?;
        if link.bandwidth_kib_s == 0 {
            return Err("`link.bandwidth_kib_s` is 0: no blob would ever arrive".into());
        }
        let bandwidth = [1, MAX_BANDWIDTH_KIB_S];
        range("link.bandwidth_kib_s", link.bandwidth_kib_s, bandwidth)?;
        if learner.dimension < 2 || learner.dimension % 2 == 1 {
            return Err("`learner.dimension` must be even and at least 2".into());
        }
        let dimension = [2, limits::MAX_ADAPTER_PARAMETERS];
        range("learner.dimension", learner.dimension as u64, dimension)?;
        for (key, value, most) in [
            ("learner.spread", learner.spread, MAX_DEVIATION),
            ("learner.noise", learner.noise, MAX_DEVIATION),
            ("learner.learning_rate", learner.learning_rate, 1.0),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(format!(
                    "`{key}` is {value}, but must lie between 0 and {most}"
                ));
            }
        }
        for (key, count) in [
            ("partitions", self.partitions.len()),
            ("kills", self.kills.len()),
            ("liars", self.liars.len()),
            ("joins", self.joins.len()),
            ("leaves", self.leaves.len()),
        ] {
            range(
                &format!("the number of `{key}`"),
                count as u64,
                [0, MAX_LISTED as u64],
            )?;
        }
        Ok(())
    }

    fn check_people(&self) -> Result<(), String> {
        let late = total(self.joins.iter().map(|join| join.count));
        let gone = total(self.leaves.iter().map(|leave| leave.count));
        let liars = self.liars();
        if self.evaluators >= self.peers {
            return Err(format!(
                "`evaluators` is {} of {} peers, but peer 0 trains; raise `peers` or lower it",
                self.evaluators, self.peers
            ));
        }
        // The creator and the evaluators stay for the whole run.
        let free = self.peers - (1 + self.evaluators);
        if late.saturating_add(gone).saturating_add(liars) > free {
            return Err(format!(
                "{late} peers join late, {gone} leave and {liars} lie, but only {free} of {} are neither \
                 creator nor evaluator; raise `peers` or lower the counts",
                self.peers
            ));
        }
        let present = self.present_at_start();
        if self.run.min_members as usize > present {
            return Err(format!(
                "`run.min_members` is {} but only {present} peers are there at the start; the genesis \
                 would wait for ever",
                self.run.min_members
            ));
        }
        if self.run.min_contributions as usize > self.peers - self.evaluators {
            return Err(format!(
                "`run.min_contributions` is {} but only {} of {} peers train; no round could ever close",
                self.run.min_contributions,
                self.peers - self.evaluators,
                self.peers
            ));
        }
        if self.calm.after_round > self.rounds {
            return Err("`calm.after_round` lies behind the last round".into());
        }
        Ok(())
    }
}
