//! Wallets that the subnet's own tools wrote, and others.

use std::path::{Path, PathBuf};

use evaltasks_chain::{OpenedHotkey, Password, WalletError, open_hotkey};
use schnorrkel::{PublicKey, Signature};

const DEVELOPMENT: &str = "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV";
const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

fn wallets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wallets")
}

fn open(hotkey: &str, password: Option<&str>) -> Result<OpenedHotkey, WalletError> {
    let said = |_: &Path| password.map(|text| Password::new(text.to_owned()));
    open_hotkey(&wallets(), "validator", hotkey, said)
}

#[test]
fn keys_of_the_subnets_tools_open() {
    let rows = [
        ("plain", None, DEVELOPMENT),
        ("locked", Some("Correct-horse-7"), DEVELOPMENT),
        ("uri", None, ALICE),
    ];
    for (name, password, address) in rows {
        let opened = open(name, password).unwrap();
        assert_eq!(opened.hotkey.address().to_string(), address, "{name}");
        assert_eq!(format!("{:?}", opened.hotkey), format!("Hotkey({address})"));
        let public = PublicKey::from_bytes(&opened.hotkey.address().0).unwrap();
        let signature = Signature::from_bytes(&opened.hotkey.sign(b"payload")).unwrap();
        assert!(public.verify_simple(b"substrate", b"payload", &signature).is_ok(), "{name}");
        assert!(public.verify_simple(b"substrate", b"other", &signature).is_err(), "{name}");
    }
}

#[test]
fn a_signature_of_the_subnets_tools_is_by_the_same_key() {
    // Printed by tests/wallets/make.py.
    let signature = "be3f070b65fe28568f12650532b6a359f26924249448be6daa0af3c207bc6276\
                     e75fd6d8918c4c0adc921e15ab1d2256b63d11f8f9069e84636595d67604c488";
    let signature = Signature::from_bytes(&hex::decode(signature).unwrap()).unwrap();
    let hotkey = open("plain", None).unwrap().hotkey;
    let public = PublicKey::from_bytes(&hotkey.address().0).unwrap();
    assert!(public.verify_simple(b"substrate", b"weights of epoch 7", &signature).is_ok());
}

#[test]
fn what_is_no_key_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("validator/hotkeys");
    std::fs::create_dir_all(&keys).unwrap();
    let seed = format!("0x{}", "11".repeat(32));
    let rows: [(&str, &[u8], &str); 10] = [
        ("empty", b"", "it is no JSON of a key"),
        ("text", b"my secret phrase", "it is no JSON of a key"),
        ("nothing", b"{}", "it has neither `secretSeed` nor `privateKey`"),
        ("short", br#"{"secretSeed": "0x1234"}"#, "`secretSeed` is not 32 bytes in hexadecimal"),
        ("odd", br#"{"privateKey": "zz"}"#, "`privateKey` is not 64 bytes in hexadecimal"),
        ("ed25519", br#"{"cryptoType": 0}"#, "it is no sr25519 key, and validators have those"),
        ("vault", b"$ANSIBLE_VAULT;1.1", "it was encrypted by an old version of the tools"),
        ("cut", b"$NACL123", "the password is wrong, or the file is damaged"),
        (
            "another",
            &format!(r#"{{"secretSeed": "{seed}", "ss58Address": "{ALICE}"}}"#).into_bytes(),
            "and its secret is that of 5",
        ),
        (
            "mistyped",
            &format!(r#"{{"secretSeed": "{seed}", "ss58Address": "{}"}}"#, &ALICE[1..])
                .into_bytes(),
            "`ss58Address`: its checksum is wrong",
        ),
    ];
    for (name, content, expected) in rows {
        std::fs::write(keys.join(name), content).unwrap();
        let said = |_: &Path| Some(Password::new("x".to_owned()));
        let error = open_hotkey(folder.path(), "validator", name, said).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.contains(&format!("validator/hotkeys/{name}")), "{error}");
        assert!(!error.contains("phrase") && !error.contains(&seed), "{error}");
    }
}

#[test]
fn wrong_names_passwords_and_files_are_errors() {
    let name = |what| format!("find the {what}");
    let rows = [
        ("../validator/hotkeys/plain", None, name("hotkey")),
        ("", None, name("hotkey")),
        ("..", None, name("hotkey")),
        ("nobody", None, "read the hotkey".to_owned()),
        ("locked", None, "it is encrypted, and there is no password".to_owned()),
        ("locked", Some("correct-horse-7"), "the password is wrong".to_owned()),
    ];
    for (hotkey, password, expected) in rows {
        let error = open(hotkey, password).unwrap_err().to_string();
        assert!(error.contains(&expected), "{hotkey}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_others_may_read_is_noticed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("validator/hotkeys");
    std::fs::create_dir_all(&keys).unwrap();
    let content = std::fs::read(wallets().join("validator/hotkeys/plain")).unwrap();
    for (mode, expected) in
        [(0o600, None), (0o400, None), (0o644, Some(0o644)), (0o660, Some(0o660))]
    {
        let key = keys.join(format!("{mode:o}"));
        std::fs::write(&key, &content).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let opened =
            open_hotkey(folder.path(), "validator", &format!("{mode:o}"), |_| None).unwrap();
        assert_eq!(opened.readable_by_others, expected, "{mode:o}");
    }
}
