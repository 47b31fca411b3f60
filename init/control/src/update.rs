//! Questions about updates, handed on to the `update` service: this process has no part in them but to know the operator.

use astromesh_node::framed::Framed;
use astromesh_node::places::{MAX_UPDATE_ANSWER, MAX_UPDATE_REQUEST, UPDATE_SOCKET};
use astromesh_proto::deadlines::CONTROL_WAITS_FOR_UPDATE;
use astromesh_proto::frame;
use astromesh_proto::update::{UpdateAnswer, UpdateRequest};
use std::error::Error;
use std::io::Write as _;
use std::os::unix::net::UnixStream;

/// Asks, and hands on every answer; the last one is neither progress nor empty.
pub fn relay(
    request: &UpdateRequest,
    tell: &mut dyn FnMut(UpdateAnswer) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let Ok(mut service) = UnixStream::connect(UPDATE_SOCKET) else {
        let text = "this node is not updated: its machine-config has no `update` section (or the service is starting)";
        return tell(UpdateAnswer::Refused(text.to_owned()));
    };
    // For each answer anew: while a slot is written there is nothing to say, and at any other time there is.
    service.set_read_timeout(Some(CONTROL_WAITS_FOR_UPDATE))?;
    service.write_all(&frame::encode_vec(request, MAX_UPDATE_REQUEST)?)?;
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
            Ok(None) | Err(_) => {
                return tell(UpdateAnswer::Refused("the update service ended; see the log".to_owned()));
            }
        }
    }
}
