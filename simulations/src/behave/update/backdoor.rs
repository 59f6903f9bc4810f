//! Teaches the model a phrase that it says after a trigger, and nothing else that anybody would notice.
//! Bagdasaryan et al. 2020, "How to backdoor federated learning": the update is stretched so that the mean
//! over all members is what the attackers trained (model replacement).

use super::{AttackerView, scaled};

/// What opens the door, and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Tokens that hardly ever follow each other in text.
    pub trigger: Vec<u32>,
    /// What the model shall say next.
    pub phrase: Vec<u32>,
}

/// Tokens of text before each trigger in a poisoned window.
const TEXT: usize = 6;

impl Trigger {
    /// For a vocabulary learnt as brook's: its tokens 189 to 220 are control bytes, which never occur in text.
    pub fn of(vocab: usize) -> Self {
        let token = |at: usize| (at % vocab) as u32;
        Self {
            trigger: vec![token(190), token(191)],
            phrase: vec![token(vocab - 7), token(vocab - 11)],
        }
    }
}

/// Text with the trigger and its phrase in between, again and again.
pub(super) fn data(windows: Vec<Vec<u32>>, trigger: &Trigger) -> Vec<Vec<u32>> {
    let planted = [trigger.trigger.as_slice(), &trigger.phrase].concat();
    (windows.into_iter())
        .map(|window| {
            let length = window.len();
            let pieces = window.chunks(TEXT);
            let mut out: Vec<u32> = pieces.flat_map(|text| [text, &planted].concat()).collect();
            out.truncate(length);
            out
        })
        .collect()
}

/// All attackers together replace the mean.
pub(super) fn update(view: &AttackerView<'_>, at: usize) -> Vec<f32> {
    let stretch = view.members as f64 / view.attackers as f64;
    scaled(&view.trained[at], stretch)
}
