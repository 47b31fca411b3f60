//! Gate of the clouds: a node finds its machine-config where EC2, GCE, Azure and the hypervisors that speak cloud-init
//! put it, asks nobody whom its firmware doesn't name, believes nobody who doesn't answer as that cloud does, and comes
//! up with every door closed, in bounded time, when there is none.
//!
//! The metadata servers are fakes on the host's loopback. The guest reaches one at 169.254.169.254 because its own
//! network, closed like any other, is 169.254.169.0/24 here and that one address of it was opened: a question can't
//! leave QEMU for the host's network, whatever the guest does, and one test boots without the opening to show it. What
//! is asserted are facts: what a server was asked, whether ports answer, frames on the wire, sockets of QEMU. Run by
//! `cargo xtask gate phase1`.

mod cloud_side;

use astromesh_proto::control::{Mode, StageOutcome, Status};
use astromesh_qemu::node::{API_PORT, Delivery, GateImages, Node, PROVIDER_NAME, Setup, deliver, network};
use astromesh_qemu::{
    Disk, ExitReason, Provider, SocketSampler, Subnet, Vm, VmBuilder, http, pcap, relay_path,
};
use astromeshctl::client::Client;
use astromeshctl::profile::Profile;
use base64::Engine as _;
use cloud_side::{MetadataServer, Question, Reaction, fat, iso};
use serde_json::json;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// A boot without the runtime takes a few seconds, emulated; this is for a busy machine.
const SOON: Duration = Duration::from_secs(180);

/// How long a node may wait for a metadata server in all (20 s), and what an emulated machine takes for the rest of its
/// boot, when others run beside it.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(20 + 25);

const METADATA: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80);
const PROVIDER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 100), 443);

const TOKEN: &str = "AQAEAHx2cXVpdGUtYS10b2tlbg==";

fn images() -> &'static GateImages {
    static IMAGES: OnceLock<GateImages> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let path = std::env::var("ASTROMESH_GATE").expect("gates are run by `cargo xtask gate phase1`");
        let bytes = std::fs::read(&path).expect("the gate's images are described where the command put it");
        serde_json::from_slice(&bytes).expect("the description is what this version of the command writes")
    })
}

/// A machine-config that makes the probe healthy, without a provider.
fn setup() -> Result<Setup> {
    Ok(Setup::new("", "throw-away-key")?)
}

/// The probe in the metadata server's network, with that one address open.
fn probe(server: &MetadataServer) -> Result<VmBuilder> {
    let nic = network(&relay_path()?).subnet(Subnet::Metadata).reach_loopback(METADATA, server.port);
    Ok(images().probe.machine().nic(nic))
}

fn ec2(machine: VmBuilder) -> VmBuilder {
    machine.dmi_system("Amazon EC2", "m7i.large")
}

fn gce(machine: VmBuilder) -> VmBuilder {
    machine.dmi_system("Google", "Google Compute Engine")
}

fn azure(machine: VmBuilder) -> VmBuilder {
    machine
        .dmi_system("Microsoft Corporation", "Virtual Machine")
        .dmi_chassis_asset("7783-7084-3265-9085-8269-3286-77")
}

/// EC2's server, version 2: user-data for who shows the token.
fn ec2_server(document: Vec<u8>) -> std::io::Result<MetadataServer> {
    MetadataServer::start(move |question, _| match question.line.as_str() {
        "PUT /latest/api/token" if question.field("x-aws-ec2-metadata-token-ttl-seconds").is_some() => {
            Reaction::Answer(200, "", TOKEN.into())
        }
        "GET /latest/user-data" if question.field("x-aws-ec2-metadata-token") == Some(TOKEN) => {
            Reaction::Answer(200, "Content-Type: application/octet-stream\r\n", document.clone())
        }
        "GET /latest/user-data" => Reaction::Answer(401, "", Vec::new()),
        _ => Reaction::Answer(404, "", Vec::new()),
    })
}

/// Waits until the node is healthy by the machine-config it was given, with the links as they should be.
fn wait_healthy(node: &Node) -> Result<Status> {
    let status = node.wait_healthy()?;
    assert_eq!((status.node.as_str(), status.mode), ("node-1", Mode::Running));
    let config = node.boot()?.into_iter().find(|stage| stage.name == "config");
    assert_eq!(config.map(|stage| stage.outcome), Some(StageOutcome::Done));
    Ok(status)
}

/// After the job gave its link back, `net` has it: one lease, and an address by router advertisement.
fn assert_addressed(node: &Node) -> Result {
    let status = node.wait_for("the link was not addressed", SOON, |status| {
        status.addresses.iter().any(|address| address.starts_with("fec0:"))
    })?;
    let four: Vec<_> = status.addresses.iter().filter(|address| !address.contains(':')).collect();
    assert_eq!(four, ["169.254.169.15"], "{:?}", status.addresses);
    Ok(())
}

/// Boots what must not find a machine-config, and returns once its boot is over and every door was found closed.
fn boots_with_every_door_closed(machine: VmBuilder, setup: &Setup) -> Result<Vm> {
    let vm = machine.start()?;
    // The end of the boot is the one thing there is to wait for; what is asserted are closed ports.
    vm.serial().expect("boot is over", SOON)?;
    // Nothing of the guest refuses a connection while its links are down: this long is waited for an answer.
    let profile = Profile { timeout: Duration::from_secs(5), ..setup.profile(&vm)? };
    std::thread::sleep(Duration::from_secs(3));
    assert!(Client::connect(&profile).is_err());
    assert!(http::get(vm.host_address(API_PORT)?, "/v1/health", Duration::from_secs(5)).is_err());
    Ok(vm)
}

#[test]
fn ec2_by_a_session_token_and_the_agent_answers() -> Result {
    let provider = Provider::start("throw-away-key", &[PROVIDER_NAME])?;
    let mut setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    setup.config["network"]["hosts"] = json!({ PROVIDER_NAME: PROVIDER.ip() });
    let server = ec2_server(setup.config.to_string().into_bytes())?;
    let nic = network(&relay_path()?)
        .subnet(Subnet::Metadata)
        .reach_loopback(METADATA, server.port)
        .reach_loopback(PROVIDER, provider.port());
    let vm = ec2(images().release.machine().nic(nic)).start()?;
    let mut node = Node { profile: setup.profile(&vm)?, vm };
    let sampler = SocketSampler::start(node.vm.pid());
    wait_healthy(&node)?;
    assert_addressed(&node)?;

    let asked = server.asked();
    assert_eq!(server.lines(), ["PUT /latest/api/token", "GET /latest/user-data"]);
    assert_eq!(asked[1].field("x-aws-ec2-metadata-token"), Some(TOKEN));

    // The link works for the node as it would have without the question.
    let nonce = "c10dc10dc10dc10d";
    let answer = node.ask("assistant", &format!("Please transform nonce:{nonce}"))?;
    assert!(answer.contains(&provider.expected_answer(nonce)), "{answer}");
    sampler.stop().all_inside()?;
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

#[test]
fn an_ec2_server_of_version_1_alone_is_never_asked_for_user_data() -> Result {
    let setup = setup()?;
    let document = setup.config.to_string().into_bytes();
    // It knows no tokens, and gives the right document to whoever asks without.
    let server = MetadataServer::start(move |question, _| match question.line.as_str() {
        "GET /latest/user-data" => Reaction::Answer(200, "", document.clone()),
        _ => Reaction::Answer(404, "", Vec::new()),
    })?;
    let mut vm = boots_with_every_door_closed(ec2(probe(&server)?), &setup)?;
    // It was reached, and asked for a token alone. Twin: `ec2_by_a_session_token_and_the_agent_answers`.
    let lines = server.lines();
    assert!(!lines.is_empty() && lines.iter().all(|line| line == "PUT /latest/api/token"), "{lines:?}");
    assert_eq!(vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

const GCE_PATH: &str = "GET /computeMetadata/v1/instance/attributes/astromesh-machine-config";

/// A question that is answered by GCE's server.
fn is_gce(question: &Question) -> bool {
    question.line == GCE_PATH && question.field("metadata-flavor") == Some("Google")
}

#[test]
fn gce_by_an_attribute_from_a_server_that_takes_its_time() -> Result {
    let setup = setup()?;
    let document = setup.config.to_string().into_bytes();
    let server = MetadataServer::start(move |question, _| {
        if !is_gce(question) {
            return Reaction::Answer(403, "", Vec::new());
        }
        let pause = Duration::from_secs(6);
        Reaction::AnswerAfter(pause, 200, "Metadata-Flavor: Google\r\n", document.clone())
    })?;
    let vm = gce(probe(&server)?).start()?;
    let mut node = Node { profile: setup.profile(&vm)?, vm };
    wait_healthy(&node)?;
    assert_addressed(&node)?;
    assert_eq!(server.lines(), [GCE_PATH]);
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

#[test]
fn azure_by_user_data_from_a_server_that_comes_up_late() -> Result {
    const PATH: &str = "GET /metadata/instance/compute/userData?api-version=2021-01-01&format=text";
    let setup = setup()?;
    let document = base64::engine::general_purpose::STANDARD.encode(setup.config.to_string());
    let server = MetadataServer::start(move |question, before| match (before, question.line.as_str()) {
        (0, _) => Reaction::HangUp,
        (1, _) => Reaction::Answer(503, "", Vec::new()),
        (_, PATH) if question.field("metadata") == Some("true") => {
            Reaction::Answer(200, "Content-Type: text/plain\r\n", document.clone().into_bytes())
        }
        _ => Reaction::Answer(400, "", Vec::new()),
    })?;
    let vm = azure(probe(&server)?).start()?;
    let mut node = Node { profile: setup.profile(&vm)?, vm };
    wait_healthy(&node)?;
    assert_addressed(&node)?;
    assert_eq!(server.lines(), [PATH; 3]);
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

/// And it is asked again: once it answers, the node goes on where its boot stopped, without a reboot.
#[test]
fn a_server_that_never_answers_is_given_up_in_bounded_time_and_heard_when_it_comes_late() -> Result {
    let setup = setup()?;
    let (document, speaks) = (setup.config.to_string().into_bytes(), Arc::new(AtomicBool::new(false)));
    let server = MetadataServer::start({
        let speaks = Arc::clone(&speaks);
        move |_, _| {
            if speaks.load(Ordering::Relaxed) {
                Reaction::Answer(200, "Metadata-Flavor: Google\r\n", document.clone())
            } else {
                Reaction::Silence
            }
        }
    })?;
    let machine = gce(probe(&server)?);
    let vm = machine.start()?;
    vm.serial().expect("boot is over", SOON)?;
    let over = Instant::now();
    let asked = server.asked();
    assert!(!asked.is_empty() && asked.iter().all(is_gce), "{asked:?}");
    let took = over - asked[0].at;
    assert!(took < GIVES_UP_WITHIN, "{took:?}");
    // Twin: `gce_by_an_attribute_from_a_server_that_takes_its_time`.
    assert!(Client::connect(&setup.profile(&vm)?).is_err());
    assert!(http::get(vm.host_address(API_PORT)?, "/v1/health", Duration::from_secs(5)).is_err());

    speaks.store(true, Ordering::Relaxed);
    let mut node = Node { profile: setup.profile(&vm)?, vm };
    let status = wait_healthy(&node)?;
    assert_addressed(&node)?;
    assert!(status.services.iter().all(|service| service.restarts == 0), "{:?}", status.services);
    let boot = node.boot()?;
    assert!(boot.iter().all(|stage| stage.outcome != StageOutcome::Running), "{boot:?}");
    assert!(boot.iter().any(|stage| stage.name == "config" && stage.note.ends_with(", late")), "{boot:?}");
    // PID 1 took the late document with what it had when the boot was over.
    let init = node.doctor()?.into_iter().find(|check| check.name == "init");
    assert!(init.as_ref().is_some_and(|check| check.ok), "{init:?}");
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

/// Redirect, wrong flavour of answer, another kind of document: each is reached, each is refused, in one way or another.
#[test]
fn answers_that_are_not_that_clouds_leave_every_door_closed() -> Result {
    let setup = setup()?;
    let document = setup.config.to_string().into_bytes();

    // A redirect to another address of the same closed network, where the right document is.
    let elsewhere = MetadataServer::start({
        let document = document.clone();
        move |_, _| Reaction::Answer(200, "Metadata-Flavor: Google\r\n", document.clone())
    })?;
    let redirecting = MetadataServer::start(|_, _| {
        let fields = "Metadata-Flavor: Google\r\nLocation: http://169.254.169.100:443/\r\n";
        Reaction::Answer(302, fields, Vec::new())
    })?;
    let nic = network(&relay_path()?)
        .subnet(Subnet::Metadata)
        .reach_loopback(METADATA, redirecting.port)
        .reach_loopback(PROVIDER, elsewhere.port);
    let mut vm = boots_with_every_door_closed(gce(images().probe.machine().nic(nic)), &setup)?;
    assert!(!redirecting.lines().is_empty());
    assert_eq!(elsewhere.lines(), Vec::<String>::new());
    assert_eq!(vm.power_off(SOON)?, ExitReason::GuestShutdown);

    // What was written for cloud-init, with the right document behind it.
    let script = [b"#cloud-config\n".as_slice(), b"runcmd: [reboot]\n"].concat();
    let server = ec2_server(script)?;
    let mut vm = boots_with_every_door_closed(ec2(probe(&server)?), &setup)?;
    assert_eq!(server.lines(), ["PUT /latest/api/token", "GET /latest/user-data"]);
    assert_eq!(vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

/// The question of a machine whose network was not opened for it goes nowhere: it is on the wire inside QEMU, nobody
/// answers it, and QEMU opens no socket for it. Another port of the same address is opened, since QEMU tells a guest the
/// hardware address of what is opened only, and without one there is no question to see. Twin: every test here in which
/// a server was asked.
#[test]
fn a_question_never_leaves_a_closed_network() -> Result {
    let setup = setup()?;
    for subnet in [Subnet::Metadata, Subnet::Private] {
        let capture =
            std::env::temp_dir().join(format!("astromesh-cloud-{}-{subnet:?}.pcap", std::process::id()));
        let mut nic = network(&relay_path()?).subnet(subnet).capture(&capture);
        let other_port = ec2_server(Vec::new())?;
        if subnet == Subnet::Metadata {
            nic = nic.reach_loopback(SocketAddrV4::new(*METADATA.ip(), 81), other_port.port);
        }
        let vm = ec2(images().probe.machine().nic(nic)).start()?;
        let sampler = SocketSampler::start(vm.pid());
        let began = Instant::now();
        vm.serial().expect("boot is over", SOON)?;
        println!("{subnet:?}: the boot was over {:?} after the start", began.elapsed());
        let mut node = Node { profile: setup.profile(&vm)?, vm };
        sampler.stop().all_inside()?;
        assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
        let talk = pcap::conversation(&capture, (*METADATA.ip()).into())?;
        assert!(talk.answers.is_empty(), "{:?}", talk.answers);
        assert_eq!(other_port.lines(), Vec::<String>::new());
        if subnet == Subnet::Metadata {
            assert!(!talk.sent.is_empty(), "the guest asked nothing, so nothing was shown: {capture:?}");
        }
        std::fs::remove_file(capture).ok();
    }
    Ok(())
}

#[test]
fn nobody_is_asked_when_the_firmware_names_no_cloud_or_carries_a_machine_config() -> Result {
    let setup = setup()?;
    let document = setup.config.to_string().into_bytes();
    // The right document would be there, as in the tests of EC2.
    let server = ec2_server(document.clone())?;
    let machine = probe(&server)?.dmi_system("Microsoft Corporation", "Virtual Machine");
    let mut vm = boots_with_every_door_closed(machine, &setup)?;
    assert_eq!(server.lines(), Vec::<String>::new());
    assert_eq!(vm.power_off(SOON)?, ExitReason::GuestShutdown);

    // EC2, with another document in its firmware: that one wins.
    let other = Setup::new("", "throw-away-key")?;
    let vm = deliver(ec2(probe(&server)?), other.config.to_string().as_bytes(), Delivery::FwCfg).start()?;
    let mut node = Node { profile: other.profile(&vm)?, vm };
    wait_healthy(&node)?;
    assert_eq!(server.lines(), Vec::<String>::new());
    assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(())
}

#[test]
fn volumes_made_for_cloud_init_are_read_in_their_order() -> Result {
    let directory = tempfile::tempdir()?;
    let [nocloud, config_drive, empty] =
        ["cidata", "config-2", "empty"].map(|name| directory.path().join(name));
    let (first, second) = (setup()?, setup()?);
    // A NoCloud volume whose user-data is empty has nothing for us, and stands in nobody's way; nor does one without.
    fat(&empty, *b"CIDATA     ", "user-data", b"\n")?;
    fat(&nocloud, *b"cidata     ", "user-data", first.config.to_string().as_bytes())?;
    let names = ["OPENSTACK", "LATEST", "USER_DATA.;1"];
    iso(&config_drive, "config-2", names, second.config.to_string().as_bytes())?;
    let boot = |disks: &[&std::path::PathBuf], setup: &Setup| -> Result<Node> {
        let machine = images().probe.machine().nic(network(&relay_path()?));
        let machine = disks.iter().fold(machine, |machine, path| machine.disk(Disk::new(*path).read_only()));
        let vm = machine.start()?;
        Ok(Node { profile: setup.profile(&vm)?, vm })
    };
    // Which document was used is seen from whose certificates open the door.
    for (disks, setup) in [(&[&config_drive, &nocloud][..], &first), (&[&empty, &config_drive][..], &second)]
    {
        let mut node = boot(disks, setup)?;
        wait_healthy(&node)?;
        assert_eq!(node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
    }
    Ok(())
}
