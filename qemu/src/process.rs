//! QEMU as a child process that cannot outlive its owner.
//!
//! It exists because a forgotten QEMU holds a core, a disk image and a port until somebody notices. One keeper
//! thread starts the child, reaps it and lives exactly as long as it does. The child is killed by its own
//! handle, so a recycled process id is never hit.
//!
//! `setpriv --pdeathsig` asks the kernel to kill QEMU when the thread that started it is gone, which covers a
//! test process that is itself killed. That signal follows the *thread* (`PR_SET_PDEATHSIG(2const)`), hence the
//! keeper: a test's own thread may end while a machine it handed on still runs. Where util-linux is missing
//! QEMU starts without it, and only [`Drop`] guards it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// Why QEMU could not be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started.
    #[error("cannot start {program}: {source}. Is the cache mounted noexec?")]
    StartQemu {
        /// The program.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// How often the keeper looks whether the child has ended.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    status: Option<ExitStatus>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running QEMU.
pub(crate) struct Process {
    pid: u32,
    shared: Arc<Shared>,
}

impl Process {
    /// Starts `program`; what it says on standard error goes to `words`, its temporary files to `scratch`.
    pub(crate) fn start(
        program: &Path,
        arguments: Vec<OsString>,
        words: std::fs::File,
        scratch: &Path,
    ) -> Result<Self, ProcessError> {
        let shared = Arc::new(Shared::default());
        let keeper = Arc::clone(&shared);
        let (tell, told) = mpsc::channel();
        let (name, scratch) = (program.as_os_str().to_owned(), scratch.to_owned());
        let keep = move || {
            let started = words.try_clone().and_then(|copy| {
                let guarded = ["--pdeathsig".as_ref(), "KILL".as_ref(), "--".as_ref(), name.as_os_str()];
                match spawn("setpriv".as_ref(), &guarded, &arguments, copy, &scratch) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        spawn(&name, &[], &arguments, words, &scratch)
                    }
                    other => other,
                }
            });
            match started {
                Ok(child) => {
                    let pid = child.id();
                    keeper.lock().child = Some(child);
                    let _ = tell.send(Ok(pid));
                    reap(&keeper);
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        };
        let failed = |source| ProcessError::StartQemu { program: program.display().to_string(), source };
        std::thread::Builder::new().name("qemu-keeper".into()).spawn(keep).map_err(failed)?;
        let gone = || io::Error::other("its keeper thread ended");
        let pid = told.recv().unwrap_or_else(|_| Err(gone())).map_err(failed)?;
        Ok(Self { pid, shared })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn status(&self) -> Option<ExitStatus> {
        self.shared.lock().status
    }

    /// Waits for its end; `None` when the limit passed first.
    pub(crate) fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, limit, |state| state.status.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.status
    }

    /// What ends it from elsewhere.
    pub(crate) fn plug(&self) -> Plug {
        Plug(Arc::clone(&self.shared))
    }

    /// Kills it and waits until it is reaped.
    pub(crate) fn kill(&self) {
        if let Some(child) = &mut self.shared.lock().child {
            // An error means that it has ended by itself.
            let _ = child.kill();
        }
        // SIGKILL can't be refused; a process in uninterruptible sleep is given this long to come out of it.
        if self.wait(Duration::from_secs(30)).is_none() {
            log::error!("QEMU (process {}) did not end after SIGKILL: the host's storage may hang", self.pid);
        }
    }
}

/// A machine's plug, in other hands than the machine: a power cut while somebody still talks with it.
#[derive(Clone)]
pub struct Plug(Arc<Shared>);

impl Plug {
    /// Pulls it: SIGKILL, nothing is flushed. Doesn't wait.
    pub fn pull(&self) {
        if let Some(child) = &mut self.0.lock().child {
            // An error means that it has ended by itself.
            let _ = child.kill();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(
    program: &OsStr,
    before: &[&OsStr],
    arguments: &[OsString],
    words: std::fs::File,
    scratch: &Path,
) -> io::Result<Child> {
    Command::new(program)
        .args(before)
        .args(arguments)
        // Where snapshot=on keeps the guest's writes.
        .env("TMPDIR", scratch)
        // A Ctrl-C at the terminal is for the harness, which then ends QEMU in order.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(words.try_clone()?)
        .stderr(words)
        .spawn()
}

fn reap(shared: &Shared) {
    loop {
        let mut state = shared.lock();
        let ended = state.child.as_mut().map(Child::try_wait);
        match ended {
            Some(Ok(None)) => {
                drop(state);
                std::thread::sleep(LOOK);
            }
            Some(Ok(Some(status))) => {
                state.status = Some(status);
                break shared.changed.notify_all();
            }
            // Nobody else waits for this child, so this arm is never taken; it ends the thread all the same.
            Some(Err(_)) | None => break,
        }
    }
}
