//! The one address that operators come in by: listened on as soon as it can be, however long that takes.
//!
//! An address may come after the service has started: by a lease, from a router, or because IPv6 first asks whether
//! another host has it (RFC 4862 5.4). An error is therefore never the last word here; it is said, and tried again.

use crate::error::ListenError;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

/// How long between two tries. Short, because the node can't be operated meanwhile.
const EVERY: Duration = Duration::from_millis(500);

/// Listens on `address`, and has it said when that must wait and for what.
pub fn listen(address: &str, say: impl FnMut(&ListenError)) -> TcpListener {
    until_done(address, || TcpListener::bind(address), say, || std::thread::sleep(EVERY))
}

/// Tries until it is done. Said is the first error, and then each other one.
fn until_done<T>(
    address: &str,
    mut attempt: impl FnMut() -> io::Result<T>,
    mut say: impl FnMut(&ListenError),
    mut pause: impl FnMut(),
) -> T {
    let mut said: Option<String> = None;
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(cause) => {
                let text = cause.to_string();
                if said.as_ref() != Some(&text) {
                    say(&ListenError::Listen { address: address.to_owned(), cause });
                    said = Some(text);
                }
            }
        }
        pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[test]
    fn an_address_that_comes_late_is_listened_on_when_it_comes() {
        // The kernel gives the same kind of error for one that another socket has.
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let (taken, pauses) = (RefCell::new(Some(taken)), Cell::new(0));
        let said = RefCell::new(Vec::new());
        let listener = until_done(
            &address,
            || TcpListener::bind(&address),
            |error| said.borrow_mut().push(error.to_string()),
            || {
                pauses.set(pauses.get() + 1);
                if pauses.get() == 3 {
                    drop(taken.take());
                }
            },
        );
        assert_eq!(listener.local_addr().unwrap().to_string(), address);
        assert_eq!(pauses.get(), 3);
        // The same error three times is said once, with the address and what to do.
        let said = said.into_inner();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(&address) && said[0].contains("operator.listen"), "{said:?}");
    }

    #[test]
    fn another_error_is_said_too() {
        let mut errors =
            [io::ErrorKind::AddrNotAvailable, io::ErrorKind::AddrInUse].map(io::Error::from).into_iter();
        let mut said = Vec::new();
        let attempt = || errors.next().map_or(Ok(()), Err);
        until_done("192.0.2.1:7443", attempt, |error| said.push(error.to_string()), || {});
        assert_eq!(said.len(), 2);
    }
}
