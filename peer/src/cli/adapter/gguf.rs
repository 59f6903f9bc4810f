//! `tributary adapter export --gguf`: an adapter as a file that llama.cpp loads.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tributary_engine::Base;
use tributary_trainer::peft::{export_gguf, import_for};

use crate::api::Reader;
use crate::api::local::Local;
use crate::api::types::ExportRequest;
use crate::cli::Context;
use crate::home::HomePaths;
use crate::model::card::Card;
use crate::model::{BROOK, folder_of};
use crate::terminal::Failure;
use crate::terminal::output::bytes;

/// `adapter-gguf/1`.
#[derive(Serialize)]
struct GgufReport {
    schema: &'static str,
    /// The file.
    file: PathBuf,
    /// Its size.
    bytes: u64,
    /// The base's name.
    base: String,
    /// Hash of the base's files.
    base_hash: String,
    /// Rank of the adapter.
    rank: u32,
    /// Linears that it adapts.
    linears: usize,
}

/// Writes the adapter of a PEFT folder or an id as the file `out`.
pub(super) async fn export(
    context: &Context,
    id: &str,
    out: &Path,
    base: Option<String>,
) -> Result<(), Failure> {
    if out.exists() {
        return Err(Failure::environment(format!("{} exists", out.display()))
            .hint("name a new file, such as adapter.gguf"));
    }
    let passing = tempfile::tempdir()?;
    let folder = match Path::new(id).is_dir() {
        true => PathBuf::from(id),
        false => {
            let (id, dir) = (id.to_owned(), passing.path().join("adapter"));
            let request = ExportRequest {
                id,
                dir: dir.clone(),
            };
            Local::of(&context.home).await?.export(request).await?;
            dir
        }
    };
    let (home, out) = (HomePaths::new(&context.home), out.to_owned());
    let writing = tokio::task::spawn_blocking(move || write(&home, &folder, &out, base));
    let report = writing.await??;
    context.out.answer(&report, |report| {
        format!(
            "file  {} ({})\nbase  {} (hash {})\n\nnext: llama-cli --model BASE.gguf --lora {}, where BASE.gguf is what llama.cpp's \
             convert_hf_to_gguf.py makes of the base",
            report.file.display(),
            bytes(report.bytes),
            report.base,
            report.base_hash,
            report.file.display()
        )
    })
}

fn write(
    home: &HomePaths,
    folder: &Path,
    out: &Path,
    base: Option<String>,
) -> Result<GgufReport, Failure> {
    let card = Card::read(folder);
    let base = opened(home, card.as_ref(), base)?.info;
    if let Some(card) = &card
        && card.base_hash != base.hash.to_string()
    {
        return Err(Failure::environment(format!(
            "the adapter adapts {} (hash {}), and the base given is {} (hash {})",
            card.base,
            card.base_hash.get(..10).unwrap_or(&card.base_hash),
            base.name,
            base.hash.short()
        ))
        .hint("name the folder of its own base with --base DIR"));
    }
    let adapter = import_for(folder, &base.name, &base.config)?;
    export_gguf(out, &base.config, &adapter)?;
    Ok(GgufReport {
        schema: "adapter-gguf/1",
        bytes: std::fs::metadata(out)?.len(),
        file: out.to_owned(),
        base: base.name,
        base_hash: base.hash.to_string(),
        rank: adapter.shape().rank,
        linears: adapter.shape().modules.len(),
    })
}

/// The base that was named, or else the one that the adapter's card names.
fn opened(home: &HomePaths, card: Option<&Card>, base: Option<String>) -> Result<Base, Failure> {
    let named = base.unwrap_or_else(|| BROOK.to_owned());
    let folder = match card {
        Some(card) if named == BROOK && card.base != BROOK => {
            let known = folder_of(home, &card.base_hash);
            known.ok_or_else(|| {
                Failure::environment(format!(
                    "the adapter adapts {}, which is not on this machine",
                    card.base
                ))
                .hint("name its folder with --base DIR")
            })?
        }
        _ if named == BROOK => return Ok(Base::brook()?),
        _ => PathBuf::from(named),
    };
    Ok(Base::from_dir(&folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_taken_from_the_program_or_has_to_be_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = HomePaths::new(dir.path());
        let base = opened(&home, None, None).unwrap();
        assert_eq!(base.info.name, BROOK);
        let missing = dir.path().join("none").display().to_string();
        let Err(error) = opened(&home, None, Some(missing)) else {
            panic!("there is no such folder");
        };
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn a_folder_of_brook_becomes_a_file_and_another_bases_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = HomePaths::new(dir.path());
        let base = Base::brook().unwrap().info;
        let shape = tributary_engine::lora::full_shape(&base.config, 2, 4);
        let values = (0..shape.parameters()).map(|i| (i % 7) as f32 / 8.0 - 0.3);
        let adapter =
            tributary_protocol::adapter::Adapter::new(shape.clone().into(), values.collect());
        let folder = dir.path().join("peft");
        tributary_trainer::export_peft(&folder, BROOK, &adapter.unwrap()).unwrap();
        let out = dir.path().join("brook.gguf");
        let report = write(&home, &folder, &out, None).unwrap();
        assert_eq!((report.rank, report.linears), (2, 28));
        assert!(report.bytes > 4 * shape.parameters() as u64);
        assert!(std::fs::read(&out).unwrap().starts_with(b"GGUF"));
    }
}
