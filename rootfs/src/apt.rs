//! A private apt: the host's own archive address and keys, but trixie's package lists, and nothing shared with the
//! host's package database.
//!
//! The address is taken from the host's configuration at run time, since mirrors differ from host to host and none
//! belongs in the tree. apt checks the archive's signature; the lock file's SHA-256 is checked on top of that.

use crate::cache::{Cache, CacheError, at};
use crate::lock::DebianPackage;
use crate::run::{RunError, checked};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The suite that every package of the image and every tool comes from.
pub const SUITE: &str = "trixie";
/// Debian's own keys, trixie's among them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The archive could not be used.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// The host's apt knows no Debian archive.
    #[error(
        "this host's apt names no Debian archive (`apt-get indextargets` shows none): add one to its sources"
    )]
    FindArchive,
    /// The pinned version is no longer there.
    #[error(
        "Debian {suite} no longer offers {name} {version}: run `cargo xtask lock`, read the difference, build again"
    )]
    FetchVersion {
        /// The suite.
        suite: String,
        /// The package.
        name: String,
        /// The version that the lock file names.
        version: String,
    },
    /// A tool failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// What the archive offers for a name.
pub(crate) struct Offer {
    pub(crate) version: String,
    pub(crate) arch: String,
    pub(crate) sha256: String,
}

/// The private apt, in a directory of the cache.
///
/// Locked while it is held: two builds may share an empty cache, and apt refuses where it could wait.
pub(crate) struct Archive {
    dir: PathBuf,
    suite: String,
    _lock: fs::File,
}

impl Archive {
    /// Writes the configuration; downloads nothing yet.
    pub(crate) fn open(cache: &Cache, suite: &str) -> Result<Self, AptError> {
        let dir = cache.kind("apt")?.join(suite);
        fs::create_dir_all(&dir).map_err(at("making", &dir))?;
        let path = dir.join("lock");
        let lock = fs::File::create(&path).map_err(at("making", &path))?;
        lock.lock().map_err(at("locking", &path))?;
        let archive = Self { dir, suite: suite.to_owned(), _lock: lock };
        for sub in ["lists/partial", "cache/archives/partial"] {
            let path = archive.dir.join(sub);
            fs::create_dir_all(&path).map_err(at("making", &path))?;
        }
        archive.write("status", "")?;
        archive.write("sources.list", &sources(&host_archives()?, suite)?)?;
        archive.write("apt.conf", &configuration(&archive.dir))?;
        Ok(archive)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), AptError> {
        let path = self.dir.join(name);
        Ok(fs::write(&path, text).map_err(at("writing", &path))?)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.dir.join("apt.conf")).env("LC_ALL", "C");
        command
    }

    /// Downloads the package lists.
    pub(crate) fn refresh(&self) -> Result<(), AptError> {
        checked(self.command("apt-get").args(["-qq", "update"]))?;
        Ok(())
    }

    /// The newest version of a package, or `None` where the suite has no such name.
    pub(crate) fn newest(&self, name: &str) -> Result<Option<Offer>, AptError> {
        let text = checked(self.command("apt-cache").args(["show", "--no-all-versions", name]))?;
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
        };
        Ok((|| {
            Some(Offer { version: field("Version")?, arch: field("Architecture")?, sha256: field("SHA256")? })
        })())
    }

    /// Downloads one pinned package into `dir`, under whatever name apt gives it.
    pub(crate) fn download(&self, package: &DebianPackage, dir: &Path) -> Result<(), AptError> {
        let pin = format!("{}={}", package.name, package.version);
        match checked(self.command("apt-get").current_dir(dir).args(["-qq", "download", &pin])) {
            Err(RunError::FinishTool { output, .. })
                if output.contains("was not found") || output.contains("Unable to locate") =>
            {
                Err(AptError::FetchVersion {
                    suite: self.suite.clone(),
                    name: package.name.clone(),
                    version: package.version.clone(),
                })
            }
            other => Ok(other.map(drop)?),
        }
    }
}

/// The lines of a sources list for `suite`: the host's own archives, the suite replaced. For a tool that brings an apt of
/// its own.
pub fn archive_lines(suite: &str) -> Result<String, AptError> {
    sources(&host_archives()?, suite)
}

/// `(codename, address)` of each Debian archive that the host's apt is configured for.
fn host_archives() -> Result<Vec<(String, String)>, AptError> {
    let format = "$(ORIGIN)|$(RELEASE)|$(REPO_URI)";
    let text = checked(Command::new("apt-get").args(["indextargets", "--format", format]))?;
    let parsed = text.lines().filter_map(|line| {
        let mut fields = line.split('|');
        (fields.next()? == "Debian").then_some(())?;
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    });
    Ok(parsed.collect())
}

/// The sources list: the host's main and security archives, the suite replaced.
fn sources(archives: &[(String, String)], suite: &str) -> Result<String, AptError> {
    let main = archives.iter().find(|(release, _)| !release.contains('-')).ok_or(AptError::FindArchive)?;
    // Backports have no security suite of their own.
    let has_security = !suite.ends_with("-backports");
    let security = archives.iter().find(|(release, _)| release.ends_with("-security"));
    let line = |address: &str, suite: &str| format!("deb [signed-by={KEYRING}] {address} {suite} main\n");
    let mut text = line(&main.1, suite);
    if let Some((_, address)) = security.filter(|_| has_security) {
        text += &line(address, &format!("{suite}-security"));
    }
    Ok(text)
}

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    // `_apt` may not read a cache under someone's home, so apt's download sandbox is the user who runs the build.
    format!(
        "APT::Architecture \"amd64\";\nAPT::Sandbox::User \"root\";\n\
         Dir::Etc::sourcelist \"{dir}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
         Dir::Etc::preferences \"-\";\nDir::Etc::preferencesparts \"-\";\n\
         Dir::State \"{dir}\";\nDir::State::lists \"{dir}/lists\";\nDir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}/cache\";\nAcquire::Languages \"none\";\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_is_replaced_and_the_address_kept() {
        let host = [
            ("oldname-security".to_owned(), "file:/mirror/security/".to_owned()),
            ("oldname-updates".to_owned(), "file:/mirror/main/".to_owned()),
            ("oldname".to_owned(), "file:/mirror/main/".to_owned()),
        ];
        let text = sources(&host, SUITE).unwrap();
        assert!(text.contains("file:/mirror/main/ trixie main\n"));
        assert!(text.contains("file:/mirror/security/ trixie-security main\n"));
        assert_eq!(text.lines().count(), 2);
        let backports = sources(&host, "trixie-backports").unwrap();
        assert!(backports.ends_with("file:/mirror/main/ trixie-backports main\n"));
        assert_eq!(backports.lines().count(), 1);
    }

    #[test]
    fn a_host_without_a_debian_archive_is_told_so() {
        assert!(matches!(sources(&[], SUITE), Err(AptError::FindArchive)));
    }
}
