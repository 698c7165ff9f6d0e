//! A Registry that always answers with one snapshot, for tests of the lines above it.

use actix::prelude::*;
use std::{collections::BTreeMap, sync::Arc};
use tidegate_schemas::{
    agreement::{Destination, DestinationKeys, ServiceAgreement},
    messages::registry::{Current, RegisteredDestination, RegistrySnapshot},
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

/// A snapshot of these destinations, without routes.
#[must_use]
pub fn snapshot(destinations: Vec<Destination>) -> Arc<RegistrySnapshot> {
    let destinations: BTreeMap<_, _> = destinations
        .into_iter()
        .map(|destination| {
            let registered = RegisteredDestination { destination, windows_overridden: false, windows_flaw: None };
            (registered.destination.id.clone(), Arc::new(registered))
        })
        .collect();
    Arc::new(RegistrySnapshot { revision: 1, destinations, routes: Arc::new(Routes::default()) })
}
