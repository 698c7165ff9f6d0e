//! The one binary, `tidegate`.

fn main() -> std::process::ExitCode {
    tidegate::cli::main()
}
