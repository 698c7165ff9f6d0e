//! "There is something new": server-sent events for pages with JavaScript. They carry no reading; the page fetches itself again.

use super::{
    answer::{self, Answer},
    app::App,
    serve::closed,
};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::{convert::Infallible, time::Duration};
use tokio::time::Instant;

/// Shortest time between two events of a stream.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a silent stream says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// How long a stream lasts; the browser opens the next one by itself, and shows its right again.
const STREAM_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// The stream of events.
pub(crate) fn stream(app: &App) -> Answer {
    let Ok(permit) = app.live_streams.clone().try_acquire_owned() else {
        return answer::problem_for_now(StatusCode::SERVICE_UNAVAILABLE, "too many live pages at once", 60);
    };
    let (mut news, closing) = (app.writer.news(), app.closing.clone());
    news.mark_unchanged();
    let end = Instant::now() + STREAM_TIME_MAX;
    let first = Some("retry: 5000\n: here\n\n");
    let events =
        stream::unfold((permit, news, closing, first), move |(permit, mut news, mut closing, first)| async move {
            if let Some(text) = first {
                return Some((frame(text), (permit, news, closing, None)));
            }
            let text = tokio::select! {
                () = closed(&mut closing) => return None,
                () = tokio::time::sleep_until(end) => return None,
                changed = news.changed() => {
                    changed.ok()?;
                    // What comes within the pause is one event.
                    tokio::time::sleep(PAUSE).await;
                    news.mark_unchanged();
                    "event: readings\ndata: new\n\n"
                }
                () = tokio::time::sleep(HEARTBEAT) => ": here\n\n",
            };
            Some((frame(text), (permit, news, closing, None)))
        });
    answer::browser(StatusCode::OK, "text/event-stream", StreamBody::new(events).boxed_unsync())
}

fn frame(text: &'static str) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}
