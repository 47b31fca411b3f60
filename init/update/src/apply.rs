//! One update from beginning to end: verify, fetch, verify again, have it installed, reboot.
//!
//! Until the last step nothing that runs has changed, and until the one before it nothing that the boot loader looks at;
//! so every refusal says so, and every step may be the last before a power cut.

use crate::error::UpdateError;
use crate::origin::{self, Found};
use crate::shared::{Shared, lock, slots};
use crate::terms;
use astromesh_oci::{FetchError, Kind, Progress, Seed, fetch_index, fetch_layer};
use astromesh_proto::ipc::SlotsWork;
use astromesh_proto::update::{Attempt, Origin, Outcome, Step, Terms, UpdateAnswer};
use astromesh_release::staged::{Candidate, EVIDENCE, KINDS, STAGE, Standing, now};
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// What must be left on `/var` beside what is staged: the agents live there too.
const LEFT_ON_VAR: u64 = 8 << 20;

/// How often, and how long after, an attempt that was interrupted is taken up while its release can't be asked for: two
/// minutes, which is longer than a lease and a registry's restart take.
const MOST_RESUMPTIONS: u32 = 24;
const RESUME_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What is to be done.
pub struct Job {
    /// Where the release is.
    pub origin: Origin,
    /// Stop before anything is written.
    pub dry_run: bool,
    /// On whose word, and so what may be tried and when the machine reboots into it.
    pub terms: Terms,
}

/// How a job ended.
pub struct Ending {
    /// What is answered.
    pub answer: UpdateAnswer,
    /// Whether the machine is to reboot, once that is said.
    pub reboot: bool,
    /// Whether the release could be asked for at all.
    pub asked: bool,
}

impl Ending {
    fn without_reboot(answer: UpdateAnswer) -> Self {
        Self { answer, reboot: false, asked: true }
    }
}

/// Told how far it is: step, bytes done, bytes in all.
type Tell<'a> = &'a mut dyn FnMut(Step, u64, u64);

/// What there is to install.
pub fn check(shared: &Shared, origin: &Origin) -> UpdateAnswer {
    // A drive is copied to where an update that is under way reads it from.
    let is_drive = matches!(origin, Origin::Drive(_));
    let busy = is_drive.then(|| shared.begin()).transpose();
    let found = busy.and_then(|busy| find(shared, origin).map(|(_, candidate)| (candidate, busy)));
    match found {
        Ok((candidate, _busy)) => match admit(shared, &candidate) {
            Ok(()) => UpdateAnswer::Found(candidate.release),
            Err(UpdateError::Refuse(reason)) => {
                UpdateAnswer::Refused(format!("nothing to install: {reason}"))
            }
            Err(reason) => UpdateAnswer::Refused(reason.to_string()),
        },
        Err(reason) => UpdateAnswer::Refused(reason.to_string()),
    }
}

/// Updates.
pub fn apply(shared: &Shared, job: &Job, tell: Tell<'_>) -> Ending {
    let _busy = match shared.begin() {
        Ok(busy) => busy,
        Err(reason) => return Ending::without_reboot(UpdateAnswer::Refused(reason.to_string())),
    };
    tell(Step::Verify, 0, 0);
    let refused = |reason: UpdateError, asked| {
        log::warn!("{reason}");
        Ending { answer: UpdateAnswer::Refused(reason.to_string()), reboot: false, asked }
    };
    let found = match find(shared, &job.origin) {
        Ok(found) => found,
        Err(reason) => return refused(reason, false),
    };
    // Until here no attempt was begun, so none ends: what an earlier one waits for is its own.
    match may_be_tried(shared, job, &found.1) {
        Ok(()) if job.dry_run => return Ending::without_reboot(UpdateAnswer::Found(found.1.release)),
        Ok(()) => {}
        Err(reason) => return refused(reason, true),
    }
    if let Err(cause) = begin(shared, &found.1, job.terms) {
        return refused(UpdateError::WriteRecord(cause), true);
    }
    match carry_out(shared, job, found, tell) {
        Ok(ending) => ending,
        Err(reason) => {
            shared.end(Outcome::Failed, &reason.to_string());
            refused(reason, true)
        }
    }
}

/// Goes on with an attempt that was interrupted: soon after a start, when the network may not be there yet.
pub fn resume(shared: &Shared) {
    let open = || {
        let mut record = lock(&shared.record);
        let digest = record.open().map(|attempt| attempt.release.digest.clone());
        (digest, record.terms)
    };
    let (Some(digest), terms) = open() else { return };
    if !terms::may_go_on(&shared.policy, terms) {
        shared.end(Outcome::Failed, &UpdateError::GoOn.to_string());
        return;
    }
    log::info!("going on with the update to {digest}");
    let job =
        Job { origin: Origin::Tag(digest.clone()), dry_run: false, terms: terms.unwrap_or(Terms::Auto) };
    for _ in 0..MOST_RESUMPTIONS {
        // An operator may have had another one begun meanwhile, or have gone back to the other slot.
        if open().0.as_ref() != Some(&digest) || apply(shared, &job, &mut |_, _, _| ()).asked {
            return;
        }
        std::thread::sleep(RESUME_AGAIN_AFTER);
    }
}

/// Goes back to the other slot.
pub fn rollback(shared: &Shared) -> Ending {
    // Not in the middle of an update: it overwrites the other slot.
    let _busy = match shared.begin() {
        Ok(busy) => busy,
        Err(reason) => return Ending::without_reboot(UpdateAnswer::Refused(reason.to_string())),
    };
    match shared.have_done(SlotsWork::Rollback) {
        Ok(()) => {
            shared.note(|record| record.roll_back(shared.running));
            let answer =
                UpdateAnswer::Done("the other slot is started from now on; the node reboots".to_owned());
            Ending { answer, reboot: true, asked: true }
        }
        Err(reason) => Ending::without_reboot(UpdateAnswer::Refused(reason.to_string())),
    }
}

/// Whether a release may be installed here, and is worth it.
fn may_be_tried(shared: &Shared, job: &Job, candidate: &Candidate) -> Result<(), UpdateError> {
    admit(shared, candidate)?;
    let (slots, digest) = (slots(), &candidate.release.digest);
    if terms::may_try(&lock(&shared.record), slots.as_ref(), job.terms, candidate.version, digest) {
        Ok(())
    } else {
        Err(UpdateError::TryAgain(candidate.version))
    }
}

/// Whether this node takes it at all.
fn admit(shared: &Shared, candidate: &Candidate) -> Result<(), UpdateError> {
    let slots = slots().ok_or(UpdateError::LookAtSlots)?;
    let standing = Standing { running: shared.running, floor: slots.floor, entries: &slots.entries };
    Ok(candidate.admit(&standing, now())?)
}

fn carry_out(
    shared: &Shared,
    job: &Job,
    (mut found, candidate): (Found, Candidate),
    tell: Tell<'_>,
) -> Result<Ending, UpdateError> {
    clear_stage(&candidate).map_err(UpdateError::ClearStage)?;
    has_room(&candidate)?;
    fetch(shared, &mut found, &candidate, tell)?;
    write_durably(&Path::new(STAGE).join(EVIDENCE), &found.verified.evidence().encode())
        .map_err(UpdateError::WriteEvidence)?;

    tell(Step::Install, 0, candidate.release.size);
    shared.end(Outcome::Installing, "the idle slot is being written");
    shared.have_done(SlotsWork::Install)?;
    // Between two jobs: whoever listens waits for one at a time (`astromesh_proto::deadlines`).
    tell(Step::Install, 0, candidate.release.size);
    // What it wrote is told by somebody else. Should that fail, the next start tells.
    if let Err(reason) = shared.have_done(SlotsWork::Inspect) {
        log::warn!("the slots could not be looked at: {reason}");
    }
    shared.end(Outcome::Trying, "it is installed, and waits for a reboot");
    clear_stage_but(&[]).ok();
    tell(Step::Install, candidate.release.size, candidate.release.size);
    let reboot = terms::may_reboot(&shared.policy, Some(job.terms), now());
    let then = if reboot { "the node reboots into it" } else { "reboot the node to try it" };
    let answer = UpdateAnswer::Done(format!("{} is installed; {then}", candidate.version));
    Ok(Ending { answer, reboot, asked: true })
}

fn find(shared: &Shared, origin: &Origin) -> Result<(Found, Candidate), UpdateError> {
    let found = origin::find(shared, origin)?;
    let candidate = Candidate::read(&found.verified)?;
    Ok((found, candidate))
}

/// A new attempt, or the interrupted one of the same image.
fn begin(shared: &Shared, candidate: &Candidate, terms: Terms) -> io::Result<()> {
    let began = now();
    shared.note_durably(|record| match record.open() {
        Some(attempt) if attempt.release.digest == candidate.release.digest => {
            attempt.outcome = Outcome::Staging;
            record.goes_on(terms);
        }
        open => {
            if let Some(attempt) = open {
                attempt.outcome = Outcome::Failed;
                "another update was begun".clone_into(&mut attempt.reason);
            }
            let attempt = Attempt {
                release: candidate.release.clone(),
                from: shared.running,
                began,
                outcome: Outcome::Staging,
                reason: "it is being fetched".to_owned(),
                moved: 0,
                reused: 0,
                interruptions: 0,
            };
            record.begin(attempt, terms);
        }
    })
}

/// Takes away what other attempts left.
fn clear_stage(candidate: &Candidate) -> io::Result<()> {
    clear_stage_but(&KINDS.map(|kind| candidate.file_name(kind)))
}

fn clear_stage_but(spared: &[String]) -> io::Result<()> {
    for file in std::fs::read_dir(STAGE)? {
        let file = file?;
        if !spared.iter().any(|name| *name == *file.file_name().to_string_lossy()) {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// That `/var` holds what is to be staged, before any of it is fetched.
fn has_room(candidate: &Candidate) -> Result<(), UpdateError> {
    let stat = rustix::fs::statvfs(STAGE).map_err(UpdateError::MeasureRoom)?;
    let there = |name: String| std::fs::metadata(Path::new(STAGE).join(name)).map_or(0, |file| file.len());
    let staged: u64 = KINDS.iter().map(|kind| there(candidate.file_name(*kind))).sum();
    let needed = (candidate.release.size + LEFT_ON_VAR).saturating_sub(staged);
    // With what is reserved: PID 1 mounts /var so that this process may use it.
    let free = stat.f_bfree * stat.f_frsize;
    if free >= needed { Ok(()) } else { Err(UpdateError::FindRoom { free, needed }) }
}

fn fetch(
    shared: &Shared,
    found: &mut Found,
    candidate: &Candidate,
    tell: Tell<'_>,
) -> Result<(), UpdateError> {
    let (mut done, total) = (0, candidate.release.size);
    // Every word of the transfer is passed on, that it broke and is begun again among them: a line that is slow or that
    // breaks is not silent, and whoever listens goes on waiting.
    let mut alive = |_: Progress<'_>| {
        tell(Step::Fetch, 0, total);
        ControlFlow::Continue(())
    };
    // Without an index everything is fetched: slower, and right all the same.
    let index = fetch_index(&found.verified, &mut *found.source, &mut alive)
        .inspect_err(|error| log::warn!("no delta: {error}"))
        .unwrap_or_default();
    for kind in KINDS {
        let into = Path::new(STAGE).join(candidate.file_name(kind));
        let mut there = 0;
        let mut get = |index| {
            let mut seeds = seeds(shared, kind);
            fetch_layer(
                &found.verified,
                kind,
                &mut *found.source,
                &into,
                index,
                &mut seeds,
                &mut |progress| {
                    if let Progress::Layer { received, .. } | Progress::Broken { received, .. } = progress {
                        there = received;
                    }
                    tell(Step::Fetch, done + there, total);
                    ControlFlow::Continue(())
                },
            )
        };
        let fetched = match get(index.as_ref()) {
            // Whoever signed the release signed a wrong index with it. The release itself may be right.
            Err(error @ FetchError::MatchIndex { .. }) => {
                log::warn!("{error}");
                get(None)
            }
            other => other,
        };
        let fetched = fetched?;
        done += candidate.layer(kind).size;
        shared.note(|record| {
            if let Some(attempt) = record.open() {
                attempt.moved += fetched.moved;
                attempt.reused += fetched.reused;
            }
        });
    }
    Ok(())
}

/// Where bytes of a layer may lie already: for a root both slots, for a kernel image the boot partition.
fn seeds(shared: &Shared, kind: Kind) -> Vec<Seed> {
    let devices = match kind {
        Kind::Root => &shared.seeds[..2],
        Kind::Uki => &shared.seeds[2..],
        _ => &[],
    };
    let file = |device: &OwnedFd| Some(File::from(device.as_fd().try_clone_to_owned().ok()?));
    devices.iter().filter_map(file).map(|file| Seed::new(file, u64::MAX)).collect()
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
