//! What a liar can see and do: its node, its disk, its key, everybody's names, and a list of acts.

use std::collections::BTreeSet;

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tributary_attribution::run_books::RunBooks;
use tributary_attribution::settlement::EvmKey;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::{Command, Effect, Input, Record};
use tributary_protocol::id::{PeerId, RunId, Scope, Seq};
use tributary_protocol::log::{Block, SignedBlock};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::{Node, RunView};
use tributary_protocol::sign::SecretKey;
use tributary_protocol::time::{Now, Timestamp};
use tributary_protocol::wire::Message;

use crate::network::NETWORK;
use crate::store::Store;

/// What a liar's machine looks like when it acts.
pub struct LiarView<'a> {
    /// Its node, after the input, while the machine is up.
    pub node: Option<&'a Node>,
    /// Its disk.
    pub store: &'a Store,
    /// The run.
    pub manifest: &'a Manifest,
    /// The run's name.
    pub run: RunId,
    /// Everybody, itself included.
    pub peers: &'a [PeerId],
    /// The keys of all that lie, its own included: liars lend theirs to each other.
    pub friends: &'a [SecretKey],
    /// What its clocks say.
    pub now: Now,
    /// The run's books, as it looked at them last; none in a run that does not settle.
    pub books: Option<&'a RunBooks>,
}

/// What a liar does.
#[derive(Default)]
pub struct Acts {
    /// Carried out as if its node had wanted it.
    pub effects: Vec<Effect>,
    /// Told to its own node, so that it goes on from there.
    pub whispers: Vec<Input>,
}

/// What one liar sees and can do while it acts.
pub struct LiarContext<'a> {
    /// Its key.
    pub key: &'a SecretKey,
    /// Its name.
    pub me: PeerId,
    /// Its draws.
    pub rng: &'a mut ChaCha8Rng,
    /// What it sees.
    pub world: &'a LiarView<'a>,
    acts: &'a mut Acts,
}

impl<'a> LiarContext<'a> {
    pub(super) fn new(
        key: &'a SecretKey,
        rng: &'a mut ChaCha8Rng,
        world: &'a LiarView<'a>,
        acts: &'a mut Acts,
    ) -> Self {
        Self {
            key,
            me: key.peer_id(),
            rng,
            world,
            acts,
        }
    }

    /// Its own view of the run.
    pub fn view(&self) -> Option<RunView<'a>> {
        self.world.node.and_then(|node| node.run(&self.world.run))
    }

    /// Does something.
    pub fn act(&mut self, effect: Effect) {
        self.acts.effects.push(effect);
    }

    /// Floods bytes, whatever they are.
    pub fn flood_bytes(&mut self, bytes: Vec<u8>) {
        let run = self.world.run;
        self.act(Effect::Gossip { run, bytes });
    }

    /// Floods the first block of another key's log in the run.
    pub(super) fn flood_first(&mut self, key: &SecretKey, time: u64, entries: Vec<Entry>) {
        let block = Block {
            network: NETWORK,
            author: key.peer_id(),
            scope: Scope::Run(self.world.run),
            seq: Seq(0),
            prev: None,
            seen: Vec::new(),
            time: Timestamp(time),
            entries,
        };
        if let Ok(signed) = SignedBlock::sign(block, key) {
            self.flood(&Message::Block(signed.bytes().to_vec()));
        }
    }

    /// Floods a message.
    pub fn flood(&mut self, message: &Message) {
        self.flood_bytes(message.encode());
    }

    /// Sends a message to one peer.
    pub fn send(&mut self, to: PeerId, message: &Message) {
        let bytes = message.encode();
        self.act(Effect::Send { to, bytes });
    }

    /// Everybody else.
    pub fn others(&self) -> Vec<PeerId> {
        let peers = self.world.peers.iter().copied();
        peers.filter(|peer| *peer != self.me).collect()
    }

    /// Everybody else, cut in two at random.
    pub fn halves(&mut self) -> (Vec<PeerId>, Vec<PeerId>) {
        let mut others = self.others();
        others.shuffle(self.rng);
        let rest = others.split_off(others.len() / 2);
        (others, rest)
    }

    /// One of the others.
    pub fn someone(&mut self) -> Option<PeerId> {
        let others = self.others();
        let at = (!others.is_empty()).then(|| self.rng.random_range(0..others.len()));
        at.map(|at| others[at])
    }

    /// The names of all that lie, its own included.
    pub fn friends(&self) -> BTreeSet<PeerId> {
        self.world.friends.iter().map(SecretKey::peer_id).collect()
    }

    /// The key of its account.
    pub(super) fn account(&self) -> EvmKey {
        EvmKey::of_peer(self.key)
    }

    /// Has its own node file something for the books, behind its own behaviour's back.
    pub(super) fn file(&mut self, filings: Vec<Entry>) {
        if !filings.is_empty() {
            let run = self.world.run;
            self.tell(Input::Command(Command::File { run, filings }));
        }
    }

    /// Signs a block, if it can be signed at all.
    pub fn sign(&self, block: Block) -> Option<SignedBlock> {
        SignedBlock::sign(block, self.key).ok()
    }

    /// A block that would follow its own log, as its node would write it.
    pub fn next_block(&self, entries: Vec<Entry>) -> Option<Block> {
        let last = self.view()?.log().last(self.me).map(SignedBlock::head);
        Some(Block {
            network: NETWORK,
            author: self.me,
            scope: Scope::Run(self.world.run),
            seq: last.map_or(Seq(0), |head| Seq(head.seq.0 + 1)),
            prev: last.map(|head| head.block),
            seen: Vec::new(),
            time: self.world.now.wall,
            entries,
        })
    }

    /// Writes entries into its own log and tells everybody, its own node included.
    pub fn write(&mut self, entries: Vec<Entry>) {
        let signed = self.next_block(entries).and_then(|block| self.sign(block));
        let Some(signed) = signed else { return };
        let bytes = signed.bytes().to_vec();
        self.act(Effect::Persist(vec![Record::Block(bytes.clone())]));
        self.whisper(&bytes);
        self.flood(&Message::Block(bytes));
    }

    /// Lets its own node hear of a block.
    pub fn whisper(&mut self, block: &[u8]) {
        let bytes = Message::Block(block.to_vec()).encode();
        let from = self.me;
        self.tell(Input::Direct { from, bytes });
    }

    /// Tells its own node something, so that it goes on from there.
    pub fn tell(&mut self, input: Input) {
        self.acts.whispers.push(input);
    }
}
