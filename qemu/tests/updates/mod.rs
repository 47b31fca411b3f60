//! What tests of updates share: one disk over several power cycles of its machine, and a registry that the closed guest
//! reaches.

#![allow(dead_code, unused_imports, reason = "several test programs share it, and each uses a part")]

#[path = "../../../oci/tests/desk/mod.rs"]
pub mod desk;
mod moment;
mod recording;

pub use moment::{healthy_node, put_aside};

use astromesh_oci::{Artifact, ChunkIndex, FileName, Kind, PublicKey, SigningKey, keys, manifest};
use astromesh_proto::update::{Origin, Outcome, State, Step, UpdateAnswer, UpdateRequest};
use astromesh_qemu::node::{
    API_PORT, Delivery, GateImages, Image, Node, PROVIDER_INSIDE, PROVIDER_NAME, Setup, network,
};
use astromesh_qemu::provider::Certificates;
use astromesh_qemu::release::{REGISTRY_INSIDE, REGISTRY_NAME, Release, Updates, kept};
use astromesh_qemu::slots::Slots;
use astromesh_qemu::{Disk, Nic, Provider, Snapshot, VmBuilder, http, relay_path, tamper};
use astromesh_rootfs::check::{Checkers, Left};
use astromeshctl::client::Client;
use desk::server::Server;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// A machine that is being reset answers nobody, so a question is given up soon and asked again.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The version that every disk begins with.
const OLD: &str = "0.1.0";

/// Bytes of a node's disk.
const DISK: u64 = 512 << 20;

/// What an agent keeps in tests of updates: how many MiB, and of which kind.
pub const KEPT: (usize, u64) = (3, 42);

/// How long the runtime may take to write it.
const WRITES_WITHIN: Duration = Duration::from_secs(300);

/// Has the agent keep data.
pub fn keep_data(node: &Node, (mib, seed): (usize, u64)) -> Result {
    http::get(node.vm.host_address(API_PORT)?, &format!("/probe/keep/{mib}/{seed}"), WRITES_WITHIN)?;
    still_keeps(node, (mib, seed))
}

/// Every byte of it is there.
pub fn still_keeps(node: &Node, (mib, seed): (usize, u64)) -> Result {
    let told = http::get(node.vm.host_address(API_PORT)?, "/probe/kept", WRITES_WITHIN)?.json()?;
    assert_eq!(told["sha256"], kept(mib, seed), "the agents' data");
    Ok(())
}

/// The releases that the gate's command built.
pub fn updates() -> &'static Updates {
    images().updates.as_ref().expect("`cargo xtask gate phase2` builds the releases")
}

fn images() -> &'static GateImages {
    static IMAGES: OnceLock<GateImages> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let path = std::env::var("ASTROMESH_GATE").expect("gates are run by `cargo xtask gate phase2`");
        let bytes = std::fs::read(&path).expect("the gate's images are described where the command put it");
        serde_json::from_slice(&bytes).expect("the description is what this version of the command writes")
    })
}

/// The file on `/var` of a real release's disk: its runtime keeps nothing that a test could ask for.
const DATA: &str = "kept-by-the-test";

fn data() -> Vec<u8> {
    (0..3_u32 << 18).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// The real release as a whole image.
pub fn real() -> &'static Image {
    &images().release
}

/// The stand-in that every disk begins with, as a release.
pub fn old() -> Release {
    updates().base.as_release(OLD)
}

/// A node's disk and its operator: what stays when the machine is switched off.
pub struct Station {
    image: Image,
    disk: PathBuf,
    /// The machine-config and the operator's credentials; may be changed between two boots.
    pub setup: Setup,
    /// Where writes are written down.
    log: Option<PathBuf>,
    directory: tempfile::TempDir,
}

impl Station {
    /// A private copy of the disk with the stand-in 0.1.0.
    pub fn new() -> Result<Self> {
        Self::of(&updates().base)
    }

    /// A private copy of an image's disk, larger than it, as a cloud gives it: an update is staged on /var, which grows.
    pub fn of(image: &Image) -> Result<Self> {
        let station = Self::of_its_own_size(image)?;
        station.enlarge(DISK)?;
        Ok(station)
    }

    /// Gives the disk so many bytes.
    pub fn enlarge(&self, bytes: u64) -> Result {
        Ok(File::options().write(true).open(&self.disk)?.set_len(bytes)?)
    }

    /// Everything on the disk is sound for the checkers that everybody uses.
    pub fn assert_sound(&self, left: Left) -> Result {
        Ok(Checkers::open()?.disk(&self.disk, left)?)
    }

    /// A private copy of an image's disk.
    pub fn of_its_own_size(image: &Image) -> Result<Self> {
        Self::with_disk(image, &image.disk)
    }

    /// A private copy of a disk that began as an image's.
    fn with_disk(image: &Image, from: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let disk = directory.path().join("disk.raw");
        tamper::copy_image(from, &disk)?;
        let setup = Setup::new("", "throw-away-key")?;
        Ok(Self { image: image.clone(), disk, setup, log: None, directory })
    }

    /// The real release on a disk, which follows `registry`, asks `provider`, and has [`DATA`] on its `/var`.
    pub fn real(registry: &Registry, provider: &Provider) -> Result<Self> {
        let mut station = Self::of(real())?;
        station.setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
        station.follow(registry);
        let config = &mut station.setup.config;
        config["certificateAuthorities"] = json!([provider.ca_pem(), registry.ca_pem()]);
        config["network"]["hosts"][PROVIDER_NAME] = PROVIDER_INSIDE.ip().to_string().into();
        // What the real runtime takes on a busy emulated machine.
        config["update"]["healthyWithinSeconds"] = 300.into();
        station.slots().put_on_var(DATA, &data())?;
        Ok(station)
    }

    /// The release that the disk began with.
    pub fn first(&self) -> Release {
        self.image.as_release(OLD)
    }

    /// Every byte of [`DATA`] is there. Only while the machine is off.
    pub fn assert_data(&self) -> Result {
        assert!(self.slots().read_from_var(DATA)? == data(), "the data on /var");
        Ok(())
    }

    /// What lies on the disk. Only while the machine is off.
    pub fn slots(&self) -> Slots {
        Slots::of(&self.disk)
    }

    /// Starts the machine cold: firmware with empty variables, the disk as it is. It runs on through resets, which QEMU
    /// counts.
    pub fn switch_on(&self) -> Result<Node> {
        self.switch_on_with(|nic| nic)
    }

    /// The same with more connections through its closed network.
    pub fn switch_on_with(&self, card: impl FnOnce(Nic) -> Nic) -> Result<Node> {
        self.start(self.image.cloud_machine(self.medium()), card)
    }

    /// The disk, as a machine gets it.
    fn medium(&self) -> Disk {
        let disk = Disk::new(&self.disk);
        match &self.log {
            None => disk,
            Some(log) => disk.log_writes(log),
        }
    }

    /// Copies the disk as it is, beside it. Only while the machine is off.
    pub fn remember(&self) -> Result<Slots> {
        let copy = self.directory.path().join("remembered.raw");
        self.copy_disk(&copy)?;
        Ok(Slots::of(copy))
    }

    /// Copies the disk of a machine that is off.
    fn copy_disk(&self, to: &Path) -> Result {
        Ok(tamper::copy_image(&self.disk, to)?)
    }

    /// Goes on from a snapshot instead of booting.
    pub fn go_on(&self, from: &Snapshot, card: impl FnOnce(Nic) -> Nic) -> Result<Node> {
        self.start(self.image.cloud_machine(self.medium()).resume(from), card)
    }

    /// The same without any, and with a drive attached.
    pub fn switch_on_with_drive(&self, drive: &Path) -> Result<Node> {
        let drive = Disk::new(drive).read_only();
        self.start(self.image.cloud_machine(self.medium()).disk(drive), |nic| nic)
    }

    /// The same on a machine that has no watchdog.
    pub fn switch_on_without_watchdog(&self) -> Result<Node> {
        self.start(self.image.cloud_machine(self.medium()).no_watchdog(), |nic| nic)
    }

    fn start(&self, machine: VmBuilder, card: impl FnOnce(Nic) -> Nic) -> Result<Node> {
        let machine = machine.allow_reboot();
        let machine = machine.nic(card(network(&relay_path()?)));
        let vm = self.setup.deliver(machine, Delivery::Smbios).start()?;
        let mut profile = self.setup.profile(&vm)?;
        profile.timeout = ANSWERS_WITHIN;
        Ok(Node { vm, profile })
    }
}

impl Station {
    /// Tells the node where releases come from and whose they must be. Health must hold for seconds, not minutes, so that
    /// a test sees it; and a release on trial has a minute.
    pub fn follow(&mut self, registry: &Registry) {
        let config = &mut self.setup.config;
        config["network"]["hosts"] = json!({ REGISTRY_NAME: REGISTRY_INSIDE.ip() });
        config["certificateAuthorities"] = json!([registry.ca_pem()]);
        config["update"] = json!({
            "image": format!("{REGISTRY_NAME}:{}/astromesh-os", REGISTRY_INSIDE.port()),
            "keys": [registry.public.to_pem()],
            "blessAfterSeconds": 2,
            "healthyWithinSeconds": 60,
        });
    }
}

/// Install the release with this tag, and reboot into it.
pub fn apply_request(tag: &str) -> UpdateRequest {
    UpdateRequest::Apply { origin: Origin::Tag(tag.to_owned()), dry_run: false, restart: true }
}

/// What an operator does with updates.
pub trait Operate {
    /// Asks the node, and waits for its last answer; `tell` hears how far it is.
    fn update_telling(
        &self,
        request: UpdateRequest,
        tell: &mut dyn FnMut(Step, u64, u64),
    ) -> Result<UpdateAnswer>;

    /// Asks the node, and waits for its last answer.
    fn update(&self, request: UpdateRequest) -> Result<UpdateAnswer> {
        self.update_telling(request, &mut |_, _, _| ())
    }

    /// How updates stand.
    fn state(&self) -> Result<State> {
        match self.update(UpdateRequest::State)? {
            UpdateAnswer::State(state) => Ok(*state),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// Installs the release with this tag, and reboots into it.
    fn apply(&self, tag: &str) -> Result<UpdateAnswer> {
        self.update(apply_request(tag))
    }

    /// The same, which must be done.
    fn applied(&self, tag: &str) -> Result {
        match self.apply(tag)? {
            UpdateAnswer::Done(_) => Ok(()),
            other => Err(format!("not applied: {other:?}").into()),
        }
    }

    /// The same, which must be refused; why.
    fn refused(&self, tag: &str) -> Result<String> {
        match self.apply(tag)? {
            UpdateAnswer::Refused(reason) => Ok(reason),
            other => Err(format!("not refused: {other:?}").into()),
        }
    }

    /// Waits until the last attempt has this outcome.
    fn wait_outcome(&self, wanted: Outcome, limit: Duration) -> Result<State>;
}

impl Operate for Node {
    fn update_telling(
        &self,
        request: UpdateRequest,
        tell: &mut dyn FnMut(Step, u64, u64),
    ) -> Result<UpdateAnswer> {
        Ok(Client::connect(&self.profile)?.update(request, tell)?)
    }

    fn wait_outcome(&self, wanted: Outcome, limit: Duration) -> Result<State> {
        let deadline = Instant::now() + limit;
        loop {
            let seen = self.state();
            if let Ok(state) = &seen {
                if state.attempts.first().is_some_and(|attempt| attempt.outcome == wanted) {
                    return seen;
                }
            }
            if Instant::now() > deadline || !self.vm.is_running() {
                return Err(format!("no outcome {wanted:?}: {seen:?}\n{}", self.vm.serial().tail()).into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// What a node is told of a registry: made before there is one, so that a node can be put aside with it. All in PEM.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    authority: String,
    certificate: String,
    server_key: String,
    signing_key: String,
}

impl Identity {
    /// A new one.
    fn new() -> Result<Self> {
        let inside = REGISTRY_INSIDE.ip().to_string();
        let Certificates { ca_pem: authority, certificate_pem: certificate, key_pem: server_key, .. } =
            Certificates::issue(&[REGISTRY_NAME, &inside])?;
        let (private, _) = keys::generate()?;
        Ok(Self { authority, certificate, server_key, signing_key: private.clone() })
    }
}

/// A registry with two doors: plain HTTP on loopback, to push through, and HTTPS for the guest, with a certificate for
/// [`REGISTRY_NAME`] and [`REGISTRY_INSIDE`].
pub struct Registry {
    plain: Server,
    secure: Server,
    identity: Identity,
    key: SigningKey,
    scratch: tempfile::TempDir,
    /// What a node must be given to believe what it finds there.
    pub public: PublicKey,
}

impl Registry {
    /// An empty one, on loopback ports of its own, that no node knows yet.
    pub fn start() -> Result<Self> {
        Self::known(&Identity::new()?)
    }

    /// The same, that nodes know already.
    pub fn known(identity: &Identity) -> Result<Self> {
        let plain = Server::start();
        let secure = Server::with_tls(&plain, &identity.certificate, &identity.server_key);
        let key = SigningKey::from_pem(identity.signing_key.as_bytes())?;
        let public = key.public_key();
        let identity = identity.clone();
        Ok(Self { plain, secure, identity, key, public, scratch: tempfile::tempdir()? })
    }

    /// Pushes a release, signed with the key that [`Registry::public`] belongs to. Returns its reference as a guest
    /// names it, by digest.
    pub fn push(&self, release: &Release) -> Result<String> {
        self.push_signed(release, &self.key)
    }

    /// The same with another key.
    pub fn push_signed(&self, release: &Release, key: &SigningKey) -> Result<String> {
        self.push_as(release, key, None)
    }

    /// The same with the right key, and an end: seconds from now, or before now.
    pub fn push_until(&self, release: &Release, seconds: i64) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        self.push_as(release, &self.key, Some(now.saturating_add_signed(seconds)))
    }

    fn push_as(&self, release: &Release, key: &SigningKey, expires: Option<u64>) -> Result<String> {
        let place = desk::refer(&self.plain.reference(&format!("astromesh-os:{}", release.version)));
        let index = self.scratch.path().join(format!("{}.chunks", release.version));
        let mut artifact = artifact(release, &index)?;
        let end = expires.map(|seconds| (manifest::EXPIRES.to_owned(), seconds.to_string()));
        artifact.annotations.extend(end);
        let pushed = astromesh_oci::push(&place, &artifact, key, &desk::options(), &mut |_| ())?;
        Ok(format!("{REGISTRY_NAME}:{}/astromesh-os@{}", REGISTRY_INSIDE.port(), pushed.digest))
    }

    /// A drive with the image that has this tag, and its signature, as oras lays it out: for a node that no network reaches.
    pub fn drive(&self, tag: &str) -> Result<PathBuf> {
        let home = self.scratch.path();
        let layout = home.join("layout");
        let digest = desk::succeed(
            "oras",
            home,
            &["resolve", "--plain-http", &self.plain.reference(&format!("astromesh-os:{tag}"))],
        );
        let signature = format!("{}.sig", digest.trim().replace(':', "-"));
        for tag in [tag, &signature] {
            let from = self.plain.reference(&format!("astromesh-os:{tag}"));
            let to = format!("{}:{tag}", layout.display());
            desk::succeed("oras", home, &["cp", "--from-plain-http", "--to-oci-layout", &from, &to]);
        }
        let drive = home.join("drive");
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&drive)?;
        file.set_len(128 << 20)?;
        fatfs::format_volume(&file, fatfs::FormatVolumeOptions::new().volume_label(*b"ASTROUPDATE"))?;
        let volume = fatfs::FileSystem::new(file, fatfs::FsOptions::new())?;
        let root = volume.root_dir();
        root.create_dir("blobs")?.create_dir("sha256")?;
        let blobs = std::fs::read_dir(layout.join("blobs/sha256"))?;
        let names = blobs.map(|blob| Ok(format!("blobs/sha256/{}", blob?.file_name().to_string_lossy())));
        let names = names.collect::<std::io::Result<Vec<_>>>()?;
        for name in names.iter().map(String::as_str).chain(["oci-layout", "index.json"]) {
            let mut file = root.create_file(name)?;
            std::io::Write::write_all(&mut file, &std::fs::read(layout.join(name))?)?;
        }
        drop(root);
        volume.unmount()?;
        Ok(drive)
    }

    /// The authority that a node must trust to speak with it.
    pub fn ca_pem(&self) -> &str {
        &self.identity.authority
    }

    /// Lets a guest reach it at [`REGISTRY_INSIDE`], and nothing else.
    pub fn open(&self, nic: Nic) -> Nic {
        nic.reach_loopback(REGISTRY_INSIDE, self.secure.address().port())
    }

    /// How often guests have asked for a manifest.
    pub fn manifests_asked(&self) -> usize {
        self.secure.manifests_asked()
    }

    /// How many bytes guests were sent.
    pub fn bytes_sent(&self) -> u64 {
        self.secure.bytes_sent()
    }

    /// The door that guests use: to shut it, to open it again.
    pub fn door(&mut self) -> &mut Server {
        &mut self.secure
    }
}

/// What [`Registry`] is given: the files of a release, as `cargo xtask push` names them.
pub fn artifact(release: &Release, index: &Path) -> Result<Artifact> {
    let chunks = ChunkIndex::of_files([(Kind::Uki, &*release.uki), (Kind::Root, &*release.root)])?;
    std::fs::write(index, chunks.encode()?)?;
    let index = index.to_owned();
    let layers = [
        (Kind::Uki, "astromesh.efi", &release.uki),
        (Kind::Root, "root.erofs", &release.root),
        (Kind::Verity, "root.verity", &release.verity),
        (Kind::Chunks, "image.chunks", &index),
    ];
    let name = |name| FileName::parse(name).expect("a plain name");
    let annotations = BTreeMap::from([
        (manifest::VERSION.to_owned(), release.version.clone()),
        (manifest::ROOT_HASH.to_owned(), release.root_hash.clone()),
        (manifest::ARCHITECTURE.to_owned(), "x86_64".to_owned()),
    ]);
    Ok(Artifact {
        layers: layers.into_iter().map(|(kind, file, path)| (kind, name(file), path.clone())).collect(),
        annotations,
    })
}
