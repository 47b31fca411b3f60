//! What no package brings: users, name resolution, the mount points, the name of the system.
//!
//! There is no `machine-id` and no `hostname` file: both belong to a node, and the root is the same on each of them.

use super::error::{ClosureError, write};
use astromesh_node::process::PROCESSES;
use std::fmt::Write as _;
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

/// passwd(5) and group(5): a line for root, and one for each process of the node that has a user of its own. No user has a
/// shell to log in to.
pub(crate) fn users() -> (String, String) {
    let (mut passwd, mut group) = ("root:x:0:0::/:\n".to_owned(), "root:x:0:\n".to_owned());
    for process in PROCESSES.iter().filter(|process| process.id != 0) {
        let (name, id) = (process.name(), process.id);
        // Writing to a String can't fail.
        let _ = writeln!(passwd, "{name}:x:{id}:{id}::/:");
        let _ = writeln!(group, "{name}:x:{id}:");
    }
    (passwd, group)
}

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
    let (passwd, group) = users();
    let files = [
        ("etc/passwd", passwd),
        ("etc/group", group),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_of_a_process_has_a_line_and_no_shell() {
        let (passwd, group) = users();
        assert!(passwd.starts_with("root:x:0:0::/:\n") && group.starts_with("root:x:0:\n"));
        for process in &PROCESSES {
            let (name, id) = (process.name(), process.id);
            let mut has = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
            let own = |line: &Vec<&str>| line[0] == name && line[2] == id.to_string();
            assert!(
                id == 0 || has.any(|line| own(&line) && line[2] == line[3] && line[6].is_empty()),
                "{name}"
            );
            assert!(id == 0 || group.lines().any(|line| line == format!("{name}:x:{id}:")), "{name}");
        }
        assert_eq!(passwd.lines().count(), group.lines().count());
        assert!(passwd.contains("\ninstall:x:907:907::/:\n") && passwd.ends_with("agent:x:1000:1000::/:\n"));
    }
}
