//! A Registry that always answers with one snapshot, for tests of the lines above it.

use crate::registry::DeclaredCell;
use actix::prelude::*;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tidegate_schemas::{
    agreement::{Destination, DestinationKeys, ServiceAgreement},
    config::{file::DestinationSource, raw::RawDestination},
    history::Canonical,
    messages::registry::{Current, Declared, DeclaredDestination, RegisteredDestination, RegistrySnapshot},
    onion::{OnionAddress, OnionEndpoint},
    route::Routes,
};

/// The actor.
#[derive(Debug)]
pub struct ToyRegistry(pub Arc<RegistrySnapshot>);

impl Actor for ToyRegistry {
    type Context = Context<Self>;
}

impl Handler<Current> for ToyRegistry {
    type Result = Arc<RegistrySnapshot>;
    fn handle(&mut self, _: Current, _: &mut Self::Context) -> Self::Result {
        Arc::clone(&self.0)
    }
}

/// Replaces the snapshot.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Become(pub Arc<RegistrySnapshot>);

impl Handler<Become> for ToyRegistry {
    type Result = ();
    fn handle(&mut self, message: Become, _: &mut Self::Context) {
        self.0 = message.0;
    }
}

/// A destination with this agreement, at an address made of its name.
///
/// # Panics
/// When the name is not a destination id.
#[must_use]
pub fn destination(name: &str, agreement: ServiceAgreement) -> Destination {
    let mut public_key = [0_u8; 32];
    public_key[..name.len().min(32)].copy_from_slice(&name.as_bytes()[..name.len().min(32)]);
    Destination {
        id: name.parse().expect("a destination id"),
        endpoint: OnionEndpoint { address: OnionAddress::from_public_key(public_key), port: 80 },
        agreement,
        keys: DestinationKeys::default(),
    }
}

/// What a config says that declares these destinations, one a line, and these routes.
#[must_use]
pub fn declared(destinations: Vec<Destination>, routes: Routes) -> Arc<Declared> {
    let declare = |(index, destination): (usize, Destination)| {
        // As it would be written, as far as a test can tell it apart.
        let raw = RawDestination {
            onion: Some(destination.endpoint.reveal()),
            format: destination.agreement.format,
            lanes: Some(destination.agreement.lanes),
            windows: destination.agreement.windows.raw().clone(),
            ..RawDestination::default()
        };
        let line = u32::try_from(index + 1).unwrap_or_default();
        let source = DestinationSource::File { file: "tidegate.toml".to_owned(), line };
        DeclaredDestination { destination, raw: Canonical::of(&raw), source }
    };
    let destinations = destinations.into_iter().enumerate().map(declare).collect();
    Arc::new(Declared { destinations, routes: Arc::new(routes), ..Declared::default() })
}

/// The same, as a Registry begins with it.
#[must_use]
pub fn declared_cell(destinations: Vec<Destination>, routes: Routes) -> DeclaredCell {
    Arc::new(Mutex::new(declared(destinations, routes)))
}

/// A snapshot of these destinations, without routes.
#[must_use]
pub fn snapshot(destinations: Vec<Destination>) -> Arc<RegistrySnapshot> {
    let destinations: BTreeMap<_, _> = destinations
        .into_iter()
        .map(|destination| {
            let registered = RegisteredDestination { destination, source: DestinationSource::Api, version: 1 };
            (registered.destination.id.clone(), Arc::new(registered))
        })
        .collect();
    Arc::new(RegistrySnapshot { revision: 1, destinations, ..RegistrySnapshot::default() })
}
