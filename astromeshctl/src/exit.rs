//! Exit codes: what a script may rely on. They are listed in `astromeshctl --help`.

/// All is well; for `doctor`, every check is green.
pub const GOOD: u8 = 0;
/// The node answered, and something is wrong: a check is red, health does not hold, or it won't do what was asked.
pub const UNHEALTHY: u8 = 1;
/// Wrong usage, an invalid machine-config, a file that can't be read or written; no such image in the registry.
pub const USAGE: u8 = 2;
/// No connection to the node or the registry, or no answer in time.
pub const UNREACHABLE: u8 = 3;
/// One side refused the other's certificate; an image is not signed by a key that was given, or is not what was signed;
/// a registry refuses the account.
pub const REFUSED: u8 = 4;
/// The node or the registry answered something that isn't the protocol.
pub const PROTOCOL: u8 = 5;

/// The part of `--help` that explains them.
pub const HELP: &str = "Exit codes:
  0  all good (doctor: every check is green)
  1  a check is red, the node is unhealthy (doctor, status --check), or it refuses the request
  2  wrong usage, an invalid machine-config, a file that can't be read or written, no such image
  3  the node or the registry can't be reached, or doesn't answer in time
  4  refused: one side doesn't accept the other's certificate or account, or an image is not signed by a given key or
     not what was signed
  5  the node or the registry answers something that is not its protocol";
