//! How long work tells its caller where it is, and hears that it should stop.

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Do the next step.
    Continue,
    /// Stop before the next step and keep what was done.
    Stop,
}

/// Hears of every step. A closure `FnMut(&R) -> Control` is one.
pub trait Progress<R> {
    /// Called after each step.
    fn report(&mut self, report: &R) -> Control;
}

impl<R, F: FnMut(&R) -> Control> Progress<R> for F {
    fn report(&mut self, report: &R) -> Control {
        self(report)
    }
}
