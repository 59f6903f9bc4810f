//! Against a small server on the loopback address: what is asked for, what is kept, what is refused.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::Arc;

use super::*;
use crate::base::BaseModel;
use crate::testing::tiny_files;
use parking_lot::Mutex;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves the files of one repository and notes the paths that were asked for.
struct Server {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

fn serve(name: &'static str, files: BTreeMap<String, Vec<u8>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = asked.clone();
    std::thread::spawn(move || {
        let names: Vec<_> = (files.keys())
            .map(|f| serde_json::json!({"rfilename": f}))
            .collect();
        let list = serde_json::json!({"sha": SHA, "siblings": names}).to_string();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let path = first.split(' ').nth(1).unwrap().to_string();
            notes.lock().push(path.clone());
            let body = match path.strip_prefix(&format!("/{name}/resolve/{SHA}/")) {
                Some(file) => files.get(file).cloned(),
                None if path == format!("/api/models/{name}/revision/main") => {
                    Some(list.clone().into_bytes())
                }
                None => None,
            };
            let (status, body) = match body {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    Server { endpoint, asked }
}

fn hub(server: &Server, cache: &Path) -> Hub {
    Hub {
        endpoint: server.endpoint.clone(),
        cache: cache.into(),
        token: None,
    }
}

fn repository() -> BTreeMap<String, Vec<u8>> {
    let [config, model, tokenizer] = tiny_files();
    [
        ("config.json", config),
        ("model.safetensors", model),
        ("tokenizer.json", tokenizer),
        ("pytorch_model.bin", vec![0]),
        ("README.md", vec![0]),
        ("onnx/model.onnx", vec![0]),
    ]
    .map(|(name, bytes)| (name.to_string(), bytes))
    .into()
}

#[test]
fn a_name_becomes_a_folder_that_loads_and_is_fetched_once() {
    let cache = tempfile::tempdir().unwrap();
    let server = serve("some/model", repository());
    let hub = hub(&server, cache.path());
    let folder = hub.folder("some/model").unwrap();
    let base = BaseModel::from_dir(&folder).unwrap();
    assert_eq!(base.hash(), crate::testing::tiny_base().hash());
    let asked = server.asked.lock().clone();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(
        !asked
            .iter()
            .any(|path| path.contains("pytorch") || path.contains("onnx"))
    );

    assert_eq!(hub.folder("some/model").unwrap(), folder);
    assert_eq!(server.asked.lock().len(), 5);
    // And without a hub at all.
    let alone = Hub {
        endpoint: "http://127.0.0.1:9".into(),
        ..hub
    };
    assert_eq!(alone.folder("some/model").unwrap(), folder);
    let error = alone.folder("other/model").unwrap_err().to_string();
    assert!(error.contains("other/model"), "{error}");
}

#[test]
fn shards_are_fetched_as_the_index_lists_them_and_never_from_elsewhere() {
    let cache = tempfile::tempdir().unwrap();
    let mut files = repository();
    files.remove("model.safetensors");
    let index = |shard: &str| {
        let map = serde_json::json!({"weight_map": {"a": shard, "b": "two.safetensors"}});
        map.to_string().into_bytes()
    };
    files.insert(files::INDEX.into(), index("one.safetensors"));
    files.insert("one.safetensors".into(), vec![1]);
    files.insert("two.safetensors".into(), vec![2]);
    let server = serve("some/shards", files.clone());
    let folder = hub(&server, cache.path()).folder("some/shards").unwrap();
    assert_eq!(std::fs::read(folder.join("two.safetensors")).unwrap(), [2]);

    files.insert(files::INDEX.into(), index("../../one.safetensors"));
    let server = serve("bad/shards", files);
    let error = hub(&server, cache.path())
        .folder("bad/shards")
        .unwrap_err()
        .to_string();
    assert!(error.contains("../../one"), "{error}");
}

#[test]
fn a_repository_of_pickles_and_a_missing_one_are_refused_by_name() {
    let cache = tempfile::tempdir().unwrap();
    let mut files = repository();
    files.remove("model.safetensors");
    let server = serve("some/pickle", files);
    let hub = hub(&server, cache.path());
    let error = hub.folder("some/pickle").unwrap_err();
    assert!(matches!(error, HubError::NoWeights { .. }), "{error}");
    let error = hub.folder("no/such").unwrap_err().to_string();
    assert!(
        error.contains("no/such") && error.contains("404"),
        "{error}"
    );
}
