//! The `tributary-lab` program: everything is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tributary_experiments::Lab::default().main()
}
