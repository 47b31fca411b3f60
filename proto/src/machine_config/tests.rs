//! The whole document, walked: what each key refuses, and that the refusal says where.

use super::*;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Secrets of the sample; no error may hold them.
const SECRETS: [&str; 2] = ["sk-0123456789", "U0VDUkVU"];

fn pem(label: &str, content: &[u8]) -> String {
    let mut der = vec![0x30, u8::try_from(content.len()).unwrap()];
    der.extend_from_slice(content);
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A document with every key, as JSON, which is YAML.
fn full() -> Value {
    let certificate = pem("CERTIFICATE", b"\x30\x00");
    json!({
        "apiVersion": "astromesh.os/v1",
        "kind": "MachineConfig",
        "node": { "id": "node-1", "hostname": "node-1.rack" },
        "network": {
            "interfaces": [
                { "name": "eth0", "dhcp": true },
                {
                    "mac": "52:54:00:12:34:56", "addresses": ["10.0.0.5/24", "fd00::5/64"],
                    "gateway": "10.0.0.1", "gateway6": "fe80::1",
                },
            ],
            "nameservers": ["10.0.2.3"],
            "hosts": { "provider": "10.0.2.100" },
        },
        "runtime": { "profile": "full", "listen": "127.0.0.1:8000" },
        "agents": [{
            "apiVersion": "astromesh/v1", "kind": "Agent", "metadata": { "name": "echo" },
            "spec": { "model": { "primary": { "provider": "openai_compat", "api_key_env": "PROVIDER_KEY" } } },
        }],
        "providers": [{
            "name": "main", "endpoint": "https://provider.test/v1",
            "apiKeyEnv": "PROVIDER_KEY", "apiKey": SECRETS[0],
        }],
        "certificateAuthorities": [certificate],
        "operator": {
            "ca": certificate, "certificate": certificate,
            "key": pem("PRIVATE KEY", b"\x02\x01\x00SECRETSECRET"), "listen": "0.0.0.0:7443",
        },
        "update": {
            "image": "registry.example.com/astromesh-os", "channel": "stable",
            "keys": [pem("PUBLIC KEY", b"\x30\x00")], "mode": "auto", "checkEveryMinutes": 60,
            "window": "02:00-04:30", "maxBytesPerSecond": 1_000_000, "user": "node", "password": SECRETS[0],
            "plainHttp": false, "blessAfterSeconds": 30, "healthyWithinSeconds": 300,
        },
    })
}

fn parse(document: &Value) -> Result<MachineConfig, ConfigError> {
    let result = MachineConfig::parse(document.to_string().as_bytes());
    if let Err(error) = &result {
        let shown = format!("{error} {error:?} {}", error.short());
        for secret in SECRETS {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert!(error.short().len() <= MAX_SHORT && !error.short().contains('\n'));
    }
    result
}

/// Every pointer into the document with the path that errors give it, parents first.
fn walk(value: &Value, pointer: &str, path: &str, found: &mut Vec<(String, String)>) {
    found.push((pointer.to_owned(), path.to_owned()));
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                walk(value, &format!("{pointer}/{key}"), &format!("{path}{dot}{key}"), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                walk(value, &format!("{pointer}/{index}"), &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

fn everything() -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&full(), "", "", &mut found);
    found
}

/// Whether the path is inside an agent's document, which is the runtime's own below what the node reads.
fn is_foreign(path: &str) -> bool {
    path.starts_with("agents[0].spec.model.primary.provider")
}

fn set(pointer: &str, value: Value) -> Value {
    let mut document = full();
    *document.pointer_mut(pointer).unwrap() = value;
    document
}

#[test]
fn a_document_with_every_key_is_read() {
    let config = parse(&full()).unwrap();
    assert_eq!(config.node, NodeIdentity { id: "node-1".into(), hostname: "node-1.rack".into() });
    assert_eq!(config.network.interfaces[1].link, Link::Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
    let Addressing::Static { addresses, gateway, .. } = &config.network.interfaces[1].addressing else {
        panic!()
    };
    assert_eq!(addresses[1].to_string(), "fd00::5/64");
    assert_eq!(gateway.unwrap().to_string(), "10.0.0.1");
    assert_eq!(config.providers[0].endpoint.to_string(), "https://provider.test/v1");
    assert_eq!(config.providers[0].api_key.as_ref().unwrap().expose(), SECRETS[0]);
    assert_eq!(config.agents[0].document, full()["agents"][0]);
    assert!(!format!("{config:?}").contains(SECRETS[0]));
}

#[test]
fn what_is_optional_has_the_documented_default() {
    let mut document = full();
    for key in ["network", "runtime", "agents", "providers", "certificateAuthorities"] {
        document.as_object_mut().unwrap().remove(key);
    }
    document["node"].as_object_mut().unwrap().remove("hostname");
    document["operator"].as_object_mut().unwrap().remove("listen");
    let config = parse(&document).unwrap();
    assert_eq!(config.node.hostname, "node-1");
    assert_eq!(config.network, Network::default());
    assert_eq!(config.runtime.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.operator.listen.to_string(), "0.0.0.0:7443");
}

#[test]
fn an_unknown_key_in_any_mapping_is_refused_with_its_path() {
    for (pointer, path) in everything() {
        let mut document = full();
        let Some(map) = document.pointer_mut(&pointer).unwrap().as_object_mut() else { continue };
        map.insert("zzz".into(), json!("10.0.0.9"));
        let result = parse(&document);
        if path.starts_with("agents[") || path == "network.hosts" {
            result.unwrap(); // Free keys.
            continue;
        }
        let error = result.unwrap_err();
        let dot = if path.is_empty() { "" } else { "." };
        assert_eq!((error.kind, error.path), (ErrorKind::UnknownKey, format!("{path}{dot}zzz")));
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_anywhere_with_its_path() {
    for (pointer, path) in everything() {
        let old = full().pointer(&pointer).unwrap().clone();
        for wrong in
            [json!(null), json!(7), json!(2.5), json!(true), json!("zzz"), json!([[]]), json!({"a": 1})]
        {
            let same = std::mem::discriminant(&wrong) == std::mem::discriminant(&old);
            if same || is_foreign(&path) {
                continue;
            }
            // A role of a model may be anything that has no api_key_env.
            if path == "agents[0].spec.model.primary" {
                parse(&set(&pointer, wrong)).unwrap();
                continue;
            }
            let error = parse(&set(&pointer, wrong.clone())).expect_err(&path);
            assert_eq!(error.kind, ErrorKind::WrongType, "{path} = {wrong}: {error}");
            assert_eq!(error.path, path, "{error}");
            assert!(error.line.is_some());
        }
    }
}

#[test]
fn text_that_means_nothing_is_refused_anywhere_with_its_path() {
    for (pointer, path) in everything() {
        if is_foreign(&path) || !full().pointer(&pointer).unwrap().is_string() {
            continue;
        }
        for wrong in ["", "not a value \u{1b}[31m\n\0", &"x".repeat(9000)] {
            let error = parse(&set(&pointer, json!(wrong))).expect_err(&path);
            assert_eq!((error.kind, error.path.as_str()), (ErrorKind::WrongValue, path.as_str()), "{error}");
            assert!(!error.to_string().contains(char::is_control));
        }
    }
}

#[test]
fn a_missing_key_is_refused_with_its_path() {
    let optional = [
        "network",
        "runtime",
        "agents",
        "providers",
        "certificateAuthorities",
        "node.hostname",
        "network.interfaces",
        "network.nameservers",
        "network.hosts",
        "network.hosts.provider",
        "network.interfaces[1].gateway",
        "network.interfaces[1].gateway6",
        "runtime.profile",
        "runtime.listen",
        "providers[0].apiKey",
        "operator.listen",
        "agents[0].spec.model",
        "agents[0].spec.model.primary",
        "agents[0].spec.model.primary.api_key_env",
        "update",
        "update.channel",
        "update.mode",
        "update.checkEveryMinutes",
        "update.window",
        "update.maxBytesPerSecond",
        "update.plainHttp",
        "update.blessAfterSeconds",
        "update.healthyWithinSeconds",
    ];
    for (pointer, path) in everything() {
        let Some((parent, key)) = pointer.rsplit_once('/') else { continue };
        let mut document = full();
        let Some(map) = document.pointer_mut(parent).unwrap().as_object_mut() else { continue };
        map.remove(key);
        let result = parse(&document);
        if is_foreign(&path) || (optional.contains(&path.as_str()) && path != "providers") {
            result.expect(&path);
            continue;
        }
        let error = result.expect_err(&path);
        let expected = match path.as_str() {
            "providers" => "agents[0].spec.model.primary.api_key_env",
            "network.interfaces[1].mac" => "network.interfaces[1].name",
            "network.interfaces[1].addresses" => "network.interfaces[1].dhcp",
            other => other,
        };
        assert_eq!(error.path, expected, "{error}");
        assert_eq!(error.kind == ErrorKind::MissingKey, path != "providers");
    }
}

/// The address that Hetzner, OVH and others give a machine of its own: one host, and a gateway that is elsewhere.
#[test]
fn a_network_of_one_host_has_its_gateway_outside_of_it() {
    let with = |addresses: Value, key: &str, gateway: &str| {
        let mut document = full();
        document["network"]["interfaces"][1] =
            json!({"mac": "52:54:00:12:34:56", "addresses": addresses, key: gateway});
        parse(&document)
    };
    assert!(with(json!(["203.0.113.7/32"]), "gateway", "172.31.1.1").is_ok());
    assert!(with(json!(["2001:db8::7/128"]), "gateway6", "2001:db8:ffff::1").is_ok());
    assert!(with(json!(["203.0.113.7/32", "10.0.0.5/24"]), "gateway", "172.31.1.1").is_ok());
    // Twins: a longer network, the other family, itself, and what no router has.
    assert!(with(json!(["203.0.113.7/24"]), "gateway", "172.31.1.1").is_err());
    assert!(with(json!(["2001:db8::7/128", "10.0.0.5/24"]), "gateway", "172.31.1.1").is_err());
    assert!(with(json!(["203.0.113.7/32"]), "gateway", "203.0.113.7").is_err());
    for nobody in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        assert!(with(json!(["203.0.113.7/32"]), "gateway", nobody).is_err(), "{nobody}");
    }
    assert!(with(json!(["2001:db8::7/64"]), "gateway6", "2001:db8:ffff::1").is_err());
}

/// Values that have the right form and can't be used.
#[test]
fn what_contradicts_itself_is_refused_with_its_path() {
    let cases = [
        ("/node/id", json!("Node-1"), "node.id"),
        ("/node/id", json!("123"), "node.id"),
        ("/node/id", json!("-a"), "node.id"),
        ("/node/hostname", json!("a".repeat(65)), "node.hostname"),
        ("/network/interfaces", json!([]), "network.interfaces"),
        ("/network/interfaces/0/dhcp", json!(false), "network.interfaces[0].dhcp"),
        ("/network/interfaces/0/name", json!("lo"), "network.interfaces[0].name"),
        ("/network/interfaces/1/mac", json!("53:54:00:12:34:56"), "network.interfaces[1].mac"),
        ("/network/interfaces/1/addresses/0", json!("10.0.0.5"), "network.interfaces[1].addresses[0]"),
        ("/network/interfaces/1/addresses/0", json!("10.0.0.5/33"), "network.interfaces[1].addresses[0]"),
        ("/network/interfaces/1/addresses/0", json!("10.0.0.0/24"), "network.interfaces[1].addresses[0]"),
        ("/network/interfaces/1/addresses/1", json!("10.0.0.5/8"), "network.interfaces[1].addresses[1]"),
        ("/network/interfaces/1/gateway", json!("10.0.1.1"), "network.interfaces[1].gateway"),
        ("/network/interfaces/1/gateway", json!("10.0.0.5"), "network.interfaces[1].gateway"),
        ("/network/interfaces/1/gateway6", json!("fd01::1"), "network.interfaces[1].gateway6"),
        (
            "/network/interfaces/0",
            json!({"name": "a", "mac": "b", "dhcp": true}),
            "network.interfaces[0].mac",
        ),
        (
            "/network/interfaces/0",
            json!({"name": "a", "dhcp": true, "gateway": "10.0.0.1"}),
            "network.interfaces[0].gateway",
        ),
        ("/network/interfaces/0", json!({"mac": "52:54:00:12:34:56", "dhcp": true}), "network.interfaces[1]"),
        ("/network/nameservers", json!(["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]), "network.nameservers"),
        ("/network/nameservers/0", json!("127.0.0.1"), "network.nameservers[0]"),
        ("/network/hosts", json!({"A": "10.0.0.1", "a": "10.0.0.2"}), "network.hosts.a"),
        ("/network/hosts", json!({"a_b": "10.0.0.1"}), "network.hosts.a_b"),
        ("/network/hosts", json!({"a.b ": "10.0.0.1"}), "network.hosts[\"a.b \"]"),
        ("/runtime/profile", json!("worker"), "runtime.profile"),
        ("/runtime/listen", json!("127.0.0.1:0"), "runtime.listen"),
        ("/agents/0/metadata/name", json!("../etc"), "agents[0].metadata.name"),
        (
            "/agents/0/spec/model/primary/api_key_env",
            json!("OTHER_KEY"),
            "agents[0].spec.model.primary.api_key_env",
        ),
        (
            "/agents/0/spec/model",
            json!({"default": "a", "roles": {"a": [{"api_key_env": "OTHER_KEY"}]}}),
            "agents[0].spec.model.roles.a[0].api_key_env",
        ),
        ("/providers/0/apiKeyEnv", json!("LD_PRELOAD"), "providers[0].apiKeyEnv"),
        ("/providers/0/apiKeyEnv", json!("lower"), "providers[0].apiKeyEnv"),
        ("/providers/0/apiKeyEnv", json!(SECRETS[0]), "providers[0].apiKeyEnv"),
        ("/providers/0/apiKey", json!(format!("{}\n", SECRETS[0])), "providers[0].apiKey"),
        ("/update/image", json!("registry.example.com/os:tag"), "update.image"),
        ("/update/image", json!("registry.example.com/a.-b"), "update.image"),
        ("/update/keys", json!([]), "update.keys"),
        ("/update/keys/0", full()["operator"]["key"].clone(), "update.keys[0]"),
        ("/update/window", json!("04:00"), "update.window"),
        ("/update/checkEveryMinutes", json!(0), "update.checkEveryMinutes"),
        ("/update/checkEveryMinutes", json!(1.5), "update.checkEveryMinutes"),
        ("/update/healthyWithinSeconds", json!(29), "update.healthyWithinSeconds"),
        ("/operator/key", full()["operator"]["ca"].clone(), "operator.key"),
        ("/operator/certificate", full()["operator"]["key"].clone(), "operator.certificate"),
    ];
    for (pointer, value, path) in cases {
        let error = parse(&set(pointer, value)).expect_err(path);
        assert_eq!(error.path, path, "{error}");
    }
}

#[test]
fn endpoints_are_read_strictly() {
    for good in [
        "https://a.b/v1",
        "http://10.0.2.100:8080",
        "https://[fd00::1]:8443/v1/",
        "https://a/%20x",
        "http://localhost:1/",
        "https://xn--bcher-kva.example",
    ] {
        assert_eq!(providers::endpoint(good).expect(good).to_string(), good);
    }
    for bad in [
        "",
        "a.b/v1",
        "ftp://a",
        "https://",
        "https:///v1",
        "https://u:p@a",
        "https://a?b",
        "https://a#b",
        "https://a b",
        "https://a:/",
        "https://a:0",
        "https://a:65536",
        "https://a:+1",
        "https://[::1",
        "https://[1.2.3.4]",
        "https://::1",
        "https://a_b",
        "https://1.2.3.4.5",
        "https://a/\u{e9}",
        "https://a/%2",
        "https://a\\b",
        "HTTPS://a",
        "https://256.1.1.1",
        "https://0x7f.1",
    ] {
        assert!(providers::endpoint(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_error_names_the_line_and_column_of_the_value() {
    let error = MachineConfig::parse(b"apiVersion: astromesh.os/v1\nkind: Machine\n").unwrap_err();
    assert_eq!((error.line, error.column), (Some(2), Some(7)));
    assert_eq!(error.short(), "line 2: kind: expected MachineConfig, found \"Machine\"");
    let error = MachineConfig::parse(b"kind: a\nzzz:\n  b: c\n").unwrap_err();
    assert_eq!((error.path.as_str(), error.line, error.column), ("zzz", Some(2), Some(1)));
    let error = MachineConfig::parse(b"a: b\n]: d\n").unwrap_err();
    assert_eq!((error.kind, error.line), (ErrorKind::Syntax, Some(2)));
}

#[test]
fn a_misspelt_key_gets_the_right_one_as_hint() {
    let mut document = full();
    document["providers"][0]["api_key_env"] = json!("X");
    assert_eq!(parse(&document).unwrap_err().hint, "did you mean `apiKeyEnv`?");
}

#[test]
fn what_yaml_readers_disagree_on_is_refused() {
    let text = full().to_string();
    for bad in
        ["yes", "off", "010", "0x1f", "1_000", "52:54:00", "2024-01-01", "&a x", "*a", "!!str x", ".inf"]
    {
        let changed = text.replace("\"openai_compat\"", bad);
        let error = MachineConfig::parse(changed.as_bytes()).expect_err(bad);
        assert_eq!(error.kind, ErrorKind::Syntax, "{bad}: {error}");
    }
    for bad in ["{a: 1, a: 2}", "{<<: {a: 1}}", "{1: a}", "{true: a}", "{[a]: b}"] {
        let changed = text.replace("\"openai_compat\"", bad);
        assert!(MachineConfig::parse(changed.as_bytes()).is_err(), "{bad}");
    }
    for good in ["'yes'", "12", "-1.5", "1e3", "a:b", "v1.2", "null", "10.0.0.1", "0.0.0.0:80", "1.2.3"] {
        let changed = text.replace("\"openai_compat\"", good);
        MachineConfig::parse(changed.as_bytes()).expect(good);
    }
    assert!(MachineConfig::parse(format!("{text}\n---\n{text}").as_bytes()).is_err());
    assert_eq!(MachineConfig::parse(b"").unwrap_err().kind, ErrorKind::Syntax);
}

#[test]
fn a_key_that_is_there_twice_is_refused_with_its_path() {
    let text = full().to_string().replace("\"id\":", "\"id\": \"other\", \"id\":");
    let error = MachineConfig::parse(text.as_bytes()).unwrap_err();
    assert_eq!((error.kind, error.path.as_str()), (ErrorKind::DuplicateKey, "node.id"));
}

#[test]
fn bytes_over_the_bound_and_bytes_that_are_not_text_are_refused() {
    let error = MachineConfig::parse(&vec![b'#'; MAX_DOCUMENT + 1]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    let error = MachineConfig::parse(b"kind: \xff").unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotUtf8);
    assert!(error.short().contains("offset 6"), "{error}");
}

#[test]
fn a_document_made_to_exhaust_is_refused_fast() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..30 {
        let before = format!("*a{}, ", n - 1).repeat(9);
        let _ = writeln!(laughs, "a{n}: &a{n} [{before}]");
    }
    let open = "[".repeat(MAX_DOCUMENT);
    let deep = (0..1000).map(|n| " ".repeat(n) + "a:\n").collect::<String>();
    let many = format!("[{}]", "a,".repeat(500_000));
    let twice = "a: 1\n".repeat(200_000);
    let quotes = "\"".repeat(MAX_DOCUMENT);
    let keys = "? ".repeat(500_000);
    let dashes = "- ".repeat(500_000);
    let anchors = (0..100_000).map(|n: u32| "- &a".to_owned() + &n.to_string() + "\n").collect::<String>();
    for hostile in [laughs, open, deep, many, twice, quotes, keys, dashes, anchors] {
        let start = Instant::now();
        assert!(MachineConfig::parse(hostile.as_bytes()).is_err());
        assert!(MachineConfig::salvage_operator(hostile.as_bytes()).is_none());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}: {:.40}", start.elapsed(), hostile);
    }
}

#[test]
fn random_and_mutated_bytes_never_panic() {
    // xorshift64: the same bytes in every run.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let sample = full().to_string().into_bytes();
    let alphabet = b" \n\t:-?[]{},#&*!|>'\"%@`~a1.\\<=\x00\xff\xc3";
    for _ in 0..3000 {
        let mut bytes = sample.clone();
        for _ in 0..=random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = alphabet[random() % alphabet.len()];
        }
        let _ = MachineConfig::parse(&bytes);
        let _ = MachineConfig::salvage_operator(&bytes);
        let garbage: Vec<u8> = (0..random() % 200).map(|_| alphabet[random() % alphabet.len()]).collect();
        let _ = MachineConfig::parse(&garbage);
        let _ = smbios::credential(&garbage);
    }
}

#[test]
fn the_operator_can_be_salvaged_from_a_document_that_is_wrong_elsewhere() {
    let operator = parse(&full()).unwrap().operator;
    let salvage = |document: &Value| MachineConfig::salvage_operator(document.to_string().as_bytes());
    assert_eq!(salvage(&set("/node/id", json!("WRONG"))), Some(operator.clone()));
    assert_eq!(salvage(&set("/network", json!({"zzz": [1]}))), Some(operator.clone()));
    assert_eq!(salvage(&json!({"operator": full()["operator"]})), Some(operator.clone()));
    let twice = full().to_string().replace("\"id\":", "\"id\": \"other\", \"id\":");
    assert_eq!(MachineConfig::salvage_operator(twice.as_bytes()), Some(operator));
}

#[test]
fn an_operator_section_that_is_wrong_itself_is_not_salvaged() {
    let salvage = |document: &Value| MachineConfig::salvage_operator(document.to_string().as_bytes());
    assert_eq!(salvage(&set("/operator/key", json!("x"))), None);
    assert_eq!(salvage(&set("/operator", json!(null))), None);
    assert_eq!(MachineConfig::salvage_operator(b"operator: [unclosed"), None);
    assert_eq!(MachineConfig::salvage_operator(b"\xff\xfe"), None);
    let section = full()["operator"].to_string();
    let twice = format!("{{\"operator\": {section}, \"operator\": {section}}}");
    assert_eq!(MachineConfig::salvage_operator(twice.as_bytes()), None);
}

#[test]
fn only_whole_pem_blocks_with_whole_der_are_taken() {
    let good = pem("CERTIFICATE", b"\x30\x00");
    assert_eq!(pem::decode(&format!("{good}\n{good}"), pem::CERTIFICATE).unwrap().len(), 2);
    let bad = [
        String::new(),
        "junk".into(),
        good.replace("-----END CERTIFICATE-----\n", ""),
        good.replace("MA", "M!"),
        pem("CERTIFICATE", b"\x30\x00").replace("MAIwAA==", "MAMwAA=="),
        pem("TRUSTED CERTIFICATE", b"\x30\x00"),
    ];
    for text in bad {
        assert!(pem::decode(&text, pem::CERTIFICATE).is_err(), "{text}");
    }
}

#[test]
fn the_runtime_and_the_control_api_may_not_listen_at_the_same_place() {
    let with = |runtime: Option<&str>, operator: Option<&str>| {
        let mut document = full();
        for (section, listen) in [("runtime", runtime), ("operator", operator)] {
            let section = document[section].as_object_mut().unwrap();
            match listen {
                Some(listen) => drop(section.insert("listen".into(), json!(listen))),
                None => drop(section.remove("listen")),
            }
        }
        parse(&document)
    };
    for (runtime, operator, path, other) in [
        (Some("0.0.0.0:7443"), Some("0.0.0.0:7443"), "runtime.listen", "operator.listen"),
        (Some("10.0.0.5:7443"), None, "runtime.listen", "operator.listen"),
        (None, Some("[::]:8000"), "operator.listen", "runtime.listen"),
    ] {
        let error = with(runtime, operator).unwrap_err();
        assert_eq!((error.kind, error.path.as_str()), (ErrorKind::WrongValue, path));
        assert!(error.expected.contains(other) && error.line.is_some(), "{error}");
    }
    // Twins: another port, or another address.
    assert!(with(None, None).is_ok());
    assert!(with(Some("127.0.0.1:7443"), Some("10.0.0.5:7443")).is_ok());
    assert!(with(Some("0.0.0.0:7444"), Some("0.0.0.0:7443")).is_ok());
}

#[test]
fn numbers_and_text_reach_the_runtime_as_they_were_meant() {
    let mut document = full();
    document["agents"][0]["spec"]["prompts"] = json!({ "system": "TEXT" });
    // As people write them: what `json!` makes has other forms.
    let text = document
        .to_string()
        .replace("\"openai_compat\"", "\"openai_compat\", \"temperature\": 3e-6, \"top_p\": 0.000001")
        .replace("TEXT", r"a\u007f\u0092b");
    let yaml = MachineConfig::parse(text.as_bytes()).unwrap().agents[0].yaml();
    for part in ["\"temperature\": 3.0e-6", "\"top_p\": 1.0e-6", r#""system": "a\x7f\x92b""#] {
        assert!(yaml.contains(part), "{part} in {yaml}");
    }
}
