//! The service's door: a socket that `control` alone may use, one request a connection.
//!
//! `control` has the operator's word for it; this asks the kernel who is on the other side, and hangs up on anybody else.

use crate::apply::{self, Job};
use crate::error::ServeError;
use crate::shared::Shared;
use astromesh_node::framed::Framed;
use astromesh_node::places::{MAX_UPDATE_ANSWER, MAX_UPDATE_REQUEST, UPDATE_SOCKET};
use astromesh_node::process;
use astromesh_proto::frame::{self, FrameError};
use astromesh_proto::update::{Terms, UpdateAnswer, UpdateRequest};
use rustix::fs::Mode;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Most connections at one time: one that applies, and some that ask how it stands.
const MOST_CONNECTIONS: usize = 4;
/// How long `control` may take to say what it wants, or to take an answer.
const STALLS_WITHIN: Duration = Duration::from_secs(10);
/// Stack of a connection's thread, in bytes: TLS with a registry is the deepest of it.
const STACK: usize = 512 * 1024;

/// Listens, for as long as the service lives.
pub fn listen(shared: &Arc<Shared>) -> io::Result<()> {
    let _ = std::fs::remove_file(UPDATE_SOCKET);
    let listener = UnixListener::bind(UPDATE_SOCKET)?;
    // Whoever connects is asked for by the kernel's word, not by the file's mode.
    std::fs::set_permissions(
        UPDATE_SOCKET,
        std::fs::Permissions::from_mode(Mode::from_raw_mode(0o666).bits()),
    )?;
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if !is_control(&stream) {
            log::warn!("somebody who is not `control` asked; nothing was answered");
            continue;
        }
        if open.fetch_add(1, Ordering::AcqRel) >= MOST_CONNECTIONS {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (shared, counted) = (Arc::clone(shared), Arc::clone(&open));
        let started = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            if let Err(error) = serve(&shared, stream) {
                log::warn!("control: {error}");
            }
            counted.fetch_sub(1, Ordering::AcqRel);
        });
        if started.is_err() {
            open.fetch_sub(1, Ordering::AcqRel);
        }
    }
    Ok(())
}

fn is_control(stream: &UnixStream) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid.as_raw() == process::CONTROL.id)
}

fn serve(shared: &Arc<Shared>, mut stream: UnixStream) -> Result<(), ServeError> {
    stream.set_read_timeout(Some(STALLS_WITHIN)).map_err(ServeError::LimitWaits)?;
    stream.set_write_timeout(Some(STALLS_WITHIN)).map_err(ServeError::LimitWaits)?;
    let mut buffer = [0; MAX_UPDATE_REQUEST];
    let Some(request) = frame::read::<_, UpdateRequest>(&mut Framed(&mut stream), &mut buffer)? else {
        return Ok(());
    };
    // Somebody who has gone is told nothing more; what he began goes on.
    let mut tell = |answer: &UpdateAnswer| {
        let encoded = match frame::encode_vec(answer, MAX_UPDATE_ANSWER) {
            // A reason may repeat what somebody else's registry has said.
            Err(FrameError::TooLong { length, .. }) => {
                let text = format!(
                    "the answer has {length} bytes, too many to be sent; `astromeshctl logs` begins it"
                );
                frame::encode_vec(&UpdateAnswer::Refused(text), MAX_UPDATE_ANSWER)
            }
            encoded => encoded,
        };
        encoded.is_ok_and(|bytes| stream.write_all(&bytes).is_ok())
    };
    let reboot = match request {
        UpdateRequest::State => {
            tell(&UpdateAnswer::State(Box::new(shared.state())));
            false
        }
        UpdateRequest::Check(origin) => {
            tell(&apply::check(shared, &origin));
            false
        }
        UpdateRequest::Rollback => {
            let ending = apply::rollback(shared);
            tell(&ending.answer);
            ending.reboot
        }
        UpdateRequest::Apply { origin, dry_run, restart } => {
            let job = Job { origin, dry_run, terms: Terms::Order { restart } };
            let ending = apply::apply(shared, &job, &mut |step, done, total| {
                tell(&UpdateAnswer::Progress { step, done, total });
            });
            tell(&ending.answer);
            ending.reboot
        }
    };
    if reboot {
        // `control` hangs up when the operator has the answer: a reboot before that would look like a failure.
        let _ = stream.read(&mut [0]);
        shared.reboot();
    }
    Ok(())
}
