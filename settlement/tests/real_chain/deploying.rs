//! Contracts that are put on a chain, and chains that cannot run them.

use tributary_settlement::{Contract, DeployError, Node, deploy, probe};

use crate::anvil::Anvil;
use crate::world::{World, config, fund, key, sender};

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_without_an_instruction_is_refused_by_its_name_and_pays_for_nothing() {
    for (hardfork, missing) in [("shanghai", "TSTORE"), ("london", "PUSH0")] {
        let Some(anvil) = Anvil::start(hardfork).await else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        fund(&anvil, key(14).address()).await;
        let node = Node::connect(config(&anvil.url)).await.unwrap();
        let sender = sender(node, folder.path(), 14);
        let error = deploy(&sender, Contract::TestOpen).await.unwrap_err();
        assert!(
            matches!(error, DeployError::Missing { opcode, .. } if opcode == missing),
            "{error}"
        );
        assert!(error.to_string().contains(missing), "{error}");
        assert!(sender.on_its_way().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contracts_are_deployed_once_and_found_again() {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run();
    let node = Node::connect(config(&world.anvil.url)).await.unwrap();
    probe(&node).await.unwrap();
    let deployer = sender(node, world.folder.path(), 14);
    let before = world.sent(14).await;
    let (token, wraps) = (world.token.0, false);
    assert_eq!(
        deploy(&deployer, Contract::Settlement { token, wraps })
            .await
            .unwrap(),
        world.contract
    );
    assert_eq!(deploy(&deployer, Contract::TestOpen).await.unwrap(), token);
    assert_eq!(world.sent(14).await, before);
    // Another flag is another contract.
    let other = deploy(&deployer, Contract::Settlement { token, wraps: true })
        .await
        .unwrap();
    assert_ne!(other, world.contract);
    let channels = deploy(&deployer, Contract::Channels).await.unwrap();
    assert_eq!(
        deploy(&deployer, Contract::Channels).await.unwrap(),
        channels
    );
    deploy(&deployer, Contract::Collector).await.unwrap();
    assert_eq!(world.sent(14).await, before + 3);
    let nowhere = Contract::Settlement {
        token: key(77).address(),
        wraps,
    };
    assert!(matches!(
        deploy(&deployer, nowhere).await,
        Err(DeployError::NoToken(_))
    ));
    let chain = world.chain(&world.anvil.url).await;
    assert_eq!((chain.token(), chain.wraps()), (world.token, false));
}
