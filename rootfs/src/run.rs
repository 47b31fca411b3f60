//! Running the kept external tools, and saying which one failed and why.
//!
//! Each tool's output is captured: a build that succeeds prints nothing, and one that fails shows the tool's own
//! last words. No shell is ever involved, so no argument is parsed twice.

use std::process::Command;

/// A tool could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Starting {program} failed ({source}): install the packages that `HOST_PACKAGES` names
    #[error("starting {program} failed ({source}): install the packages that HOST_PACKAGES names")]
    StartTool {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The tool ran and refused.
    #[error("{program} failed ({status}):\n{output}")]
    FinishTool {
        /// The program and its first arguments.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of its output.
        output: String,
    },
}

/// How much of a failed tool's output an error carries: the reason is at the end.
const OUTPUT_TAIL: usize = 4000;

/// Runs `command` to its end and returns what it wrote to standard output.
pub(crate) fn checked(command: &mut Command) -> Result<String, RunError> {
    let program = describe(command);
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|source| RunError::StartTool { program: program.clone(), source })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let all = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let start = all.char_indices().rev().take(OUTPUT_TAIL).last().map_or(0, |(at, _)| at);
    Err(RunError::FinishTool { program, status: output.status.to_string(), output: all[start..].to_owned() })
}

/// The program that matters to a reader: behind `ld.so --library-path DIR`, that is the third argument.
fn describe(command: &Command) -> String {
    let mut words = std::iter::once(command.get_program()).chain(command.get_args());
    let first = words.next().unwrap_or_default();
    let shown: Vec<_> = if first.to_string_lossy().contains("ld-linux") {
        words.skip(2).take(3).map(|word| word.to_string_lossy().into_owned()).collect()
    } else {
        std::iter::once(first).chain(words.take(2)).map(|word| word.to_string_lossy().into_owned()).collect()
    };
    shown.join(" ")
}
