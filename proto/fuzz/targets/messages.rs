//! Frames and datagrams from nowhere: never a panic, and what decodes encodes to something that decodes to the same.
#![no_main]

use astromesh_proto::control::{MAX_REQUEST, MAX_RESPONSE, Request, Response};
use astromesh_proto::frame;
use astromesh_proto::ipc::{self, FromInit, MAX_MESSAGE, Plan, ToInit};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((request, taken))) = frame::take::<Request>(bytes, MAX_REQUEST) {
        assert!(taken <= bytes.len());
        let again = frame::encode_vec(&request, MAX_REQUEST).expect("what was decoded fits its bound");
        assert_eq!(frame::take::<Request>(&again, MAX_REQUEST).expect("a frame").expect("whole").0, request);
    }
    if let Ok(Some((response, _))) = frame::take::<Response>(bytes, MAX_RESPONSE) {
        let again = frame::encode_vec(&response, MAX_RESPONSE).expect("what was decoded fits its bound");
        assert_eq!(
            frame::take::<Response>(&again, MAX_RESPONSE).expect("a frame").expect("whole").0,
            response
        );
    }
    let mut reader = bytes;
    let mut buffer = [0; MAX_REQUEST];
    let _ = frame::read::<_, Request>(&mut reader, &mut buffer);

    let mut buffer = [0; MAX_MESSAGE];
    if let Some(message) = ipc::decode::<FromInit>(bytes) {
        ipc::encode(&message, &mut buffer);
    }
    if let Some(message) = ipc::decode::<ToInit>(bytes) {
        ipc::encode(&message, &mut buffer);
    }
    if let Some(message) = ipc::decode::<Plan>(bytes) {
        ipc::encode(&message, &mut buffer);
    }
});
