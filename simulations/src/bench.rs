//! Questions about a run whose answers are figures: each plays one built-in scenario in many variants.

pub mod economy;
