//! Machines whose owners ask them to take part, and to leave.

use tributary_protocol::entry::Join;
use tributary_protocol::event::{Command, Input, JoinRequest};
use tributary_protocol::hash::{self, Digest, Domain};
use tributary_protocol::id::MerkleRoot;

use super::faults::Fault;
use super::{Event, World};
use crate::clock::ms;
use crate::record::What;

impl World {
    /// The owner asks a machine to take part (again, if a crash swallowed the wish).
    pub(super) fn invite(&mut self, at: usize) {
        self.trace.tell(self.now, Some(at), What::Invited);
        let machine = &mut self.machines[at];
        machine.invited = true;
        let Some(node) = machine.node.as_ref() else {
            return;
        };
        let view = node.run(&self.run);
        if view.is_some_and(|view| view.join().is_some()) {
            return;
        }
        let opens = at == 0 && view.is_none();
        let join = Join {
            name: format!("peer-{at:02}"),
            role: machine.role,
            root: MerkleRoot(hash::digest(Domain::Simulation, &machine.seed)),
            tokens: self.learner.tokens(at),
            fingerprints: None,
            beacon: Digest::default(),
            sketch: None,
            bind: self.bind_of(at),
        };
        if opens {
            let manifest = Box::new(self.manifest.clone());
            self.feed(at, Input::Command(Command::Create(manifest)));
        }
        let run = self.run;
        self.feed(
            at,
            Input::Command(Command::Follow {
                run,
                join: Some(JoinRequest {
                    join,
                    sketch: Some(self.learner.sketch(run, at)),
                }),
            }),
        );
    }

    pub(super) fn leave(&mut self, at: usize) {
        self.machines[at].leaving = true;
        let node = self.machines[at].node.as_ref();
        if node.is_some_and(|node| node.run(&self.run).is_none()) {
            // A run may begin without a member that was slow to follow it: its owner leaves once it does.
            let later = self.now + ms(1_000);
            return self.schedule(later, Event::Fault(Fault::Leave(at)));
        }
        self.trace.tell(self.now, Some(at), What::Leaving);
        let run = self.run;
        self.feed(at, Input::Command(Command::Leave(run)));
    }
}
