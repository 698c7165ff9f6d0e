//! Prints `docs/config.md`: `cargo run -p tidegate-schemas --example config_reference > docs/config.md`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(tidegate_schemas::config::keys::reference().as_bytes())
}
