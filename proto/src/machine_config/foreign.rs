//! What else may lie where a machine-config is looked for.
//!
//! Clouds and hypervisors hand over whatever their user typed, most of it written for cloud-init. The strict parser
//! refuses all of it; this only finds the words for it, so that nobody looks for a wrong key in a shell script. It is asked
//! about a document that was refused, never before: a comment may begin with any of these words.

/// What a document that is no machine-config is, when its beginning tells.
pub fn kind(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 16] = [
        (b"#cloud-config", "cloud-init's #cloud-config"),
        (b"#cloud-boothook", "a cloud-init boot hook"),
        // With its line's end: a comment may begin with the same word.
        (b"#include\n", "a cloud-init include list"),
        (b"#include\r", "a cloud-init include list"),
        (b"#include-once", "a cloud-init include list"),
        (b"#ps1", "a script"),
        (b"<powershell", "a script"),
        (b"## template:", "a cloud-init template"),
        (b"#!", "a script"),
        (b"Content-Type: multipart/", "a MIME archive"),
        (b"MIME-Version:", "a MIME archive"),
        (b"\x1f\x8b", "compressed by gzip"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
        (b"\xff\xfe", "text in UTF-16, not UTF-8"),
        (b"\xfe\xff", "text in UTF-16, not UTF-8"),
    ];
    // What some editors put before UTF-8, and what a here-document leaves.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let begins = |start: &[u8]| {
        bytes.get(..start.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(start))
    };
    KINDS.iter().find(|(start, _)| begins(start)).map(|&(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine_config::{ErrorKind, MachineConfig};

    #[test]
    fn what_was_written_for_cloud_init_is_named_and_refused() {
        for (document, word) in [
            (&b"#cloud-config\nusers: []\n"[..], "#cloud-config"),
            (b"#!/bin/sh\nreboot\n", "script"),
            (b"Content-Type: multipart/mixed; boundary=x\n", "MIME"),
            (b"MIME-Version: 1.0\n", "MIME"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\xef\xbb\xbf#cloud-config\nusers: []\n", "#cloud-config"),
            (b"\n\n  #cloud-config\r\nusers: []\r\n", "#cloud-config"),
            (b"#include\nhttp://192.0.2.1/\n", "include"),
            (b"#ps1_sysnative\nRestart-Computer\n", "script"),
            (b"\xff\xfea\0p\0i\0", "UTF-16"),
        ] {
            assert!(kind(document).is_some_and(|kind| kind.contains(word)), "{word}");
            // The one error that every reader sees, on the node and at a desk.
            let error = MachineConfig::parse(document).unwrap_err();
            assert_eq!((error.kind, error.line), (ErrorKind::Foreign, None), "{word}");
            assert!(error.short().contains(word) && error.short().contains("apiVersion"), "{error}");
        }
    }

    #[test]
    fn a_machine_config_with_a_comment_of_that_kind_is_read_and_its_own_error_is_named() {
        let wrong = MachineConfig::parse(b"# a comment\napiVersion: x\n").unwrap_err();
        assert_eq!(wrong.path, "apiVersion");
        let marked = b"\xef\xbb\xbfapiVersion: x\n";
        assert_eq!(MachineConfig::parse(marked).unwrap_err().path, "apiVersion");
        let commented = b"#included from elsewhere\napiVersion: x\n";
        assert_eq!(MachineConfig::parse(commented).unwrap_err().path, "apiVersion");
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
