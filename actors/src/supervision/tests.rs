//! The kernel under virtual time, with toy children in the shape of the house.

mod drain;
mod falls;
mod mailbox;
mod random;
mod storms;
mod tasks;
mod toys;
