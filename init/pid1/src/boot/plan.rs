//! Taking over what the job `config` left for PID 1: a plan of a few hundred bytes.
//!
//! At boot it is taken by the stage `config`, and later by supervision when the machine-config came late. Nothing here
//! allocates.

use crate::clearance::Applied;
use crate::node::{Config, Node};
use astromesh_node::places::PLAN;
use astromesh_proto::ipc::{self, MAX_MESSAGE, Plan};
use rustix::fs::{FileType, Mode, OFlags};

/// Does what the plan says of the node itself, and returns it; `None` where there is none. A node whose plan names no
/// error has a configuration from here on; what else it means is for who asks.
pub fn take(node: &mut Node) -> Option<Plan> {
    let plan = read(PLAN)?;
    node.clock_at_least(plan.not_before, "the node's certificate");
    (node.operator, node.rules) = (plan.operator, plan.trial);
    if !plan.hostname.is_empty() {
        if let Err(cause) = rustix::system::sethostname(plan.hostname.as_bytes()) {
            log::warn!("config: the host name stays as it is: {cause}");
        }
    }
    if plan.maintenance.is_none() {
        node.config = Config::Applied(Applied::new());
    }
    Some(plan)
}

/// The plan, from a folder that belongs to the process that has read a stranger's document: what lies there is opened only
/// if it is a file, and never waited for.
fn read(path: &str) -> Option<Plan> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file).ok()?.st_mode);
    if kind != FileType::RegularFile {
        return None;
    }
    let mut bytes = [0; MAX_MESSAGE + 1];
    let count = rustix::io::read(&file, &mut bytes).ok()?;
    ipc::decode(bytes.get(..count.min(MAX_MESSAGE))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mknodat, symlinkat};

    #[test]
    fn a_plan_is_read_from_a_file_and_from_nothing_else() {
        let folder = std::env::temp_dir().join(format!("astromesh-plan-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let plan = Plan {
            hostname: ipc::cut("node-1"),
            maintenance: None,
            operator: true,
            trial: None,
            not_before: 1_795_507_140,
        };
        let mut buffer = [0; MAX_MESSAGE];
        std::fs::write(at("plan"), ipc::encode(&plan, &mut buffer).unwrap()).unwrap();
        assert_eq!(read(&at("plan")), Some(plan));
        // A pipe would keep PID 1 until somebody writes to it, and a link leads wherever it likes.
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        symlinkat(at("plan"), CWD, at("link")).unwrap();
        for name in ["pipe", "link", ".", "absent"] {
            assert_eq!(read(&at(name)), None, "{name}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
