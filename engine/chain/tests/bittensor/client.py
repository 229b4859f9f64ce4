"""Asks and signs through the subnet's own Python package, and prints what it
was told as one line of JSON.

    python client.py URL WALLETS
"""

import asyncio
import json
import sys

import bittensor


def neuron(one):
    names = ("uid", "hotkey", "coldkey", "active", "validator_permit", "last_update")
    told = {name: getattr(one, name) for name in names}
    told["registered_at"] = one.block_at_registration
    told["incentive"] = one.incentive
    told["dividends"] = one.dividends
    told["stake_units"] = one.total_stake.rao
    told["commitment"] = one.commitment.data if one.commitment else None
    return told


async def metagraph(client):
    found = await client.subnets.metagraph(1)
    return {
        "block": found.block,
        "tempo": found.tempo,
        "last_step": found.last_step,
        "neurons": [neuron(one) for one in found.neurons],
    }


def told(result):
    name = getattr(result.error, "name", None) if result.error else None
    return {"success": result.success, "error": name, "block": result.extrinsic_id}


async def main(url, wallets):
    validator = bittensor.Wallet("validator-0", "default", wallets)
    miner = bittensor.Wallet("miner-0", "default", wallets)
    stranger = bittensor.Wallet("stranger", "default", wallets)
    out = {}
    async with bittensor.Client(url) as client:
        out["first"] = await metagraph(client)
        out["spec_version"] = await client.spec_version()
        out["block_time"] = await client.block_time()

        text = b"org/model:main:abc:def:1"
        field = {f"Raw{len(text)}": "0x" + text.hex()}
        info = {"fields": [[field]]}
        commit = ("Commitments", "set_commitment", {"netuid": 1, "info": info})
        out["commit"] = told(await client.submit_call(commit, miner.hotkey))
        out["refused"] = told(await client.submit_call(commit, stranger.hotkey))

        weights = bittensor.SetWeights(netuid=1, weights={2: 0.5, 3: 0.25})
        out["set"] = told(await client.execute(weights, validator))
        try:
            await client.execute(weights, validator)
        except bittensor.ChainError as error:
            out["too_fast"] = error.code.value
        # The second mechanism has a rate limit of its own.
        second = bittensor.SetWeights(netuid=1, weights={4: 1.0}, mechid=1)
        out["set_second"] = told(await client.execute(second, validator))
        commits = await client.read("timelocked_weight_commits", netuid=1)
        out["commits"] = sum(len(one) for one in commits.values())
        await client.wait_for_epoch(1, timeout=120)
        out["last"] = await metagraph(client)
        weights = await client.read("weights", netuid=1)
        out["weights"] = weights
        out["second"] = await client.read("weights", netuid=1, mechid=1)
        commits = await client.read("timelocked_weight_commits", netuid=1, mechid=1)
        out["second_commits"] = sum(len(one) for one in commits.values())
        third = bittensor.SetWeights(netuid=1, weights={4: 1.0}, mechid=2)
        out["third"] = told(await client.execute(third, validator))
    print(json.dumps(out))


asyncio.run(main(*sys.argv[1:]))
