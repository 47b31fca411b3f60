//! What the unit tests of this crate begin with: an attempt of the release after the one that runs.

use astromesh_proto::update::{Attempt, Outcome, Release};

/// From 0.1.0 to 0.2.0, ended like this.
pub fn attempt(outcome: Outcome) -> Attempt {
    let release = Release {
        version: "0.2.0".parse().unwrap(),
        digest: "sha256:00".to_owned(),
        root_hash: String::new(),
        kernel: String::new(),
        runtime: String::new(),
        size: 1,
    };
    Attempt {
        release,
        from: "0.1.0".parse().unwrap(),
        began: 0,
        outcome,
        reason: String::new(),
        moved: 0,
        reused: 0,
        interruptions: 0,
    }
}
