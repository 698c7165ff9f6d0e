//! What is said in Tidegate: the words, the rules and the shapes, without any I/O, clock or randomness.
//!
//! The modules stand in the order in which a reading meets them. Everything here is a pure function of its arguments:
//! time and random numbers come in as parameters, so that every rule can be tested by properties and replayed.

pub mod id;
pub mod onion;

pub mod submission;

pub mod route;

pub mod clock;

pub mod window;

pub mod agreement;

pub mod history;

pub mod forecast;

pub mod impact;

pub mod effective;

pub mod entry;

pub mod outcome;

pub mod custody;

pub mod signal;

pub mod record;

pub mod chain;

pub mod archive;

pub mod audit;

pub mod export;

pub mod wire;

pub mod tidings;

pub mod condition;

pub mod config;

pub mod view;

pub mod dispatch;

pub mod explain;

pub mod messages;

pub mod invariant;
