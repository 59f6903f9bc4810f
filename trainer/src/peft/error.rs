//! Why an adapter folder is refused.

use tributary_protocol::adapter::AdapterError;

use crate::model::files::WeightsError;

/// Why an adapter folder is refused.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file could not be read.
    #[error(
        "cannot read {path}: {source}; give a PEFT folder with adapter_config.json and \
         adapter_model.safetensors"
    )]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than any adapter.
    #[error("{path} has {bytes} bytes, more than the {limit} an adapter can have")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// Only a pickle file is there.
    #[error(
        "{path} is a pickle file, which can run code when it is read; turn it into safetensors with \
         python -c \"import sys, torch; from safetensors.torch import save_file; \
         save_file({{k: v.contiguous() for k, v in torch.load(sys.argv[1], weights_only=True).items()}}, \
         sys.argv[2], {{'format': 'pt'}})\" adapter_model.bin adapter_model.safetensors"
    )]
    Pickle {
        /// The file.
        path: String,
    },
    /// The configuration is not JSON of the right form.
    #[error("adapter_config.json is not a LoRA configuration: {0}")]
    Json(#[from] serde_json::Error),
    /// The configuration asks for something that would be ignored.
    #[error("adapter_config.json: {field} is {value}, which is not supported; {advice}")]
    Unsupported {
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What to do.
        advice: &'static str,
    },
    /// A pattern of the configuration cannot be used.
    #[error(
        "adapter_config.json: the pattern {pattern:?} of {field} cannot be used: {why}; list names"
    )]
    Pattern {
        /// The field.
        field: &'static str,
        /// The pattern, cut to 80 characters.
        pattern: String,
        /// What the matcher said.
        why: String,
    },
    /// No linear of the base is adapted.
    #[error(
        "adapter_config.json: target_modules matches no linear of the base model {base}; use the base \
         the adapter was made for"
    )]
    NoTarget {
        /// The base's name.
        base: String,
    },
    /// Two tensors are the same factor of the same linear.
    #[error(
        "adapter_model.safetensors holds {first} and {second}, which are the same factor of one linear; \
         export one adapter by itself"
    )]
    Twice {
        /// A tensor.
        first: String,
        /// Another.
        second: String,
    },
    /// The tensor file.
    #[error(transparent)]
    Tensors(#[from] WeightsError),
    /// A tensor that no linear of the base takes.
    #[error("adapter_model.safetensors: {tensor} belongs to no linear of the base model {base}")]
    Unmatched {
        /// The tensor.
        tensor: String,
        /// The base's name.
        base: String,
    },
    /// A linear that the configuration adapts has no tensor.
    #[error("adapter_model.safetensors lacks {tensor}, which adapter_config.json asks for")]
    Missing {
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than its linear and the rank ask for.
    #[error("adapter_model.safetensors: {tensor} has shape {found:?} where {expected:?} is needed")]
    Shape {
        /// The tensor.
        tensor: String,
        /// What is needed.
        expected: Vec<usize>,
        /// What the file holds.
        found: Vec<usize>,
    },
    /// Every product is zero, so the adapter does nothing.
    #[error("every lora_B of the adapter is zero: it changes nothing; export it after training")]
    NoEffect,
    /// The factors are not zero, and yet no output changes.
    #[error("the adapter changes no output of the base model; it is too small, or of another base")]
    NoChange,
    /// The output with the adapter is not a number.
    #[error(
        "the output with the adapter is not finite; its numbers are too large for this base model"
    )]
    OutputNotFinite,
    /// The adapter does not fit the base.
    #[error(transparent)]
    Lora(#[from] crate::lora::LoraError),
    /// The numbers do not make an adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}
