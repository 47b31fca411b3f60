//! A running machine: its life from start to exit.
//!
//! It exists to tie the process, QMP and the console together so that a test can only use them in order: a
//! machine is handed out once QMP is negotiated and the forwarded ports are known, and it is gone when its
//! value is dropped. It refuses to wait without a limit and to explain an exit by console text.

use crate::builder::{BuildError, FIRMWARE_CODE, VmBuilder};
use crate::emulator::{Emulator, EmulatorError};
use crate::exit::{self, ExitReason, exit_reason};
use crate::nic::forwarded_ports;
use crate::process::{Plug, Process, ProcessError};
use crate::qmp::{Qmp, QmpError, QmpEvent};
use crate::serial::Serial;
use crate::snapshot::FIRMWARE_VARIABLES;
use crate::tpm::TpmError;
use qapi::qmp::{
    cont, human_monitor_command, pmemsave, query_status, quit, set_link, system_powerdown, system_reset,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

/// What can go wrong between start and exit.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The description is wrong.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no QEMU.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// QEMU could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The machine has no TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// QEMU could not be asked.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The machine's own files could not be made.
    #[error(
        "cannot prepare {path} for the machine: {source}. Check that the temporary directory is writable and short"
    )]
    PrepareFile {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// QEMU didn't come up.
    #[error("QEMU ended before the machine started ({status}). It said:\n{words}")]
    StartEnded {
        /// Its exit status.
        status: String,
        /// Its standard error.
        words: String,
    },
    /// QEMU didn't connect.
    #[error("QEMU did not open its sockets within {limit:?}. The host may be overloaded; it said:\n{words}")]
    StartTimeout {
        /// The limit.
        limit: Duration,
        /// Its standard error.
        words: String,
    },
    /// No such forward.
    #[error("the guest's port {guest_port} is not forwarded. Add Nic::forward({guest_port}) to the machine")]
    FindForward {
        /// The port.
        guest_port: u16,
    },
    /// The event did not come.
    #[error(
        "the event {name} did not come within {limit:?}. Events so far: {seen:?}; the console's end:\n{tail}"
    )]
    EventTimeout {
        /// The event.
        name: String,
        /// The limit.
        limit: Duration,
        /// The names of those that came.
        seen: Vec<String>,
        /// The last lines.
        tail: String,
    },
    /// The machine was not reset often enough.
    #[error(
        "the machine was reset for {seen:?} within {limit:?}, not {count} times; the console's end:\n{tail}"
    )]
    ResetTimeout {
        /// How often it should have been.
        count: usize,
        /// The limit.
        limit: Duration,
        /// Why it was.
        seen: Vec<ExitReason>,
        /// The last lines.
        tail: String,
    },
    /// The machine runs on.
    #[error("the machine did not end within {limit:?}. If it hangs, the console's end tells where:\n{tail}")]
    ExitTimeout {
        /// The limit.
        limit: Duration,
        /// The last lines.
        tail: String,
    },
    /// It could not be put aside.
    #[error("the machine can't be put aside: {why}. Check that there is room where the snapshot goes")]
    Save {
        /// What QEMU said.
        why: String,
    },
    /// It did not go on.
    #[error("the machine did not go on from its snapshot within {limit:?}. The host may be overloaded")]
    Resume {
        /// The limit.
        limit: Duration,
    },
    /// It ignored the button.
    #[error(
        "the guest did not switch off within {limit:?} of the power button and was killed. Its console's end:\n{tail}"
    )]
    PowerOffTimeout {
        /// The limit.
        limit: Duration,
        /// The last lines.
        tail: String,
    },
}

/// QEMU opens its sockets in well under a second; a loaded two-core host was seen to take five.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Between the process's end and the last byte of its sockets there are only the reader threads.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// A snapshot of a guest of 1 GiB is read in a second; this is for a busy host.
const RESUMES_WITHIN: Duration = Duration::from_mins(2);

/// How often a wait looks whether the machine still runs.
const LOOK: Duration = Duration::from_secs(1);

/// A machine that runs, or has run. Dropping it kills it.
pub struct Vm {
    // Fields are dropped in this order: the process goes before the directory with its files.
    process: Process,
    // It ends by itself when QEMU does; held so that it can't outlive its owner either.
    _tpm: Option<Process>,
    qmp: Qmp,
    serial: Serial,
    forwards: Vec<(u16, u16)>,
    serial_log: PathBuf,
    words: PathBuf,
    dir: tempfile::TempDir,
}

impl Vm {
    /// Describes a machine.
    pub fn builder() -> VmBuilder {
        VmBuilder::new()
    }

    /// QEMU's process id, for [`crate::QemuSockets`].
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The serial console.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Where the console's copy is. It stays when the machine goes, unless it lies in its private directory.
    pub fn serial_log(&self) -> &Path {
        &self.serial_log
    }

    /// The host's address that leads to the guest's TCP port.
    pub fn host_address(&self, guest_port: u16) -> Result<SocketAddr, VmError> {
        let found = self.forwards.iter().find(|(guest, _)| *guest == guest_port);
        let (_, host) = found.ok_or(VmError::FindForward { guest_port })?;
        Ok((Ipv4Addr::LOCALHOST, *host).into())
    }

    /// Presses the power button.
    pub fn power_button(&self) -> Result<(), VmError> {
        Ok(self.qmp.execute(system_powerdown {}).map(drop)?)
    }

    /// Presses the reset button.
    pub fn reset(&self) -> Result<(), VmError> {
        Ok(self.qmp.execute(system_reset {}).map(drop)?)
    }

    /// Puts the cable of the network card with this index in, or pulls it: the guest sees its carrier go.
    pub fn set_link(&self, card: usize, up: bool) -> Result<(), VmError> {
        Ok(self.qmp.execute(set_link { name: format!("net{card}"), up }).map(drop)?)
    }

    /// Ends QEMU as if power were cut, but in order: its files are flushed.
    pub fn quit(&self) -> Result<(), VmError> {
        Ok(self.qmp.execute(quit {}).map(drop)?)
    }

    /// QEMU's run state: `running`, `paused`, `shutdown`...
    pub fn status(&self) -> Result<String, VmError> {
        let status = self.qmp.execute(query_status {})?.status;
        Ok(serde_json::to_value(status).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default())
    }

    /// A report of the human monitor: `info("usernet")`. Only `info` exists: other commands change things.
    pub fn info(&self, topic: &str) -> Result<String, VmError> {
        let command_line = format!("info {topic}");
        Ok(self.qmp.execute(human_monitor_command { cpu_index: None, command_line })?)
    }

    /// Writes the guest's first `size` bytes of physical memory to a file, while it runs.
    pub fn dump_memory(&self, path: &Path, size: u64) -> Result<(), VmError> {
        let filename = path.to_string_lossy().into_owned();
        Ok(self.qmp.execute(pmemsave { filename, size, val: 0 }).map(drop)?)
    }

    /// All QMP events so far, oldest first.
    pub fn events(&self) -> Vec<QmpEvent> {
        self.qmp.events()
    }

    /// Waits for the first event of this name since the machine started.
    pub fn wait_for_event(&self, name: &str, limit: Duration) -> Result<QmpEvent, VmError> {
        self.wait_for_event_after(0, name, limit)
    }

    /// The same, but passes over the first `from` events ([`Vm::events`]`().len()` is "from now on").
    pub fn wait_for_event_after(
        &self,
        from: usize,
        name: &str,
        limit: Duration,
    ) -> Result<QmpEvent, VmError> {
        self.qmp.wait_event(from, limit, |event| event.name == name).ok_or_else(|| VmError::EventTimeout {
            name: name.into(),
            limit,
            seen: self.events().into_iter().map(|event| event.name).collect(),
            tail: self.serial.tail(),
        })
    }

    /// Why the machine was reset, each time so far, oldest first: for one that [`VmBuilder::allow_reboot`] lets run on.
    pub fn resets(&self) -> Vec<ExitReason> {
        exit::resets(&self.events())
    }

    /// Waits until the machine was reset `count` times since it started.
    pub fn wait_resets(&self, count: usize, limit: Duration) -> Result<Vec<ExitReason>, VmError> {
        let end = Instant::now() + limit;
        loop {
            let (from, seen) = (self.events().len(), self.resets());
            if seen.len() >= count {
                return Ok(seen);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.is_running() {
                return Err(VmError::ResetTimeout { count, limit, seen, tail: self.serial.tail() });
            }
            // Looks again now and then in case one came between the two lines above.
            self.qmp.wait_event(from, left.min(LOOK), |event| event.name == "RESET");
        }
    }

    /// Waits until the machine has ended and tells why.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitReason, VmError> {
        let Some(status) = self.process.wait(limit) else {
            return Err(VmError::ExitTimeout { limit, tail: self.serial.tail() });
        };
        self.qmp.wait_end(DRAIN_LIMIT);
        self.serial.wait_end(DRAIN_LIMIT);
        let words = read_words(&self.words);
        Ok(exit_reason(&self.qmp.events(), &format!("{status}; it said: {}", words.trim())))
    }

    /// Presses the power button and waits for the end. A guest that ignores it is killed, and that is an error.
    pub fn power_off(&mut self, limit: Duration) -> Result<ExitReason, VmError> {
        match self.power_button() {
            // It had ended by itself: wait_exit tells how.
            Ok(()) | Err(VmError::Qmp(QmpError::Ended { .. } | QmpError::Talk { .. })) => {}
            Err(error) => return Err(error),
        }
        match self.wait_exit(limit) {
            Err(VmError::ExitTimeout { limit, tail }) => {
                self.kill();
                Err(VmError::PowerOffTimeout { limit, tail })
            }
            other => other,
        }
    }

    /// Waits until a machine that goes on from a snapshot has read it.
    fn await_memory(&self) -> Result<(), VmError> {
        let deadline = Instant::now() + RESUMES_WITHIN;
        while self.status()? == "inmigrate" {
            if Instant::now() > deadline {
                return Err(VmError::Resume { limit: RESUMES_WITHIN });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(crate) fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Where its private files are.
    pub(crate) fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// The machine's plug, to pull while it is talked with.
    pub fn plug(&self) -> Plug {
        self.process.plug()
    }

    /// Pulls the plug (SIGKILL) and waits until the process is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether QEMU still runs.
    pub fn is_running(&self) -> bool {
        self.process.status().is_none()
    }
}

impl VmBuilder {
    /// Starts the machine: returns when its CPUs run.
    pub fn start(mut self) -> Result<Vm, VmError> {
        self.check()?;
        let emulator = Emulator::open()?;
        let dir = tempfile::Builder::new().prefix("astromesh-vm-").tempdir();
        let dir = dir.map_err(prepare(Path::new("the private directory")))?;
        let write = |name: String, content: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, content).map_err(prepare(&path))
        };
        for (index, string) in self.smbios.iter().enumerate() {
            write(format!("smbios{index}"), string.as_bytes())?;
        }
        for (index, (_, content)) in self.fw_cfg.iter().enumerate() {
            write(format!("fw_cfg{index}"), content)?;
        }
        if self.uefi {
            let code = emulator.firmware_code();
            std::os::unix::fs::symlink(&code, dir.path().join(FIRMWARE_CODE)).map_err(prepare(&code))?;
            let variables = match &self.snapshot {
                None => emulator.firmware_variables(),
                Some(snapshot) => snapshot.firmware_variables(),
            };
            fs::copy(&variables, dir.path().join(FIRMWARE_VARIABLES)).map_err(prepare(&variables))?;
        }
        let serial_log =
            self.serial_log.take().unwrap_or_else(|| default_log(self.name.as_deref(), dir.path()));
        let log = fs::File::create(&serial_log).map_err(prepare(&serial_log))?;
        let words = dir.path().join("stderr");
        let errors = fs::File::create(&words).map_err(prepare(&words))?;

        // The harness listens and QEMU connects: nothing to poll for, and no byte of the console is missed.
        let qmp = listen(&dir.path().join("qmp"))?;
        let serial = listen(&dir.path().join("serial"))?;
        let tpm = self.tpm.as_ref().map(|tpm| tpm.start(dir.path())).transpose()?;
        let (program, mut arguments) = emulator.command_line();
        arguments.extend(self.arguments(dir.path()).into_iter().map(Into::into));
        log::debug!("{} {arguments:?}", program.display());
        let process = Process::start(&program, arguments, errors, dir.path())?;
        let qmp = accept(&qmp, &process, &words)?;
        let serial = accept(&serial, &process, &words)?;
        let serial = Serial::follow(serial, log, self.tee.take()).map_err(prepare(&serial_log))?;
        // QEMU opens its sockets before the rest: a disk that is missing shows here.
        let ended = |error| match process.wait(DRAIN_LIMIT) {
            Some(status) => VmError::StartEnded { status: status.to_string(), words: read_words(&words) },
            None => VmError::Qmp(error),
        };
        let qmp = Qmp::negotiate(qmp).map_err(ended)?;
        let mut vm = Vm { process, _tpm: tpm, qmp, serial, forwards: Vec::new(), serial_log, words, dir };
        if self.snapshot.is_some() {
            vm.await_memory().map_err(|error| match vm.process.wait(DRAIN_LIMIT) {
                Some(status) => {
                    VmError::StartEnded { status: status.to_string(), words: read_words(&vm.words) }
                }
                None => error,
            })?;
        }
        if !self.nics.is_empty() {
            vm.forwards = forwarded_ports(&vm.info("usernet")?);
        }
        vm.qmp.execute(cont {})?;
        Ok(vm)
    }
}

fn prepare(path: &Path) -> impl Fn(io::Error) -> VmError {
    move |source| VmError::PrepareFile { path: path.into(), source }
}

fn listen(path: &Path) -> Result<UnixListener, VmError> {
    let listener = UnixListener::bind(path).map_err(prepare(path))?;
    listener.set_nonblocking(true).map_err(prepare(path))?;
    Ok(listener)
}

/// Waits for QEMU to connect, and notices when it has ended instead.
fn accept(listener: &UnixListener, process: &Process, words: &Path) -> Result<UnixStream, VmError> {
    let end = Instant::now() + START_LIMIT;
    loop {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false).map_err(prepare(words))?;
                return Ok(socket);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(prepare(words)(error)),
        }
        if let Some(status) = process.wait(Duration::from_millis(10)) {
            return Err(VmError::StartEnded { status: status.to_string(), words: read_words(words) });
        }
        if Instant::now() > end {
            return Err(VmError::StartTimeout { limit: START_LIMIT, words: read_words(words) });
        }
    }
}

fn read_words(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// `target/vm-logs/PROGRAM-TEST-N.log`, overwritten by the next run; without a target directory, which cargo
/// marks with `CACHEDIR.TAG`, the machine's private one.
fn default_log(name: Option<&str>, private: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let logs = || {
        let program = std::env::current_exe().ok()?;
        let target = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file())?;
        let logs = target.join("vm-logs");
        fs::create_dir_all(&logs).ok()?;
        let thread = std::thread::current();
        let name = name.or(thread.name()).unwrap_or("vm").replace(['/', ':'], "-");
        Some(logs.join(format!("{}-{name}-{count}.log", program.file_stem()?.to_string_lossy())))
    };
    logs().unwrap_or_else(|| private.join("serial.log"))
}
