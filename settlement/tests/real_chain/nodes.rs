//! Nodes that are not what they should be, and contracts that are not ours.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tributary_attribution::settlement::{Address, ChainId, Keccak};
use tributary_settlement::limits::MAX_ANSWER_BYTES;
use tributary_settlement::{
    Asked, Block, Chain, Config, ConnectError, Node, NodeError, RpcFailure,
};

use crate::anvil::Anvil;
use crate::proxy::{Answer, Proxy};
use crate::world::{CHAIN, World, config, key};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_chain_is_refused() {
    let Some(anvil) = Anvil::start("cancun").await else {
        return;
    };
    let other = Config {
        chain: ChainId(1),
        ..config(&anvil.url)
    };
    let error = Node::connect(other).await.unwrap_err();
    assert!(
        matches!(
            error,
            NodeError::OtherChain {
                found: 1612,
                wanted: ChainId(1),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_is_not_this_repositorys_is_refused_down_to_one_bit_of_its_code() {
    let Some(world) = World::new().await else {
        return;
    };
    let connect = async |contract| Chain::connect(config(&world.anvil.url), contract).await;
    let nobody = key(200).address();
    assert!(matches!(
        connect(nobody).await,
        Err(ConnectError::NoCode { .. })
    ));
    assert!(matches!(
        connect(world.token.0).await,
        Err(ConnectError::Foreign { .. })
    ));
    let code = world
        .anvil
        .rpc("eth_getCode", json!([world.contract.to_string(), "latest"]))
        .await;
    let code = code.as_str().unwrap().to_string();
    // The same code elsewhere has signatures of another place.
    world
        .anvil
        .rpc("anvil_setCode", json!([nobody.to_string(), code]))
        .await;
    world.anvil.mine(4).await;
    assert!(matches!(
        connect(nobody).await,
        Err(ConnectError::Foreign { .. })
    ));
    connect(world.contract).await.unwrap();
    // The token's word where it is paid out, and a bit of an instruction.
    for byte in [0x39fa + 31, 0x1000] {
        let mut other = code.clone().into_bytes();
        let digit = &mut other[2 + 2 * byte + 1];
        *digit = if *digit == b'0' { b'1' } else { b'0' };
        let other = String::from_utf8(other).unwrap();
        world
            .anvil
            .rpc("anvil_setCode", json!([world.contract.to_string(), other]))
            .await;
        world.anvil.mine(4).await;
        let error = connect(world.contract).await.unwrap_err();
        assert!(error.to_string().contains("is not Tributary's"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_answers_is_given_up_after_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret", listener.local_addr().unwrap());
    // Connections are taken by the system, and nobody reads them.
    let short = Config {
        timeout: Duration::from_millis(300),
        ..config(&url)
    };
    let error = Node::connect(short).await.unwrap_err();
    assert!(
        matches!(
            error,
            NodeError::Rpc(RpcFailure::Stalled { limit_ms: 300, .. })
        ),
        "{error}"
    );
    assert!(!error.to_string().contains("secret"), "{error}");
    drop(listener);
    let error = Node::connect(config(&url)).await.unwrap_err();
    assert!(
        matches!(error, NodeError::Rpc(RpcFailure::Unreachable { .. })),
        "{error}"
    );
    assert!(!error.to_string().contains("secret"), "{error}");
    for no_url in ["", "ftp://somewhere", "localhost:8545", "http://"] {
        let error = Node::connect(config(no_url)).await.unwrap_err();
        assert!(
            matches!(error, NodeError::Rpc(RpcFailure::Address(_))),
            "{no_url}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_speaks_no_tls_where_it_should_is_out_of_reach() {
    let Some(anvil) = Anvil::start("cancun").await else {
        return;
    };
    let error = Node::connect(config(&anvil.url.replace("http:", "https:")))
        .await
        .unwrap_err();
    assert!(
        matches!(error, NodeError::Rpc(RpcFailure::Unreachable { .. })),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stalls_in_the_middle_is_given_up_and_the_next_question_is_asked() {
    let Some(anvil) = Anvil::start("cancun").await else {
        return;
    };
    let proxy = Proxy::start(&anvil.url).await;
    let short = Config {
        timeout: Duration::from_secs(3),
        ..config(&proxy.url)
    };
    let node = Node::connect(short).await.unwrap();
    proxy.before(|_| Some(Answer::Silence));
    let error = node.finalized().await.unwrap_err();
    assert!(
        matches!(error, NodeError::Rpc(RpcFailure::Stalled { .. })),
        "{error}"
    );
    proxy.be_honest();
    node.finalized().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_no_answer_and_is_not_read_without_end() {
    let Some(anvil) = Anvil::start("cancun").await else {
        return;
    };
    let proxy = Proxy::start(&anvil.url).await;
    let node = Node::connect(config(&proxy.url)).await.unwrap();
    let mut long = br#"{"jsonrpc":"2.0","id":0,"result":""#.to_vec();
    long.resize(MAX_ANSWER_BYTES + 1, b'a');
    let garbage = [
        b"<html>Bad gateway</html>".to_vec(),
        Vec::new(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"null".to_vec(),
        br#"{"jsonrpc":"2.0","id":99999,"result":"0x1"}"#.to_vec(),
        [b"[".repeat(100_000), b"]".repeat(100_000)].concat(),
        vec![0xff; 1000],
        long,
    ];
    for bytes in garbage {
        let begins = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).to_string();
        proxy.before(move |_| Some(Answer::Bytes(bytes.clone())));
        let error = node.finalized().await.unwrap_err();
        let is_named = matches!(
            error,
            NodeError::Rpc(RpcFailure::Nonsense { .. } | RpcFailure::Refused { .. })
        );
        assert!(is_named, "{begins}: {error}");
        assert!(error.to_string().len() < 600, "{error}");
    }
    for wrong in [
        json!(7),
        json!("0x"),
        json!({"number": "0x1"}),
        json!({"number": "0x1", "hash": "0x12", "timestamp": "0x1"}),
    ] {
        proxy.before(|_| None);
        proxy.after(move |_, answer| answer["result"] = wrong.clone());
        let error = node.finalized().await.unwrap_err();
        assert!(
            matches!(error, NodeError::Rpc(RpcFailure::Nonsense { .. })),
            "{error}"
        );
    }
    proxy.after(|_, answer| answer["result"] = Value::Null);
    assert!(matches!(
        node.finalized().await,
        Err(NodeError::NothingFinal { .. })
    ));
    proxy.be_honest();
    node.finalized().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalized_block_never_goes_back_and_never_changes() {
    let Some(anvil) = Anvil::start("cancun").await else {
        return;
    };
    anvil.mine(10).await;
    let proxy = Proxy::start(&anvil.url).await;
    let node = Node::connect(config(&proxy.url)).await.unwrap();
    let seen = node.finalized().await.unwrap();
    let is_final = |asked: &Value| asked["params"][0] == json!("finalized");
    proxy.after(move |asked, answer| {
        if is_final(asked) {
            answer["result"]["number"] = json!("0x2");
        }
    });
    let error = node.finalized().await.unwrap_err();
    assert!(
        matches!(error, NodeError::Backwards { found: 2, .. }),
        "{error}"
    );
    // Another block of the same number.
    let other = Keccak([9; 32]);
    proxy.after(move |_, answer| answer["result"]["hash"] = json!(other.to_string()));
    let error = node.finalized().await.unwrap_err();
    assert!(
        matches!(error, NodeError::Changed { number, .. } if number == seen.number),
        "{error}"
    );
    // A later block, on another history.
    anvil.mine(3).await;
    proxy.after(move |asked, answer| {
        if !is_final(asked) {
            answer["result"]["hash"] = json!(other.to_string());
        }
    });
    let error = node.finalized().await.unwrap_err();
    assert!(matches!(error, NodeError::Changed { .. }), "{error}");
    proxy.be_honest();
    let later = node.finalized().await.unwrap();
    assert!(later.number > seen.number);
    // A program that starts again remembers it.
    let known = |known: Block| Config {
        known: Some(known),
        ..config(&anvil.url)
    };
    Node::connect(known(later)).await.unwrap();
    let error = Node::connect(known(Block {
        hash: other,
        ..later
    }))
    .await
    .unwrap_err();
    assert!(matches!(error, NodeError::Changed { .. }), "{error}");
    let error = Node::connect(known(Block {
        number: 1 << 40,
        ..later
    }))
    .await
    .unwrap_err();
    assert!(matches!(error, NodeError::Backwards { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_undoes_final_blocks_is_not_used_any_more() {
    let Some(anvil) = Anvil::start("cancun").await else {
        return;
    };
    anvil.mine(10).await;
    let node = Node::connect(config(&anvil.url)).await.unwrap();
    let seen = node.finalized().await.unwrap();
    anvil.rpc("anvil_reorg", json!([6, []])).await;
    anvil.mine(1).await;
    let error = node.finalized().await.unwrap_err();
    assert!(
        matches!(error, NodeError::Changed { number, .. } if number == seen.number),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_that_answers_something_else_is_an_error_and_no_number() {
    let Some(world) = World::new().await else {
        return;
    };
    let proxy = Proxy::start(&world.anvil.url).await;
    let chain = world.chain(&proxy.url).await;
    let block = chain.finalized().await.unwrap();
    let query = chain.settlement().runs(world.terms().key());
    chain.ask(&query, &block).await.unwrap();
    for wrong in [
        "0x",
        "0x00",
        "0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        proxy.after(move |_, answer| answer["result"] = json!(wrong));
        let error = chain.ask(&query, &block).await.unwrap_err();
        assert!(matches!(error, NodeError::Answer(_)), "{error}");
        let facts = chain
            .facts(world.terms().key(), &Default::default(), &block)
            .await;
        assert!(matches!(facts, Err(NodeError::Answer(_))));
    }
    proxy.be_honest();
    // A block that the chain does not have.
    let other = Block {
        hash: Keccak([1; 32]),
        ..block
    };
    assert!(chain.ask(&query, &other).await.is_err());
    assert_eq!(
        (chain.deployment().chain, chain.deployment().contract),
        (CHAIN, world.contract)
    );
    assert_ne!(chain.token().0, Address::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_many_accounts_take_two_round_trips_until_a_batch_is_full() {
    let Some(world) = World::new().await else {
        return;
    };
    let proxy = Proxy::start(&world.anvil.url).await;
    let chain = world.chain(&proxy.url).await;
    let block = chain.finalized().await.unwrap();
    // Two questions about the run, and three for each account.
    for (accounts, requests) in [(0, 2), (16, 2), (17, 3), (100, 8)] {
        let accounts: Vec<Address> = (0..accounts).map(|n| Address([n; 20])).collect();
        let channels = Vec::new();
        let asked = Asked { accounts, channels };
        let before = proxy.requests();
        let facts = chain.facts(world.terms().key(), &asked, &block).await;
        assert_eq!(facts.unwrap().accounts.len(), asked.accounts.len());
        assert_eq!(proxy.requests() - before, requests);
    }
}
