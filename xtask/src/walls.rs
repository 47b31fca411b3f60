//! The walls inside `init/`: what may be linked below PID 1, which crate may import which, and where `unsafe` may stand.
//!
//! A crate's manifest is where a wall stands; here the manifests are read, so that a wall can't be taken down in passing.

#[cfg(test)]
mod tests {
    use crate::project;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    /// Readers of documents, TLS, HTTP and packets, and builders of hash trees: none may be linked below PID 1.
    const NOT_BELOW_PID_1: [&str; 10] = [
        "astromesh-oci",
        "base64",
        "granit-parser",
        "httparse",
        "ring",
        "rustls",
        "serde_json",
        "sha2",
        "smoltcp",
        "ureq",
    ];

    /// The kernel calls.
    const SYS: &str = "astromesh-sys";
    /// PID 1.
    const PID_1: &str = "astromesh-pid1";
    /// The crates below `init/` that others import. What is neither of these nor PID 1 is a service.
    const SHARED: [&str; 6] = [
        SYS,
        "astromesh-http",
        "astromesh-link",
        "astromesh-node",
        "astromesh-release",
        "astromesh-settings",
    ];
    /// Those of which everything of ours that they may import is written down: what PID 1 is built from.
    const WRITTEN_DOWN: [(&str, &[&str]); 3] = [
        (SYS, &[]),
        ("astromesh-node", &[SYS, "astromesh-proto", "astromesh-verity"]),
        (PID_1, &[SYS, "astromesh-node", "astromesh-proto", "astromesh-verity"]),
    ];

    /// The names of the crates that a crate is linked with, itself among them.
    fn linked(package: &str) -> BTreeSet<String> {
        let mut tree = Command::new(env!("CARGO"));
        tree.current_dir(project()).args(["tree", "--package", package, "--edges", "normal"]);
        tree.args(["--prefix", "none", "--locked", "--offline"]).stdin(Stdio::null());
        let output = tree.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    }

    #[test]
    fn no_parser_and_no_tls_is_linked_below_pid_1() {
        let refused: BTreeSet<_> = NOT_BELOW_PID_1.map(str::to_owned).into();
        for (package, _) in WRITTEN_DOWN {
            let linked = linked(package);
            assert!(linked.contains(package), "the tree of {package} begins with it");
            let found: Vec<_> = linked.intersection(&refused).collect();
            assert!(found.is_empty(), "{package} is linked with {found:?}");
        }
        // Twin: the same search finds every one of them below the services.
        let below = |package| linked(package).intersection(&refused).cloned().collect::<BTreeSet<_>>();
        let control = below("astromesh-control");
        assert!(["httparse", "ring", "rustls", "serde_json"].iter().all(|name| control.contains(*name)));
        let config = below("astromesh-config");
        assert!(["base64", "granit-parser", "serde_json"].iter().all(|name| config.contains(*name)));
        let others = ["astromesh-net", "astromesh-slots", "astromesh-update"].map(below);
        let all: BTreeSet<_> = others.into_iter().chain([control, config]).flatten().collect();
        assert_eq!(all, refused);
    }

    /// A crate by its manifest.
    struct Manifest {
        name: String,
        /// What it depends on, in its tests and on some target only as well.
        dependencies: Vec<String>,
    }

    impl Manifest {
        fn parse(text: &str) -> Self {
            let manifest: toml::Table = text.parse().unwrap();
            let targets = manifest.get("target").and_then(toml::Value::as_table);
            let targets = targets.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table);
            let mut dependencies = Vec::new();
            for table in targets.chain([&manifest]) {
                for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
                    for (key, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten()
                    {
                        // A dependency may be used under another name.
                        let package = value.get("package").and_then(toml::Value::as_str);
                        dependencies.push(package.unwrap_or(key).to_owned());
                    }
                }
            }
            Self { name: manifest["package"]["name"].as_str().unwrap().to_owned(), dependencies }
        }
    }

    /// The folders of the crates below `init/`.
    fn crates() -> Vec<PathBuf> {
        let entries = fs::read_dir(project().join("init")).unwrap();
        let folders = entries.map(|entry| entry.unwrap().path());
        folders.filter(|folder| folder.join("Cargo.toml").is_file()).collect()
    }

    fn is_service(name: &str) -> bool {
        name != PID_1 && !SHARED.contains(&name)
    }

    /// Every import through a wall.
    fn faults(manifests: &[Manifest]) -> Vec<String> {
        let is_process = |name: &str| {
            let below_init = manifests.iter().any(|manifest| manifest.name == name);
            name == "init" || below_init && (name == PID_1 || is_service(name))
        };
        let is_ours = |name: &str| name == "init" || name.starts_with("astromesh");
        let mut faults = Vec::new();
        for Manifest { name, dependencies } in manifests {
            let written = WRITTEN_DOWN.iter().find(|(of, _)| of == name).map(|(_, may)| *may);
            for dependency in dependencies {
                let unwritten = written.is_some_and(|may| !may.contains(&dependency.as_str()));
                if is_process(dependency) || is_ours(dependency) && unwritten {
                    faults.push(format!("{name} imports {dependency}"));
                }
            }
        }
        faults
    }

    #[test]
    fn services_import_neither_each_other_nor_pid_1_and_the_kernel_calls_import_nothing_of_ours() {
        let read = |folder: PathBuf| Manifest::parse(&fs::read_to_string(folder.join("Cargo.toml")).unwrap());
        let manifests: Vec<_> = crates().into_iter().map(read).collect();
        let services = manifests.iter().filter(|manifest| is_service(&manifest.name)).count();
        assert_eq!(services + SHARED.len() + 1, manifests.len(), "a shared crate is not there");
        assert!(services >= 8);
        assert_eq!(faults(&manifests), Vec::<String>::new());
    }

    #[test]
    fn twin_an_import_through_a_wall_is_found() {
        let manifest = |name: &str, rest: &str| {
            Manifest::parse(&format!("[package]\nname = \"astromesh-{name}\"\n{rest}"))
        };
        let among = |one: Manifest| {
            let others = ["net", "update", "pid1", "sys", "node"].map(|name| manifest(name, ""));
            faults(&others.into_iter().chain([one]).collect::<Vec<_>>())
        };
        let through = [
            ("control", "[dependencies]\nastromesh-net = { workspace = true }"),
            ("control", "[dependencies]\nastromesh-pid1 = { workspace = true }"),
            ("control", "[dev-dependencies]\nastromesh-update = { workspace = true }"),
            ("control", "[target.'cfg(unix)'.dependencies]\nastromesh-net.workspace = true"),
            ("control", "[dependencies]\nother = { path = \"../net\", package = \"astromesh-net\" }"),
            ("link", "[dependencies]\nastromesh-net = { workspace = true }"),
            ("release", "[dependencies]\nastromesh-pid1 = { workspace = true }"),
            ("sys", "[dependencies]\nastromesh-node = { workspace = true }"),
            ("sys", "[dependencies]\nastromesh-verity = { workspace = true }"),
            ("node", "[dependencies]\nastromesh-oci = { workspace = true }"),
            ("pid1", "[dependencies]\nastromesh-settings = { workspace = true }"),
            ("pid1", "[dependencies]\nastromesh-net = { workspace = true }"),
        ];
        for (name, rest) in through {
            assert_eq!(among(manifest(name, rest)).len(), 1, "{name}: {rest}");
        }
        let allowed = [
            ("control", "[dependencies]\nastromesh-node = { workspace = true }\nrustls = \"0.23\""),
            ("pid1", "[dependencies]\nastromesh-sys = { workspace = true }\nheapless = \"0.9\""),
            ("sys", "[dependencies]\nlibc = \"0.2\""),
        ];
        for (name, rest) in allowed {
            assert_eq!(among(manifest(name, rest)), Vec::<String>::new(), "{name}: {rest}");
        }
    }

    /// The files below a folder that hold one of these words.
    fn files_with(words: &[&str], folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_with(words, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                if words.iter().any(|word| text.contains(word)) {
                    found.push(path);
                }
            }
        }
    }

    #[test]
    fn unsafe_code_stands_in_the_crate_of_kernel_calls_and_nowhere_else_in_init() {
        let mut found = Vec::new();
        files_with(&["(unsafe_code)"], &project().join("init"), &mut found);
        let (sys, elsewhere): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|path| path.starts_with(project().join("init/sys")));
        assert!(elsewhere.is_empty(), "{elsewhere:?}");
        // Twin: the search finds those that are allowed.
        assert!(!sys.is_empty());
    }

    #[test]
    fn a_number_becomes_a_descriptor_only_in_the_calls_that_make_one() {
        let mut found = Vec::new();
        files_with(&["from_raw_fd", "borrow_raw"], &project().join("init"), &mut found);
        found.sort();
        // Two that take over what the kernel has just given them, and the one that adopts what the process was given.
        let files = ["descriptors.rs", "packet.rs", "signals.rs"];
        assert_eq!(found, files.map(|file| project().join("init/sys/src").join(file)));
    }
}
