//! `tributary-sim`: the command line of the simulations.
fn main() {}
