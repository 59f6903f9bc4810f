//! The slow twin of the encoders: every record written field by field, as `docs/protocol.md` says.

use tributary_protocol::certificate::Certificate;
use tributary_protocol::consensus::{ConsensusMessage, Proposal, Vote, VoteKind};
use tributary_protocol::entry::{Entry, Role, ShownSheet};
use tributary_protocol::filing::{DisputeStep, Finding};
use tributary_protocol::fingerprint::{Answer, Declined, Question};
use tributary_protocol::id::{BlobRef, NanoNats, PeerId, Round, RunId, Scope};
use tributary_protocol::listing::Listing;
use tributary_protocol::log::{Block, LogHead};
use tributary_protocol::manifest::{
    Aggregation, FactorSchedule, Manifest, Model, Privacy, Settlement, SettlementChain,
    UpdateCodec, Updates, Version, Weights,
};
use tributary_protocol::round::{EntryRef, RoundValue};
use tributary_protocol::sign::Signature;
use tributary_protocol::sync::AuthorRange;
use tributary_protocol::wire::Message;

/// Bytes under construction.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    /// An unsigned integer in the fewest bytes.
    fn int(&mut self, n: impl Into<u128>) -> &mut Self {
        let n: u128 = n.into();
        let (mark, width) = match n {
            0..=250 => (n as u8, 0),
            251..=0xffff => (251, 2),
            0x1_0000..=0xffff_ffff => (252, 4),
            0x1_0000_0000..=0xffff_ffff_ffff_ffff => (253, 8),
            _ => (254, 16),
        };
        self.0.push(mark);
        self.0.extend(&n.to_le_bytes()[..width]);
        self
    }

    /// A signed integer: 0, -1, 1, -2, 2 .. become 0, 1, 2, 3, 4 ..
    fn nano(&mut self, n: NanoNats) -> &mut Self {
        let n = i128::from(n.0);
        let folded = if n < 0 { -2 * n - 1 } else { 2 * n };
        self.int(folded as u128)
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    fn byte(&mut self, byte: u8) -> &mut Self {
        self.raw(&[byte])
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.int(bytes.len() as u64).raw(bytes)
    }

    fn list<T>(&mut self, list: &[T], write: impl Fn(&mut Self, &T)) -> &mut Self {
        self.int(list.len() as u64);
        list.iter().for_each(|item| write(self, item));
        self
    }

    fn option<T>(&mut self, value: Option<T>, write: impl Fn(&mut Self, T)) -> &mut Self {
        match value {
            None => self.byte(0),
            Some(value) => {
                self.byte(1);
                write(self, value);
                self
            }
        }
    }

    fn blob(&mut self, blob: &BlobRef) -> &mut Self {
        self.raw(blob.hash.as_bytes()).int(blob.size)
    }

    fn head(&mut self, head: &LogHead) {
        self.raw(head.author.as_bytes())
            .int(head.seq.0)
            .raw(head.block.as_bytes());
    }

    fn entry_ref(&mut self, place: &EntryRef) -> &mut Self {
        self.raw(place.author.as_bytes())
            .int(place.seq.0)
            .raw(place.block.as_bytes())
            .byte(place.index)
    }

    fn role(&mut self, role: Role) -> &mut Self {
        self.int(match role {
            Role::Contributor => 0u8,
            Role::Evaluator => 1,
            Role::Both => 2,
        })
    }

    fn range(&mut self, range: &AuthorRange) -> &mut Self {
        self.raw(range.from.as_bytes())
            .option(range.until, |o, until: PeerId| {
                o.raw(until.as_bytes());
            })
    }

    fn round(&mut self, round: Round) -> &mut Self {
        self.int(round.0)
    }

    fn run(&mut self, run: &RunId) -> &mut Self {
        self.raw(run.as_bytes())
    }

    fn scope(&mut self, scope: &Scope) -> &mut Self {
        match scope {
            Scope::Account(peer) => self.int(0u8).raw(peer.as_bytes()),
            Scope::Run(run) => self.int(1u8).run(run),
            Scope::Datanet(datanet) => self.int(2u8).raw(datanet.0.as_bytes()),
        }
    }
}

pub(crate) fn manifest(m: &Manifest) -> Vec<u8> {
    let mut out = Out::default();
    write_manifest(&mut out, m);
    out.0
}

pub(crate) fn listing(listing: &Listing) -> Vec<u8> {
    let mut out = Out::default();
    out.bytes(listing.licence.as_bytes());
    out.list(&listing.files, |o, file| {
        o.bytes(file.name.as_bytes()).int(file.size);
        o.list(&file.pieces, |o, piece| {
            o.raw(piece.as_bytes());
        });
    });
    out.0
}

fn write_manifest(o: &mut Out, m: &Manifest) {
    o.int(match m.version {
        Version::V1 => 0u8,
    });
    o.bytes(m.name.as_bytes())
        .raw(m.creator.as_bytes())
        .int(m.nonce)
        .bytes(m.datanet.as_bytes());
    let Model { base, adapter } = &m.model;
    o.bytes(base.name.as_bytes()).raw(base.hash.as_bytes());
    o.option(base.files.as_ref(), |o, files| {
        o.blob(files);
    });
    o.int(adapter.rank).int(adapter.alpha);
    o.list(&adapter.modules, |o, module| {
        o.bytes(module.name.as_bytes())
            .int(module.inputs)
            .int(module.outputs);
    });
    o.int(m.membership.min_members).int(m.membership.committee);
    o.int(m.plan.rounds)
        .int(m.plan.participants)
        .int(m.plan.min_contributions);
    let d = m.plan.deadlines;
    o.int(d.round_ms)
        .int(d.grace_ms)
        .int(d.propose_ms)
        .int(d.vote_ms);
    let t = &m.training;
    o.int(t.local_steps)
        .int(t.batch)
        .int(t.context)
        .int(t.learning_rate.0);
    o.int(match t.schedule {
        FactorSchedule::Alternate => 0u8,
        FactorSchedule::Both => 1,
        FactorSchedule::FreezeA => 2,
    });
    write_updates(o, &m.updates);
    o.list(&m.scoring.evaluators, |o, peer| {
        o.raw(peer.as_bytes());
    });
    o.int(m.scoring.seats).int(m.scoring.windows);
    let r = m.payment.revenue;
    o.int(m.payment.budget_per_round.0);
    o.int(m.payment.price_per_nat.0);
    let round = m.payment.round;
    for part in [round.contributors, round.evaluators, round.members] {
        o.int(part.0);
    }
    for part in [
        r.contributors,
        r.base_author,
        r.server,
        r.committee,
        r.stakers,
    ] {
        o.int(part.0);
    }
    o.option(m.payment.base_account, |o, account| {
        o.raw(&account.0);
    });
    o.option(m.payment.settlement.as_ref(), settlement);
}

fn write_updates(o: &mut Out, updates: &Updates) {
    match updates.codec {
        UpdateCodec::DenseF32 => o.int(0u8),
        UpdateCodec::DenseInt8 => o.int(1u8),
        UpdateCodec::Sparse { top, feedback } => o.int(2u8).int(top).int(feedback.0),
    };
    match updates.aggregation {
        Aggregation::Mean => o.int(0u8),
        Aggregation::ClippedMean => o.int(1u8),
        Aggregation::MultiKrum { tolerate } => o.int(2u8).int(tolerate.0),
        Aggregation::CentredClip { tolerate } => o.int(3u8).int(tolerate.0),
        Aggregation::GeometricMedian { tolerate } => o.int(4u8).int(tolerate.0),
        Aggregation::Agreement { tolerate } => o.int(5u8).int(tolerate.0),
    };
    match updates.weights {
        Weights::Trained => o.int(0u8),
        Weights::Own { full } => o.int(1u8).int(full),
        Weights::Stake { least } => o.int(2u8).int(least),
    };
    match updates.privacy {
        Privacy::Open => o.int(0u8),
        Privacy::Masked { cohort } => o.int(1u8).int(cohort),
    };
}

fn entry(o: &mut Out, entry: &Entry) {
    match entry {
        Entry::Create(m) => {
            o.int(0u8);
            write_manifest(o, m);
        }
        Entry::Join(j) => {
            o.int(1u8).bytes(j.name.as_bytes()).role(j.role);
            o.raw(j.root.as_bytes()).int(j.tokens);
            o.option(j.fingerprints, |o, root| {
                o.raw(root.as_bytes());
            });
            o.raw(j.beacon.as_bytes());
            o.option(j.sketch, |o, commitment| {
                o.raw(commitment.as_bytes());
            });
            o.option(j.bind, |o, bind| {
                o.raw(&bind.account.0).raw(&bind.signature.0);
            });
        }
        Entry::Leave => {
            o.int(2u8);
        }
        Entry::Contribution(c) => {
            o.int(3u8).round(c.round).raw(c.base.as_bytes());
            o.blob(&c.update).int(c.tokens).raw(c.shard.as_bytes());
        }
        Entry::ScoreSheet(ShownSheet { sheet: s, seals }) => {
            o.int(4u8).round(s.round).raw(s.state.as_bytes());
            o.int(s.predicted).nano(s.loss_before).nano(s.loss_after);
            o.list(&s.scores, |o, s| {
                o.raw(s.peer.as_bytes())
                    .nano(s.score)
                    .nano(s.low)
                    .nano(s.high)
                    .nano(s.luck);
            });
            o.int(*seals);
        }
        Entry::Call(joins) => {
            o.int(5u8).list(joins, |o, place| {
                o.entry_ref(place);
            });
        }
        Entry::Opening(sketch) => {
            o.int(6u8).list(sketch.prints(), |o, print| {
                o.int(*print);
            });
        }
        Entry::Publish(blob) => {
            o.int(7u8).blob(blob);
        }
        Entry::SheetSeal(s) => {
            o.int(8u8)
                .round(s.round)
                .raw(s.state.as_bytes())
                .raw(s.sheet.as_bytes());
        }
        _ => filing(o, entry),
    }
}

fn filing(o: &mut Out, entry: &Entry) {
    match entry {
        Entry::Bind(b) => {
            o.int(9u8).raw(&b.account.0).raw(&b.signature.0);
        }
        Entry::RootSignature(s) => {
            o.int(10u8).round(s.round).raw(s.root.as_bytes());
            o.raw(&s.signature.0).option(s.chain, |o, chain| {
                o.raw(chain.as_bytes());
            });
        }
        Entry::Transaction(t) => {
            o.int(11u8).raw(&t.to.0).bytes(&t.data);
        }
        Entry::Answers(a) => {
            o.int(12u8).raw(&a.payer.0).raw(&a.payer_authorizer.0);
            o.int(a.withdraw_delay_s).raw(&a.salt).int(a.before.0);
            o.list(&a.answers, |o, one| {
                o.raw(one.adapter.as_bytes()).raw(one.request.as_bytes());
                o.raw(one.response.as_bytes()).int(one.prompt_tokens);
                o.int(one.answer_tokens).int(one.fee.0);
                o.option(one.shares.as_ref(), |o, agreed| {
                    o.raw(agreed.text.as_bytes());
                    o.list(&agreed.shares, |o, (peer, share)| {
                        o.raw(peer.as_bytes()).int(share.0);
                    });
                    o.raw(&agreed.signature.0);
                });
            });
        }
        Entry::Confirm(c) => {
            o.int(13u8).round(c.round).raw(c.root.as_bytes());
            o.raw(&c.signature.0);
        }
        Entry::Dispute(step) => {
            o.int(14u8);
            match step {
                DisputeStep::Open(d) => {
                    o.int(0u8).entry_ref(&d.sheet).raw(d.peer.as_bytes());
                    o.bytes(d.reason.as_bytes())
                }
                DisputeStep::Find(at, finding) => o.int(1u8).entry_ref(at).byte(match finding {
                    Finding::Holds => 0,
                    Finding::Fails => 1,
                    Finding::Unshown => 2,
                    Finding::Unreached => 3,
                }),
                DisputeStep::Appeal(at) => o.int(2u8).entry_ref(at),
                DisputeStep::Sign(at, signature) => o.int(3u8).entry_ref(at).raw(&signature.0),
            };
        }
        _ => panic!("not a filing: {entry:?}"),
    }
}

fn settlement(o: &mut Out, s: &Settlement) {
    match s.chain {
        SettlementChain::Test => o.int(0u8),
        SettlementChain::Evm {
            id,
            contract,
            token,
        } => o.int(1u8).int(id).raw(&contract.0).raw(&token.0),
    };
    o.raw(&s.sponsor.0).option(s.arbiter, |o, arbiter| {
        o.raw(&arbiter.0);
    });
    for amount in [s.rate_per_s, s.challenge_bond, s.min_stake] {
        o.int(amount.0);
    }
    o.int(s.window_s).int(s.cooldown_s).int(s.halt_s);
}

pub(crate) fn block(b: &Block) -> Vec<u8> {
    let mut o = Out::default();
    o.int(b.network.0).raw(b.author.as_bytes());
    o.scope(&b.scope);
    o.int(b.seq.0).option(b.prev, |o, prev| {
        o.raw(prev.as_bytes());
    });
    o.list(&b.seen, Out::head).int(b.time.0);
    o.list(&b.entries, entry);
    o.0
}

pub(crate) fn envelope(payload: &[u8], signature: &Signature) -> Vec<u8> {
    let mut o = Out::default();
    o.byte(1).bytes(payload).raw(&signature.0);
    o.0
}

fn write_value(o: &mut Out, v: &RoundValue) {
    o.run(&v.run).round(v.round).raw(v.previous.as_bytes());
    o.raw(v.state.as_bytes()).blob(&v.adapter);
    o.int(v.attempt).raw(v.link.as_bytes());
    o.raw(v.beacon.as_bytes());
    o.list(&v.included, |o, i| {
        o.entry_ref(&i.receipt).blob(&i.update);
        o.int(i.tokens).int(i.weight);
    });
    o.list(&v.missed, |o, m| {
        o.entry_ref(&m.receipt).int(m.tokens).int(m.weight);
    });
    o.list(&v.joins, |o, j| {
        o.entry_ref(&j.entry)
            .role(j.role)
            .raw(j.root.as_bytes())
            .int(j.tokens)
            .int(j.own_tokens)
            .raw(j.beacon.as_bytes());
    });
    o.option(v.call, |o, call| {
        o.entry_ref(&call);
    });
    o.list(&v.openings, |o, opened| {
        o.entry_ref(&opened.entry).int(opened.own_tokens);
    });
    for places in [&v.leaves, &v.sheets, &v.seals] {
        o.list(places, |o, place| {
            o.entry_ref(place);
        });
    }
    o.list(&v.scores, |o, s| {
        o.raw(s.peer.as_bytes())
            .nano(s.score)
            .nano(s.low)
            .nano(s.high)
            .nano(s.luck);
    });
    o.list(&v.filings, |o, place| {
        o.entry_ref(place);
    });
    o.option(v.anchor.as_ref(), |o, anchor| {
        o.int(anchor.block.number).raw(anchor.block.hash.as_bytes());
        let money = anchor.money;
        o.int(money.deposited.0).int(money.fees.0);
        o.list(&anchor.stakes, |o, (peer, stake)| {
            o.raw(peer.as_bytes()).int(*stake);
        });
        o.list(&anchor.channels, |o, one| {
            o.raw(one.channel.as_bytes()).int(one.claimed.0);
        });
    });
}

pub(crate) fn value(v: &RoundValue) -> Vec<u8> {
    let mut o = Out::default();
    write_value(&mut o, v);
    o.0
}

pub(crate) fn certificate(c: &Certificate) -> Vec<u8> {
    let mut o = Out::default();
    write_value(&mut o, &c.value);
    o.int(c.attempt)
        .list(&c.precommits, |o, (peer, signature)| {
            o.raw(peer.as_bytes()).raw(&signature.0);
        });
    o.0
}

fn write_vote(o: &mut Out, v: &Vote) {
    o.run(&v.run).round(v.round).int(v.attempt);
    o.int(match v.kind {
        VoteKind::Prevote => 0u8,
        VoteKind::Precommit => 1,
    });
    o.option(v.value, |o, value| {
        o.raw(value.as_bytes());
    });
    o.raw(v.author.as_bytes());
}

fn write_proposal(o: &mut Out, p: &Proposal) {
    o.int(p.attempt).option(p.polka.as_ref(), |o, polka| {
        o.int(polka.attempt);
        o.list(&polka.prevotes, |o, (peer, signature)| {
            o.raw(peer.as_bytes()).raw(&signature.0);
        });
    });
    write_value(o, &p.value);
    o.raw(p.author.as_bytes());
}

pub(crate) fn consensus(message: &ConsensusMessage) -> Vec<u8> {
    let mut o = Out::default();
    match message {
        ConsensusMessage::Proposal(p) => {
            write_proposal(o.int(0u8), &p.body);
            o.raw(&p.signature.0);
        }
        ConsensusMessage::Vote(v) => {
            write_vote(o.int(1u8), &v.body);
            o.raw(&v.signature.0);
        }
    }
    o.0
}

pub(crate) fn message(message: &Message) -> Vec<u8> {
    let mut o = Out::default();
    o.byte(1);
    let bytes = |o: &mut Out, bytes: &Vec<u8>| {
        o.bytes(bytes);
    };
    let certified = |o: &mut Out, round: Round| {
        o.round(round);
    };
    match message {
        Message::Block(block) => o.int(0u8).bytes(block),
        Message::Certificate(certificate) => o.int(1u8).bytes(certificate),
        Message::Consensus(message) => o.int(2u8).bytes(message),
        Message::Summary {
            scope: of,
            ranges,
            certified: round,
        } => o
            .int(3u8)
            .scope(of)
            .list(ranges, |o, r| {
                o.range(&r.range).raw(r.digest.as_bytes());
            })
            .option(*round, certified),
        Message::Heads {
            scope: of,
            lists,
            certified: round,
            wants,
        } => o
            .int(4u8)
            .scope(of)
            .list(lists, |o, list| {
                o.range(&list.range).list(&list.heads, Out::head);
                o.list(&list.forks, |o, fork| {
                    o.raw(fork.author.as_bytes()).int(fork.at.0);
                    o.raw(fork.first.as_bytes()).raw(fork.second.as_bytes());
                });
            })
            .option(*round, certified)
            .byte(u8::from(*wants)),
        Message::Blocks { scope: of, blocks } => o.int(5u8).scope(of).list(blocks, bytes),
        Message::WantBlocks { scope: of, blocks } => {
            o.int(6u8).scope(of).list(blocks, |o, (peer, id)| {
                o.raw(peer.as_bytes()).raw(id.as_bytes());
            })
        }
        Message::Certificates { run, certificates } => {
            o.int(7u8).run(run).list(certificates, bytes)
        }
        Message::WantCertificates { run, from } => o.int(8u8).run(run).round(*from),
    };
    o.0
}

pub(crate) fn question(question: &Question) -> Vec<u8> {
    let mut o = Out::default();
    o.byte(2).raw(question.asker.as_bytes());
    o.run(&question.run).raw(question.root.as_bytes());
    o.list(&question.words, |o, word| {
        o.bytes(word.as_bytes());
    });
    o.0
}

pub(crate) fn answer(answer: &Answer) -> Vec<u8> {
    let mut o = Out::default();
    o.byte(2);
    match &answer.found {
        Ok(spans) => o.int(0u8).list(spans, |o, span| {
            o.int(span.from).list(&span.blindings, |o, blinding| {
                o.raw(&blinding.0);
            });
            o.int(span.proof.first).int(span.proof.leaves);
            o.list(&span.proof.outside, |o, hash| {
                o.raw(hash.as_bytes());
            });
        }),
        Err(Declined::Closed) => o.int(1u8).int(0u8),
        Err(Declined::Gone) => o.int(1u8).int(1u8),
        Err(Declined::Stranger) => o.int(1u8).int(2u8),
        Err(Declined::Spent) => o.int(1u8).int(3u8),
    };
    o.0
}
