//! The one binary, `tidegate`.

fn main() {}
