//! A network, and who is in it.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use evaltasks_chain::Address;
use evaltasks_chain::local::UNITS_PER_TOKEN;
use evaltasks_chain::localnet::{Genesis, Localnet, LocalnetOptions, Participant, quick_subnet};
use evaltasks_core::random::Seed;
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey};
use subxt::SubstrateConfig;
use subxt::tx::Signer;
use subxt::utils::{AccountId32, MultiSignature};

/// A key that a test signs with.
#[derive(Clone)]
pub struct Key(Keypair);

/// The key of the account of this number.
pub fn key(number: u8) -> Key {
    let seed = MiniSecretKey::from_bytes(&[number; 32]).unwrap();
    Key(seed.expand_to_keypair(ExpansionMode::Ed25519))
}

impl Key {
    pub fn account(&self) -> [u8; 32] {
        self.0.public.to_bytes()
    }

    pub fn address(&self) -> String {
        Address(self.account()).to_string()
    }
}

impl Signer<SubstrateConfig> for Key {
    fn account_id(&self) -> AccountId32 {
        AccountId32(self.account())
    }

    fn sign(&self, payload: &[u8]) -> MultiSignature {
        MultiSignature::Sr25519(self.0.sign_simple(b"substrate", payload).to_bytes())
    }
}

/// A network of those with so many tokens, keys 0 and up; blocks come when they
/// are asked for.
pub fn options(tokens: &[u64]) -> LocalnetOptions {
    let participant = |(number, tokens): (u8, &u64)| Participant {
        hotkey: key(number).address(),
        coldkey: key(100 + number).address(),
        stake: tokens * UNITS_PER_TOKEN,
    };
    let genesis = Genesis {
        subnet: quick_subnet(1, 20),
        participants: (0..).zip(tokens).map(participant).collect(),
        seed: Seed::from(7),
        block_time_ms: 12_000,
        start_ms: 1_790_000_000_000,
        finality_lag: 2,
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    LocalnetOptions { listen, genesis, is_paced: false, faults: vec![] }
}

/// Two validators with 5 and 4 tokens and three miners.
pub fn start() -> Localnet {
    Localnet::start(options(&[5, 4, 0, 0, 0])).unwrap()
}

/// Makes so many blocks.
pub fn produce(network: &Localnet, blocks: u32) {
    for _ in 0..blocks {
        network.produce_block().unwrap();
    }
}
