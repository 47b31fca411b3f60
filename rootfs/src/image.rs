//! The root image from the lock files: the one function that a caller needs.
//!
//! The result is cached under a hash of everything that can change it: lock files, trim rules, launcher, hot files,
//! this crate's own source, the node's users, the options and the version. A second build with the same inputs is a look-up.

use crate::cache::{Cache, CacheError, at, sha256_hex};
use crate::closure::{self, ClosureError, Sources};
use crate::components::{Components, components};
use crate::erofs::{ErofsError, ErofsOptions};
use crate::lock::{DebianLock, LockError, PythonLock};
use crate::manifest::{self, Manifest};
use crate::origins::{OriginError, Origins, Recorder};
use crate::source::source_dir;
use crate::tools::{ToolError, Tools};
use crate::tree;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The root image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The version would not fit into os-release and a file name.
    #[error("{0:?} is not a version: use digits, letters, dots, and `+`, `~`, `_`")]
    UseVersion(String),
    /// Reading what was built.
    #[error("reading the staged tree {path} failed ({source}): remove it from the cache and build again")]
    ReadStage {
        /// The tree.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A lock file.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The tool tree.
    #[error(transparent)]
    Tools(#[from] ToolError),
    /// The tree.
    #[error(transparent)]
    Closure(#[from] ClosureError),
    /// The record of who brought what.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The image.
    #[error(transparent)]
    Erofs(#[from] ErofsError),
    /// The cache, or the output directory.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// What to build and where.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The cache directory; [`Cache::default_path`] gives the usual one.
    pub cache: PathBuf,
    /// Where `root.erofs` and `manifest.json` go.
    pub out: PathBuf,
    /// The version of the image, as os-release's `IMAGE_VERSION`.
    pub version: String,
    /// How the image is compressed.
    pub erofs: ErofsOptions,
}

impl BuildOptions {
    /// The usual options: the developer's cache, the default compression.
    pub fn new(out: impl Into<PathBuf>, version: impl Into<String>) -> Result<Self, CacheError> {
        Ok(Self {
            cache: Cache::default_path()?,
            out: out.into(),
            version: version.into(),
            erofs: ErofsOptions::default(),
        })
    }
}

/// What was built.
#[derive(Debug, Clone)]
pub struct RootImage {
    /// The EROFS image, a whole number of 4096-byte blocks.
    pub erofs: PathBuf,
    /// Packages, wheels, licences, sizes.
    pub manifest: PathBuf,
    /// The tree the image was made from; read-only, in the cache.
    pub stage: PathBuf,
    /// Uncompressed sizes.
    pub components: Components,
}

/// Builds the root image, or finds it in the cache.
pub fn build(options: &BuildOptions, progress: &dyn Fn(&str)) -> Result<RootImage, BuildError> {
    if !is_version(&options.version) {
        return Err(BuildError::UseVersion(options.version.clone()));
    }
    let cache = Cache::open(&options.cache)?;
    let (debian, python) = (DebianLock::load()?, PythonLock::load()?);
    let tools = Tools::open(&cache, &debian, progress)?;

    let key = stage_key(&options.version)?;
    let tree = cache.directory("stages", &key, |dir| {
        let sources = Sources::fetch(&cache, &debian, &python, progress)?;
        make_stage(dir, &sources, &tools, &options.version, progress)
    })?;
    let stage = tree.join("root");

    let image_key = sha256_hex(format!("{key} {}", erofs_key(&options.erofs)?).as_bytes());
    let image = cache.directory("images", &image_key[..32], |dir| {
        progress("writing the EROFS image");
        options.erofs.make(&tools, &stage, &dir.join("root.erofs")).map_err(BuildError::from)
    })?;

    fs::create_dir_all(&options.out).map_err(at("making", &options.out))?;
    let place = |from: &Path, name: &str| -> Result<PathBuf, CacheError> {
        let to = options.out.join(name);
        fs::copy(from, &to).map_err(at("writing", &to))?;
        Ok(to)
    };
    let erofs = place(&image.join("root.erofs"), "root.erofs")?;
    let manifest = place(&tree.join("manifest.json"), "manifest.json")?;
    let components = components(&stage).map_err(read_stage(&stage))?;
    Ok(RootImage { erofs, manifest, stage, components })
}

/// Fills `dir` with `root/`, the sealed tree, `manifest.json`, `origins.json`, and `licences/`.
fn make_stage(
    dir: &Path,
    sources: &Sources<'_>,
    tools: &Tools,
    version: &str,
    progress: &dyn Fn(&str),
) -> Result<(), BuildError> {
    let stage = dir.join("root");
    fs::create_dir(&stage).map_err(at("making", &stage))?;
    progress("unpacking packages and wheels");
    let mut recorder = Recorder::new(&stage);
    closure::unpack_all(sources, tools, &stage, &mut recorder)?;
    let mut manifest = Manifest::read(&stage, sources, version).map_err(read_stage(&stage))?;
    manifest::keep_texts(&stage, &manifest, &dir.join("licences")).map_err(read_stage(&stage))?;
    let cuts = closure::refine(&stage, tools, version, &mut recorder, progress)?;
    manifest.retain_present(&stage).map_err(read_stage(&stage))?;

    // The image can't hold its own size, so the copy inside has no component sizes.
    let inside = stage.join("usr/share/astromesh/manifest.json");
    manifest.render().and_then(|text| fs::write(&inside, text)).map_err(at("writing", &inside))?;
    recorder.generated()?;
    closure::seal(&stage)?;
    let origins = Origins::path_of(&stage);
    let record = recorder.finish()?;
    // The paths of the image are text, so this is too.
    let text = serde_json::to_vec_pretty(&record).map_err(|error| at("writing", &origins)(error.into()))?;
    fs::write(&origins, text).map_err(at("writing", &origins))?;
    manifest.components = Some(components(&stage).map_err(read_stage(&stage))?);
    let outside = dir.join("manifest.json");
    manifest.render().and_then(|text| fs::write(&outside, text)).map_err(at("writing", &outside))?;
    let report = dir.join("trim-report.txt");
    fs::write(&report, trim_report(&cuts)).map_err(at("writing", &report))?;
    Ok(())
}

fn trim_report(cuts: &[closure::Cut]) -> String {
    cuts.iter().fold(String::new(), |mut text, cut| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{:>10} bytes {:>5} files  {}", cut.bytes, cut.files, cut.reason);
        text
    })
}

/// A hash of what decides the staged tree.
fn stage_key(version: &str) -> Result<String, CacheError> {
    // The users come from another crate's table, so their lines stand for its source.
    let (passwd, group) = closure::users();
    let mut text = format!("version {version}\n{passwd}{group}");
    let root = source_dir();
    for entry in tree::walk(root).map_err(at("searching", root))? {
        let inputs = [
            "src",
            "launcher",
            "debian.lock",
            "python.lock",
            "trim.toml",
            "hot-files.txt",
            "executables.allow",
        ];
        if entry.metadata.is_file() && inputs.iter().any(|input| entry.path.starts_with(input)) {
            let sum = crate::cache::sha256_file(&root.join(&entry.path))?;
            let _ = writeln!(text, "{sum} {}", entry.path.display());
        }
    }
    Ok(sha256_hex(text.as_bytes())[..32].to_owned())
}

/// What decides the image beside the tree: the options, and the content of the hints file.
fn erofs_key(options: &ErofsOptions) -> Result<String, CacheError> {
    let hints = options.hints.as_deref().map(crate::cache::sha256_file).transpose()?;
    Ok(format!("{:?} {} {:?} {hints:?}", options.compression, options.cluster, options.features))
}

fn is_version(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".+~_".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

fn read_stage(path: &Path) -> impl FnOnce(std::io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::ReadStage { path, source }
}
