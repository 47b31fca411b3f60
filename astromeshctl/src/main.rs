//! `astromeshctl`: the operator's command.
//!
//! Standard output carries what was asked for and nothing else; what went wrong goes to standard error with the next
//! step, and into the exit code.

mod cli;

use astromesh_proto::control::{Request, Response};
use astromesh_proto::machine_config::MAX_DOCUMENT;
use astromesh_proto::update::{UpdateAnswer, UpdateRequest};
use astromeshctl::client::{Client, ClientError};
use astromeshctl::credentials::{self, GenOptions};
use astromeshctl::image::{self, ImageError};
use astromeshctl::profile::Profile;
use astromeshctl::show::{self, Look};
use astromeshctl::{exit, template, terminal, update, validate};
use clap::Parser;
use cli::{Cli, Command, Config, Connection, Gen, Image, Output, Update};
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::process::ExitCode;

/// What went wrong, and the exit code for it.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn usage(message: impl Display) -> Self {
        Failure { code: exit::USAGE, message: message.to_string() }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure { code: error.exit_code(), message: error.to_string() }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Failure { code: error.exit_code(), message: error.to_string() }
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Standard error may be closed; there is nothing left to tell that to.
            let _ = writeln!(io::stderr(), "error: {}", terminal::clean(&failure.message));
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: &Cli) -> Result<u8, Failure> {
    let json = cli.output == Output::Json;
    let look = Look { colour: terminal::wants_colour() };
    match &cli.command {
        Command::Gen(Gen::Config { out, force }) => generate(cli.connection.node.as_deref(), out, *force),
        Command::Config(Config::Validate { file }) => validate_file(file, json),
        Command::Image(Image::Pull { source, out }) => {
            let pulled = image::pull(&source.reference, &source.keys, out, cli.connection.timeout)?;
            let shown = show::Image {
                reference: &source.reference,
                verified: &pulled.verified,
                files: &pulled.files,
            };
            print(if json { show::image_json(&shown) } else { show::image(&shown, look) })?;
            Ok(exit::GOOD)
        }
        Command::Image(Image::Verify { source }) => {
            let verified = image::verify(&source.reference, &source.keys, cli.connection.timeout)?;
            let shown = show::Image { reference: &source.reference, verified: &verified, files: &[] };
            print(if json { show::image_json(&shown) } else { show::image(&shown, look) })?;
            Ok(exit::GOOD)
        }
        Command::Update(wanted) => updates(cli, wanted, look),
        Command::Doctor => {
            let Response::Doctor(checks) = ask(&cli.connection, &Request::Doctor)? else {
                return Err(unexpected());
            };
            print(if json { show::doctor_json(&checks) } else { show::doctor(&checks, look) })?;
            Ok(if show::all_green(&checks) { exit::GOOD } else { exit::UNHEALTHY })
        }
        Command::Status { check } => {
            let Response::Status(status) = ask(&cli.connection, &Request::Status)? else {
                return Err(unexpected());
            };
            print(if json { show::json(&status) } else { show::status(&status, look) })?;
            Ok(if *check && !status.healthy { exit::UNHEALTHY } else { exit::GOOD })
        }
        Command::Boot { svg } => {
            let profile = profile(&cli.connection)?;
            let Response::Boot(stages) = Client::connect(&profile)?.request(&Request::Boot)? else {
                return Err(unexpected());
            };
            if let Some(path) = svg {
                std::fs::write(path, show::svg(&profile.node, &stages))
                    .map_err(|error| Failure::usage(format!("can't write {}: {error}", path.display())))?;
            }
            print(if json { show::boot_json(&stages) } else { show::boot(&stages, look) })?;
            Ok(exit::GOOD)
        }
        Command::Logs { follow, lines } => {
            for line in Client::connect(&profile(&cli.connection)?)?.logs(*lines, *follow)? {
                let line = line?;
                print(if json { show::log_json(&line) } else { show::log(&line) })?;
            }
            Ok(exit::GOOD)
        }
        Command::RestartAgent => accepted(cli, &Request::RestartAgent, json),
        Command::Reboot => accepted(cli, &Request::Reboot, json),
        Command::Poweroff => accepted(cli, &Request::Poweroff, json),
    }
}

fn updates(cli: &Cli, wanted: &Update, look: Look) -> Result<u8, Failure> {
    let json = cli.output == Output::Json;
    let request = match wanted {
        Update::Check { origin } => UpdateRequest::Check(origin.get()),
        Update::Apply { origin, dry_run, no_reboot } => {
            UpdateRequest::Apply { origin: origin.get(), dry_run: *dry_run, restart: !no_reboot }
        }
        Update::Status | Update::History => UpdateRequest::State,
        Update::Rollback => UpdateRequest::Rollback,
    };
    let answer = update::ask(&profile(&cli.connection)?, request)?;
    if let UpdateAnswer::Refused(reason) = &answer {
        return Err(Failure { code: exit::UNHEALTHY, message: reason.clone() });
    }
    print(match (&answer, wanted) {
        (answer, _) if json => show::json(answer),
        (UpdateAnswer::Found(release), _) => show::release(release, look),
        (UpdateAnswer::State(state), Update::History) => show::history(&state.attempts, look),
        (UpdateAnswer::State(state), _) => show::update_status(state, look),
        (UpdateAnswer::Done(text) | UpdateAnswer::Refused(text), _) => terminal::clean(text),
        (UpdateAnswer::Progress { .. }, _) => return Err(unexpected()),
    })?;
    Ok(exit::GOOD)
}

fn generate(node: Option<&str>, out: &Path, force: bool) -> Result<u8, Failure> {
    let options = GenOptions { node: node.unwrap_or("node-1").to_owned() };
    let credentials = credentials::generate(&options).map_err(Failure::usage)?;
    // Judged before anything is written: a node id that the node would refuse is refused here.
    let config = template::machine_config(&credentials);
    validate::validate(config.as_bytes()).map_err(|error| Failure::usage(format!("--node: {error}")))?;
    for path in template::write(out, &credentials, force).map_err(Failure::usage)? {
        print(path.display().to_string())?;
    }
    Ok(exit::GOOD)
}

fn validate_file(file: &Path, json: bool) -> Result<u8, Failure> {
    let unreadable = |error: io::Error| Failure::usage(format!("can't read {}: {error}", file.display()));
    // One byte over the bound is enough to know; the rest of an endless pipe needn't be read.
    let limit = MAX_DOCUMENT as u64 + 1;
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    let name = file.display().to_string();
    match validate::validate(&bytes) {
        Ok(config) if json => {
            print(show::json(&serde_json::json!({ "valid": true, "node": config.node.id })))?;
            Ok(exit::GOOD)
        }
        Ok(config) => {
            print(format!(
                "{name}: valid: node {}, {} agents, {} providers",
                config.node.id,
                config.agents.len(),
                config.providers.len()
            ))?;
            Ok(exit::GOOD)
        }
        Err(error) if json => {
            print(show::json(&serde_json::json!({
                "valid": false, "path": error.path, "expected": error.expected, "found": error.found,
                "hint": error.hint, "line": error.line, "column": error.column, "message": error.short(),
            })))?;
            Ok(exit::USAGE)
        }
        Err(error) => {
            let _ = write!(io::stderr(), "{}", validate::report(&name, &bytes, &error));
            Ok(exit::USAGE)
        }
    }
}

fn accepted(cli: &Cli, request: &Request, json: bool) -> Result<u8, Failure> {
    let Response::Accepted = ask(&cli.connection, request)? else {
        return Err(unexpected());
    };
    print(if json { "{\"accepted\": true}" } else { "accepted" })?;
    Ok(exit::GOOD)
}

fn ask(connection: &Connection, request: &Request) -> Result<Response, Failure> {
    Ok(Client::connect(&profile(connection)?)?.request(request)?)
}

fn profile(connection: &Connection) -> Result<Profile, Failure> {
    let mut profile = Profile::load(&connection.config, &connection.overrides()).map_err(Failure::usage)?;
    profile.timeout = connection.timeout;
    Ok(profile)
}

fn unexpected() -> Failure {
    ClientError::Understand("it answered another question".to_owned()).into()
}

/// Prints with one line end. A reader that has seen enough (`logs | head`) is not an error.
fn print(text: impl AsRef<str>) -> Result<(), Failure> {
    let text = text.as_ref();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let mut out = io::stdout().lock();
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(exit::GOOD.into()),
        Err(error) => Err(Failure::usage(format!("can't write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}
