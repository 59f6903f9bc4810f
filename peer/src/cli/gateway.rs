//! `tributary gateway`: a local `/v1` that asks servers and pays them, and the till of a server that is paid.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tributary_engine::Base;
use tributary_engine::tokenizer::Tokenizer;
use tributary_trainer::input;

use super::Context;
use super::args::{GatewayArgs, PayArgs, parse_grant};
use super::serve::{DRAIN, ended_early};
use super::up::interrupted;
use crate::home::HomePaths;
use crate::identity::Identity;
use crate::model::BROOK;
use crate::serve::allowance::Allowance;
use crate::serve::book::Prices;
use crate::serve::channels::ChannelOptions;
use crate::serve::gateway::{Gateway, GatewayOptions};
use crate::serve::till::{Open, Till};
use crate::terminal::{Failure, note};

/// `gateway/1`: the gateway is ready.
#[derive(Serialize)]
pub(super) struct Ready {
    schema: &'static str,
    /// What clients call their base URL.
    pub(super) url: String,
    /// The account that pays, which servers grant an allowance.
    consumer: String,
}

impl Ready {
    pub(super) fn of(gateway: &Gateway) -> Self {
        Self {
            schema: "gateway/1",
            url: format!("http://{}/v1", gateway.addr()),
            consumer: gateway.consumer().to_string(),
        }
    }

    pub(super) fn words(&self) -> String {
        format!("gateway at {}", self.url)
    }
}

pub(super) async fn run(context: &Context, args: GatewayArgs) -> Result<(), Failure> {
    let gateway = start(options(context, &args)?).await?;
    (context.out).answer(&Ready::of(&gateway), |r| {
        format!("{}\nIt pays from the account {}", r.words(), r.consumer)
    })?;
    interrupted().await?;
    drain(gateway).await;
    Ok(())
}

/// What the arguments ask for.
pub(super) fn options(context: &Context, args: &GatewayArgs) -> Result<GatewayOptions, Failure> {
    // The daemon may hold the home at the same time: only the key is read.
    let identity = Identity::read_file(&HomePaths::new(&context.home).key())
        .map_err(|e| Failure::from_error(&e))?;
    let tokens = match &args.token_file {
        Some(file) => tokens(file)?,
        None => Vec::new(),
    };
    let token = |url: &String| {
        tokens
            .iter()
            .find(|(of, _)| of == url)
            .map(|(_, token)| token.clone())
    };
    Ok(GatewayOptions {
        listen: args.listen,
        servers: args
            .server
            .iter()
            .map(|url| (url.clone(), token(url)))
            .collect(),
        key: crate::keeper::account(&identity),
        most: args.most,
        budget: args.budget,
        tokenizer: args.base.as_deref().map(tokenizer).transpose()?,
        agrees: args.agree,
    })
}

/// Listens.
pub(super) async fn start(options: GatewayOptions) -> Result<Gateway, Failure> {
    let started = crate::serve::gateway::start(options).await;
    started.map_err(|e| Failure::from_error(&e))
}

/// Ends a gateway, once what was begun is answered or took too long, and says what it spent.
pub(super) async fn drain(mut gateway: Gateway) {
    if !gateway.drain(DRAIN).await {
        ended_early();
    }
    let spending = gateway.spending();
    let spent = spending["spent"].as_str().unwrap_or_default();
    note(format_args!("spent {spent} micro-OPEN"));
}

fn tokenizer(base: &str) -> Result<Tokenizer, Failure> {
    let loaded = match base {
        BROOK => Base::brook(),
        folder => Base::from_dir(Path::new(folder)),
    };
    let loaded = loaded.map_err(|e| {
        Failure::environment(format!("cannot load the base model {base}: {e}"))
            .hint("give `brook` or a folder in Hugging Face layout, or leave the base out")
    })?;
    Ok(loaded.info.tokenizer)
}

fn tokens(file: &Path) -> Result<Vec<(String, String)>, Failure> {
    let text = read(file, "the tokens")?;
    let line = |line: &str| {
        let (url, token) = line.split_once(char::is_whitespace)?;
        Some((url.to_owned(), token.trim().to_owned()))
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tokens: Option<Vec<(String, String)>> = lines.map(line).collect();
    tokens.ok_or_else(|| {
        Failure::environment(format!("a line of {} is not understood", file.display()))
            .hint("write URL TOKEN on each line, the URL as it stands among the servers")
    })
}

fn read(file: &Path, what: &str) -> Result<String, Failure> {
    input::text(file).map_err(|e| {
        Failure::environment(format!("cannot read {what} in {}: {e}", file.display()))
            .hint("give another file")
    })
}

/// How answers of adapters are paid whose runs take pay on their chain.
pub(super) fn channels(context: &Context, args: &PayArgs) -> Option<ChannelOptions> {
    let folder = HomePaths::new(&context.home).channels();
    args.is_paid().then(|| ChannelOptions {
        prices: prices(args),
        exposure: args.exposure,
        folder,
    })
}

fn prices(args: &PayArgs) -> Prices {
    Prices {
        prompt: args.price_prompt.unwrap_or_default(),
        answer: args.price_answer.unwrap_or_default(),
    }
}

/// Who is paid for a server's answers, and out of what.
pub(super) fn till(context: &Context, args: &PayArgs) -> Result<Arc<dyn Till>, Failure> {
    let mut grants = args.allow.clone();
    if let Some(file) = &args.allow_file {
        for line in read(file, "the allowances")?
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            grants.push(parse_grant(line).map_err(|why| {
                Failure::environment(format!("a line of {} is not understood", file.display()))
                    .hint(why)
            })?);
        }
    }
    if !args.is_paid() {
        return match grants.is_empty() {
            true => Ok(Arc::new(Open)),
            false => Err(Failure::environment(
                "an allowance was granted, and answers cost nothing",
            )
            .hint("give --price-prompt and --price-answer")),
        };
    }
    if grants.is_empty() {
        note(
            "warning: answers cost something, and nobody is granted an allowance; give --allow ACCOUNT=AMOUNT. Only adapters of runs that \
             take pay on their chain are paid for without one, in a daemon (`up --serve`)",
        );
    }
    let paths = HomePaths::new(&context.home);
    let identity = Identity::read_file(&paths.key()).map_err(|e| Failure::from_error(&e))?;
    let account = crate::keeper::account_of(&identity);
    let allowance = Allowance::open(&paths.allowances(), account, prices(args), grants);
    Ok(Arc::new(allowance.map_err(|e| Failure::from_error(&e))?))
}
