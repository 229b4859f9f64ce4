//! The client library of the real chain against the network.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use subxt::dynamic::{self, Value};
use subxt::rpcs::{RpcClient, rpc_params};
use subxt::{OnlineClient, SubstrateConfig};
use support::{key, start};

/// The two ways in which tests talk to a network.
struct Client {
    rpc: RpcClient,
    online: OnlineClient<SubstrateConfig>,
}

async fn connect(url: &str) -> Client {
    let rpc = RpcClient::from_insecure_url(url).await.unwrap();
    let online = OnlineClient::from_url(url).await.unwrap();
    Client { rpc, online }
}

impl Client {
    async fn produce(&self, blocks: u32) -> u32 {
        self.rpc.request("localnet_produceBlocks", rpc_params![blocks]).await.unwrap()
    }
}

#[tokio::test]
async fn a_signed_remark_is_final_after_two_more_blocks() {
    let network = start();
    let client = connect(&network.url()).await;
    client.produce(3).await;
    let remark = dynamic::tx("System", "remark_with_event", vec![Value::from_bytes("hello")]);
    let mut tx = client.online.tx().await.unwrap();
    let progress = tx.sign_and_submit_then_watch_default(&remark, &key(3)).await.unwrap();
    client.produce(3).await;
    let events = progress.wait_for_finalized_success().await.unwrap();
    let names: Vec<String> = events
        .iter()
        .map(|event| event.unwrap())
        .map(|event| format!("{}.{}", event.pallet_name(), event.event_name()))
        .collect();
    assert_eq!(names, ["System.Remarked", "System.ExtrinsicSuccess"]);
    let nonce = client.online.tx().await.unwrap().account_nonce(&key(3).account().into()).await;
    assert_eq!(nonce.unwrap(), 1);
}
