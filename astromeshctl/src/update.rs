//! `update`: how far it is, while the node fetches and installs.

use crate::client::{Client, ClientError};
use crate::profile::Profile;
use astromesh_proto::update::{Step, UpdateAnswer, UpdateRequest};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal as _, Write as _};

/// Asks, and shows how far it is on standard error.
pub fn ask(profile: &Profile, request: UpdateRequest) -> Result<UpdateAnswer, ClientError> {
    let mut display = Display::new();
    Client::connect(profile)?.update(request, &mut |step, done, total| display.show(step, done, total))
}

/// A moving line on a terminal, a line for each step elsewhere.
struct Display {
    bar: Option<ProgressBar>,
    last: Option<Step>,
}

impl Display {
    fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("  {bar:30} {bytes}/{total_bytes} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, last: None }
    }

    fn show(&mut self, step: Step, done: u64, total: u64) {
        let words = match step {
            Step::Verify => "asking, and checking the signature",
            Step::Fetch => "fetching",
            Step::Install => "writing the idle slot and reading it back",
        };
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(words);
            }
            // Standard error may be closed; the node goes on all the same.
            None if self.last != Some(step) => drop(writeln!(io::stderr(), "{words}")),
            None => {}
        }
        self.last = Some(step);
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
