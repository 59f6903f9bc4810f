//! Catches panics of the node, and only of the node.
//!
//! A panicking node is a broken promise that belongs in the report, with its place in the source; a panic of the
//! simulator itself must stay visible.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// Runs `work`; a panic in it comes back as its message and place.
///
/// # Errors
/// The panic.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if GUARDED.get() {
                LAST.set(panic.to_string().replace('\n', " "));
            } else {
                loud(panic);
            }
        }));
    });
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    outcome.map_err(|_| LAST.take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_comes_back_with_its_place() {
        assert_eq!(catch(|| 7), Ok(7));
        let panic = catch(|| panic!("broken {}", 1)).unwrap_err();
        assert!(
            panic.contains("broken 1") && panic.contains("guard.rs"),
            "{panic}"
        );
    }
}
