//! Stored records: how keys and values of the outbox are written, byte by byte.
