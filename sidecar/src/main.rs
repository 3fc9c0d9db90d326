//! The `ringlane` command, with the kernels that come with it.

use std::process::ExitCode;

use ringlane_sidecar::kernels::door::Kernels;

fn main() -> ExitCode {
    ringlane_sidecar::program::run(Kernels::built_in())
}
