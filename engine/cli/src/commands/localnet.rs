//! `evaltasks localnet`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use evaltasks_chain::local::{EpochSchedule, UNITS_PER_TOKEN};
use evaltasks_chain::localnet::{
    DevelopmentKey, Fault, Genesis, HOTKEY, Localnet, LocalnetOptions, Participant, quick_subnet,
    write_wallet,
};
use evaltasks_chain::mechanism::{Mechanisms, MechanismsError};
use evaltasks_core::document::parse_time;
use evaltasks_core::random::Seed;
use serde_json::json;

use super::{Outcome, print};
use crate::http::{Listen, Server};
use crate::local_hub::LocalHub;
use crate::operate::LogArguments;

/// Whom the network has, and how it runs.
#[derive(Args)]
#[command(after_help = "\
One process that is a node of the subnet's chain for everything that talks to one:
this program's own commands, and the subnet's own tools. Blocks, registration, stake,
commitments, weights, epochs and emission are simulated; nothing costs anything, and
nothing is left when it ends.

Examples:
  evaltasks localnet --block-time 1s --wallets ./wallets
  evaltasks localnet --block-time 1s --wallets ./wallets --models ./models
  evaltasks localnet --commit-reveal --tempo 10 --validators 3 --miners 5
  evaltasks localnet --fault '20={\"kind\":\"fork\",\"depth\":2}'")]
pub struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9944", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Time between two blocks, such as 250ms or 12s; 0 makes a block only when
    /// `localnet_produceBlocks` asks for one
    #[arg(long, default_value = "12s", value_name = "TIME", value_parser = parse_block_time)]
    block_time: Duration,
    /// Number of the subnet
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4095))]
    netuid: u16,
    /// Blocks from one epoch to the next
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    tempo: u16,
    /// Blocks between two settings of weights; half of the tempo where none is given
    #[arg(long, value_name = "BLOCKS")]
    rate_limit: Option<u16>,
    /// What keys and hashes come from
    #[arg(long, default_value = "0")]
    seed: Seed,
    /// How many have stake: 1000 tokens the first, 1 less each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(..=256))]
    validators: u16,
    /// How many have none
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(..=4096))]
    miners: u16,
    /// Write a wallet for each, `validator-0` to the last `miner-`, without passwords
    #[arg(long, value_name = "FOLDER")]
    wallets: Option<PathBuf>,
    /// Take weights only as commits that are revealed an epoch later
    #[arg(long)]
    commit_reveal: bool,
    /// How many mechanisms the subnet has, each with weights of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    mechanisms: u8,
    /// What each mechanism gets of the emission, of 65535, such as 50000,15535; the
    /// same where nothing is given
    #[arg(long, value_name = "SHARES", value_delimiter = ',')]
    emission_split: Vec<u16>,
    /// Have epochs where the number of the block says so, as runtimes until the
    /// middle of 2026
    #[arg(long)]
    epochs_by_number: bool,
    /// Blocks between the newest one and the newest that is final
    #[arg(long, default_value_t = 2, value_name = "BLOCKS")]
    finality: u16,
    /// Let something go wrong at a block; see the documentation for what there is
    #[arg(long, value_name = "BLOCK=JSON", value_parser = parse_fault)]
    fault: Vec<(u32, Fault)>,
    /// Print one line of JSON for each block
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    models: ModelArguments,
    #[command(flatten)]
    log: LogArguments,
}

/// The hub beside the network.
#[derive(Args)]
struct ModelArguments {
    /// Serve every folder in this one that is a model as the repository
    /// `local/<name>` of a hub, for programs that run with HF_ENDPOINT as printed
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// Where to serve models; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8099", value_name = "ADDRESS", requires = "models")]
    models_listen: SocketAddr,
    /// Allow --models-listen on an address that other machines reach, without any
    /// password
    #[arg(long, requires = "models")]
    models_listen_publicly: bool,
    /// Folder with the tokenizer of models that bring none
    #[arg(long, value_name = "FOLDER", requires = "models")]
    models_tokenizer: Option<PathBuf>,
}

/// A hub that is served.
struct ServedHub {
    /// What `HF_ENDPOINT` is set to.
    endpoint: String,
    /// `repository@commit` of each model.
    models: Vec<String>,
    _server: Server,
}

impl ModelArguments {
    /// Serves until the hub is dropped, if models were named.
    fn serve(&self) -> Result<Option<ServedHub>> {
        let Some(folder) = &self.models else { return Ok(None) };
        let hub = LocalHub::open(folder, self.models_tokenizer.as_deref())?;
        let models = hub.models().map(ToString::to_string).collect();
        let server = hub.serve(Listen {
            address: self.models_listen,
            publicly: self.models_listen_publicly,
            option: "--models-listen-publicly",
        })?;
        let endpoint = format!("http://{}", server.address());
        Ok(Some(ServedHub { endpoint, models, _server: server }))
    }
}

/// Stake of the first validator, in tokens.
const MOST_TOKENS: u64 = 1000;
/// Time between the blocks that are made when they are asked for, by their
/// timestamps.
const DEFAULT_BLOCK_TIME_MS: u64 = 12_000;
/// Timestamp of the first block where no clock is looked at: September 2026.
const FIXED_START_MS: u64 = 1_790_000_000_000;
/// How often the newest block is looked at.
const LOOK: Duration = Duration::from_millis(50);

fn parse_block_time(text: &str) -> Result<Duration, String> {
    let time = if text == "0" { Duration::ZERO } else { parse_time(text)? };
    let most = Duration::from_secs(3600);
    if time > most { Err("an hour is the most".to_owned()) } else { Ok(time) }
}

fn parse_fault(text: &str) -> Result<(u32, Fault), String> {
    let (block, fault) = text.split_once('=').ok_or("write BLOCK=JSON")?;
    let block = block.parse().map_err(|_| format!("{block:?} is no number of a block"))?;
    let fault = serde_json::from_str(fault).map_err(|error| error.to_string())?;
    Ok((block, fault))
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    arguments.log.start()?;
    let participants = participants(arguments)?;
    let is_paced = !arguments.block_time.is_zero();
    let block_time_ms =
        if is_paced { arguments.block_time.as_millis() as u64 } else { DEFAULT_BLOCK_TIME_MS };
    let mut subnet = quick_subnet(arguments.netuid, arguments.tempo.into());
    subnet.commit_reveal = arguments.commit_reveal;
    subnet.mechanisms = mechanisms(arguments)?;
    subnet.max_neurons = subnet.max_neurons.max(participants.len() as u16);
    if arguments.epochs_by_number {
        subnet.schedule = EpochSchedule::ByNumber;
    }
    if let Some(blocks) = arguments.rate_limit {
        subnet.rate_limit_blocks = blocks.into();
    }
    // Who locks weights looks at a clock, which the blocks must not be far from.
    let start_ms = if is_paced { now_ms()? } else { FIXED_START_MS };
    let genesis = Genesis {
        subnet,
        participants,
        seed: arguments.seed.clone(),
        block_time_ms,
        start_ms,
        finality_lag: arguments.finality.into(),
    };
    let options = LocalnetOptions {
        listen: arguments.listen,
        genesis,
        is_paced,
        faults: arguments.fault.clone(),
    };
    let hub = arguments.models.serve()?;
    let network = Localnet::start(options)?;
    announce(arguments, &network, hub.as_ref())?;

    let (sender, receiver) = channel();
    ctrlc::set_handler(move || {
        let _ = sender.send(());
    })
    .context("listen for Ctrl-C")?;
    let mut last = 0;
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(Outcome::Fine),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let newest = network.block();
        if arguments.json && newest != last {
            print(&format!("{}\n", json!(network.summary())))?;
        }
        last = newest;
    }
}

fn mechanisms(arguments: &Arguments) -> Result<Mechanisms, MechanismsError> {
    let mechanisms = Mechanisms::new(arguments.mechanisms.into())?;
    match arguments.emission_split.as_slice() {
        [] => Ok(mechanisms),
        shares => mechanisms.with_split(shares),
    }
}

fn now_ms() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    Ok(now.as_millis() as u64)
}

/// The names of all, validators first.
fn names(arguments: &Arguments) -> impl Iterator<Item = String> {
    let validators = (0..arguments.validators).map(|number| format!("validator-{number}"));
    validators.chain((0..arguments.miners).map(|number| format!("miner-{number}")))
}

/// Who is there from the start, and their wallets where those are wanted.
fn participants(arguments: &Arguments) -> Result<Vec<Participant>> {
    let network = arguments.seed.to_string();
    let mut participants = Vec::new();
    for (number, name) in (0_u64..).zip(names(arguments)) {
        let hotkey = DevelopmentKey::new(&network, &name)?;
        let coldkey = DevelopmentKey::new(&network, &format!("{name} coldkey"))?;
        if let Some(folder) = &arguments.wallets {
            write_wallet(folder, &name, &coldkey, &hotkey)?;
        }
        let is_validator = number < u64::from(arguments.validators);
        let tokens = if is_validator { MOST_TOKENS.saturating_sub(number) } else { 0 };
        participants.push(Participant {
            hotkey: hotkey.address().to_string(),
            coldkey: coldkey.address().to_string(),
            stake: tokens * UNITS_PER_TOKEN,
        });
    }
    Ok(participants)
}

/// Says where the network is, who is in it, and which models can be submitted.
fn announce(arguments: &Arguments, network: &Localnet, hub: Option<&ServedHub>) -> Result<Outcome> {
    let people: Vec<(String, String)> = names(arguments).zip(network.hotkeys()).collect();
    if arguments.json {
        let people: Vec<_> = (0..)
            .zip(&people)
            .map(|(uid, (name, hotkey)): (u16, _)| json!({ "uid": uid, "name": name, "hotkey": hotkey }))
            .collect();
        let line = json!({
            "url": network.url(),
            "netuid": arguments.netuid,
            "genesis_hash": network.genesis_hash(),
            "beacon_key": network.beacon_key().to_string(),
            "participants": people,
            "hub": hub.map(|hub| json!({ "endpoint": hub.endpoint, "models": hub.models })),
        });
        return print(&format!("{line}\n"));
    }
    let mut text = format!(
        "Subnet {} is at {}\nGenesis {}\nBeacon {}\n\n",
        arguments.netuid,
        network.url(),
        network.genesis_hash(),
        network.beacon_key(),
    );
    for (uid, (name, hotkey)) in people.iter().enumerate() {
        text += &format!("{uid:>5}  {name:<14} {hotkey}\n");
    }
    text += "\n";
    if let Some(ServedHub { endpoint, models, .. }) = hub {
        text += &format!("Models, for programs that run with HF_ENDPOINT={endpoint}\n");
        text.extend(models.iter().map(|model| format!("  {model}\n")));
        text += "\n";
    }
    if let Some(folder) = &arguments.wallets {
        let folder = folder.display();
        text += &format!("Wallets: {folder}/<name>, hotkey {HOTKEY}, without passwords\n");
    }
    text += "Ctrl-C ends it.\n";
    print(&text)
}
