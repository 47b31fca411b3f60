//! Questions about updates, handed on to the `update` service: this process has no part in them but to know the operator.

use crate::error::ServeError;
use astromesh_node::framed::Framed;
use astromesh_node::places::{MAX_UPDATE_ANSWER, MAX_UPDATE_REQUEST, UPDATE_SOCKET};
use astromesh_proto::deadlines::CONTROL_WAITS_FOR_UPDATE;
use astromesh_proto::frame::{self, FrameError};
use astromesh_proto::update::{UpdateAnswer, UpdateRequest};
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;

/// Asks, and hands on every answer; the last one is neither progress nor empty.
pub fn relay(
    request: &UpdateRequest,
    tell: &mut dyn FnMut(UpdateAnswer) -> Result<(), ServeError>,
) -> Result<(), ServeError> {
    let Ok(mut service) = UnixStream::connect(UPDATE_SOCKET) else {
        let text = "this node is not updated: its machine-config has no `update` section (or the service is starting)";
        return tell(UpdateAnswer::Refused(text.to_owned()));
    };
    // For each answer anew: while a slot is written there is nothing to say, and at any other time there is.
    service.set_read_timeout(Some(CONTROL_WAITS_FOR_UPDATE)).map_err(ServeError::AskUpdate)?;
    let bytes = frame::encode_vec(request, MAX_UPDATE_REQUEST)?;
    service.write_all(&bytes).map_err(ServeError::AskUpdate)?;
    let mut buffer = vec![0; MAX_UPDATE_ANSWER];
    loop {
        match frame::read::<_, UpdateAnswer>(&mut Framed(&mut service), &mut buffer) {
            Ok(Some(answer)) => {
                let more = matches!(answer, UpdateAnswer::Progress { .. });
                tell(answer)?;
                if !more {
                    return Ok(());
                }
            }
            Err(FrameError::Read(error)) if is_silence(&error) => {
                let text = format!(
                    "the update service said nothing for {} s; `astromeshctl logs` shows what it waits for, and \
                     `astromeshctl update status` how far it came",
                    CONTROL_WAITS_FOR_UPDATE.as_secs()
                );
                return tell(UpdateAnswer::Refused(text));
            }
            Ok(None) | Err(_) => {
                let text = "the update service ended before it answered; `astromeshctl logs` shows why, and \
                            `astromeshctl update status` what became of the update";
                return tell(UpdateAnswer::Refused(text.to_owned()));
            }
        }
    }
}

/// Linux says EAGAIN when a socket's timeout is over (socket(7), `SO_RCVTIMEO`).
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
