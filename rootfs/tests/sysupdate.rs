//! Promise: the updater that is in the image, with the libraries that are in the image and without a right over the
//! machine, puts a release into the slot that is not running, and touches nothing else of the disk.
//!
//! The staged tree is the root directory of a user and mount namespace, so the two programs find their own ld.so and each
//! other as on a node. The disk is the image's own layout, made by this crate and read back by the `gpt` crate; a
//! directory stands for the boot partition. What firmware and kernel do with the result is for the gates to show.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

use astromesh_rootfs::disk::{self, Contents};
use astromesh_rootfs::{BuildOptions, build};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Bit 60 of a partition's attributes: read-only (Discoverable Partitions Specification).
const READ_ONLY: u64 = 1 << 60;
/// What a release of this test has for a root: enough to be written in several pieces.
const ROOT_BYTES: usize = 3 << 20;
const VERITY_BYTES: usize = 7 * 4096;

/// Mounts what the updater needs below the tree, and runs it there. `$1` is the tree, `$2` the node's files.
const INSIDE: &str = "
set -e
mount -t proc proc \"$1/proc\"
mount --bind \"$2\" \"$1/run\"
root=$1
shift 2
exec chroot \"$root\" /usr/lib/systemd/systemd-sysupdate --definitions=/run/transfers \"$@\"
";

/// A disk with version 1 in its first slot, a boot partition, and releases to install.
struct Node {
    dir: tempfile::TempDir,
    stage: PathBuf,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stage =
            build(&BuildOptions::new(dir.path().join("out"), "0.0.0").unwrap(), &|line| eprintln!("{line}"))
                .unwrap()
                .stage;
        let path = |name: &str| dir.path().join(name);
        for sub in ["transfers", "update", "esp/EFI/Linux"] {
            fs::create_dir_all(path(sub)).unwrap();
        }
        fs::write(path("esp/EFI/Linux/astromesh_1.efi"), "kernel 1").unwrap();
        for (name, bytes) in
            [("esp.img", 1 << 20), ("root", ROOT_BYTES), ("verity", VERITY_BYTES), ("var", 1 << 20)]
        {
            fs::write(path(name), content(name, "1", bytes)).unwrap();
        }
        let contents = Contents {
            esp: &path("esp.img"),
            version: "1",
            root: &path("root"),
            root_partuuid: &partuuid("root", "1"),
            verity: &path("verity"),
            verity_partuuid: &partuuid("verity", "1"),
            var: &path("var"),
        };
        disk::assemble(&contents, &path("disk.raw")).unwrap();
        Self { dir, stage }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes `version` the only release that can be installed.
    fn offer(&self, version: &str) {
        fs::remove_dir_all(self.path("update")).unwrap();
        fs::create_dir(self.path("update")).unwrap();
        let write = |name: String, bytes: Vec<u8>| fs::write(self.path("update").join(name), bytes).unwrap();
        for (kind, bytes) in [("root", ROOT_BYTES), ("verity", VERITY_BYTES)] {
            write(
                format!("astromesh_{version}_{}.{kind}", partuuid(kind, version)),
                content(kind, version, bytes),
            );
        }
        write(format!("astromesh_{version}.efi"), format!("kernel {version}").into_bytes());
    }

    /// Runs the updater with `protected` as the version that must stay.
    fn update(&self, protected: Option<&str>, version: &str) -> Output {
        for (name, text) in transfers(protected) {
            fs::write(self.path("transfers").join(name), text).unwrap();
        }
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "--net", "--pid", "--fork", "sh", "-c", INSIDE, "sh"]);
        command.arg(&self.stage).arg(self.dir.path()).args(["update", version]);
        let output = command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn install(&self, protected: Option<&str>, version: &str) {
        self.offer(version);
        assert!(self.update(protected, version).status.success());
    }

    /// `(label, PARTUUID, attributes)` of each partition.
    fn partitions(&self) -> Vec<(String, String, u64)> {
        let disk = gpt::GptConfig::new().open(self.path("disk.raw")).unwrap();
        assert!(disk.backup_header().is_ok());
        let entries = disk.partitions().values();
        entries.map(|entry| (entry.name.clone(), entry.part_guid.to_string(), entry.flags)).collect()
    }

    fn labels(&self) -> Vec<String> {
        self.partitions().into_iter().map(|(label, ..)| label).collect()
    }

    /// Where the partition of this number, counted from 1, begins on the disk.
    fn start(&self, number: u32) -> usize {
        let disk = gpt::GptConfig::new().open(self.path("disk.raw")).unwrap();
        usize::try_from(disk.partitions()[&number].first_lba * 512).unwrap()
    }

    /// The first bytes of that partition.
    fn bytes(&self, number: u32, length: usize) -> Vec<u8> {
        fs::read(self.path("disk.raw")).unwrap()[self.start(number)..][..length].to_vec()
    }

    fn write(&self, number: u32, bytes: &[u8]) {
        let disk = fs::File::options().write(true).open(self.path("disk.raw")).unwrap();
        disk.write_all_at(bytes, self.start(number) as u64).unwrap();
    }

    /// The files in the directory of kernel images, hidden ones too.
    fn kernels(&self) -> Vec<String> {
        let items = fs::read_dir(self.path("esp/EFI/Linux")).unwrap();
        let mut names: Vec<_> = items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn relabel(&self, number: u32, label: &str, partuuid: &str) {
        let config = gpt::GptConfig::new().writable(true);
        let mut disk = config.open(self.path("disk.raw")).unwrap();
        let mut partitions: BTreeMap<_, _> = disk.partitions().clone();
        let entry = partitions.get_mut(&number).unwrap();
        entry.name = label.to_owned();
        entry.part_guid = partuuid.parse().unwrap();
        disk.update_partitions(partitions).unwrap();
        disk.write().unwrap();
    }
}

/// Bytes that tell whose they are and at which place.
fn content(kind: &str, version: &str, length: usize) -> Vec<u8> {
    let blocks = (0..length / 64).map(|place| format!("{kind:>20} {version:>20} {place:>21}\n"));
    blocks.collect::<String>().into_bytes()
}

fn partuuid(kind: &str, version: &str) -> String {
    let kind = u32::from(kind == "root");
    format!("{kind:08x}-0000-4000-8000-{version:0>12}")
}

/// The transfer definitions as docs/decisions/018-sysupdate-closure.md gives them.
fn transfers(protected: Option<&str>) -> [(&'static str, String); 3] {
    let head = protected.map_or_else(String::new, |version| format!("ProtectVersion={version}\n"));
    let slot = |kind: &str, partition: &str| {
        format!(
            "[Transfer]\n{head}\n[Source]\nType=regular-file\nPath=/run/update\nMatchPattern=astromesh_@v_@u.{kind}\n\n\
             [Target]\nType=partition\nPath=/run/disk.raw\nMatchPattern={kind}_@v\nMatchPartitionType={partition}\n\
             ReadOnly=1\nInstancesMax=2\n"
        )
    };
    let kernel = format!(
        "[Transfer]\n{head}\n[Source]\nType=regular-file\nPath=/run/update\nMatchPattern=astromesh_@v.efi\n\n\
         [Target]\nType=regular-file\nPath=/run/esp/EFI/Linux\n\
         MatchPattern=astromesh_@v+@l-@d.efi astromesh_@v+@l.efi astromesh_@v.efi\n\
         Mode=0600\nTriesLeft=0\nTriesDone=0\nInstancesMax=2\n"
    );
    [
        ("10-verity.transfer", slot("verity", "root-x86-64-verity")),
        ("20-root.transfer", slot("root", "root-x86-64")),
        ("30-uki.transfer", kernel),
    ]
}

#[test]
fn a_release_goes_into_the_empty_slot_and_the_rest_of_the_disk_is_as_before() {
    let node = Node::new();
    let before = node.partitions();
    node.install(Some("1"), "2");

    let after = node.partitions();
    assert_eq!(node.labels(), ["esp", "root_1", "verity_1", "root_2", "verity_2", "var"]);
    assert_eq!(after[3], ("root_2".into(), partuuid("root", "2"), READ_ONLY));
    assert_eq!(after[4], ("verity_2".into(), partuuid("verity", "2"), READ_ONLY));
    for untouched in [0, 1, 2, 5] {
        assert_eq!(after[untouched], before[untouched]);
    }
    assert!(node.bytes(4, ROOT_BYTES) == content("root", "2", ROOT_BYTES));
    assert!(node.bytes(5, VERITY_BYTES) == content("verity", "2", VERITY_BYTES));
    for (number, kind, length) in
        [(1, "esp.img", 1 << 20), (2, "root", ROOT_BYTES), (3, "verity", VERITY_BYTES), (6, "var", 1 << 20)]
    {
        assert!(node.bytes(number, length) == content(kind, "1", length), "{kind}");
    }
    assert_eq!(node.kernels(), ["astromesh_1.efi", "astromesh_2+0-0.efi"]);
    assert_eq!(fs::read(node.path("esp/EFI/Linux/astromesh_2+0-0.efi")).unwrap(), b"kernel 2");
}

#[test]
fn the_protected_version_stays_and_without_protection_the_oldest_goes() {
    let node = Node::new();
    node.install(Some("1"), "2");
    // The machine fell back to 1: then 2 is what gives way.
    node.install(Some("1"), "3");
    assert_eq!(node.labels(), ["esp", "root_1", "verity_1", "root_3", "verity_3", "var"]);
    assert_eq!(node.kernels(), ["astromesh_1.efi", "astromesh_3+0-0.efi"]);

    let node = Node::new();
    node.install(None, "2");
    node.install(None, "3");
    assert_eq!(node.labels(), ["esp", "root_3", "verity_3", "root_2", "verity_2", "var"]);
    assert_eq!(node.kernels(), ["astromesh_2+0-0.efi", "astromesh_3+0-0.efi"]);
}

#[test]
fn whatever_a_power_cut_leaves_is_completed_by_running_it_again() {
    // How far it came: both slots are written and synced before a label is, verity's label is first, the kernel is last.
    for labelled in [0, 1, 2] {
        let node = Node::new();
        for (number, kind, length) in
            [(5, "verity", VERITY_BYTES), (4, "root", ROOT_BYTES)].into_iter().take(labelled)
        {
            node.write(number, &content(kind, "2", length));
            node.relabel(number, &format!("{kind}_2"), &partuuid(kind, "2"));
        }
        let half = node.path("esp/EFI/Linux/.#sysupdateastromesh_2+0-0.efi0123456789abcdef");
        fs::write(half, "ker").unwrap();
        node.install(Some("1"), "2");
        assert_eq!(node.labels(), ["esp", "root_1", "verity_1", "root_2", "verity_2", "var"], "{labelled}");
        assert!(node.bytes(4, ROOT_BYTES) == content("root", "2", ROOT_BYTES), "{labelled}");
        assert!(node.bytes(5, VERITY_BYTES) == content("verity", "2", VERITY_BYTES), "{labelled}");
        assert_eq!(node.kernels(), ["astromesh_1.efi", "astromesh_2+0-0.efi"], "{labelled}");
    }
}

#[test]
fn a_release_that_lacks_a_file_or_is_not_there_changes_nothing_and_is_an_error() {
    let node = Node::new();
    let before = node.partitions();
    for missing in [format!("astromesh_2_{}.verity", partuuid("verity", "2")), "astromesh_2.efi".to_owned()] {
        node.offer("2");
        fs::remove_file(node.path("update").join(missing)).unwrap();
        assert_eq!(node.update(Some("1"), "2").status.code(), Some(1));
    }
    node.offer("2");
    assert_eq!(node.update(Some("1"), "3").status.code(), Some(1));
    assert_eq!(node.partitions(), before);
    assert_eq!(node.kernels(), ["astromesh_1.efi"]);
}

#[test]
fn a_root_that_is_larger_than_its_slot_never_gets_a_label_or_a_kernel() {
    let node = Node::new();
    node.offer("2");
    let root = node.path("update").join(format!("astromesh_2_{}.root", partuuid("root", "2")));
    fs::File::options().write(true).open(root).unwrap().set_len(disk::ROOT_SLOT + 1).unwrap();
    assert_eq!(node.update(Some("1"), "2").status.code(), Some(1));
    assert_eq!(node.labels(), ["esp", "root_1", "verity_1", "_empty", "_empty", "var"]);
    assert_eq!(node.kernels(), ["astromesh_1.efi"]);
}
