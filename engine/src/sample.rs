//! Which token follows, given the model's logits.

/// How tokens are chosen. The default takes the most likely one.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Zero takes the most likely token; larger values flatten the choice.
    pub temperature: f32,
    /// Draw only among the likeliest tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Draw only among so many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Draw only among tokens with at least this part of the likeliest one's probability; 0 keeps all.
    pub min_p: f32,
    /// Taken from the logit of each token that the answer holds already.
    pub presence_penalty: f32,
    /// Taken from the logit of a token for each time that the answer holds it.
    pub frequency_penalty: f32,
    /// Divides positive and multiplies negative logits of tokens that prompt or answer hold; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Added to the logits of single tokens, in ascending order of tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}
