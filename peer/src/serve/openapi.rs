//! The contract of this server as an OpenAPI document, from its routes and types.

use utoipa::OpenApi;

use super::refusal::ErrorBody;
use super::{agreements, routes, shares};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tributary inference API",
        description = "Answers of one base model and its adapters, for OpenAI's clients. Where the server wants a token, \
                       every route but `/health` needs it as `Authorization: Bearer TOKEN`.",
    ),
    paths(
        routes::chat_completions,
        routes::text_completions,
        routes::create_response,
        shares::shares,
        agreements::agree,
        routes::models,
        routes::model,
        routes::load,
        routes::unload,
        routes::health,
        routes::contract,
    ),
    components(schemas(ErrorBody))
)]
struct Contract;

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    Contract::openapi()
}
