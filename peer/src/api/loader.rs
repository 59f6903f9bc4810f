//! Has a server of this machine load adapters, as its owner would with `POST /v1/load_lora_adapter`.

use std::path::Path;
use std::time::Duration;

use reqwest::Url;

use super::client::http;
use crate::terminal::Failure;

/// How long a server may take to load an adapter.
const SERVER_LOADS: Duration = Duration::from_secs(60);
/// The token of a server that wants one.
const TOKEN_VARIABLE: &str = "TRIBUTARY_SERVE_TOKEN";

/// A server that loads adapters under one name.
pub(crate) struct Server {
    url: Url,
    name: String,
    http: reqwest::Client,
}

impl Server {
    /// The server at `url`, for adapters that it serves as `name`.
    pub(crate) fn new(url: &str, name: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::environment(format!(
                "{url} is not the address of a server of this machine"
            ))
            .hint("give what `tributary serve` prints, such as http://127.0.0.1:8080")
        };
        let url = Url::parse(url).map_err(|_| wrong())?;
        if url.scheme() != "http" || url.cannot_be_a_base() {
            return Err(wrong());
        }
        Ok(Self {
            url,
            name: name.to_owned(),
            http: http()?,
        })
    }

    /// The name under which it serves them.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Has a folder loaded, or says why not.
    pub(crate) async fn load(&self, folder: &Path) -> Result<(), String> {
        let mut url = self.url.clone();
        let mut path = url.path_segments_mut().map_err(|()| "it has no paths")?;
        path.pop_if_empty().extend(["v1", "load_lora_adapter"]);
        drop(path);
        let body = serde_json::json!({
            "lora_name": self.name,
            "lora_path": folder,
            "load_inplace": true,
        });
        let mut request = (self.http.post(url).timeout(SERVER_LOADS))
            .header("content-type", "application/json")
            .body(body.to_string());
        if let Ok(token) = std::env::var(TOKEN_VARIABLE) {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|e| e.to_string())?;
        if answer.status().is_success() {
            return Ok(());
        }
        let status = answer.status();
        let said = answer.text().await.unwrap_or_default();
        let said: String = said.chars().take(500).collect();
        Err(format!("{status} {said}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_is_asked() {
        assert!(Server::new("http://127.0.0.1:8080", "poet").is_ok());
        for url in ["127.0.0.1:8080", "https://example.org", "file:///etc", ""] {
            let error = Server::new(url, "poet").err().expect(url);
            assert!(error.to_string().contains("tributary serve"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_is_asked_to_load_the_folder_under_the_name() {
        use axum::routing::post;
        let heard = std::sync::Arc::new(parking_lot::Mutex::new(String::new()));
        let keep = heard.clone();
        let route = post(move |body: String| async move {
            *keep.lock() = body;
            "ok"
        });
        let app = axum::Router::new().route("/v1/load_lora_adapter", route);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let server = Server::new(&url, "poet").unwrap();
        server
            .load(std::path::Path::new("/rounds/round-0001"))
            .await
            .unwrap();
        let said: serde_json::Value = serde_json::from_str(&heard.lock()).unwrap();
        assert_eq!(said["lora_name"], "poet");
        assert_eq!(said["lora_path"], "/rounds/round-0001");
        let other = Server::new(&format!("{url}nowhere"), "poet").unwrap();
        let why = other.load(std::path::Path::new("/x")).await.unwrap_err();
        assert!(why.starts_with("404"), "{why}");
    }
}
