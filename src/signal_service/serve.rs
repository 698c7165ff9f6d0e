//! What is said at the onion service of one destination, and what is answered: always the same.
//!
//! Every request gets 202 without a word, after a random delay, whether it was honoured, one too many, repeated, by another key or no
//! signal at all: nothing can be learned from it. It is heard by a task beside the answer, so that not even the time of a disk shows.
//!
//! Limits: [`CONNECTIONS_MAX`] connections, one request each, [`CONNECTION_MAX`] long; so many requests a minute are heard at one service
//! ([`HEARD_PER_MINUTE`]) and at all of them ([`HEARD_PER_MINUTE_OF_ALL`]), the others are answered alone; bodies of at most `SIGNED_BYTES_MAX`.

use crate::{
    adapters::{
        arti::{HostedService, host::Admission},
        http_lane::BoxedStream,
    },
    admin::access::{Reach, ask},
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use governor::{
    RateLimiter,
    clock::DefaultClock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, num::NonZeroU32, sync::Arc, time::Duration};
use tidegate_actors::ports::entropy::Entropy;
use tidegate_schemas::{
    id::DestinationId,
    messages::{
        outbox::{Budget, Signal, SignalSource, Spend},
        registry::Current,
    },
    onion::OnionAddress,
    wire::signal::{SIGNAL_PATH, SIGNED_BYTES_MAX, verify},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

/// Connections to one service at once; more wait.
const CONNECTIONS_MAX: usize = 4;
/// Longest that a connection may last.
const CONNECTION_MAX: Duration = Duration::from_secs(30);
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Requests that are heard at one service in a minute. Each may cost a write to the disk.
const HEARD_PER_MINUTE: NonZeroU32 = NonZeroU32::new(6).expect("six is not zero");
/// Requests that are heard at all services in a minute.
const HEARD_PER_MINUTE_OF_ALL: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");
/// Requests that wait to be heard.
const WAITING_MAX: usize = 4;
/// Bounds of the delay of an answer.
const DELAY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Counts requests.
pub(super) type Quota = RateLimiter<NotKeyed, InMemoryState, DefaultClock, NoOpMiddleware>;

/// What all services may hear.
pub(super) fn quota_of_all() -> Quota {
    RateLimiter::direct(governor::Quota::per_minute(HEARD_PER_MINUTE_OF_ALL))
}

/// Who hears, and whom.
pub(super) struct Ear {
    pub destination: DestinationId,
    /// The service's address, to which signals are addressed.
    pub address: OnionAddress,
    pub reach: Reach,
    pub entropy: Arc<dyn Entropy>,
    pub quota: Arc<Quota>,
}

/// Lets in who asks for a rendezvous while the destination's Tor budget lasts: the circuit is counted on disk before it is built.
pub(super) fn admission(destination: DestinationId, reach: Reach) -> Admission {
    Arc::new(move || spend(destination.clone(), reach.clone()).boxed())
}

async fn spend(destination: DestinationId, reach: Reach) -> bool {
    let access = reach.look().access;
    let Ok(registry) = ask(access.current.as_ref(), Current).await else { return false };
    let Some(registered) = registry.destinations.get(&destination) else { return false };
    let fresh_circuits_per_hour = registered.destination.agreement.fresh_circuits_per_hour;
    let message = Spend { destination: destination.clone(), fresh_circuits_per_hour };
    let granted = matches!(ask(access.spend.as_ref(), message).await, Ok(Ok(Budget::Granted)));
    if !granted {
        tracing::info!(%destination, "it asks to be heard over Tor beyond its budget of circuits");
    }
    granted
}

/// Serves until the onion service ends.
pub(super) async fn serve(mut service: HostedService, ear: Ear) {
    let (bodies, mut heard) = mpsc::channel(WAITING_MAX);
    let door = Arc::new(Door {
        bodies,
        entropy: Arc::clone(&ear.entropy),
        own_quota: RateLimiter::direct(governor::Quota::per_minute(HEARD_PER_MINUTE)),
        quota: Arc::clone(&ear.quota),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(body) = heard.recv().await {
            ear.hear(&body).await;
        }
    });
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let Some(stream) = service.accept().await else { return };
        let door = Arc::clone(&door);
        tasks.spawn(async move {
            // How a connection ends is no event of ours.
            let _ = timeout(CONNECTION_MAX, door.connection(stream)).await;
            drop(slot);
        });
        while tasks.try_join_next().is_some() {}
    }
}

impl Ear {
    /// Checks a signal and hands it to the Outbox. What comes of it stays here.
    async fn hear(&self, body: &[u8]) {
        let destination = &self.destination;
        let access = self.reach.look().access;
        let Ok(registry) = ask(access.current.as_ref(), Current).await else {
            tracing::info!(%destination, "a signal was lost: a part of the gateway is being restarted");
            return;
        };
        let Some(registered) = registry.destinations.get(destination) else { return };
        let Some(receipt_key) = registered.destination.keys.receipt_key else { return };
        let Ok((word, sequence)) = verify(body, &receipt_key, &self.address) else {
            tracing::info!(%destination, "what came as its signal is not signed by its receipt key");
            return;
        };
        let policy = registered.destination.agreement.signal;
        let from = SignalSource::Destination;
        let message = Signal { destination: destination.clone(), word, policy, from, sequence: Some(sequence) };
        match ask(access.signal.as_ref(), message).await {
            Ok(Ok(taken)) => tracing::info!(%destination, ?word, holds_s = taken.holds_s, "it signalled over Tor"),
            Ok(Err(refused)) => tracing::info!(%destination, ?word, %refused, "its signal is not honoured"),
            Err(_) => tracing::info!(%destination, "a signal was lost: the outbox does not answer"),
        }
    }
}

/// What the connections of one service share.
struct Door {
    bodies: mpsc::Sender<Bytes>,
    entropy: Arc<dyn Entropy>,
    own_quota: Quota,
    quota: Arc<Quota>,
}

impl Door {
    async fn connection(&self, stream: BoxedStream) {
        let service = service_fn(|request| async move { Ok::<_, Infallible>(self.answer(request).await) });
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(CONNECTION_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .auto_date_header(false)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let (shortest, longest) = DELAY;
        let answered = Instant::now() + shortest + (longest - shortest).mul_f64(self.entropy.unit());
        if request.method() == Method::POST
            && request.uri().path() == SIGNAL_PATH
            && self.own_quota.check().is_ok()
            && self.quota.check().is_ok()
            && let Ok(body) = Limited::new(request.into_body(), SIGNED_BYTES_MAX).collect().await
        {
            // Nobody has to wait for one that is not heard.
            let _ = self.bodies.try_send(body.to_bytes());
        }
        sleep_until(answered).await;
        let mut answer = Response::new(Empty::new());
        *answer.status_mut() = StatusCode::ACCEPTED;
        answer
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_actors::testing::seeded_entropy::SeededEntropy;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn door(seed: u64) -> (Arc<Door>, mpsc::Receiver<Bytes>) {
        let (bodies, heard) = mpsc::channel(WAITING_MAX);
        let own_quota = RateLimiter::direct(governor::Quota::per_minute(HEARD_PER_MINUTE));
        let (entropy, quota) = (Arc::new(SeededEntropy::new(seed)), Arc::new(quota_of_all()));
        (Arc::new(Door { bodies, entropy, own_quota, quota }), heard)
    }

    fn post(path: &str, body: &str) -> String {
        format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    /// The answer as it comes, and after how long.
    async fn ask_door(door: &Arc<Door>, request: String) -> (String, Duration) {
        let (mut ours, theirs) = tokio::io::duplex(4_096);
        let began = Instant::now();
        let served = Arc::clone(door);
        let serving = tokio::spawn(async move { served.connection(Box::new(theirs)).await });
        ours.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.unwrap();
        serving.await.unwrap();
        (answer, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_is_asked_the_answer_is_the_same_after_a_delay_of_its_own() {
        let (door, mut heard) = door(1);
        let requests = [
            post(SIGNAL_PATH, "{\"word\":\"ready\"}"),
            post(SIGNAL_PATH, &"x".repeat(SIGNED_BYTES_MAX + 1)),
            post("/", "{}"),
            "GET /signal HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
            "DELETE /admin HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        ];
        let (mut answers, mut delays) = (Vec::new(), Vec::new());
        for request in requests {
            let (answer, delay) = ask_door(&door, request).await;
            answers.push(answer);
            delays.push(delay);
        }
        assert!(answers[0].starts_with("HTTP/1.1 202 Accepted\r\n") && answers[0].ends_with("\r\n\r\n"), "{answers:?}");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert!(!answers[0].to_lowercase().contains("date") && !answers[0].to_lowercase().contains("server"));
        // The clock of the test moves in whole milliseconds.
        let bounds = DELAY.0..=DELAY.1 + Duration::from_millis(2);
        assert!(delays.iter().all(|delay| bounds.contains(delay)), "{delays:?}");
        delays.sort();
        delays.dedup();
        assert_eq!(delays.len(), 5, "each has its own");
        assert_eq!(heard.try_recv().unwrap(), "{\"word\":\"ready\"}");
        assert!(heard.try_recv().is_err(), "nothing else is heard");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_heard_and_those_beyond_are_answered_all_the_same() {
        let (door, mut heard) = door(2);
        let mut count = 0;
        for _ in 0..20 {
            let (answer, _) = ask_door(&door, post(SIGNAL_PATH, "x")).await;
            assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
            count += u32::from(heard.try_recv().is_ok());
        }
        assert_eq!(count, HEARD_PER_MINUTE.get());
        // One that is slow to be heard keeps nobody waiting.
        let (full, _kept) = super::tests::door(3);
        for _ in 0..HEARD_PER_MINUTE.get() {
            assert!(ask_door(&full, post(SIGNAL_PATH, "x")).await.0.starts_with("HTTP/1.1 202"));
        }
    }
}
