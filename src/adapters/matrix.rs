//! The room, in Matrix: `ruma-client` over our own transport (`http`, `dial`), so that the homeserver is reached nearby or through
//! Tor and nowhere else.
//!
//! Everything is lazy: opening does no request, and an outage at start is no failure. The first notice logs in, finds or makes the
//! room, and keeps what it learnt (`session`); from then on a notice is one request. One log-in in a lifetime: the next only
//! when the homeserver refuses the token, once for each notice, under the same device id, because transaction ids belong to a device.
//!
//! Limits: one notice at a time; those of `dial` and `http` for each request. Rate limits and back-off are the Reporter's.

mod dial;
mod http;
mod notice;
mod place;
mod session;
mod verdict;

pub use notice::ACKNOWLEDGEMENT;
pub use session::SESSION_FILE;

use self::{
    dial::Dial,
    http::Http,
    place::Place,
    session::{Session, SessionFile},
    verdict::{Failure, judge},
};
use crate::adapters::arti::LazyArti;
use crate::crash_point::{self, CrashPoint};
use futures_util::future::BoxFuture;
use ruma::{
    OwnedTransactionId, OwnedUserId, RoomId, UserId,
    api::{MatrixVersion, SupportedVersions, client::message::send_message_event},
    events::{AnyMessageLikeEventContent, MessageLikeEventType},
    serde::Raw,
};
use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tidegate_actors::ports::room::{Room, RoomError};
use tidegate_schemas::{
    config::{check::PASSWORD_BYTES_MAX, file::MatrixConfig},
    messages::outbox::ReportBatch,
    onion::without_onion_addresses,
};
use tokio::sync::Mutex;

/// The device id of every gateway: the same after a new log-in, so that a notice sent twice stays one event.
const DEVICE_ID: &str = "TIDEGATE";
/// The device's name, as other users of the room may see it.
const DEVICE_NAME: &str = "gateway";
/// What ruma is told instead of the homeserver's place: the transport knows where to go, and no error can name it.
const ANY_URL: &str = "http://homeserver.invalid";

/// Why there is no room.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// A public address.
    #[error(
        "matrix.homeserver is at the public address {0}, whose network would learn where this gateway is: \
         use loopback, a private address, or an onion service"
    )]
    Far(IpAddr),
    /// An onion service, and no arti.
    #[error(
        "matrix.homeserver is an onion service, which is reached through the built-in Tor client alone: \
         set tor.transport = \"arti\", or use a homeserver on loopback or a private address"
    )]
    NoArti,
    /// Its place can't stand in a request.
    #[error("matrix.homeserver can't be named in a request: use its plain address")]
    Host,
    /// Not a user.
    #[error("matrix.invite has {0:?}, which is not the full id of a user: write it as \"@nurse:example.org\"")]
    Invite(String),
}

/// A room on a homeserver. Clones are the same. `Debug` shows nothing of it: names of users end with the homeserver's.
#[derive(Clone)]
pub struct MatrixRoom(Arc<Inner>);

impl std::fmt::Debug for MatrixRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MatrixRoom").finish_non_exhaustive()
    }
}

struct Inner {
    http: Http,
    user: String,
    password_file: PathBuf,
    place: Place,
    file: SessionFile,
    state: Mutex<State>,
}

struct State {
    session: Option<Session>,
    /// The disk has not taken what we know.
    unsaved: bool,
}

impl MatrixRoom {
    /// The room of this config; what is known of it is kept in the state folder. Does no request.
    ///
    /// # Errors
    /// When the config asks for what is not done.
    pub fn open(config: &MatrixConfig, state_dir: &Path, arti: Option<Arc<LazyArti>>) -> Result<Self, MatrixError> {
        let invite = config.invite.iter().map(|user| {
            OwnedUserId::try_from(user.as_str()).map_err(|_invalid| MatrixError::Invite(without_onion_addresses(user)))
        });
        let file = SessionFile::new(state_dir, config);
        let session = file.load();
        Ok(Self(Arc::new(Inner {
            http: Http::new(Dial::new(&config.homeserver, arti)?)?,
            user: config.user.clone(),
            password_file: config.password_file.clone(),
            place: Place { alias: config.room.clone(), invite: invite.collect::<Result<_, _>>()? },
            file,
            state: Mutex::new(State { session, unsaved: false }),
        })))
    }
}

impl Room for MatrixRoom {
    fn post(&self, batch: ReportBatch) -> BoxFuture<'static, Result<String, RoomError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.post(batch).await })
    }
}

/// A crash point that is armed to fail.
fn interrupted(error: std::io::Error) -> RoomError {
    RoomError::Unavailable(error.to_string())
}

impl Inner {
    async fn post(&self, batch: ReportBatch) -> Result<String, RoomError> {
        let content = notice::content(&batch).map_err(|error| RoomError::Refused(error.to_string()))?;
        let mut state = self.state.lock().await;
        let mut logged_in = false;
        let mut entered = false;
        loop {
            if state.session.is_none() {
                logged_in = true;
                state.session = Some(self.log_in().await?);
                self.keep(&mut state).await;
            }
            match self.post_once(&mut state, &mut entered, &batch.transaction_id, &content).await {
                Ok(event_id) => {
                    if state.unsaved {
                        self.keep(&mut state).await;
                    }
                    return Ok(event_id);
                }
                Err(Failure::Token) if !logged_in => {
                    tracing::warn!("the homeserver no longer takes the gateway's access token: it logs in once more");
                    state.session = None;
                }
                // We are no longer in the room that we knew; perhaps the alias leads to another, or lets us in again.
                Err(Failure::Forbidden(_) | Failure::NotFound) if !entered => forget_room(&mut state),
                Err(failure) => return Err(failure.into_room_error("the room takes no notice of the gateway")),
            }
        }
    }

    /// One try with the token and the room that we have.
    async fn post_once(
        &self,
        state: &mut State,
        entered: &mut bool,
        transaction_id: &str,
        content: &Raw<AnyMessageLikeEventContent>,
    ) -> Result<String, Failure> {
        let session = state.session.as_ref().ok_or(Failure::Token)?;
        let client = self.client(Some(session)).await?;
        let known = session.room.as_ref().filter(|(alias, _)| *alias == self.place.alias);
        let room = match known.and_then(|(_, room)| RoomId::parse(room).ok()) {
            Some(room) => room,
            None => {
                let me = UserId::parse(&session.user_id)
                    .map_err(|_invalid| RoomError::Refused("it gave no valid user id".to_owned()))?;
                let room = self.place.enter(&client, &me).await?;
                *entered = true;
                if let Some(session) = &mut state.session {
                    session.room = Some((self.place.alias.clone(), room.to_string()));
                }
                self.keep(state).await;
                room
            }
        };
        let request = send_message_event::v3::Request::new_raw(
            room,
            OwnedTransactionId::from(transaction_id),
            MessageLikeEventType::RoomMessage,
            content.clone(),
        );
        crash_point::hit(CrashPoint::ReportBegun).map_err(interrupted)?;
        let sent = client.send_request(request).await.map_err(|error| judge(&error))?;
        crash_point::hit(CrashPoint::ReportSent).map_err(interrupted)?;
        Ok(sent.event_id.to_string())
    }

    /// A client does no request by itself: it is told what every homeserver of this decade speaks.
    async fn client(&self, session: Option<&Session>) -> Result<ruma_client::Client<Http>, RoomError> {
        let versions = SupportedVersions { versions: BTreeSet::from([MatrixVersion::V1_1]), features: BTreeSet::new() };
        ruma_client::Client::builder()
            .homeserver_url(ANY_URL.to_owned())
            .access_token(session.map(|session| session.access_token.clone()))
            .supported_matrix_versions(versions)
            .http_client(self.http.clone())
            .await
            .map_err(|error| judge(&error).into_room_error("making a client"))
    }

    async fn log_in(&self) -> Result<Session, RoomError> {
        let password = self.password().await?;
        let client = self.client(None).await?;
        let answer = client.log_in(&self.user, &password, Some(DEVICE_ID.into()), Some(DEVICE_NAME)).await;
        match answer.map_err(|error| judge(&error)) {
            Ok(answer) => {
                tracing::info!(user = answer.user_id.localpart(), "logged in to the homeserver");
                Ok(self.file.session(answer.user_id.to_string(), answer.access_token))
            }
            Err(Failure::Forbidden(words)) => Err(RoomError::Refused(format!(
                "it doesn't take the password of {}: put the right one into {} ({words})",
                local_part(&self.user),
                self.password_file.display()
            ))),
            Err(failure) => Err(failure.into_room_error("logging in")),
        }
    }

    async fn password(&self) -> Result<String, RoomError> {
        let path = self.password_file.display();
        let refused = |why: String| RoomError::Refused(format!("the password file {path} can't be used: {why}"));
        let text = tokio::fs::read_to_string(&self.password_file).await.map_err(|error| refused(error.to_string()))?;
        let password = text.trim_end_matches(['\r', '\n']);
        match password.len() {
            0 => Err(refused("it is empty".to_owned())),
            1..=PASSWORD_BYTES_MAX => Ok(password.to_owned()),
            more => Err(refused(format!("{more} bytes are no password"))),
        }
    }

    /// Keeps what we know. A disk that doesn't take it costs a log-in after the next start, so the notice goes out all the same.
    async fn keep(&self, state: &mut State) {
        let Some(session) = state.session.clone() else { return };
        let file = self.file.clone();
        let kept = tokio::task::spawn_blocking(move || file.save(&session)).await;
        state.unsaved = !matches!(kept, Ok(Ok(())));
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "the log-in to the homeserver can't be kept in {SESSION_FILE}; it is tried again");
        }
    }
}

/// The name of a user without its homeserver's.
fn local_part(user: &str) -> &str {
    user.strip_prefix('@').unwrap_or(user).split(':').next().unwrap_or_default()
}

fn forget_room(state: &mut State) {
    if let Some(session) = &mut state.session {
        session.room = None;
    }
}
