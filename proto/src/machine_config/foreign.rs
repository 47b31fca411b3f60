//! What else may lie where a machine-config is looked for.
//!
//! Clouds and hypervisors hand over whatever their user typed, most of it written for cloud-init. The strict parser
//! refuses all of it; this only finds the words for it, so that nobody looks for a wrong key in a shell script.

/// What a document that is no machine-config is, when its beginning tells.
pub fn kind(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 9] = [
        (b"#cloud-config", "cloud-init's #cloud-config"),
        (b"#cloud-boothook", "a cloud-init boot hook"),
        (b"#include", "a cloud-init include list"),
        (b"## template:", "a cloud-init template"),
        (b"#!", "a script"),
        (b"Content-Type: multipart/", "a MIME archive"),
        (b"MIME-Version:", "a MIME archive"),
        (b"\x1f\x8b", "compressed by gzip"),
        (b"PK\x03\x04", "a zip archive"),
    ];
    let begins = |start: &[u8]| {
        bytes.get(..start.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(start))
    };
    KINDS.iter().find(|(start, _)| begins(start)).map(|&(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine_config::MachineConfig;

    #[test]
    fn what_was_written_for_cloud_init_is_named_and_refused() {
        for (document, word) in [
            (&b"#cloud-config\nusers: []\n"[..], "#cloud-config"),
            (b"#!/bin/sh\nreboot\n", "script"),
            (b"Content-Type: multipart/mixed; boundary=x\n", "MIME"),
            (b"MIME-Version: 1.0\n", "MIME"),
            (b"\x1f\x8b\x08\0", "gzip"),
        ] {
            assert!(kind(document).is_some_and(|kind| kind.contains(word)), "{word}");
            assert!(MachineConfig::parse(document).is_err(), "{word}");
        }
    }

    #[test]
    fn a_machine_config_is_none_of_them() {
        for document in
            [&b"apiVersion: astromesh.os/v1\n"[..], b"{\"apiVersion\":", b"# a comment\n", b"", b"#"]
        {
            assert_eq!(kind(document), None);
        }
    }
}
