//! The attempts: a server that is not up yet, or asks for patience, is asked again; one that says no is believed.
//!
//! Two limits, because two things can be late. A server that doesn't answer is most likely not there, and the boot stands
//! still for it. One that answers and asks for patience is there, and is given the time that its vendor documents.

use astromesh_http::{ExchangeError, exchange};
use astromesh_proto::cloud::Cloud;
use astromesh_proto::metadata::{Conversation, MAX_ANSWER, MetadataError};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long everything may take, links and lease included, for a server that answers nothing. A metadata server is a host
/// away and answers within milliseconds; this is for one that comes up later than its guest.
const SILENT: Duration = Duration::from_secs(20);

/// The same for a server that asks for patience. Azure documents 70 s, while an instance is being moved. PID 1 waits a
/// little longer than that.
const PATIENT: Duration = Duration::from_secs(90);

/// How long one answer may take. Half of what a silent server gets: one that stalls once gets a second chance.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Pause before the second attempt: soon enough not to cost a boot much. It doubles with each attempt, so that a server
/// that asks for patience is not flooded.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Longest pause between two attempts: a boot may wait for its end.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Until when a server is asked, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The end for a server that hasn't answered yet.
    pub silent: Instant,
    /// The end for one that has asked for patience.
    pub patient: Instant,
    /// The pause before the second attempt.
    pub pause: Duration,
}

impl Limits {
    /// Those of a process that began then.
    pub fn since(began: Instant) -> Self {
        Self { silent: began + SILENT, patient: began + PATIENT, pause: FIRST_PAUSE }
    }
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The server can't be spoken with.
    #[error("{0}")]
    Exchange(#[from] ExchangeError),
    /// It has none, or is not what it should be.
    #[error("{0}")]
    Answer(#[from] MetadataError),
}

impl AskError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Exchange(ExchangeError::Connect(..) | ExchangeError::Exchange(..)) => true,
            // Hung up in the middle of a word: as a server does that is being started. What is no HTTP, or too long,
            // stays so.
            Self::Exchange(ExchangeError::Read(error)) => {
                *error == astromesh_proto::http::ReplyError::AwaitEnd
            }
            Self::Answer(error) => error.may_pass(),
        }
    }
}

/// Asks until there is a document, a no, or no time left.
pub fn ask(server: SocketAddr, cloud: Cloud, limits: &Limits) -> Result<Vec<u8>, AskError> {
    let (mut deadline, mut pause) = (limits.silent, limits.pause);
    loop {
        let error = match attempt(server, cloud, deadline) {
            Ok(document) => return Ok(document),
            Err(error) => error,
        };
        if matches!(error, AskError::Answer(_)) {
            deadline = limits.patient;
        }
        if !error.may_pass() || Instant::now() + pause >= deadline {
            return Err(error);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One conversation from its beginning.
fn attempt(server: SocketAddr, cloud: Cloud, deadline: Instant) -> Result<Vec<u8>, AskError> {
    let mut conversation = Conversation::new(cloud);
    loop {
        let until = deadline.min(Instant::now() + ANSWERS_WITHIN);
        let reply = exchange(server, conversation.request().as_bytes(), MAX_ANSWER, until)?;
        if let Some(document) = conversation.answer(reply)? {
            return Ok(document);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use astromesh_http::stand_in::{say, serve};
    use astromesh_proto::http::ReplyError;
    use std::net::TcpListener;

    const DOCUMENT: &[u8] = b"apiVersion: astromesh.os/v1\n";

    fn soon() -> Limits {
        within(Duration::from_secs(20))
    }

    /// Both limits are this far away.
    fn within(time: Duration) -> Limits {
        let end = Instant::now() + time;
        Limits { silent: end, patient: end, pause: FIRST_PAUSE }
    }

    /// What GCE's server says when all is well.
    fn good(body: &[u8]) -> Vec<u8> {
        let head =
            format!("HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    /// Asks a server that always says the same as GCE's would be asked; and how often it was.
    fn always(bytes: Vec<u8>) -> (Result<Vec<u8>, AskError>, usize) {
        let (server, requests) = serve(move |_, stream| say(stream, &bytes));
        let result = ask(server, Cloud::Gce, &soon());
        // The server tells of a request after it has answered it.
        let first = requests.recv_timeout(Duration::from_secs(5)).into_iter();
        (result, first.chain(requests.try_iter()).count())
    }

    #[test]
    fn a_document_comes_whole_up_to_its_bound() {
        let (result, asked) = always(good(DOCUMENT));
        assert_eq!((result.unwrap().as_slice(), asked), (DOCUMENT, 1));
        let largest = vec![b'#'; MAX_ANSWER];
        assert_eq!(always(good(&largest)).0.unwrap(), largest);
    }

    #[test]
    fn one_byte_over_the_bound_is_refused_and_not_cut_and_not_asked_for_again() {
        let larger = vec![b'#'; MAX_ANSWER + 1];
        let mut chunked =
            b"HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        chunked.extend(format!("{:x}\r\n", larger.len()).bytes());
        let unannounced =
            [b"HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\n\r\n".as_slice(), larger.as_slice()].concat();
        for bytes in [good(&larger), chunked, unannounced] {
            let (result, asked) = always(bytes);
            let is_bound = matches!(
                result,
                Err(AskError::Exchange(ExchangeError::Read(ReplyError::BoundBody { most: MAX_ANSWER })))
            );
            assert!(is_bound && asked == 1, "{asked}");
        }
    }

    #[test]
    fn a_redirect_is_not_followed() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        elsewhere.set_nonblocking(true).unwrap();
        let there = elsewhere.local_addr().unwrap();
        for status in [301, 302, 303, 307, 308] {
            let head = format!(
                "HTTP/1.1 {status} Moved\r\nLocation: http://{there}/\r\nMetadata-Flavor: Google\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            let (result, asked) = always(head.into_bytes());
            assert!(matches!(result, Err(AskError::Answer(MetadataError::RefuseRedirect(_)))), "{result:?}");
            assert_eq!(asked, 1);
        }
        assert!(elsewhere.accept().is_err(), "somebody else was asked");
    }

    #[test]
    fn garbage_is_no_document() {
        let mut seed = 0x9e37_79b9_u32;
        for length in [1, 7, 100, 5000] {
            let garbage: Vec<u8> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            let (result, asked) = always(garbage);
            assert!(
                matches!(result, Err(AskError::Exchange(ExchangeError::Read(ReplyError::ParseHead)))),
                "{length}: {result:?}"
            );
            assert_eq!(asked, 1);
        }
    }

    #[test]
    fn a_server_that_comes_up_late_is_asked_until_it_is_there() {
        let mut times = 0;
        let (server, _requests) = serve(move |_, stream| {
            times += 1;
            match times {
                // Hangs up, then is not ready, then answers slowly.
                1 => {}
                2 => say(stream, b"HTTP/1.1 503 Wait\r\nContent-Length: 0\r\n\r\n"),
                _ => {
                    std::thread::sleep(Duration::from_secs(1));
                    say(stream, &good(DOCUMENT));
                }
            }
        });
        assert_eq!(ask(server, Cloud::Gce, &soon()).unwrap(), DOCUMENT);
    }

    #[test]
    fn nobody_and_a_server_that_only_fails_end_with_the_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let (failing, _requests) =
            serve(|_, stream| say(stream, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"));
        let (silent, _more) = serve(|_, _| std::thread::sleep(Duration::from_secs(5)));
        for server in [nobody, failing, silent] {
            let began = Instant::now();
            let error = ask(server, Cloud::Gce, &within(Duration::from_millis(1200))).unwrap_err();
            assert!(error.may_pass(), "{error}");
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        }
    }

    #[test]
    fn a_server_that_asks_for_patience_gets_what_a_silent_one_does_not() {
        let limits = || {
            let now = Instant::now();
            let (silent, patient) = (now + Duration::from_millis(300), now + Duration::from_secs(20));
            Limits { silent, patient, pause: Duration::from_millis(100) }
        };
        let mut times = 0;
        let (patient, _requests) = serve(move |_, stream| {
            times += 1;
            match times {
                1..=3 => say(stream, b"HTTP/1.1 503 Wait\r\nContent-Length: 0\r\n\r\n"),
                _ => say(stream, &good(DOCUMENT)),
            }
        });
        let began = Instant::now();
        assert_eq!(ask(patient, Cloud::Gce, &limits()).unwrap(), DOCUMENT);
        assert!(began.elapsed() > Duration::from_millis(300), "the silent one's time was over");
        // The twin: silence ends with its own time.
        let (silent, _more) = serve(|_, _| std::thread::sleep(Duration::from_secs(5)));
        let began = Instant::now();
        assert!(ask(silent, Cloud::Gce, &limits()).is_err());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let limits = Limits::since(began);
        assert!(limits.patient - limits.silent >= Duration::from_secs(70), "what Azure documents");
    }

    #[test]
    fn a_server_of_version_1_alone_is_asked_for_no_document() {
        for refusal in [401, 403, 404, 405] {
            let (server, requests) = serve(move |head, stream| {
                if head.starts_with("PUT ") {
                    say(stream, format!("HTTP/1.1 {refusal} No\r\nContent-Length: 0\r\n\r\n").as_bytes());
                } else {
                    say(stream, &good(DOCUMENT));
                }
            });
            let error = ask(server, Cloud::Ec2, &soon()).unwrap_err();
            assert!(matches!(error, AskError::Answer(MetadataError::ObtainToken(_))), "{error}");
            let first = requests.recv_timeout(Duration::from_secs(5)).unwrap();
            assert!(first.starts_with("PUT ") && requests.try_recv().is_err(), "only a token was asked for");
        }
        // The twin: the same server with tokens gives its document, to who shows the token.
        let (server, requests) = serve(|head, stream| match head {
            head if head.starts_with("PUT ") => say(stream, &good(b"tok")),
            head if head.contains("\r\nX-aws-ec2-metadata-token: tok\r\n") => say(stream, &good(DOCUMENT)),
            _ => say(stream, b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
        });
        assert_eq!(ask(server, Cloud::Ec2, &soon()).unwrap(), DOCUMENT);
        let both: Vec<_> = (0..2).map(|_| requests.recv_timeout(Duration::from_secs(5)).unwrap()).collect();
        assert!(both[0].starts_with("PUT ") && both[1].starts_with("GET "), "{both:?}");
    }
}
