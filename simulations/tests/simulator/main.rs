//! The simulator through its library and its binary: what scenarios keep, what each liar does, and what a researcher
//! works with.

mod disputed;
mod economy;
mod liars;
mod refusals;
mod regressions;
mod researcher;
mod settles;
mod smoke;
