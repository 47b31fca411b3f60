//! A metadata server from nowhere: never a panic, never a body over the bound, the same reply however it is cut, and
//! no question after a token that could end a header field.
#![no_main]

use astromesh_proto::cloud::Cloud;
use astromesh_proto::http::{Reply, ReplyError, ReplyReader};
use astromesh_proto::metadata::Conversation;
use libfuzzer_sys::fuzz_target;

const MOST: usize = 4096;

fn read(bytes: &[u8], piece: usize) -> Result<Reply, ReplyError> {
    let mut reader = ReplyReader::new(MOST);
    for piece in bytes.chunks(piece) {
        if reader.push(piece)? {
            break;
        }
    }
    reader.finish()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    let pieces = read(bytes, usize::from(piece) + 1);
    // Which of two defects is met first may depend on the pieces; whether there is one may not.
    assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok());
    let Ok(reply) = whole else { return };
    assert!(reply.body.len() <= MOST);
    for cloud in [Cloud::Ec2, Cloud::Gce, Cloud::Azure] {
        let mut conversation = Conversation::new(cloud);
        let mut answers = 0;
        while let Ok(None) = conversation.answer(reply.clone()) {
            answers += 1;
            assert!(answers == 1 && cloud == Cloud::Ec2);
            let request = conversation.request();
            assert_eq!(request.matches("\r\n\r\n").count(), 1);
            assert_eq!(request.lines().filter(|line| line.starts_with("X-aws")).count(), 1);
        }
    }
});
