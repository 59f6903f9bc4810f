//! One request: server after server until one begins to answer, each paid as it asks.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::MicroOpen;

use super::super::Refusal;
use super::super::book::Prices;
use super::super::fields::request_hash;
use super::super::x402::{self, Required, Settled, Terms};
use super::House;
use super::agree::{self, Answered, Heard};
use super::count::Want;
use super::offer::sign;
use super::purse::{Account, Ended};
use super::relay;

/// Vouchers that one server is offered for one request: requests at the same time may overtake each other.
const MOST_OFFERS: usize = 5;
/// Largest refusal of a server that is passed on, in bytes.
const MOST_REFUSAL_BYTES: usize = 64 << 10;

/// Why a server did not answer.
pub(super) enum Failed {
    /// Any server would refuse it so.
    Everywhere(Box<Response<Body>>),
    /// Another one may answer.
    Here {
        why: String,
        /// Whether it only is busy.
        is_busy: bool,
        /// Whether it is the server's fault.
        is_fault: bool,
    },
}

impl Failed {
    pub(super) fn fault(why: impl Into<String>) -> Self {
        Self::Here {
            why: why.into(),
            is_busy: false,
            is_fault: true,
        }
    }
}

/// What one server was promised for one request. Told exactly once how that ended; dropped untold, it broke off.
pub(super) struct Promise {
    house: Arc<House>,
    /// The server's place.
    at: usize,
    account: Account,
    /// What was signed into the channel with it.
    deposit: Option<MicroOpen>,
    pub(super) url: String,
    pub(super) price: MicroOpen,
    pub(super) prices: Prices,
    /// Hash of the request's body, where the shares of its answer are to be agreed to.
    pub(super) request: Option<Digest>,
    is_over: bool,
}

impl Promise {
    pub(super) fn new(
        house: &Arc<House>,
        at: usize,
        account: Account,
        (price, prices): (MicroOpen, Prices),
        deposit: Option<MicroOpen>,
    ) -> Self {
        Self {
            house: house.clone(),
            at,
            account,
            deposit,
            url: house.upstreams[at].url.to_string(),
            price,
            prices,
            request: None,
            is_over: false,
        }
    }

    /// Gives what it cost, or why the server's claim is not believed.
    pub(super) fn end(mut self, ended: Ended) -> MicroOpen {
        self.over(ended)
    }

    fn over(&mut self, ended: Ended) -> MicroOpen {
        self.is_over = true;
        let told = self
            .house
            .state
            .lock()
            .purse
            .end(self.account, self.price, ended);
        let cost = told.unwrap_or_else(|over| {
            tracing::warn!(
                "{} charged {} micro-OPEN for an answer that cost {} at most, as counted here; it is owed {} and gets no \
                 voucher again",
                self.url,
                over.claimed,
                over.counted,
                over.counted
            );
            MicroOpen(over.counted)
        });
        match ended {
            Ended::Refused => {}
            Ended::Broken => tracing::warn!(
                "an answer of {} broke off; at most {} micro-OPEN are lost",
                self.url,
                cost.0
            ),
            Ended::Answered { .. } => tracing::info!("{} was paid {} micro-OPEN", self.url, cost.0),
        }
        cost
    }

    /// Agrees to the shares of its answer, where that is wanted and the receipt names a channel.
    pub(super) fn agree(&self, heard: Option<Heard<'_>>, settled: Option<&Settled>) {
        if let (Some(request), Some(heard), Some(settled)) = (self.request, heard, settled)
            && let Some(answered) = Answered::of(request, heard, settled)
        {
            agree::agree(&self.house, self.at, answered);
        }
    }

    /// What the server may take of its vouchers beyond what was counted.
    pub(super) fn at_risk(&self) -> u128 {
        self.house.state.lock().purse.at_risk(self.account)
    }

    /// Ends it for a 402: neither its voucher nor its deposit was taken.
    fn declined(mut self) {
        if let Some(deposit) = self.deposit {
            self.house.state.lock().purse.kept(self.account, deposit);
        }
        self.over(Ended::Refused);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.is_over {
            self.over(Ended::Broken);
        }
    }
}

/// Answers a request of a client.
pub(super) async fn answer(
    house: &Arc<House>,
    path: &str,
    body: Vec<u8>,
) -> Result<Response<Body>, Refusal> {
    let value = serde_json::from_slice(&body).ok();
    let want = value.and_then(|value| Want::read(&value, house.tokenizer.as_ref()));
    let mut want = want.ok_or_else(|| {
        let message =
            "the body is not the JSON of a request with a `model`; see the servers' /openapi.json";
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", message)
    })?;
    want.request = request_hash(&String::from_utf8_lossy(&body));
    let order = house.order(&want.model).await;
    if order.is_empty() {
        return Err(nobody(house, &want.model));
    }
    let mut told = Vec::new();
    let mut all_busy = true;
    for at in order {
        match one(house, at, path, &want, &body).await {
            Ok(response) => {
                house.state.lock().seen[at].answered();
                return Ok(response);
            }
            Err(Failed::Everywhere(response)) => return Ok(*response),
            Err(Failed::Here {
                why,
                is_busy,
                is_fault,
            }) => {
                let url = &house.upstreams[at].url;
                tracing::warn!("{url} does not answer: {why}");
                told.push(format!("{url}: {why}"));
                all_busy &= is_busy;
                if is_fault || is_busy {
                    let now = house.now_ms();
                    house.state.lock().seen[at].failed(now);
                }
            }
        }
    }
    let status = match all_busy {
        true => StatusCode::TOO_MANY_REQUESTS,
        false => StatusCode::BAD_GATEWAY,
    };
    let message = format!(
        "no server answers. {}. Ask again, or name more servers",
        told.join(". ")
    );
    Err(Refusal {
        retry_after_s: Some(1),
        ..Refusal::new(status, "no_server_answers", message)
    })
}

fn nobody(house: &House, model: &str) -> Refusal {
    let any = house
        .state
        .lock()
        .seen
        .iter()
        .any(|seen| seen.models.is_some());
    if any {
        return Refusal::no_model(model);
    }
    let message =
        "none of the servers can be reached; start one with `tributary serve`, or check --server";
    Refusal::new(StatusCode::BAD_GATEWAY, "no_server_reached", message)
}

/// Asks one server, paying it if it wants that.
async fn one(
    house: &Arc<House>,
    at: usize,
    path: &str,
    want: &Want,
    body: &[u8],
) -> Result<Response<Body>, Failed> {
    let mut promise: Option<(Promise, HeaderValue)> = None;
    for _ in 0..MOST_OFFERS {
        let mut request = (house.upstreams[at].request(&house.http, Method::POST, path))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_vec());
        if let Some((_, payment)) = &promise {
            request = request.header(x402::SIGNATURE, payment.clone());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(gone(promise, &error)),
        };
        let paid = promise.take().map(|(promise, _)| promise);
        let status = response.status();
        if status == StatusCode::OK {
            return relay::pass(response, paid, want, house.tokenizer.clone()).await;
        }
        if status != StatusCode::PAYMENT_REQUIRED {
            return Err(refused(response, paid).await);
        }
        let code = code(&response);
        let is_paid = paid.is_some();
        if let Some(paid) = paid {
            paid.declined();
        }
        let again = [x402::MISMATCH, x402::EXCEEDS];
        let code = code.map_err(Failed::fault)?;
        if is_paid && !again.contains(&code.0.as_str()) {
            let why = relay::message(response).await;
            return Err(Failed::Here {
                why,
                is_busy: false,
                is_fault: false,
            });
        }
        promise = Some(sign(house, at, want, code.1)?);
    }
    Err(Failed::fault(format!(
        "it refused {MOST_OFFERS} vouchers in a row"
    )))
}

/// The first terms of a 402 that can be met, and its code.
fn code(response: &reqwest::Response) -> Result<(String, Terms), String> {
    let header = response.headers().get(x402::REQUIRED);
    let header = header.ok_or("it wants to be paid and does not say how")?;
    let required: Required =
        x402::decoded(header.as_bytes()).map_err(|why| format!("PAYMENT-REQUIRED: {why}"))?;
    let terms = required.accepts.into_iter().find(Terms::is_known);
    let terms = terms.ok_or("it wants to be paid in a way that is not known here")?;
    Ok((required.error.unwrap_or_default(), terms))
}

/// The connection ended before an answer.
fn gone(promise: Option<(Promise, HeaderValue)>, error: &reqwest::Error) -> Failed {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match promise {
        // It never had the voucher.
        Some((promise, _)) if error.is_connect() => {
            promise.end(Ended::Refused);
            Failed::fault(cause.to_string())
        }
        Some((promise, _)) => {
            promise.end(Ended::Broken);
            Failed::fault(format!("{cause}, after it had a voucher"))
        }
        None => Failed::fault(cause.to_string()),
    }
}

/// A status that is neither an answer nor a bill.
async fn refused(response: reqwest::Response, promise: Option<Promise>) -> Failed {
    let status = response.status();
    let claimed = relay::receipt(response.headers());
    let mut lost = String::new();
    if let Some(promise) = promise {
        match claimed {
            // It failed on the way, and says what of it costs something.
            Some(claimed) if claimed.0 > 0 => {
                let cost = promise.end(Ended::Broken);
                lost = format!("; at most {} micro-OPEN are lost", cost.0);
            }
            _ => drop(promise.end(Ended::Refused)),
        }
    }
    if matches!(status.as_u16(), 400 | 405 | 413 | 415 | 422) {
        let kind = HeaderValue::from_static("application/json");
        let body = relay::whole(response, MOST_REFUSAL_BYTES)
            .await
            .unwrap_or_default();
        let mut passed = Response::new(Body::from(body));
        *passed.status_mut() = status;
        passed.headers_mut().insert(header::CONTENT_TYPE, kind);
        return Failed::Everywhere(Box::new(passed));
    }
    let is_busy = status == StatusCode::TOO_MANY_REQUESTS;
    let why = relay::message(response).await;
    Failed::Here {
        why: format!("{} {why}{lost}", status.as_u16()),
        is_busy,
        is_fault: status.is_server_error(),
    }
}
