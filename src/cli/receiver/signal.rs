//! `tidegate receiver signal`: the receiver says to its gateway, over Tor, that it is ready, or not now.
//!
//! A receiver that runs and hosts its own onion service has the Tor client, so it is asked to do it, over a socket in its folder that its
//! user alone can open. Otherwise this command opens the Tor client of that folder itself. Either way each try is on a circuit of its own,
//! and the gateway's answer says no more than that something came: whether it was honoured shows in what arrives.

use crate::{
    adapters::{
        arti::{ArtiClient, HostedService},
        http_lane::HttpLane,
        system_clock::SystemClock,
        system_entropy::SystemEntropy,
    },
    cli::{exit::Failure, output, signal::WordArgs},
    receiver::{Speaker, signal_key_file},
};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tidegate_actors::ports::{clock::Clock as _, entropy::Entropy as _, transport::Isolation, transport::Lane as _};
use tidegate_schemas::{
    id::DestinationId,
    messages::outbox::SignalWord,
    onion::OnionEndpoint,
    outcome::DeliveryError,
    signal::{SIGNAL_BYTES_MAX, SignalBody},
    submission::Payload,
    wire::{WireRequest, signal::SIGNAL_PATH},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};

/// Where a running receiver is asked, in its folder.
const SOCKET: &str = "signal.sock";
/// Times that one signal is sent until it is answered.
const TRIES: u32 = 3;
/// Longest that one try may take: a connect and the gateway's delay.
const TRY_MAX: Duration = Duration::from_secs(90);
/// Between two tries.
const TRY_PAUSE: Duration = Duration::from_secs(2);
/// Longest that a running receiver may take for all of it.
const ASKED_MAX: Duration = Duration::from_secs(300);
/// Longest that whoever asks may take to say what.
const WISH_MAX: Duration = Duration::from_secs(5);
/// Longest line over the socket, in bytes.
const LINE_BYTES_MAX: u64 = 2 * SIGNAL_BYTES_MAX as u64;
/// How often a receiver that just started looks whether it can be reached.
const OWN_SERVICE_EVERY: Duration = Duration::from_secs(1);
/// Times that it looks; then it signals all the same.
const OWN_SERVICE_TRIES: u32 = 60;

/// `tidegate receiver signal`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidegate receiver signal --ready 10m
  tidegate receiver signal --not-now 30m --gateway ward

What the gateway printed by `tidegate destination signal-key` has to be in the receiver's folder as GATEWAY.signal_key. The gateway's answer is the \
same whether it honours the signal or not.")]
pub struct SignalArgs {
    /// The gateway that is told
    #[arg(long, value_name = "NAME", default_value = "gateway")]
    gateway: DestinationId,
    #[command(flatten)]
    word: WordArgs,
}

/// What a running receiver is asked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    gateway: DestinationId,
    signal: SignalBody,
}

/// Its answer.
#[derive(Serialize, Deserialize)]
struct Done {
    error: Option<String>,
}

/// Does it. `open` opens the Tor client of the folder, if no receiver has it.
pub(super) async fn run(
    json: bool,
    folder: &Path,
    args: SignalArgs,
    open: impl Future<Output = Result<Arc<ArtiClient>, Failure>>,
) -> Result<(), Failure> {
    let wish = Wish { gateway: args.gateway, signal: args.word.body() };
    // A mistake is told before anything is connected.
    let word = word(&wish.signal).map_err(Failure::usage)?;
    Speaker::open(folder, &wish.gateway).map_err(|error| Failure::failed(error.to_string()))?;
    match UnixStream::connect(folder.join(SOCKET)).await {
        Ok(receiver) => ask_receiver(receiver, &wish).await?,
        Err(_) => {
            let client = open.await?;
            let said = say(&client, folder, &wish.gateway, word).await;
            client.close().await;
            said.map_err(Failure::unreachable)?;
        }
    }
    if json {
        return output::json(&serde_json::json!({ "gateway": wish.gateway, "told": true }));
    }
    output::line(&format!("{} was told; whether it honours that shows in what arrives", wish.gateway))
}

fn word(body: &SignalBody) -> Result<SignalWord, String> {
    let now = SystemClock::default().trusted().then(|| SystemClock::default().now());
    body.word(now).map_err(|error| error.to_string())
}

async fn ask_receiver(receiver: UnixStream, wish: &Wish) -> Result<(), Failure> {
    let broken = |what: &dyn std::fmt::Display| Failure::failed(format!("the running receiver did not do it: {what}"));
    let line = serde_json::to_string(wish).map_err(|error| broken(&error))? + "\n";
    let asked = async {
        let mut receiver = BufReader::new(receiver);
        receiver.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        receiver.take(LINE_BYTES_MAX).read_line(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(ASKED_MAX, asked).await.map_err(|_| broken(&"it does not answer"))?;
    let done: Done = serde_json::from_str(&answer.map_err(|error| broken(&error))?).map_err(|error| broken(&error))?;
    done.error.map_or(Ok(()), |error| Err(Failure::unreachable(error)))
}

/// Answers whoever may open the socket, one at a time, for as long as the receiver serves.
pub(super) async fn answer_wishes(folder: PathBuf, client: Arc<ArtiClient>) {
    let path = folder.join(SOCKET);
    // One that a receiver before us left.
    let _ = fs::remove_file(&path);
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "`tidegate receiver signal` can't reach this receiver while it runs");
            return;
        }
    };
    loop {
        let Ok((asker, _)) = listener.accept().await else {
            sleep(TRY_PAUSE).await;
            continue;
        };
        let mut asker = BufReader::new(asker);
        let mut line = String::new();
        let read = timeout(WISH_MAX, (&mut asker).take(LINE_BYTES_MAX).read_line(&mut line)).await;
        if !matches!(read, Ok(Ok(_))) {
            continue;
        }
        let error = match serde_json::from_str::<Wish>(&line) {
            Ok(wish) => match word(&wish.signal) {
                Ok(word) => say(&client, &folder, &wish.gateway, word).await.err(),
                Err(error) => Some(error),
            },
            Err(error) => Some(error.to_string()),
        };
        let answer = serde_json::to_string(&Done { error }).unwrap_or_default() + "\n";
        // Whoever asked may have gone.
        let _ = timeout(WISH_MAX, asker.write_all(answer.as_bytes())).await;
    }
}

/// Signs, numbers and sends one signal until it is answered.
async fn say(client: &Arc<ArtiClient>, folder: &Path, gateway: &DestinationId, word: SignalWord) -> Result<(), String> {
    let (folder, gateway) = (folder.to_owned(), gateway.clone());
    let made = tokio::task::spawn_blocking(move || {
        let speaker = Speaker::open(&folder, &gateway)?;
        let body = speaker.say(word, SystemClock::default().now())?;
        Ok::<_, crate::receiver::SpeakerError>((speaker, body))
    });
    let (speaker, body) = made.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let mut last = DeliveryError::Internal;
    for number in 0..TRIES {
        if number > 0 {
            sleep(TRY_PAUSE).await;
        }
        match timeout(TRY_MAX, send(client, &speaker, &body)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => last = error,
            Err(_) => last = DeliveryError::ConnectTimeout,
        }
        tracing::debug!(error = %last, "a signal was not answered");
    }
    Err(format!("the gateway can't be told: {last}"))
}

async fn send(client: &Arc<ArtiClient>, speaker: &Speaker, body: &str) -> Result<(), DeliveryError> {
    let endpoint = speaker.endpoint();
    let isolation = Isolation(SystemEntropy.bytes16());
    let stream = client.connect(endpoint.clone(), isolation, Some(speaker.client_key())).await?;
    let mut lane = HttpLane::open(stream, &endpoint, &tokio::runtime::Handle::current()).await?;
    let body = Payload::new(body.to_owned());
    let request = WireRequest { method: "POST", path: SIGNAL_PATH.to_owned(), headers: Vec::new(), body };
    let answer = lane.exchange(request).await?;
    if (200..300).contains(&answer.status) { Ok(()) } else { Err(DeliveryError::Status(answer.status)) }
}

/// Tells every gateway whose key is there that the receiver is ready, once its own onion service can be reached.
pub(super) async fn on_start(
    folder: PathBuf,
    client: Arc<ArtiClient>,
    own: OnionEndpoint,
    gateways: Vec<DestinationId>,
    word: SignalWord,
) {
    for _ in 0..OWN_SERVICE_TRIES {
        let isolation = Isolation(SystemEntropy.bytes16());
        match timeout(TRY_MAX, client.connect(own.clone(), isolation, None)).await {
            // That a key is missing is read from the descriptor: it is out.
            Ok(Ok(_) | Err(DeliveryError::ClientAuthMissing)) => break,
            _ => sleep(OWN_SERVICE_EVERY).await,
        }
    }
    for gateway in gateways {
        if !signal_key_file(&folder, &gateway).exists() {
            tracing::warn!(%gateway, "there is no signal key of this gateway: it is not told that the receiver is ready");
            continue;
        }
        match say(&client, &folder, &gateway, word).await {
            Ok(()) => tracing::info!(%gateway, "it was told that the receiver is ready"),
            Err(error) => tracing::warn!(%gateway, error, "it could not be told that the receiver is ready"),
        }
    }
}

/// What runs beside a receiver with a Tor client of its own; ends with the value.
pub(super) struct Beside(Vec<tokio::task::JoinHandle<()>>);

impl Beside {
    /// Hears wishes, and signals at the start if that is asked for.
    pub(super) fn start(
        folder: &Path,
        client: &Arc<ArtiClient>,
        service: &HostedService,
        gateways: &[DestinationId],
        at_start: Option<SignalWord>,
    ) -> Self {
        let mut tasks = vec![tokio::spawn(answer_wishes(folder.to_owned(), Arc::clone(client)))];
        if let Some(word) = at_start {
            let own = OnionEndpoint { address: service.address().clone(), port: 80 };
            let started = on_start(folder.to_owned(), Arc::clone(client), own, gateways.to_vec(), word);
            tasks.push(tokio::spawn(started));
        }
        Self(tasks)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// `10m`, as a ready-signal.
pub(super) fn ready_for(text: &str) -> Result<SignalWord, String> {
    word(&SignalBody { ready_for: Some(text.to_owned()), ..SignalBody::default() })
}
