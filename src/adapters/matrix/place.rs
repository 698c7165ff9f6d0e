//! The room itself: found by its alias, or made.
//!
//! A room that the gateway makes is private, not federated, and shows its members only what was said since they joined. Users from
//! the config are invited with power level 50: they may invite others and, some day, give orders. Everybody else has 0.

use super::{
    http::Http,
    verdict::{ClientError, Failure, judge},
};
use assign::assign;
use ruma::{
    OwnedRoomId, OwnedUserId, RoomAliasId, RoomVersionId, UserId,
    api::client::{
        alias::get_alias,
        membership::join_room_by_id,
        room::create_room::{self, v3::CreationContent},
    },
    events::{
        AnyInitialStateEvent, EmptyStateKey, InitialStateEvent,
        room::history_visibility::{HistoryVisibility, RoomHistoryVisibilityEventContent},
    },
    int,
    serde::Raw,
};
use tidegate_actors::ports::room::RoomError;

/// The newest version that is asked for: there the maker of a room is above all power levels, and may not be among them.
const VERSION: RoomVersionId = RoomVersionId::V12;
/// For homeservers that don't know it.
const VERSION_BEFORE: RoomVersionId = RoomVersionId::V11;

/// What the room is to be.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Local part of its alias.
    pub alias: String,
    /// Who is invited.
    pub invite: Vec<OwnedUserId>,
}

impl Place {
    /// The room's id; we are in it. No failure names the homeserver, which may be an onion service (PR-4): local parts alone.
    ///
    /// # Errors
    /// When it can't be found, entered or made.
    pub async fn enter(&self, client: &ruma_client::Client<Http>, me: &UserId) -> Result<OwnedRoomId, Failure> {
        let alias = RoomAliasId::parse(format!("#{}:{}", self.alias, me.server_name()))
            .map_err(|_invalid| RoomError::Refused(format!("matrix.room is no alias here: {:?}", self.alias)))?;
        let found = match find(client, &alias).await {
            Err(Failure::NotFound) => match self.make(client, me).await {
                // Somebody was quicker, or an answer to ourselves got lost.
                Err(Failure::RoomInUse) => find(client, &alias).await?,
                made => return made,
            },
            found => found?,
        };
        // Members may join again: nothing happens.
        match client.send_request(join_room_by_id::v3::Request::new(found.clone())).await {
            Ok(_) => Ok(found),
            Err(error) => Err(match judge(&error) {
                Failure::Forbidden(words) => RoomError::Refused(format!(
                    "the gateway may not enter #{}: invite @{} there, or set matrix.room to another room ({words})",
                    self.alias,
                    me.localpart()
                ))
                .into(),
                other => other,
            }),
        }
    }

    async fn make(&self, client: &ruma_client::Client<Http>, me: &UserId) -> Result<OwnedRoomId, Failure> {
        match self.make_version(client, me, VERSION).await {
            Err(Failure::RoomVersion) => self.make_version(client, me, VERSION_BEFORE).await,
            made => made,
        }
    }

    async fn make_version(
        &self,
        client: &ruma_client::Client<Http>,
        me: &UserId,
        version: RoomVersionId,
    ) -> Result<OwnedRoomId, Failure> {
        let request = self.request(me, version).map_err(|error| RoomError::Refused(error.to_string()))?;
        let made = client.send_request(request).await.map_err(|error: ClientError| judge(&error))?;
        tracing::info!(room = %self.alias, "the room was made");
        Ok(made.room_id)
    }

    fn request(&self, me: &UserId, version: RoomVersionId) -> serde_json::Result<create_room::v3::Request> {
        let visibility = RoomHistoryVisibilityEventContent::new(HistoryVisibility::Joined);
        let visibility: Raw<AnyInitialStateEvent> =
            Raw::new(&InitialStateEvent::new(EmptyStateKey, visibility))?.cast_unchecked();
        let mut levels = create_room::RoomPowerLevelsContentOverride::new();
        levels.invite = Some(int!(50));
        levels.users.extend(self.invite.iter().filter(|user| *user != me).map(|user| (user.clone(), int!(50))));
        if version == VERSION_BEFORE {
            levels.users.insert(me.to_owned(), int!(100));
        }
        let creation = assign!(CreationContent::new(), { federate: false });
        Ok(assign!(create_room::v3::Request::new(), {
            name: Some("Tidegate".to_owned()),
            topic: Some("What became of each message".to_owned()),
            room_alias_name: Some(self.alias.clone()),
            room_version: Some(version),
            preset: Some(create_room::v3::RoomPreset::PrivateChat),
            invite: self.invite.iter().filter(|user| *user != me).cloned().collect(),
            initial_state: vec![visibility],
            creation_content: Some(Raw::new(&creation)?),
            power_level_content_override: Some(Raw::new(&levels)?),
        }))
    }
}

async fn find(client: &ruma_client::Client<Http>, alias: &RoomAliasId) -> Result<OwnedRoomId, Failure> {
    let request = get_alias::v3::Request::new(alias.to_owned());
    client.send_request(request).await.map(|found| found.room_id).map_err(|error| judge(&error))
}
