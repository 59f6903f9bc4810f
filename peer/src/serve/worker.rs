//! The one thread that drives the engine: requests in by a channel, events out by one channel a request.
//!
//! It never waits for anybody who reads. A reader that is too many events behind loses its request; that of a reader that
//! is gone is cancelled by whoever held the other end.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tributary_engine::{Engine, Event, Finish, Micros, Refused, Request, RequestId};

/// Events that a reader may be behind: more than a second of the fastest answers, and some hundred kilobytes.
pub(super) const MOST_BEHIND: usize = 1024;

/// Where the events of a request go, with the number of its answer there. The channel has room for [`MOST_BEHIND`]
/// events and for the end of each of `answers`.
pub(super) struct Reader {
    pub(super) events: mpsc::Sender<(usize, Event)>,
    pub(super) answer: usize,
    pub(super) answers: usize,
}

enum Command {
    Submit(
        Box<Request>,
        Reader,
        oneshot::Sender<Result<RequestId, Refused>>,
    ),
    Cancel(RequestId),
    Close,
}

/// The way to the thread. Clones lead to the same one; it ends when the last is gone and its work is done.
#[derive(Clone)]
pub(super) struct Worker {
    commands: Sender<Command>,
    began: Instant,
    is_busy: watch::Receiver<bool>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(engine: Engine) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (commands, received) = channel();
        let began = Instant::now();
        let (tell_busy, is_busy) = watch::channel(false);
        let driver = Driver {
            engine,
            began,
            tell_busy,
            readers: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name("engine".into());
        let thread = thread.spawn(move || driver.drive(&received))?;
        let worker = Self {
            commands,
            began,
            is_busy,
        };
        Ok((worker, thread))
    }

    /// Whether the engine has requests to work on, as it changes.
    pub(super) fn is_busy(&self) -> watch::Receiver<bool> {
        self.is_busy.clone()
    }

    /// Hands a request in. None when the thread is gone.
    pub(super) async fn submit(
        &self,
        request: Request,
        reader: Reader,
    ) -> Option<Result<RequestId, Refused>> {
        let (send, answer) = oneshot::channel();
        let command = Command::Submit(Box::new(request), reader, send);
        self.commands.send(command).ok()?;
        answer.await.ok()
    }

    /// Nobody wants the answer any more. Its end still comes.
    pub(super) fn cancel(&self, id: RequestId) {
        // A thread that is gone has nothing to cancel.
        let _ = self.commands.send(Command::Cancel(id));
    }

    /// What was taken is finished, nothing more is taken.
    pub(super) fn close(&self) {
        let _ = self.commands.send(Command::Close);
    }

    /// So long from now, on the engine's clock.
    pub(super) fn after(&self, time: Duration) -> Micros {
        micros(self.began.elapsed() + time)
    }
}

fn micros(time: Duration) -> Micros {
    Micros(time.as_micros() as u64)
}

/// A request that is being answered.
struct Told {
    reader: Reader,
    /// The client has not all of its tokens, or wants no more.
    cancelled: bool,
}

impl Told {
    /// Whether there was room, and somebody.
    fn tell(&self, event: Event) -> bool {
        let event = (self.reader.answer, event);
        self.reader.events.try_send(event).is_ok()
    }
}

struct Driver {
    engine: Engine,
    began: Instant,
    tell_busy: watch::Sender<bool>,
    readers: BTreeMap<RequestId, Told>,
}

impl Driver {
    fn drive(mut self, commands: &Receiver<Command>) {
        loop {
            let worked = self.step();
            self.tell_busy
                .send_if_modified(|is_busy| std::mem::replace(is_busy, worked) != worked);
            if !worked {
                match commands.recv() {
                    Ok(command) => self.take(command),
                    Err(_) => return,
                }
            }
            while let Ok(command) = commands.try_recv() {
                self.take(command);
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Submit(request, reader, answer) => {
                let taken = (self.engine).submit(*request, micros(self.began.elapsed()));
                if let Ok(id) = taken {
                    let told = Told {
                        reader,
                        cancelled: false,
                    };
                    self.readers.insert(id, told);
                }
                let id = taken.as_ref().ok().copied();
                if let (Err(_), Some(id)) = (answer.send(taken), id) {
                    self.cancel(id);
                }
            }
            Command::Cancel(id) => self.cancel(id),
            Command::Close => self.engine.close(),
        }
    }

    fn cancel(&mut self, id: RequestId) {
        if let Some(told) = self.readers.get_mut(&id) {
            told.cancelled = true;
            self.engine.cancel(id);
        }
    }

    fn step(&mut self) -> bool {
        let readers = &mut self.readers;
        let mut lost = Vec::new();
        let began = self.began;
        let clock = || micros(began.elapsed());
        let worked = self.engine.step(&clock, &mut |id, event| {
            let Some(told) = readers.get_mut(&id) else {
                return;
            };
            match event {
                Event::Token(_) => {
                    let has_room = told.reader.events.capacity() > told.reader.answers;
                    let is_told = !told.cancelled && has_room && told.tell(event);
                    if !is_told && !told.cancelled {
                        // At once: what follows would leave a gap.
                        told.cancelled = true;
                        lost.push(id);
                    }
                }
                Event::Finished(finish, usage) => {
                    // One whose tokens were not all told is not whole, however it ended.
                    let finish = if told.cancelled {
                        Finish::Cancelled
                    } else {
                        finish
                    };
                    // The room for it is kept free; without a reader nobody misses it.
                    told.tell(Event::Finished(finish, usage));
                    readers.remove(&id);
                }
            }
        });
        for id in lost {
            self.cancel(id);
        }
        worked
    }
}

#[cfg(test)]
mod tests {
    use tributary_engine::request::Consumer;
    use tributary_engine::{Base, EngineOptions, Precision, Sampling};

    use super::*;

    fn worker() -> (Worker, JoinHandle<()>) {
        let options = EngineOptions {
            precision: Precision::F32,
            threads: 1,
            cache_bytes: 1 << 28,
            most_waiting: 16,
            most_running: 4,
        };
        Worker::start(Engine::new(Base::brook().unwrap(), options)).unwrap()
    }

    fn request(max_tokens: usize) -> Request {
        Request {
            consumer: Consumer::default(),
            adapter: None,
            prompt: vec![5, 6, 7],
            max_tokens,
            sampling: Sampling::default(),
            ends: Vec::new().into(),
            logprobs: None,
            constraint: None,
            deadline: None,
        }
    }

    /// Submits; events may be `behind` of who reads them.
    async fn submit(
        worker: &Worker,
        max_tokens: usize,
        behind: usize,
    ) -> (RequestId, mpsc::Receiver<(usize, Event)>) {
        let (events, received) = mpsc::channel(behind + 1);
        let reader = Reader {
            events,
            answer: 0,
            answers: 1,
        };
        let id = worker
            .submit(request(max_tokens), reader)
            .await
            .unwrap()
            .unwrap();
        (id, received)
    }

    /// Tokens, and the end, which must be the last event.
    async fn all(mut events: mpsc::Receiver<(usize, Event)>) -> (usize, Finish) {
        let mut tokens = 0;
        while let Some((_, event)) = events.recv().await {
            match event {
                Event::Token(_) => tokens += 1,
                Event::Finished(finish, _) => {
                    assert!(events.recv().await.is_none());
                    return (tokens, finish);
                }
            }
        }
        panic!("no end after {tokens} tokens");
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_loses_its_answer_and_nobody_elses() {
        let (worker, _thread) = worker();
        let (_, slow) = submit(&worker, 40, 5).await;
        let (_, quick) = submit(&worker, 40, MOST_BEHIND).await;
        assert_eq!(all(quick).await, (40, Finish::Length));
        assert_eq!(all(slow).await, (5, Finish::Cancelled));
    }

    #[tokio::test]
    async fn every_request_ends_even_one_that_is_cancelled_while_it_waits() {
        let (worker, thread) = worker();
        let mut events = Vec::new();
        for _ in 0..6 {
            let (id, received) = submit(&worker, 30, MOST_BEHIND).await;
            worker.cancel(id);
            events.push(received);
        }
        for received in events {
            let (tokens, _) = all(received).await;
            assert!(tokens <= 30);
        }
        // Without anybody who could ask, the thread ends.
        drop(worker);
        tokio::task::spawn_blocking(|| thread.join().unwrap())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn after_closing_nothing_is_taken() {
        let (worker, _thread) = worker();
        worker.close();
        let (events, _received) = mpsc::channel(8);
        let reader = Reader {
            events,
            answer: 0,
            answers: 1,
        };
        assert_eq!(
            worker.submit(request(1), reader).await,
            Some(Err(Refused::Closing))
        );
    }
}
