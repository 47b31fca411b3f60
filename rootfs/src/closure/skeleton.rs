//! What no package brings: users, name resolution, the mount points, the name of the system.
//!
//! There is no `machine-id` and no `hostname` file: both belong to a node, and the root is the same on each of them.

use super::error::{ClosureError, write};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Merged `/usr`: the old names are links.
const LINKS: [(&str, &str); 7] = [
    ("usr/sbin", "bin"),
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    // Written by the node's `net` service; the root itself is read-only.
    ("etc/resolv.conf", "/run/net/resolv.conf"),
    ("etc/hosts", "/run/net/hosts"),
];

/// What `init` mounts on. They are empty in the image.
const MOUNT_POINTS: [&str; 6] = ["proc", "sys", "dev", "run", "tmp", "var"];

/// One line for each service that runs under its own identity; none has a shell to log in to.
const PASSWD: &str = "\
root:x:0:0::/:
config:x:901:901::/:
net:x:902:902::/:
control:x:903:903::/:
agent:x:1000:1000::/:
";

const GROUP: &str = "\
root:x:0:
config:x:901:
net:x:902:
control:x:903:
agent:x:1000:
";

/// Names come from /etc/hosts and then from the name servers that `net` writes down; glibc loads no other module.
const NSSWITCH: &str = "\
passwd: files
group: files
hosts: files dns
";

/// Writes the skeleton into a trimmed stage.
pub(super) fn write_to(stage: &Path, version: &str) -> Result<(), ClosureError> {
    for dir in MOUNT_POINTS.iter().chain(&["etc", "usr/bin", "usr/lib", "usr/lib64", "usr/share/astromesh"]) {
        let dir = stage.join(dir);
        fs::create_dir_all(&dir).map_err(write("making", &dir))?;
    }
    for (path, target) in LINKS {
        link(target, &stage.join(path))?;
    }
    let files = [
        ("etc/passwd", PASSWD.to_owned()),
        ("etc/group", GROUP.to_owned()),
        ("etc/nsswitch.conf", NSSWITCH.to_owned()),
        ("etc/os-release", os_release(version)),
    ];
    for (path, text) in files {
        let path = stage.join(path);
        fs::write(&path, text).map_err(write("writing", &path))?;
    }
    Ok(())
}

/// A symbolic link of the tree.
fn link(target: &str, path: &Path) -> Result<(), ClosureError> {
    symlink(target, path).map_err(write("linking", path))
}

/// os-release(5). `IMAGE_VERSION` is what `systemd-sysupdate pending` compares, and what its `%A` stands for.
pub fn os_release(version: &str) -> String {
    format!(
        "NAME=\"Astromesh OS\"\nID=astromesh\nPRETTY_NAME=\"Astromesh OS {version}\"\nVERSION_ID={version}\n\
         IMAGE_ID=astromesh\nIMAGE_VERSION={version}\n"
    )
}
