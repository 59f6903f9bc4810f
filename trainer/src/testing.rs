//! Small random models for this crate's tests.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) use tributary_engine::test_utils::{
    encoded, every_family, files_of, tiny_config, tiny_files,
};
use tributary_protocol::adapter::Adapter;

use crate::base::BaseModel;
use crate::config::Config;

/// A random base model whose tokens are the letters and the space.
pub(crate) fn tiny_base() -> BaseModel {
    base_of(&tiny_config())
}

/// As [`tiny_base`], of another configuration.
pub(crate) fn base_of(config: &Config) -> BaseModel {
    let [config, model, tokenizer] = files_of(config);
    BaseModel::from_bytes("tiny", &config, &model, &tokenizer).unwrap()
}

/// An adapter on all linears whose two factors are both random.
pub(crate) fn random_adapter(base: &BaseModel, rank: u32, seed: u64) -> Adapter {
    let shape = Arc::new(base.adapter_shape(rank, 2 * rank));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || rng.random::<f32>() * 0.4 - 0.2;
    let values = (0..shape.parameters()).map(|_| draw()).collect();
    Adapter::new(shape, values).unwrap()
}
