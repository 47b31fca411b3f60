//! What `systemd-sysupdate` is told: three transfers, in the order in which they are made.
//!
//! Hash tree, root, and the boot entry last: until that one is there, nothing that the boot loader looks at has changed. It
//! comes without a try (`+0-0`), so that the boot loader doesn't start what was not read back yet ([`crate::install`]).
//! The disk is named, not looked for; there are at most two releases; the one that runs is never overwritten. See
//! sysupdate.d(5), and docs/decisions/018-sysupdate-closure.md for what was found out about it.

use astromesh_proto::version::Version;

/// The foreign program.
pub const SYSUPDATE: &str = "/usr/lib/systemd/systemd-sysupdate";
/// Where the transfers are written to.
pub const DEFINITIONS: &str = "/run/install/sysupdate.d";

/// Where transfers are made from and to, in the installer's view.
pub struct Places<'a> {
    /// The whole disk's device node.
    pub disk: &'a str,
    /// The folder of staged files.
    pub stage: &'a str,
    /// The folder of boot entries.
    pub entries: &'a str,
    /// The release that runs.
    pub running: Version,
}

/// Files of a folder for `--definitions=`: name and content, in the order of their names.
pub fn definitions(places: &Places<'_>) -> [(&'static str, String); 3] {
    let Places { disk, stage, entries, running } = places;
    // The running release is written out: where `%A` can't be read, the line would be ignored with a warning. `%` begins a
    // specifier; none of these can hold one. FAT keeps a mode without write bits as an attribute, and the boot loader could
    // then not count.
    let partition = |kind: &str, extension: &str, label: &str| {
        format!(
            "[Transfer]\nProtectVersion={running}\nMinVersion={running}\n\n\
             [Source]\nType=regular-file\nPath={stage}\nMatchPattern=astromesh_@v_@u.{extension}\n\n\
             [Target]\nType=partition\nPath={disk}\nMatchPattern={label}_@v\nMatchPartitionType={kind}\n\
             ReadOnly=1\nInstancesMax=2\n"
        )
    };
    [
        ("10-verity.transfer", partition("root-x86-64-verity", "verity", "verity")),
        ("20-root.transfer", partition("root-x86-64", "root", "root")),
        (
            "30-uki.transfer",
            format!(
                "[Transfer]\nProtectVersion={running}\nMinVersion={running}\n\n\
                 [Source]\nType=regular-file\nPath={stage}\nMatchPattern=astromesh_@v.efi\n\n\
                 [Target]\nType=regular-file\nPath={entries}\n\
                 MatchPattern=astromesh_@v+@l-@d.efi astromesh_@v+@l.efi astromesh_@v.efi\n\
                 Mode=0600\nTriesLeft=0\nTriesDone=0\nInstancesMax=2\n"
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_entry_comes_last_and_every_transfer_protects_what_runs() {
        let running = "0.1.0".parse().unwrap();
        let places = Places { disk: "/dev/vda", stage: "/run/stage", entries: "/run/esp/EFI/Linux", running };
        let files = definitions(&places);
        assert!(files.is_sorted_by_key(|(name, _)| *name));
        let kinds = files.each_ref().map(|(_, text)| text.contains("Type=partition"));
        assert_eq!(kinds, [true, true, false]);
        for (name, text) in &files {
            assert!(text.contains("ProtectVersion=0.1.0\n"), "{name}");
            assert!(text.contains("Path=/run/stage\n") && !text.contains("auto"), "{name}");
            assert!(!text.contains('%'), "{name}");
        }
        assert!(files[2].1.contains("TriesLeft=0\nTriesDone=0\nInstancesMax=2\n"));
    }
}
