//! Tor in the process, by arti: the default way to onion services, and the way to host one.
//!
//! Layers. [`ArtiClient`] owns the Tor client and the runtime that it lives on: one of each in a process and state
//! folder. [`LazyArti`] opens it when it is first needed, so that nothing in Tor keeps the gateway from starting. [`ArtiTransport`]
//! makes a `Transport` of that, for deliveries. [`HostedService`] is an onion service, for the receiver. The rules that were found by experiment, and where they live:
//!
//! * Every attempt has a deadline, here as well as at the caller: a service that dies between introduction and
//!   rendezvous leaves arti waiting for minutes without an error.
//! * Dropping an attempt doesn't stop what arti does for it in the background, and a new attempt of the same isolation
//!   joins it. So the caller takes a new [`Isolation`](tidegate_actors::ports::transport::Isolation) after a failure.
//! * Only [`OnionAddress`](tidegate_schemas::onion::OnionAddress) gets in here. Given anything else, arti would go out
//!   through an exit (PR-5).
//! * Every future runs on arti's own runtime, by [`runtime::TorRuntime`], so neither its blocking moments nor its
//!   panics touch the thread of the actors.

pub mod breadcrumb;
pub mod client;
pub mod config;
pub mod errors;
pub mod host;
pub mod keys;
pub mod lazy;
pub mod runtime;
pub mod transport;

mod consensus;

pub use client::ArtiClient;
pub use config::ArtiSettings;
pub use errors::ArtiError;
pub use host::{HostedService, HostingOptions};
pub use keys::{ClientKey, ServiceKey};
pub use lazy::LazyArti;
pub use transport::ArtiTransport;
