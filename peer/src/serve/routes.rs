//! What each route does, with its line of the contract.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use futures::StreamExt;
use tributary_engine::request::Consumer;

use super::adapters::{AdapterError, ServedModel};
use super::answer::begin;
use super::ask::Ask;
use super::chat::ChatForm;
use super::completions::CompletionForm;
use super::fields::Fields;
use super::head::Head;
use super::refusal::{ErrorBody, json};
use super::responses::{self, ResponseForm};
use super::stream::{Form, at_once, in_pieces};
use super::types::{
    ChatCompletion, ChatRequest, Completion, CompletionRequest, Health, LoadRequest, Model,
    ModelList, ResponseObject, ResponseRequest, UnloadRequest,
};
use super::{Refusal, Shop, agreements, chat, completions, openapi, shares};

/// Largest body of a request, in bytes: some hundred thousand tokens, more than any model here takes.
pub(super) const MOST_BODY_BYTES: usize = 1 << 20;
/// From the end of a request's head to the end of its body.
pub(super) const BODY_TIME: Duration = Duration::from_secs(15);
/// How long a request waits for its turn to be understood.
const TURN_TIME: Duration = Duration::from_secs(10);

/// Answers one request.
pub(super) async fn answer(shop: Arc<Shop>, request: Request<Body>) -> Response<Body> {
    match route(&shop, request).await {
        Ok(response) => response,
        Err(refusal) => {
            let mut response = refusal.response();
            // What is left of a body that was refused unread is not a request.
            if matches!(refusal.status.as_u16(), 400 | 403 | 408 | 411 | 413 | 415) {
                let close = header::HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            response
        }
    }
}

/// The routes and their one method each.
const ROUTES: [(&str, Method); 11] = [
    ("/health", Method::GET),
    ("/openapi.json", Method::GET),
    ("/v1/models", Method::GET),
    ("/v1/models/{id}", Method::GET),
    ("/v1/chat/completions", Method::POST),
    ("/v1/completions", Method::POST),
    ("/v1/responses", Method::POST),
    ("/v1/answers/{id}/shares", Method::GET),
    ("/v1/agreements", Method::POST),
    ("/v1/load_lora_adapter", Method::POST),
    ("/v1/unload_lora_adapter", Method::POST),
];

async fn route(shop: &Arc<Shop>, request: Request<Body>) -> Result<Response<Body>, Refusal> {
    let (head, body) = request.into_parts();
    shop.gate.knows(&head.uri, &head.headers)?;
    let (route, named) = named(head.uri.path());
    let Some((_, method)) = ROUTES.iter().find(|(known, _)| *known == route) else {
        let message = "there is no such route; GET /openapi.json lists them";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_url", message));
    };
    if head.method != *method {
        let message = format!("{route} takes {method}");
        let mut refusal = Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        );
        let allowed = method.as_str().parse().expect("a method is a plain word");
        refusal.headers.push((header::ALLOW, allowed));
        return Err(refusal);
    }
    if route == "/health" {
        return health(shop);
    }
    let consumer = shop.gate.admit(&head.headers, Instant::now())?;
    let headers = head.headers;
    match route {
        "/openapi.json" => Ok(contract()),
        "/v1/models" => Ok(models(shop)),
        "/v1/models/{id}" => model(shop, named),
        "/v1/answers/{id}/shares" => shares::shares(shop, consumer, named, head.uri.query()).await,
        "/v1/chat/completions" => {
            let fields = read(&headers, body).await?;
            chat_completions(shop, headers, consumer, fields).await
        }
        "/v1/completions" => {
            let fields = read(&headers, body).await?;
            text_completions(shop, headers, consumer, fields).await
        }
        "/v1/responses" => {
            let fields = read(&headers, body).await?;
            create_response(shop, headers, consumer, fields).await
        }
        "/v1/agreements" => agreements::agree(shop, consumer, read(&headers, body).await?).await,
        "/v1/load_lora_adapter" => load(shop, read(&headers, body).await?).await,
        _ => unload(shop, read(&headers, body).await?),
    }
}

/// The route of a path, and what the path names in its place of `{id}`.
fn named(path: &str) -> (&str, &str) {
    let within = |prefix: &str, suffix: &str| {
        let rest = path.strip_prefix(prefix)?;
        rest.strip_suffix(suffix).filter(|name| !name.is_empty())
    };
    if let Some(name) = within("/v1/models/", "") {
        return ("/v1/models/{id}", name);
    }
    match within("/v1/answers/", "/shares") {
        Some(id) => ("/v1/answers/{id}/shares", id),
        None => (path, ""),
    }
}

/// The fields of a body, read within bounds of size and time.
async fn read(headers: &HeaderMap, body: Body) -> Result<Fields, Refusal> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.map(|kind| {
        kind.split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    });
    if kind.as_deref() != Some("application/json") || headers.contains_key(header::CONTENT_ENCODING)
    {
        let message = "the body must be plain JSON: send `Content-Type: application/json` and no `Content-Encoding`";
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content_type",
            message,
        ));
    }
    let too_large = || {
        let message =
            format!("the body has more than the {MOST_BODY_BYTES} bytes allowed; shorten it");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    if body.size_hint().lower() > MOST_BODY_BYTES as u64 {
        return Err(too_large());
    }
    let whole = async {
        let mut whole = Vec::new();
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|e| {
                let message = format!("the body ended early or is not well formed: {e}");
                Refusal::new(StatusCode::BAD_REQUEST, "body_unreadable", message)
            })?;
            if whole.len() + part.len() > MOST_BODY_BYTES {
                return Err(too_large());
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    };
    let whole = tokio::time::timeout(BODY_TIME, whole).await.map_err(|_| {
        let message = format!(
            "the body did not come within {} s; send it faster",
            BODY_TIME.as_secs()
        );
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    })??;
    Fields::read(&whole)
}

/// Runs what computes on a thread that may, a few at a time.
pub(super) async fn computed<T: Send + 'static>(
    shop: &Arc<Shop>,
    work: impl FnOnce(&Shop) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let turn = tokio::time::timeout(TURN_TIME, shop.turns.clone().acquire_owned()).await;
    let turn = turn.map_err(|_| {
        Refusal::busy(
            "server_busy",
            "too many requests wait to be read; ask again in 1 s",
            1,
        )
    })?;
    let shop = shop.clone();
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work(&shop)
    });
    done.await.unwrap_or_else(|_| {
        Err(Refusal::internal(
            "the server failed on this request; please report it",
        ))
    })
}

/// Answers in the form of a route.
async fn answered<F: Form>(
    shop: &Arc<Shop>,
    headers: HeaderMap,
    consumer: Consumer,
    (id, ask): (String, Ask),
    form: F,
) -> Result<Response<Body>, Refusal> {
    let answers = ask.prompts.len() * ask.settings.answers;
    let stream = ask.settings.stream;
    // Here, where a slow one holds up nobody else.
    let adapter = shop.model(&ask.model).await?;
    let pieces = begin(shop.clone(), headers, consumer, (id, ask, adapter)).await?;
    match stream {
        true => Ok(in_pieces(pieces, form)),
        false => at_once(pieces, answers, &form).await,
    }
}

/// Answers a conversation.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "answers",
    request_body = ChatRequest,
    responses(
        (status = 200, body = ChatCompletion, description = "The answer; with `stream` an event for each piece, then `[DONE]`"),
        (status = "default", body = ErrorBody, description = "Why not"),
    ),
)]
pub(super) async fn chat_completions(
    shop: &Arc<Shop>,
    headers: HeaderMap,
    consumer: Consumer,
    fields: Fields,
) -> Result<Response<Body>, Refusal> {
    let ask = computed(shop, |shop| chat::read(&shop.reading, fields)).await?;
    let head = Head::new(shop, &ask.model);
    let id = head.id.clone();
    let form = ChatForm::new(head, shop, ask.settings.clone());
    answered(shop, headers, consumer, (id, ask), form).await
}

/// Continues texts.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "answers",
    request_body = CompletionRequest,
    responses(
        (status = 200, body = Completion, description = "The answer; with `stream` an event for each piece, then `[DONE]`"),
        (status = "default", body = ErrorBody, description = "Why not"),
    ),
)]
pub(super) async fn text_completions(
    shop: &Arc<Shop>,
    headers: HeaderMap,
    consumer: Consumer,
    fields: Fields,
) -> Result<Response<Body>, Refusal> {
    let ask = computed(shop, |shop| completions::read(&shop.reading, fields)).await?;
    let head = Head::new(shop, &ask.model);
    let id = head.id.clone();
    let form = CompletionForm::new(head, shop, ask.settings.clone());
    answered(shop, headers, consumer, (id, ask), form).await
}

/// Answers once, without keeping anything: `store` is false unless it is asked for, and then refused.
#[utoipa::path(
    post,
    path = "/v1/responses",
    tag = "answers",
    request_body = ResponseRequest,
    responses(
        (status = 200, body = ResponseObject, description = "The answer; with `stream` named events"),
        (status = "default", body = ErrorBody, description = "Why not"),
    ),
)]
pub(super) async fn create_response(
    shop: &Arc<Shop>,
    headers: HeaderMap,
    consumer: Consumer,
    fields: Fields,
) -> Result<Response<Body>, Refusal> {
    let (ask, told) = computed(shop, |shop| responses::read(&shop.reading, fields)).await?;
    let head = Head::new(shop, &ask.model);
    let id = head.id.clone();
    let form = ResponseForm::new(head, told);
    answered(shop, headers, consumer, (id, ask), form).await
}

/// The base and its adapters.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "models",
    responses((status = 200, body = ModelList, description = "OK"), (status = "default", body = ErrorBody, description = "Why not")),
)]
pub(super) fn models(shop: &Shop) -> Response<Body> {
    let list = ModelList {
        object: "list",
        data: every_model(shop),
    };
    json(StatusCode::OK, &list)
}

/// One of them.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    tag = "models",
    params(("id" = String, Path, description = "Its name")),
    responses((status = 200, body = Model, description = "OK"), (status = "default", body = ErrorBody, description = "Why not")),
)]
pub(super) fn model(shop: &Shop, name: &str) -> Result<Response<Body>, Refusal> {
    let name = unescaped(name);
    let found = every_model(shop).into_iter().find(|model| model.id == name);
    let found = found.ok_or_else(|| Refusal::no_model(&name))?;
    Ok(json(StatusCode::OK, &found))
}

fn every_model(shop: &Shop) -> Vec<Model> {
    let model = |served: ServedModel| Model {
        id: served.id,
        object: "model",
        created: served.created,
        owned_by: "tributary",
        root: served.content,
        parent: served.parent,
    };
    shop.adapters.list().into_iter().map(model).collect()
}

/// A path's part without its percent signs.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        let digits = rest.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                left = &rest[2..];
            }
            None => {
                bytes.push(*first);
                left = rest;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Loads an adapter from a folder of this machine, or fetches it by its id. Only a server on a loopback address does.
#[utoipa::path(
    post,
    path = "/v1/load_lora_adapter",
    tag = "models",
    request_body = LoadRequest,
    responses((status = 200, body = Model, description = "OK"), (status = "default", body = ErrorBody, description = "Why not")),
)]
pub(super) async fn load(shop: &Arc<Shop>, mut fields: Fields) -> Result<Response<Body>, Refusal> {
    may_change(shop)?;
    let name = fields.needed_text("lora_name")?;
    let path = fields.needed_text("lora_path")?;
    let replaces = fields.flag("load_inplace")?.unwrap_or(false);
    fields.done(&[])?;
    if path.contains("://") {
        let message =
            "`lora_path` must be a folder of this machine or an id; nothing is fetched from a URL";
        return Err(Refusal::value("lora_path", message));
    }
    if !replaces && shop.adapters.knows(&name) {
        return Err(refused(&AdapterError::NameTaken { name }));
    }
    let loaded = shop.adapters.load(&name, &path, false).await;
    loaded.map_err(|e| refused(&e))?;
    model(shop, &name)
}

/// Forgets an adapter. Requests that began with it go on.
#[utoipa::path(
    post,
    path = "/v1/unload_lora_adapter",
    tag = "models",
    request_body = UnloadRequest,
    responses((status = 200, body = Health, description = "OK"), (status = "default", body = ErrorBody, description = "Why not")),
)]
pub(super) fn unload(shop: &Shop, mut fields: Fields) -> Result<Response<Body>, Refusal> {
    may_change(shop)?;
    let name = fields.needed_text("lora_name")?;
    // Of vLLM's, and of no use here.
    fields.done(&["lora_int_id"])?;
    shop.adapters.unload(&name).map_err(|e| refused(&e))?;
    Ok(ok())
}

fn may_change(shop: &Shop) -> Result<(), Refusal> {
    if shop.is_private {
        return Ok(());
    }
    let message = "this server listens for other machines, so that its adapters are those that its owner named with \
                   --adapter";
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "adapters_fixed",
        message,
    ))
}

/// Why an adapter is not served.
pub(super) fn refused(error: &AdapterError) -> Refusal {
    let code = error.code();
    Refusal {
        retry_after_s: matches!(error, AdapterError::Busy { .. }).then_some(1),
        ..Refusal::new(status(code), code, error.to_string())
    }
}

/// The status of a code of [`AdapterError`].
pub(super) fn status(code: &str) -> StatusCode {
    match code {
        "adapter_not_found" => StatusCode::NOT_FOUND,
        "adapter_name_taken"
        | "too_many_adapters"
        | "adapter_memory_pinned"
        | "adapter_changed" => StatusCode::CONFLICT,
        "adapter_busy" => StatusCode::TOO_MANY_REQUESTS,
        "adapter_unreachable" | "server_closing" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// Whether the server answers.
#[utoipa::path(
    get,
    path = "/health",
    tag = "server",
    responses((status = 200, body = Health, description = "OK"), (status = "default", body = ErrorBody, description = "Why not")),
)]
pub(super) fn health(shop: &Shop) -> Result<Response<Body>, Refusal> {
    if shop.thread.is_finished() {
        let why = "the engine has stopped; restart the server";
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "engine_stopped",
            why,
        ));
    }
    Ok(ok())
}

fn ok() -> Response<Body> {
    json(StatusCode::OK, &Health { status: "ok" })
}

/// This contract.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "server",
    responses((status = 200, description = "OK"), (status = "default", body = ErrorBody, description = "Why not")),
)]
pub(super) fn contract() -> Response<Body> {
    json(StatusCode::OK, &openapi::document())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_contract_and_nothing_else() {
        let document = serde_json::to_value(openapi::document()).unwrap();
        let described: Vec<(String, Method)> = (document["paths"].as_object().unwrap().iter())
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(|m| (path.clone(), m.to_uppercase().parse().unwrap()))
            })
            .collect();
        assert_eq!(described.len(), ROUTES.len());
        for (path, method) in described {
            assert!(ROUTES.contains(&(path.as_str(), method)), "{path}");
        }
    }

    #[test]
    fn names_in_paths_are_unescaped() {
        assert_eq!(unescaped("a%2Fb%20c"), "a/b c");
        assert_eq!(unescaped("100%"), "100%");
        assert_eq!(unescaped("%zz%2"), "%zz%2");
    }
}
