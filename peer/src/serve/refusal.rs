//! Why a request is not answered, in the shape that OpenAI's clients read.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use tributary_engine::Refused;
use utoipa::ToSchema;

/// A refused or failed request. The code never changes its meaning; messages may.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable code.
    pub code: &'static str,
    /// The field that is wrong.
    pub param: Option<String>,
    /// What failed, why, what to do.
    pub message: String,
    /// When to ask again, in seconds.
    pub retry_after_s: Option<u64>,
    /// Further headers, such as what a payment needs.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The body of every answer that is none.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorFields,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorFields {
    /// What failed, why, what to do.
    pub message: String,
    /// What kind of error it is: `invalid_request_error`, `authentication_error`, `permission_error`,
    /// `rate_limit_error`, `insufficient_quota` or `server_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The field of the request that is wrong.
    pub param: Option<String>,
    /// A stable name of this error.
    pub code: &'static str,
}

impl Refusal {
    /// A refusal without a field.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            param: None,
            message: message.into(),
            retry_after_s: None,
            headers: Vec::new(),
        }
    }

    /// A field has a value that cannot be.
    pub fn value(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::field("invalid_value", param, message)
    }

    /// A field asks for something that is not served.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::field("unsupported_parameter", param, message)
    }

    /// A field is wrong.
    pub fn field(code: &'static str, param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(StatusCode::BAD_REQUEST, code, message)
        }
    }

    /// Too many at once; ask again later.
    pub fn busy(code: &'static str, message: impl Into<String>, retry_after_s: u64) -> Self {
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, message)
        }
    }

    /// No such model.
    pub fn no_model(name: &str) -> Self {
        Self {
            param: Some("model".into()),
            ..Self::new(
                StatusCode::NOT_FOUND,
                "model_not_found",
                format!(
                    "the model `{}` is not served here; GET /v1/models lists those that are",
                    shown(name)
                ),
            )
        }
    }

    /// The server's own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The body.
    pub fn body(&self) -> ErrorBody {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            402 => "insufficient_quota",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        ErrorBody {
            error: ErrorFields {
                message: self.message.clone(),
                kind,
                param: self.param.clone(),
                code: self.code,
            },
        }
    }

    /// The answer.
    pub fn response(&self) -> Response<Body> {
        let mut response = json(self.status, &self.body());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        response
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::TooLong { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message)
            }
            Refused::EmptyPrompt => Self::new(StatusCode::BAD_REQUEST, "empty_prompt", message),
            Refused::UnknownToken { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "unknown_token", message)
            }
            Refused::Sampling { field, .. } => Self::value(field, message),
            Refused::Busy { retry_after_s, .. } => Self::busy("queue_full", message, retry_after_s),
            Refused::Closing => closing(),
        }
    }
}

/// The server takes nothing more.
pub(super) fn closing() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "closing",
        "the server is closing; ask another one",
    )
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_string(body).expect("texts, numbers and lists always serialise");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The beginning of a stranger's text, for a message.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 64;
    let mut shown: String = (text.chars().take(MOST))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('\u{2026}');
    }
    shown
}
