"""Writes the wallet of these tests with the subnet's own Python package, and
prints a signature by it.

python -m venv venv && venv/bin/pip install bittensor-wallet==4.1.1
venv/bin/python make.py

The phrase and the password are public: never use these keys.
"""

import pathlib

import bittensor_wallet

HERE = pathlib.Path(__file__).resolve().parent
# The phrase of Substrate's development accounts.
PHRASE = "bottom drive obey lake curtain smoke basket hold race lonely fit walk"
PASSWORD = "Correct-horse-7"


def wallet(hotkey):
    return bittensor_wallet.Wallet(name="validator", hotkey=hotkey, path=str(HERE))


options = {"overwrite": True, "suppress": True}
plain = wallet("plain")
plain.regenerate_hotkey(mnemonic=PHRASE, use_password=False, **options)
locked = wallet("locked")
locked.regenerate_hotkey(
    mnemonic=PHRASE, use_password=True, hotkey_password=PASSWORD, **options
)
wallet("uri").create_hotkey_from_uri("//Alice", use_password=False, **options)
print(plain.hotkey.sign(b"weights of epoch 7").hex())
