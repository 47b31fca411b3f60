//! The command line: what may be said, and where it is documented.

use astromesh_oci::Reference;
use astromeshctl::exit;
use astromeshctl::profile::Overrides;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Operate an Astromesh OS node
#[derive(Parser)]
#[command(name = "astromeshctl", version, after_help = exit::HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// How to print what the node answers
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to reach the node.
#[derive(Args)]
pub(crate) struct Connection {
    /// Connection profile, as `gen config` writes it
    #[arg(long, global = true, default_value = "astromeshctl.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Address of the node's control API, instead of the profile's
    #[arg(long, global = true, value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// Id of the node, which its certificate must name, instead of the profile's
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) node: Option<String>,
    /// Operator CA in PEM, instead of the profile's
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Operator certificate in PEM, instead of the profile's
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Operator key in PEM, instead of the profile's
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Longest time to wait for connecting, and for each answer
    #[arg(long, global = true, default_value = "30", value_name = "SECS", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

impl Connection {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            endpoint: self.endpoint.clone(),
            node: self.node.clone(),
            ca: self.ca.clone(),
            certificate: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make credentials and a machine-config to edit
    #[command(subcommand)]
    Gen(Gen),
    /// Work with a machine-config at a desk
    #[command(subcommand)]
    Config(Config),
    /// Get signed images from a registry
    #[command(subcommand)]
    Image(Image),
    /// Look for releases, install them, go back
    #[command(subcommand)]
    Update(Update),
    /// Make every check now; exits 0 only when all are green
    Doctor,
    /// Show who the node is and how it is
    Status {
        /// Exit 1 unless the node is healthy
        #[arg(long)]
        check: bool,
    },
    /// Show the stages of this boot on a time line
    Boot {
        /// Also write the time line as a picture
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Show the log
    Logs {
        /// Go on as lines come, until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// How many of the newest lines to begin with
        #[arg(short = 'n', long, default_value = "100", value_name = "N")]
        lines: u32,
    },
    /// Stop the agent runtime and let the node start it again
    RestartAgent,
    /// Shut down cleanly and start again
    Reboot,
    /// Shut down cleanly and switch off
    Poweroff,
}

#[derive(Subcommand)]
pub(crate) enum Gen {
    /// Make an operator CA, certificates, a machine-config and a connection profile for one node (--node ID,
    /// default node-1)
    Config {
        /// Folder to write to
        #[arg(long, default_value = ".", value_name = "DIR")]
        out: PathBuf,
        /// Replace what is there
        #[arg(long)]
        force: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Config {
    /// Check a machine-config as the node would
    Validate {
        /// The file, or - for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Subcommand)]
pub(crate) enum Image {
    /// Pull an image into a folder, if one of the keys has signed it; all of it or nothing
    Pull {
        #[command(flatten)]
        source: Source,
        /// Folder to write to; files that are in the way are never replaced
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Check who signed an image, and show what it is; writes nothing
    Verify {
        #[command(flatten)]
        source: Source,
    },
}

#[derive(Subcommand)]
pub(crate) enum Update {
    /// Show what there is to install; exits 1 when there is nothing
    Check {
        #[command(flatten)]
        origin: Origin,
    },
    /// Fetch, verify and install a release, and reboot the node into it. It stays when health holds, else the older
    /// release is back after three tries
    Apply {
        #[command(flatten)]
        origin: Origin,
        /// Say what would be installed, and write nothing
        #[arg(long)]
        dry_run: bool,
        /// Install, but leave the reboot to you
        #[arg(long)]
        no_reboot: bool,
    },
    /// Show both slots, what is on trial, and how the last attempt ended
    Status,
    /// Go back to the other slot at once, if it can be started
    Rollback,
    /// Show earlier attempts and how they ended
    History,
}

/// Where a release is looked for: the machine-config's channel, unless said otherwise.
#[derive(Args)]
pub(crate) struct Origin {
    /// Another tag, or sha256:DIGEST, of the machine-config's repository
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// On a drive labelled ASTROUPDATE with an OCI image layout, under the tag of --tag or "stable"
    #[arg(long)]
    drive: bool,
}

impl Origin {
    pub(crate) fn get(&self) -> astromesh_proto::update::Origin {
        use astromesh_proto::update::Origin as Wanted;
        match (&self.tag, self.drive) {
            (tag, true) => Wanted::Drive(tag.clone().unwrap_or_else(|| "stable".to_owned())),
            (Some(tag), false) => Wanted::Tag(tag.clone()),
            (None, false) => Wanted::Channel,
        }
    }
}

/// Which image, and whose.
#[derive(Args)]
pub(crate) struct Source {
    /// REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST; HTTPS, but plain HTTP on 127.0.0.0/8 and localhost.
    /// An account is taken from ASTROMESH_REGISTRY_USER and ASTROMESH_REGISTRY_PASSWORD
    #[arg(value_name = "REF")]
    pub(crate) reference: Reference,
    // The same name as the global option, which is the operator's key for a node and means nothing here: clap lets the
    // command's own stand in its place.
    /// Public key of who makes images (PEM, as cosign.pub); may be given several times, one of them must have signed
    #[arg(id = "key", long = "key", required = true, value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,
}

/// At least a millisecond and at most a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    if (0.001..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("expected 0.001 to 86400 seconds".to_owned())
    }
}
