//! Bastide on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    bastide::cli::main()
}
