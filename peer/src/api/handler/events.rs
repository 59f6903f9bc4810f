//! The stream of events that one reader gets.
//!
//! It begins with the phase of each run, so that a reader need not ask for it besides. The daemon keeps its last
//! 4,096 events for everybody together, and a reader that falls further behind is told how many it missed: no
//! reader makes the daemon wait, or its memory grow.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Answer, DaemonHandler};
use crate::api::types::EventsRequest;
use crate::api::types::event::EventView;
use crate::event::Event;
use crate::problem::{Code, Problem};

/// What one reader still waits for.
struct Reading {
    events: Receiver<Event>,
    /// The run that it asks about; `None` for all.
    run: Option<String>,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn stream(
    handler: &DaemonHandler,
    request: EventsRequest,
) -> Answer<BoxStream<'static, EventView>> {
    let run = match &request.run {
        Some(id) => Some(handler.followed(id).await?.0.to_string()),
        None => None,
    };
    let place = handler.readers.clone().try_acquire_owned().map_err(|_| {
        let text = format!("{} readers follow events already", super::MAX_READERS);
        Problem::new(Code::TooManyReaders, text).hint("end one of them")
    })?;
    // Before the phases are looked at, so that nothing falls between.
    let events = handler.daemon.subscribe();
    let progress = handler.daemon.progress();
    let asked = progress.iter().filter(|run_progress| {
        let is_asked = |asked: &String| *asked == run_progress.run.to_string();
        run.as_ref().is_none_or(is_asked)
    });
    let now: Vec<EventView> = asked.map(super::show::now_of).collect();
    let is_over = run.is_some() && now.iter().any(is_end);
    let reading = (!is_over).then_some(Reading {
        events,
        run,
        _place: place,
    });
    let daemon = handler.daemon.clone();
    let stopped = async move { daemon.stopped().await };
    let later = stream::unfold(reading, next).take_until(Box::pin(stopped));
    Ok(stream::iter(now).chain(later).boxed())
}

/// The next event that the reader asked for; a stream about a run ends after it is finished, any other when the
/// daemon stops.
async fn next(reading: Option<Reading>) -> Option<(EventView, Option<Reading>)> {
    let mut reading = reading?;
    loop {
        let event = match reading.events.recv().await {
            Ok(event) => EventView::of(&event),
            Err(RecvError::Lagged(events)) => EventView::Missed { events },
            Err(RecvError::Closed) => return None,
        };
        let is_asked = match (&reading.run, event.run()) {
            (Some(asked), Some(about)) => asked == about,
            _ => true,
        };
        if is_asked {
            let is_last = reading.run.is_some() && is_end(&event);
            return Some((event, (!is_last).then_some(reading)));
        }
    }
}

fn is_end(event: &EventView) -> bool {
    matches!(event, EventView::Finished { .. })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, broadcast};
    use tributary_protocol::event::Notice;
    use tributary_protocol::hash;
    use tributary_protocol::id::RunId;

    use super::*;

    fn run(n: u8) -> RunId {
        RunId(hash::blob(&[n]))
    }

    fn reading(events: Receiver<Event>, asked: Option<RunId>) -> Reading {
        let places = Arc::new(Semaphore::new(1));
        Reading {
            events,
            run: asked.map(|run| run.to_string()),
            _place: places.try_acquire_owned().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_reader_of_one_run_hears_of_it_alone_and_its_stream_ends_with_the_run() {
        let (tell, events) = broadcast::channel(16);
        for notice in [
            Notice::Following(run(1)),
            Notice::Following(run(2)),
            Notice::Finished(run(1)),
            Notice::Finished(run(2)),
            Notice::Following(run(2)),
        ] {
            tell.send(Event::Notice(notice)).unwrap();
        }
        let heard = stream::unfold(Some(reading(events, Some(run(2)))), next);
        let heard: Vec<EventView> = heard.collect().await;
        let run = run(2).to_string();
        let expected = [
            EventView::Following { run: run.clone() },
            EventView::Finished { run },
        ];
        assert_eq!(heard, expected);
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_told_how_many_events_it_missed() {
        let (tell, events) = broadcast::channel(4);
        for n in 0..10 {
            let notice = Notice::Following(run(n));
            tell.send(Event::Notice(notice)).unwrap();
        }
        drop(tell);
        let heard = stream::unfold(Some(reading(events, None)), next);
        let heard: Vec<EventView> = heard.collect().await;
        assert_eq!(heard[0], EventView::Missed { events: 6 });
        assert_eq!(heard.len(), 5, "{heard:?}");
    }
}
