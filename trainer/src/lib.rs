//! LoRA fine-tuning, evaluation, gradients and generation for Llama, Qwen2 and Qwen3 models.
//!
//! Synchronous and without a network: a peer calls this crate from worker threads. It turns a base model, an adapter
//! as plain data and local text into losses, gradients and moved factors. Other crates decide whose data it is and
//! what the numbers are worth.
//!
//! ```text
//!  config.json, safetensors (shards), tokenizer.json     PEFT folder
//!                    |                                    |      ^
//!                BaseModel -- hash, adapter_shape      import  export
//!                    |                                    v      |
//!   text -> Windows -+------------------ Adapter (flat f32 vector of the protocol)
//!                    |                      |
//!        +-----------+-----------+----------+-------+
//!     Session                 evaluate   gradient  generate
//!  (delta of local steps)      (loss)   (attribution) (answers)
//! ```
//!
//! Modules: [`base`] and [`config`] load a model, [`data`] reads, cuts and packs text, `chat` writes conversations,
//! [`session`] trains an adapter, [`finetune`](mod@finetune) does all of it on files, [`evaluate()`] scores it,
//! [`gradient`] differentiates it, `answer` does both for one answer, [`generate`](mod@generate) answers with it,
//! [`peft`] exchanges it, [`full`] trains a base model from nothing, [`device`] picks where to compute and `progress`
//! reports. [`brook`] is the embedded base model, [`pretrain`] how it was made, [`shards`] the demo's texts. `model`
//! holds the decoder, `optimizer` AdamW.

mod answer;
pub mod base;
pub mod brook;
pub mod ceiling;
pub mod data;
pub mod device;
mod evaluate;
pub mod finetune;
pub mod full;
pub mod generate;
pub mod gradient;
#[cfg(feature = "hub")]
pub mod hub;
pub mod lora;
pub mod model;
mod optimizer;
pub mod peft;
pub mod pretrain;
mod progress;
pub mod session;
pub mod shards;

pub use tributary_engine::{chat, config, input, json, tokenizer};

pub use answer::{most_tokens, stretch_gradients, token_losses, tokens_loss_and_gradient};
pub use base::{BaseError, BaseModel};
pub use chat::{ChatError, ChatTemplate, Date};
pub use data::{DataError, Dataset, DatasetError, Windows};
pub use evaluate::{Evaluation, evaluate, evaluate_with};
pub use finetune::{FinetuneError, FinetuneEvent, FinetuneOptions, Finetuned, finetune};
pub use generate::{GenerateConfig, GenerateError, Generation, generate, generate_ids};
pub use gradient::{GradientError, LossGradient, dot, loss_and_gradient};
pub use optimizer::AdamWConfig;
pub use peft::{ImportError, export_peft, import_peft};
pub use progress::{Control, Progress};
pub use session::report::Span;
pub use session::{Schedule, Session, SessionError, StepReport, TrainConfig};
pub use tokenizer::{Tokenizer, TokenizerError};

#[cfg(test)]
mod testing;
