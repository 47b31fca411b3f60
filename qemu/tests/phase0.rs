//! Gate of phase 0: the image boots on a verified root, the real runtime serves, a real question is answered by a
//! provider outside the machine - and whatever is wrong is noticed, refused or healed, never served.
//!
//! What is asserted are facts: exit reasons from QEMU, errno values, root hashes from the device-mapper's table, an
//! HMAC that only the provider could make. Every refusal has a twin beside it that shows the same test passing when
//! nothing is refused. Run by `cargo xtask gate phase0`, which builds the images.

mod observed;

use astromesh_oci::keys;
use astromesh_proto::control::{Check, Mode, Request, StageOutcome, Status};
use astromesh_qemu::node::{
    API_PORT, CONTROL_PORT, Delivery, GateImages, Image, Node, PROVIDER_INSIDE, PROVIDER_NAME, Setup, agent,
    deliver, network,
};
use astromesh_qemu::{
    Disk, ExitReason, Provider, QemuSockets, SocketSampler, Vm, http, pcap, relay_path, tamper,
};
use astromesh_rootfs::command_line::command_line;
use astromesh_verity::{Gpt, ROOT_X86_64, ROOT_X86_64_VERITY, RootHash, SectorSize, Uuid, partition_uuids};
use astromeshctl::client::{Client, ClientError};
use astromeshctl::credentials::{GenOptions, generate};
use astromeshctl::profile::Profile;
use observed::Round;
use serde_json::{Value, json};
use std::error::Error;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// A boot without the runtime takes a few seconds, emulated; this is for a busy machine.
const SOON: Duration = Duration::from_secs(120);
/// How long a machine that must not serve may take to end itself: it waits half a minute for disks that never come.
const ENDS_WITHIN: Duration = Duration::from_secs(180);

fn images() -> &'static GateImages {
    static IMAGES: OnceLock<GateImages> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let path = std::env::var("ASTROMESH_GATE").expect("gates are run by `cargo xtask gate phase0`");
        let bytes = std::fs::read(&path).expect("the gate's images are described where the command put it");
        serde_json::from_slice(&bytes).expect("the description is what this version of the command writes")
    })
}

fn provider() -> Result<Provider> {
    Ok(Provider::start("throw-away-key", &[PROVIDER_NAME])?)
}

/// Boots `image` with `setup`, its network closed but for the provider.
fn boot(image: &Image, setup: &Setup, provider: &Provider, by: Delivery) -> Result<Node> {
    let nic = network(&relay_path()?).reach_loopback(PROVIDER_INSIDE, provider.port());
    let vm = setup.deliver(image.machine().nic(nic), by).start()?;
    Ok(Node { profile: setup.profile(&vm)?, vm })
}

/// Boots the probe, which is healthy in a few seconds.
fn boot_probe() -> Result<Node> {
    let provider = provider()?;
    let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let node = boot(&images().probe, &setup, &provider, Delivery::FwCfg)?;
    node.wait_healthy()?;
    Ok(node)
}

/// Has the probe do something, and returns what it found.
fn probe(node: &Node, name: &str) -> Result<Value> {
    let answer =
        http::get(node.vm.host_address(API_PORT)?, &format!("/probe/{name}"), Duration::from_secs(240))?;
    let found = answer.json()?;
    assert!(found.get("broken").is_none() && answer.status == 200, "the probe broke: {found}");
    Ok(found)
}

fn red(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect()
}

fn service<'a>(status: &'a Status, name: &str) -> &'a astromesh_proto::control::Service {
    status.services.iter().find(|service| service.name == name).expect("every service is in the status")
}

#[test]
fn a_real_question_is_answered_from_outside_and_the_doctor_tells_green_from_red() -> Result {
    let mut provider = provider()?;
    let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let mut node = boot(&images().release, &setup, &provider, Delivery::Smbios)?;
    let sampler = SocketSampler::start(node.vm.pid());

    // Health, and whose root it is: the device-mapper's table, through PID 1.
    let status = node.wait_healthy()?;
    assert_eq!(status.root_hash, images().release.root_hash);
    assert_eq!((status.mode, status.node.as_str()), (Mode::Running, "node-1"));
    assert!(status.addresses.iter().any(|address| address == "10.0.2.15"), "{:?}", status.addresses);
    assert!(
        status.addresses.iter().any(|address| address.starts_with("fec0:")),
        "an address by router advertisement: {:?}",
        status.addresses
    );

    // The round trip: only the provider can make this answer out of this nonce.
    let nonce = "5eed0123456789ab";
    let answer = node.ask("assistant", &format!("Please transform nonce:{nonce}"))?;
    assert!(answer.contains(&provider.expected_answer(nonce)), "{answer}");
    assert!(provider.requests().iter().any(|request| request.path.ends_with("/chat/completions")));
    let other = node.ask("assistant", "Please transform nonce:00ff00ff")?;
    assert!(!other.contains(&provider.expected_answer(nonce)), "the answer depends on the question");

    // Budgets of the processes, as the kernel counts them.
    let ours: u64 = ["init", "net", "control"].iter().map(|name| service(&status, name).pss_kib).sum();
    println!(
        "PID 1: {} KiB resident; our services: {ours} KiB proportional",
        service(&status, "init").rss_kib
    );
    assert!(service(&status, "init").rss_kib <= 2048, "{:?}", service(&status, "init"));
    assert!(ours <= 8192, "{:?}", status.services);

    // The boot is recorded: every stage, in order, and done.
    let stages = node.boot()?;
    let names: Vec<_> = stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "kernel", "early", "root", "state", "config", "network", "control", "agent", "slots", "update",
            "grow", "healthy"
        ]
    );
    assert!(stages.iter().all(|stage| stage.outcome == StageOutcome::Done), "{stages:?}");

    // The doctor: green, red without the provider, green again with it.
    let checks = node.doctor()?;
    assert_eq!(red(&checks), Vec::<&str>::new(), "{checks:?}");
    for name in
        ["root", "runtime", "agent/assistant", "provider/main", "clock", "space", "init", "runtime/doctor"]
    {
        assert!(checks.iter().any(|check| check.name == name), "no check {name}: {checks:?}");
    }
    provider.stop();
    let checks = node.doctor()?;
    assert!(red(&checks).contains(&"runtime/doctor"), "{checks:?}");
    provider.restart()?;
    assert_eq!(red(&node.doctor()?), Vec::<&str>::new());

    // Who may not ask, learns nothing.
    refused_without_a_certificate(&node, &setup)?;

    // Killed, it is started again, and the node heals by itself.
    let before = service(&node.status()?, "agent").clone();
    node.request(&Request::RestartAgent)?;
    let healed = node.wait_for("the node did not heal", astromesh_qemu::node::HEALTHY_WITHIN, |status| {
        status.healthy && service(status, "agent").restarts > before.restarts
    })?;
    assert_ne!(service(&healed, "agent").pid, before.pid);
    assert_eq!(service(&healed, "init").pid, 1);
    // Nothing of it cost PID 1 an allocation, and nothing else is red.
    assert_eq!(red(&node.doctor()?), Vec::<&str>::new());
    let answer = node.ask("assistant", &format!("Please transform nonce:{nonce}"))?;
    assert!(answer.contains(&provider.expected_answer(nonce)), "{answer}");

    // Nothing that QEMU opened for this guest, in all that time, was anywhere but on loopback.
    sampler.stop().all_inside()?;

    // Off by the button, cleanly; and then the doctor can't be asked.
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    let gone = Client::connect(&node.profile).err().map(|error| error.exit_code());
    assert_eq!(gone, Some(astromeshctl::exit::UNREACHABLE));
    Ok(())
}

#[test]
fn the_real_roots_hash_tree_is_what_veritysetup_makes() -> Result {
    let image = &images().release;
    let salt = tree_salt(image)?;
    let directory = tempfile::tempdir()?;
    let theirs = directory.path().join("tree");
    let uuid = tree_uuid(image)?;
    let output = std::process::Command::new("veritysetup")
        .args(["format", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096"])
        .args([format!("--salt={salt}"), format!("--uuid={uuid}")])
        .args([&image.root, &theirs])
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&image.root_hash));
    assert!(std::fs::read(&theirs)? == std::fs::read(&image.verity)?, "the trees differ");
    let verify = |hash: &str| {
        std::process::Command::new("veritysetup")
            .arg("verify")
            .args([&image.root, &image.verity])
            .arg(hash)
            .status()
    };
    assert!(verify(&image.root_hash)?.success());
    // The twin: another root's hash is refused.
    assert!(!verify(&images().probe.root_hash)?.success());
    Ok(())
}

fn tree_superblock(image: &Image) -> Result<astromesh_verity::Superblock> {
    let bytes = std::fs::read(&image.verity)?;
    Ok(astromesh_verity::Superblock::parse_prefix(&bytes)?)
}

fn tree_salt(image: &Image) -> Result<String> {
    Ok(tree_superblock(image)?.salt().to_string())
}

fn tree_uuid(image: &Image) -> Result<String> {
    Ok(tree_superblock(image)?.uuid().to_string())
}

#[test]
fn init_is_small_and_the_node_obeys_reboot_and_poweroff_and_tells_its_log() -> Result {
    let length = std::fs::metadata(&images().release.init)?.len();
    println!("init: {length} bytes");
    assert!(length <= 4_500_000, "init is {length} bytes");

    let mut node = boot_probe()?;
    let lines: Vec<_> =
        Client::connect(&node.profile)?.logs(1000, false)?.collect::<std::result::Result<_, _>>()?;
    assert!(lines.iter().any(|line| line.source == "kernel" && line.text.starts_with("Linux version")));
    assert!(lines.iter().any(|line| line.source == "init") && lines.iter().any(|line| line.source == "net"));
    node.request(&Request::Reboot)?;
    assert_eq!(node.vm.wait_exit(SOON)?, ExitReason::GuestReset);

    // The second machine's battery is empty: by its own clock no certificate is valid yet, the operator's among them.
    let provider = provider()?;
    let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let machine = images().probe.machine().nic(network(&relay_path()?)).extra("-rtc", "base=1990-01-01");
    let vm = setup.deliver(machine, Delivery::FwCfg).start()?;
    let mut node = Node { profile: setup.profile(&vm)?, vm };
    node.wait_healthy()?;
    let checks = node.doctor()?;
    assert!(red(&checks).contains(&"clock"), "{checks:?}");
    node.request(&Request::Poweroff)?;
    assert_eq!(node.vm.wait_exit(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

/// No certificate, another authority's, the node's own: each refused, and none is told anything.
fn refused_without_a_certificate(node: &Node, setup: &Setup) -> Result {
    let endpoint = node.profile.endpoint.clone();
    let stranger = generate(&GenOptions { node: "node-1".to_owned() })?;
    let own = &setup.credentials;
    let refused: [Option<(&str, &str)>; 3] = [
        None,
        Some((&stranger.client_cert_pem, &stranger.client_key_pem)),
        Some((&own.node_cert_pem, &own.node_key_pem)),
    ];
    for identity in refused {
        let profile = Profile::from_pem("node-1", &endpoint, &own.ca_pem, identity)?;
        let answer = Client::connect(&profile).and_then(|mut client| client.request(&Request::Status));
        let code = answer.as_ref().err().map(ClientError::exit_code);
        assert_eq!(code, Some(astromeshctl::exit::REFUSED), "{answer:?}");
    }
    // The twin: the same question with the right certificate.
    assert_eq!(node.status()?.node, "node-1");
    Ok(())
}

#[test]
fn an_agent_that_fails_to_load_makes_the_doctor_red() -> Result {
    let provider = provider()?;
    let mut setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let mut broken = agent("broken", &format!("https://{PROVIDER_NAME}/v1"), "test-model");
    broken["spec"]["orchestration"]["pattern"] = json!("no-such-pattern");
    broken["spec"]["model"]["primary"]["provider"] = json!("no_such_provider");
    setup.config["agents"].as_array_mut().expect("agents is a list").push(broken);
    let mut node = boot(&images().release, &setup, &provider, Delivery::FwCfg)?;
    // The runtime serves, and the node is not healthy for it.
    let status =
        node.wait_for("the runtime did not serve", astromesh_qemu::node::HEALTHY_WITHIN, |status| {
            status.reason.contains("broken")
        })?;
    assert!(!status.healthy);
    let checks = node.doctor()?;
    let red = red(&checks);
    assert!(red.contains(&"agent/broken"), "{checks:?}");
    // The twin: the agent beside it is loaded, and the runtime itself is well.
    assert!(!red.contains(&"agent/assistant") && !red.contains(&"runtime"), "{checks:?}");
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

#[test]
fn in_the_agents_place_nothing_of_the_root_can_be_changed_and_no_right_is_left() -> Result {
    let mut node = boot_probe()?;
    let writes = probe(&node, "writes")?;
    let attempts = writes["attempts"].as_u64().unwrap_or(0);
    assert!(attempts > 5000, "{writes}");
    assert_eq!(writes["outcomes"], json!({ "EROFS": attempts }));

    let rights = probe(&node, "rights")?;
    assert_eq!(rights["uid"], json!([1000, 1000, 1000, 1000]));
    assert_eq!(rights["groups"], json!([]));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(rights["status"][set], json!("0000000000000000"), "{rights}");
    }
    assert_eq!(rights["status"]["NoNewPrivs"], json!("1"));
    // Its own pid namespace: it is the first, and sees no other.
    assert_eq!((&rights["pid"], &rights["pids"]), (&json!(1), &json!([1])));
    // No descriptor but its own socket and connection (and the directory that listed them).
    let descriptors: Vec<_> =
        rights["descriptors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(
        descriptors.iter().all(|kind| *kind == "socket" || kind.starts_with("/proc/")),
        "{descriptors:?}"
    );
    assert_eq!(rights["run"], json!(["agent", "net"]));
    assert_eq!(rights["dev"], json!(["full", "null", "random", "shm", "urandom", "zero"]));
    let mounts = &rights["mounts"];
    assert_eq!(mounts["/"][1], json!("erofs"));
    for (path, options) in [
        ("/", "ro"),
        ("/run", "ro"),
        ("/var", "ro"),
        ("/sys", "ro"),
        ("/dev", "ro"),
        ("/tmp", "nosuid"),
        ("/tmp", "nodev"),
        ("/tmp", "noexec"),
        ("/var/lib/astromesh", "noexec"),
        ("/var/lib/astromesh", "nosuid"),
        ("/var/lib/astromesh", "nodev"),
        ("/proc", "noexec"),
    ] {
        let found = mounts[path][0].as_str().unwrap_or_default();
        assert!(found.split(',').any(|option| option == options), "{path} is {found}, not {options}");
    }
    // Every line of a service is kept: the kernel does not ration what is written to its log.
    assert_eq!(rights["devkmsg"], json!("on"));
    assert_eq!(rights["core"], json!([0, 0]));
    assert_eq!(
        (&rights["tmp"], &rights["home"]),
        (&json!("ok"), &json!("ok")),
        "the twin: these may be written"
    );
    assert_eq!(rights["setuid"], json!("EPERM"));
    assert_eq!(rights["unshare"], json!("EPERM"));
    assert_ne!(rights["kernel"], json!("ok"));
    assert_eq!(rights["keys"], json!(["PROVIDER_KEY"]));
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

/// KiB of memory that our services may have together: each one's own, and its share of what it shares with the others.
const SERVICES_KIB: u64 = 8192;

/// Memory, limits and sockets are seen by a process that is in no release, and asked of nobody else.
#[test]
fn every_process_of_a_booted_node_is_what_its_row_says() -> Result {
    let image = images().observed.as_ref().expect("`cargo xtask gate phase0` builds it");
    let provider = provider()?;
    let mut setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    // So that `update` runs too; it has no registry to ask.
    setup.config["update"] = json!({ "keys": [keys::generate()?.1.to_pem()] });
    // Where the runtime listens unless it is told.
    setup.config["runtime"].as_object_mut().ok_or("no runtime section")?.remove("listen");
    let nic = network(&relay_path()?).reach_loopback(PROVIDER_INSIDE, provider.port());
    let machine = image.machine().cmdline(format!("{} twin=observed", image.cmdline())).nic(nic);
    let vm = setup.deliver(machine, Delivery::FwCfg).start()?;
    let mut node = Node { profile: setup.profile(&vm)?, vm };
    let status = node.wait_healthy()?;

    // The round that goes on now may have begun earlier; the one after it is of a healthy node that nobody asks
    // anything.
    let serial = node.vm.serial();
    let end = serial.expect_after(serial.mark(), observed::END, SOON)?;
    serial.expect_after(end, observed::END, SOON)?;
    let Round { seen, groups, sockets, own } = observed::last_round(&serial.log())?;
    let first = observed::first(&seen).ok_or("PID 1 was not seen")?;
    let faults: Vec<_> = seen.iter().flat_map(|process| observed::faults(process, first)).collect();
    assert!(faults.is_empty(), "{faults:#?}\n{seen:#?}");
    // Each that is kept alive was among them, and once.
    assert_eq!(observed::kept_alive(&seen), ["agent", "control", "init", "net", "update"]);

    // The kernel has every limit, so what a promise says of memory it holds.
    assert_eq!(observed::loose(&groups), Vec::<String>::new());
    for name in ["net", "control", "update", "agent"] {
        println!(
            "{name}: at most {} KiB in its cgroup",
            observed::peak(&groups, name).ok_or("no peak")? >> 10
        );
    }
    // What each has, and what PID 1 says that it has: within a quarter, since it was asked some seconds earlier.
    // What the observer has is added: in a release there is nobody who shares with them.
    let mut sum = own;
    for name in ["init", "net", "control", "update"] {
        let (resident, share) = observed::memory(&seen, name).ok_or("a service was not seen")?;
        let told = service(&status, name);
        println!(
            "{name}: {resident} KiB resident, {share} proportional; told {} and {}",
            told.rss_kib, told.pss_kib
        );
        assert!(told.rss_kib.abs_diff(resident) * 4 <= resident, "{name}: {told:?}, not {resident}");
        assert!(name != "init" || resident <= 2048, "{resident} KiB");
        sum += share;
    }
    println!("together at most {sum} KiB");
    assert!(sum <= SERVICES_KIB, "{sum} KiB");

    // From outside nothing is reached but the operator's API; all that hears more is DHCP's client.
    let doors: Vec<_> = sockets.iter().filter(|socket| !socket.is_loopback()).collect();
    let is_known = |socket: &&&observed::Socket| match socket.table.as_str() {
        "tcp" | "tcp6" => socket.port() == Some(CONTROL_PORT),
        "udp" => socket.port() == Some(68),
        "packet" => true,
        _ => false,
    };
    assert!(doors.iter().all(|socket| is_known(&socket)), "{doors:?}");
    let listeners = sockets.iter().filter(|socket| socket.table.starts_with("tcp"));
    let mut ports: Vec<_> = listeners.filter_map(observed::Socket::port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [CONTROL_PORT, API_PORT], "each once");
    let outside = http::get(node.vm.host_address(API_PORT)?, "/v1/health", Duration::from_secs(5));
    assert!(outside.is_err(), "{outside:?}");
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

#[test]
fn a_fork_bomb_of_orphans_ends_at_its_limit_and_the_node_lives_on() -> Result {
    let mut node = boot_probe()?;
    let before = node.status()?;
    let bomb = probe(&node, "orphans")?;
    let made = bomb["made"].as_u64().unwrap_or(0);
    // The cgroup's limit of 512, less the probe itself and its last child.
    assert!((400..=512).contains(&made), "{bomb}");
    assert_eq!(bomb["reason"], json!("EAGAIN"));
    // PID 1 still answers, and kills the whole crowd at one word.
    let during = node.status()?;
    assert_eq!(service(&during, "agent").pid, service(&before, "agent").pid);
    node.request(&Request::RestartAgent)?;
    let after = node.wait_for("the node did not heal", SOON, |status| {
        status.healthy && service(status, "agent").restarts == 1
    })?;
    assert_eq!(service(&after, "init").pid, 1);
    for name in ["net", "control"] {
        assert_eq!(service(&after, name).restarts, 0, "{name}");
        assert_eq!(service(&after, name).pid, service(&before, name).pid, "{name}");
    }
    // Nothing of the crowd is left: the same bomb finds the same room.
    let again = probe(&node, "orphans")?;
    assert_eq!(again["made"], bomb["made"]);
    node.vm.kill();
    Ok(())
}

#[test]
fn no_packet_of_a_guest_reaches_the_hosts_network() -> Result {
    let provider = provider()?;
    let mut setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    // A closed network leases no router. The guest is given one, so that it has every chance to send.
    setup.config["network"]["interfaces"] =
        json!([{ "name": "eth0", "addresses": ["10.0.2.15/24"], "gateway": "10.0.2.2" }]);
    let capture = std::env::temp_dir().join(format!("astromesh-closed-{}.pcap", std::process::id()));
    let nic = network(&relay_path()?).reach_loopback(PROVIDER_INSIDE, provider.port()).capture(&capture);
    let vm = setup.deliver(images().probe.machine().nic(nic), Delivery::FwCfg).start()?;
    let mut node = Node { profile: setup.profile(&vm)?, vm };
    let sampler = SocketSampler::start(node.vm.pid());
    node.wait_healthy()?;
    let reached = probe(&node, "reach")?;
    assert!(reached.as_object().is_some_and(|reached| reached.len() == 5), "{reached}");
    for (address, result) in reached.as_object().into_iter().flatten() {
        assert!(
            result != "connected" && result.as_str().is_some_and(|text| text.len() < 20),
            "{address}: {result}"
        );
    }
    sampler.stop().all_inside()?;
    // The twin: the sampler does see sockets - the host's own connection through the forward is one.
    let open = std::net::TcpStream::connect(node.vm.host_address(API_PORT)?)?;
    assert!(!QemuSockets::of(node.vm.pid())?.inet.is_empty());
    drop(open);
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    // And on the wire: the guest did send, and nobody out there answered.
    for address in ["198.51.100.1", "169.254.169.254", "192.0.2.1"] {
        let talk = pcap::conversation(&capture, address.parse()?)?;
        assert!(!talk.sent.is_empty(), "{address}: the guest sent nothing, so nothing was shown");
        assert!(talk.answers.is_empty(), "{address}: {:?}", talk.answers);
    }
    std::fs::remove_file(capture).ok();
    Ok(())
}

/// Makes a machine-config wrong in one place.
type BreakIt = fn(&mut Value);

/// A disk of `image` with some bytes flipped, and a machine that boots it with `line`.
fn machine_with(image: &Image, flips: &[u64], line: &str) -> Result<(Node, tempfile::TempDir)> {
    let provider = provider()?;
    let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let directory = tempfile::tempdir()?;
    let disk: PathBuf = directory.path().join("disk.raw");
    tamper::copy_image(&image.disk, &disk)?;
    for &offset in flips {
        tamper::flip_byte(&disk, offset)?;
    }
    let nic = network(&relay_path()?).reach_loopback(PROVIDER_INSIDE, provider.port());
    let machine = Vm::builder()
        .kernel(&image.kernel)
        .initrd(&image.initrd)
        .cmdline(line)
        .disk(Disk::new(&disk))
        .watchdog()
        .rng()
        .memory_mib(1024)
        .cpus(2)
        .nic(nic);
    let vm = setup.deliver(machine, Delivery::FwCfg).start()?;
    Ok((Node { profile: setup.profile(&vm)?, vm }, directory))
}

/// Where the partition of a type begins that carries the root hash in its identifier, in bytes.
fn partition_start(image: &Image, type_guid: Uuid) -> Result<u64> {
    let mut start = vec![0; SectorSize::B512.table_bytes()];
    std::io::Read::read_exact(&mut std::fs::File::open(&image.disk)?, &mut start)?;
    let table = Gpt::parse(&start, SectorSize::B512)?;
    let slot = partition_uuids(&image.root_hash.parse::<RootHash>()?);
    let unique = if type_guid == ROOT_X86_64 { slot.root } else { slot.verity };
    let found = table.find(type_guid, unique).ok_or("no such partition")?;
    Ok(found.first_lba * 512)
}

/// The machine reboots by itself, and nobody ever got an answer from it.
fn restarts_without_serving(mut node: Node) -> Result {
    let api = node.vm.host_address(API_PORT)?;
    let deadline = std::time::Instant::now() + ENDS_WITHIN;
    while node.vm.is_running() && std::time::Instant::now() < deadline {
        let served = http::get(api, "/v1/health", Duration::from_secs(2));
        assert!(served.is_err(), "it served: {served:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(node.vm.wait_exit(SOON)?, ExitReason::GuestReset, "{}", node.vm.serial().tail());
    Ok(())
}

/// A byte that every mount reads and only verity looks at: EROFS begins with 1024 bytes that it keeps for boot
/// loaders, and its own checksum begins after them (fs/erofs/erofs_fs.h, fs/erofs/super.c).
const BEFORE_THE_SUPERBLOCK: u64 = 100;

/// A byte of the block at the top of the hash tree, which every read needs. Before it lies verity's superblock.
const TOP_OF_THE_TREE: u64 = 4096 + 7;

#[test]
fn one_flipped_byte_at_the_start_of_the_root_restarts_the_machine_and_never_serves() -> Result {
    let image = &images().probe;
    let place = partition_start(image, ROOT_X86_64)? + BEFORE_THE_SUPERBLOCK;
    let (node, _disk) = machine_with(image, &[place], &image.cmdline())?;
    restarts_without_serving(node)
}

#[test]
fn one_flipped_byte_in_the_hash_tree_restarts_the_machine_and_never_serves() -> Result {
    let image = &images().probe;
    let place = partition_start(image, ROOT_X86_64_VERITY)? + TOP_OF_THE_TREE;
    let (node, _disk) = machine_with(image, &[place], &image.cmdline())?;
    restarts_without_serving(node)
}

#[test]
fn one_flipped_byte_that_is_read_late_restarts_the_machine_then() -> Result {
    let image = &images().probe;
    let place = partition_start(image, ROOT_X86_64)? + images().cold_offset;
    let (mut node, _disk) = machine_with(image, &[place], &image.cmdline())?;
    node.wait_healthy()?;
    assert!(probe(&node, "cold").is_err(), "the file was read");
    assert_eq!(node.vm.wait_exit(SOON)?, ExitReason::GuestReset, "{}", node.vm.serial().tail());
    Ok(())
}

/// The twin of the three: an `init` that mounts the root from its partition. Nothing else minds any of these bytes.
#[test]
fn twin_without_verity_a_root_with_the_same_flipped_bytes_is_mounted_and_served() -> Result {
    let image = images().observed.as_ref().expect("`cargo xtask gate phase0` builds it");
    let root = partition_start(image, ROOT_X86_64)?;
    let tree = partition_start(image, ROOT_X86_64_VERITY)?;
    let flips = [root + BEFORE_THE_SUPERBLOCK, root + images().cold_offset, tree + TOP_OF_THE_TREE];
    let line = format!("{} twin=no-verity", image.cmdline());
    let (mut node, _disk) = machine_with(image, &flips, &line)?;
    node.wait_healthy()?;
    assert_eq!(probe(&node, "cold")?["bytes"], json!(16 * 4096));
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

#[test]
fn a_root_hash_that_no_disk_has_never_mounts() -> Result {
    let image = &images().probe;
    let mut wrong = image.root_hash.clone();
    wrong.replace_range(..1, if wrong.starts_with('0') { "1" } else { "0" });
    let (node, _disk) = machine_with(image, &[], &command_line(&wrong.parse()?))?;
    restarts_without_serving(node)
}

#[test]
fn a_root_under_another_roots_name_never_mounts() -> Result {
    let image = &images().mislabelled;
    let (node, _disk) = machine_with(image, &[], &image.cmdline())?;
    restarts_without_serving(node)
}

#[test]
fn a_wrong_machine_config_means_maintenance_and_no_agent() -> Result {
    let provider = provider()?;
    let wrong: [(&str, BreakIt); 3] = [
        ("runtime.colour", |config| config["runtime"]["colour"] = json!("blue")),
        ("agents[0].metadata.name", |config| config["agents"][0]["metadata"]["name"] = json!(7)),
        ("node", |config| {
            config.as_object_mut().expect("the config is a map").remove("node");
        }),
    ];
    for (path, break_it) in wrong {
        let mut setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
        break_it(&mut setup.config);
        let mut node = boot(&images().probe, &setup, &provider, Delivery::Smbios)?;
        let status = node.wait_for("the node was not in maintenance mode", SOON, |status| {
            status.mode == Mode::Maintenance
        })?;
        assert!(status.reason.contains(path), "{path}: {}", status.reason);
        assert!(!status.healthy);
        assert_eq!(service(&status, "agent").pid, 0, "no agent");
        let served = http::get(node.vm.host_address(API_PORT)?, "/v1/health", Duration::from_secs(5));
        assert!(served.is_err(), "{served:?}");
        assert!(red(&node.doctor()?).contains(&"config"));
        assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    }
    Ok(())
}

#[test]
fn bytes_that_are_no_machine_config_leave_every_door_closed() -> Result {
    let provider = provider()?;
    let mut oversized = serde_json::to_vec(&Setup::new(provider.ca_pem(), "throw-away-key")?.config)?;
    oversized.resize(1024 * 1024 + 1, b' ');
    for bytes in [b"\xff\xfe\x00 not text".to_vec(), oversized] {
        let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
        let nic = network(&relay_path()?).reach_loopback(PROVIDER_INSIDE, provider.port());
        let mut vm = deliver(images().probe.machine().nic(nic), &bytes, Delivery::FwCfg).start()?;
        // The end of the boot is the one thing there is to wait for; what is asserted are closed ports.
        vm.serial().expect("boot is over", SOON)?;
        let profile = setup.profile(&vm)?;
        std::thread::sleep(Duration::from_secs(3));
        assert!(Client::connect(&profile).is_err());
        assert!(http::get(vm.host_address(API_PORT)?, "/v1/health", Duration::from_secs(5)).is_err());
        assert_eq!(vm.power_off(SOON)?, ExitReason::GuestShutdown);
    }
    Ok(())
}

#[test]
fn a_machine_config_on_a_labelled_drive_is_found() -> Result {
    let provider = provider()?;
    let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let directory = tempfile::tempdir()?;
    let drive = directory.path().join("config.img");
    labelled_drive(&drive, setup.config.to_string().as_bytes())?;
    let nic = network(&relay_path()?).reach_loopback(PROVIDER_INSIDE, provider.port());
    let vm = images().probe.machine().nic(nic).disk(Disk::new(&drive).read_only()).start()?;
    let mut node = Node { profile: setup.profile(&vm)?, vm };
    let status = node.wait_healthy()?;
    assert_eq!((status.node.as_str(), status.mode), ("node-1", Mode::Running));
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

/// A FAT volume labelled `ASTROMESH` with the machine-config on it.
fn labelled_drive(path: &std::path::Path, config: &[u8]) -> Result {
    use std::io::Write as _;
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(path)?;
    file.set_len(4 << 20)?;
    fatfs::format_volume(&file, fatfs::FormatVolumeOptions::new().volume_label(*b"ASTROMESH  "))?;
    let volume = fatfs::FileSystem::new(&file, fatfs::FsOptions::new())?;
    volume.root_dir().create_file("machine-config.yaml")?.write_all(config)?;
    volume.unmount()?;
    // As Windows leaves the boot sector: the label is an entry of the root directory alone.
    std::os::unix::fs::FileExt::write_all_at(&file, b"NO NAME    ", 0x2b)?;
    Ok(())
}
