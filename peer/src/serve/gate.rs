//! Who may ask, and how often: exact `Host` and `Origin`, tokens, rates.
//!
//! A page of a stranger, open in the browser of this machine, must not reach a server on a loopback address: it would send
//! its own `Origin`, or, after its name was made to lead here, its own `Host`. Neither is let in, and no header ever
//! permits a page to read an answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, Uri, header};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tributary_engine::request::Consumer;

use super::Refusal;

/// Requests that a consumer may make at once, and how many it gets back each second. The engine answers fewer; this bounds
/// what reading them costs.
const BURST: f64 = 1000.0;
const PER_SECOND: f64 = 200.0;
/// The same for requests without a good token, all of them together: guesses, and mistakes of people.
const WRONG_BURST: f64 = 30.0;
const WRONG_PER_SECOND: f64 = 2.0;

/// Decides about the head of each request.
#[derive(Debug)]
pub(super) struct Gate {
    /// Values of `Host` that are let in.
    hosts: Vec<String>,
    /// The port, where any address of this machine may be named.
    any_address: Option<u16>,
    tokens: Vec<String>,
    rates: Mutex<BTreeMap<Option<Consumer>, Bucket>>,
}

impl Gate {
    /// For a server that listens on `at`, is called `names` by its clients, and wants one of `tokens` unless there are
    /// none.
    pub(super) fn new(at: SocketAddr, names: &[String], tokens: Vec<String>) -> Self {
        let port = at.port();
        let mut hosts = vec![at.to_string()];
        if at.ip().is_loopback() {
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{port}")));
        }
        hosts.extend(names.iter().map(|name| match name.contains(':') {
            true => name.to_ascii_lowercase(),
            false => format!("{}:{port}", name.to_ascii_lowercase()),
        }));
        // What clients leave out.
        let bare = hosts
            .iter()
            .filter_map(|host| host.strip_suffix(":80").map(str::to_owned));
        let bare: Vec<String> = bare.collect();
        hosts.extend(bare);
        Self {
            hosts,
            // A stranger's name can be made to lead here, an address cannot.
            any_address: (!at.ip().is_loopback()).then_some(port),
            tokens,
            rates: Mutex::default(),
        }
    }

    /// Whether the request names this server, and comes from no page of a stranger.
    pub(super) fn knows(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let forbidden =
            |code, message: &str| Err(Refusal::new(StatusCode::FORBIDDEN, code, message));
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            let message = "the request needs exactly one `Host`";
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "host_missing",
                message,
            ));
        };
        let host = host.to_str().unwrap_or_default();
        let asked = uri.authority().map(|authority| authority.as_str());
        if !self.is_here(host) || asked.is_some_and(|asked| !self.is_here(asked)) {
            return forbidden(
                "host_unknown",
                "this server does not go by the name in `Host`; use the address that it printed, or start it with --host NAME",
            );
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let own = |origin: &str| {
            origin
                .strip_prefix("http://")
                .is_some_and(|host| self.is_here(host))
        };
        if !origins.all(|origin| origin.to_str().is_ok_and(own)) {
            return forbidden(
                "origin_unknown",
                "pages of other servers may not ask this one",
            );
        }
        Ok(())
    }

    fn is_here(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let is_address = |port: u16| {
            let parsed = host.parse::<SocketAddr>().map(|at| at.port() == port);
            parsed.unwrap_or(port == 80 && host.parse::<IpAddr>().is_ok())
        };
        self.hosts.contains(&host) || self.any_address.is_some_and(is_address)
    }

    /// Who asks, if it may and not too often.
    pub(super) fn admit(&self, headers: &HeaderMap, now: Instant) -> Result<Consumer, Refusal> {
        let consumer = match self.tokens.is_empty() {
            true => Some(Consumer::default()),
            false => self.holder(headers),
        };
        let (burst, per_second) = match consumer {
            Some(_) => (BURST, PER_SECOND),
            None => (WRONG_BURST, WRONG_PER_SECOND),
        };
        let mut rates = self.rates.lock();
        // There are as many as tokens, and one.
        let bucket = rates.entry(consumer).or_insert(Bucket {
            left: burst,
            at: now,
        });
        if let Err(wait) = bucket.take(burst, per_second, now) {
            let message = format!("more than {per_second} requests a second; wait {wait} s");
            return Err(Refusal::busy("rate_limited", message, wait));
        }
        consumer.ok_or_else(|| {
            let message =
                "the bearer token is missing or wrong; send `Authorization: Bearer TOKEN`";
            Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
        })
    }

    fn holder(&self, headers: &HeaderMap) -> Option<Consumer> {
        let given = headers.get(header::AUTHORIZATION)?.as_bytes();
        let given = given.strip_prefix(b"Bearer ")?;
        let mut found = None;
        // All are compared, so that the time tells nothing.
        for (at, token) in self.tokens.iter().enumerate() {
            if bool::from(token.as_bytes().ct_eq(given)) {
                let mut consumer = [0; 32];
                // Nobody is zero.
                consumer[..8].copy_from_slice(&(at as u64 + 1).to_le_bytes());
                found = Some(Consumer(consumer));
            }
        }
        found
    }
}

/// What is left of a rate.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    /// Takes one, or says after how many seconds there is one.
    fn take(&mut self, burst: f64, per_second: f64, now: Instant) -> Result<(), u64> {
        let passed: Duration = now.saturating_duration_since(self.at);
        self.left = (self.left + passed.as_secs_f64() * per_second).min(burst);
        self.at = now;
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        Err((((1.0 - self.left) / per_second).ceil() as u64).max(1))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_requests_that_name_this_server_are_let_in() {
        let gate = Gate::new(
            "127.0.0.1:8080".parse().unwrap(),
            &["llm.example".into()],
            Vec::new(),
        );
        let code = |uri: &str, pairs: &[(&'static str, &str)]| {
            let uri = uri.parse().unwrap();
            gate.knows(&uri, &headers(pairs))
                .err()
                .map(|refusal| refusal.code)
        };
        for host in [
            "127.0.0.1:8080",
            "LOCALHOST:8080",
            "[::1]:8080",
            "llm.example:8080",
        ] {
            assert_eq!(code("/v1/models", &[("host", host)]), None, "{host}");
        }
        for host in [
            "127.0.0.1",
            "localhost:80",
            "127.0.0.1:8080.evil.example",
            "evil.example:8080",
            "192.0.2.1:8080",
            "",
        ] {
            assert_eq!(
                code("/v1/models", &[("host", host)]),
                Some("host_unknown"),
                "{host}"
            );
        }
        let here = ("host", "localhost:8080");
        assert_eq!(code("/", &[]), Some("host_missing"));
        assert_eq!(code("/", &[here, here]), Some("host_missing"));
        assert_eq!(code("http://evil.example/", &[here]), Some("host_unknown"));
        for origin in [
            "null",
            "http://evil.example",
            "https://localhost:8080",
            "http://localhost:8081",
        ] {
            assert_eq!(
                code("/", &[here, ("origin", origin)]),
                Some("origin_unknown"),
                "{origin}"
            );
        }
        assert_eq!(
            code("/", &[here, ("origin", "http://localhost:8080")]),
            None
        );
    }

    #[test]
    fn a_server_for_others_goes_by_its_addresses_and_by_no_name() {
        let gate = Gate::new("0.0.0.0:8080".parse().unwrap(), &[], vec!["t".into()]);
        let is_known = |host: &str| {
            gate.knows(&Uri::from_static("/"), &headers(&[("host", host)]))
                .is_ok()
        };
        assert!(is_known("192.0.2.1:8080") && is_known("[2001:db8::1]:8080"));
        assert!(
            !is_known("evil.example:8080")
                && !is_known("192.0.2.1:8081")
                && !is_known("localhost:8080")
        );
    }

    #[test]
    fn tokens_are_told_apart_and_rates_are_each_ones_own() {
        let at = "127.0.0.1:8080".parse().unwrap();
        let gate = Gate::new(at, &[], vec!["one".into(), "two".into()]);
        let now = Instant::now();
        let ask = |token: &str| gate.admit(&headers(&[("authorization", token)]), now);
        let one = ask("Bearer one").unwrap();
        assert_ne!(one, ask("Bearer two").unwrap());
        assert_eq!(ask("Bearer three").unwrap_err().code, "invalid_api_key");
        assert_eq!(
            gate.admit(&HeaderMap::new(), now).unwrap_err().status,
            StatusCode::UNAUTHORIZED
        );
        let refused = (0..2000).find_map(|_| ask("Bearer one").err()).unwrap();
        assert_eq!(
            (refused.code, refused.retry_after_s),
            ("rate_limited", Some(1))
        );
        assert!(ask("Bearer two").is_ok());
        let later = now + Duration::from_secs(1);
        assert!(
            gate.admit(&headers(&[("authorization", "Bearer one")]), later)
                .is_ok()
        );
        let refused = (0..100).find_map(|_| {
            ask("Bearer four")
                .err()
                .filter(|e| e.code == "rate_limited")
        });
        assert!(refused.is_some());
    }
}
