//! Which linears of a base an adapter adapts.

use tributary_protocol::adapter::{AdapterShape, Module};

use crate::config::Config;
use crate::model::parameters::{LINEARS, linear_shapes};

/// Why an adapter does not fit a base model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoraError {
    /// The adapter names a module that the base does not have.
    #[error(
        "the adapter adapts {0}, which the base model does not have; use the base it was made for"
    )]
    UnknownModule(String),
    /// A module has other widths in the base.
    #[error(
        "the adapter takes {name} to be {found:?} (inputs, outputs), the base model's is \
         {expected:?}; use the base it was made for"
    )]
    Width {
        /// The module.
        name: String,
        /// `(inputs, outputs)` in the base.
        expected: (u32, u32),
        /// `(inputs, outputs)` in the adapter.
        found: (u32, u32),
    },
}

/// The adapter shape that covers all seven linears of every layer.
pub fn full_shape(config: &Config, rank: u32, alpha: u32) -> AdapterShape {
    AdapterShape {
        rank,
        alpha,
        modules: modules(config),
    }
}

/// Every linear that can be adapted, in canonical order.
pub fn modules(config: &Config) -> Vec<Module> {
    let shapes = linear_shapes(config);
    let module = |layer: usize, which: usize| Module {
        name: format!("model.layers.{layer}.{}", LINEARS[which]),
        inputs: shapes[which][1] as u32,
        outputs: shapes[which][0] as u32,
    };
    (0..config.layers)
        .flat_map(|layer| (0..7).map(move |which| (layer, which)))
        .map(|(layer, which)| module(layer, which))
        .collect()
}

/// Where each linear of the base finds its pair.
pub fn places(config: &Config, shape: &AdapterShape) -> Result<Vec<Option<usize>>, LoraError> {
    let base = modules(config);
    let mut places = vec![None; base.len()];
    for (place, module) in shape.modules.iter().enumerate() {
        let at = (base.iter().position(|b| b.name == module.name))
            .ok_or_else(|| LoraError::UnknownModule(module.name.clone()))?;
        let expected = (base[at].inputs, base[at].outputs);
        let found = (module.inputs, module.outputs);
        if expected != found {
            return Err(LoraError::Width {
                name: module.name.clone(),
                expected,
                found,
            });
        }
        places[at] = Some(place);
    }
    Ok(places)
}
