//! Peers in networks with routers: the `tributary` binary as processes in network namespaces, behind translating routers
//! that the test makes for itself.
//!
//! `cargo test --workspace --test networks` tries the most telling cases, `-- --all` tries every one and prints the figures
//! of `docs/numbers/reach.md`, and names behind `--` pick cases. With `TRIBUTARY_TEST_KEEP` in the environment the homes
//! and their logs stay. The target has its own `main` because a process can enter a user namespace only while it has one
//! thread. Where the machine gives no namespaces, each case says why it was skipped.

#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod ground;
#[cfg(target_os = "linux")]
mod peer;
#[cfg(target_os = "linux")]
mod suite;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    // Before any thread: the namespace is the whole process's.
    let namespaces = ground::enter();
    suite::run(namespaces)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: network namespaces exist on Linux alone");
}
