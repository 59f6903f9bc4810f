//! Factors against the flat vector they come from.

use super::*;
use crate::testing::tiny_config;
use tributary_protocol::hash::Digest;

#[test]
fn foreign_adapters_are_refused_by_module() {
    let config = tiny_config();
    let device = crate::device::cpu();
    let mut shape = full_shape(&config, 2, 4);
    shape.modules[3].name = "model.layers.7.self_attn.o_proj".into();
    let adapter = Adapter::init(Arc::new(shape), &Digest::default());
    let error = Factors::new(&config, &adapter, None, &device).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("model.layers.7.self_attn.o_proj")
    );

    let mut shape = full_shape(&config, 2, 4);
    shape.modules[3].inputs += 1;
    let adapter = Adapter::init(Arc::new(shape), &Digest::default());
    let error = Factors::new(&config, &adapter, None, &device).unwrap_err();
    assert!(error.to_string().contains("self_attn.o_proj"));
}
