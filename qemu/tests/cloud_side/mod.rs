//! A cloud's side of the gate `cloud`: metadata servers on the host's loopback, and the volumes that hypervisors make.
//!
//! A server records what it was asked before it answers, so that a test can assert what a guest did and not what it
//! says it did.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a guest asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// When.
    pub at: Instant,
    /// Method and target, as `GET /`.
    pub line: String,
    fields: Vec<(String, String)>,
}

impl Question {
    /// The value of a header field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// What a server does about a question.
pub enum Reaction {
    /// Answers with this status, these header lines, this body.
    Answer(u16, &'static str, Vec<u8>),
    /// The same after a while.
    AnswerAfter(Duration, u16, &'static str, Vec<u8>),
    /// Closes the connection without a word.
    HangUp,
    /// Says nothing for longer than anybody waits.
    Silence,
}

/// A metadata server.
pub struct MetadataServer {
    /// Its port on loopback.
    pub port: u16,
    asked: Arc<Mutex<Vec<Question>>>,
}

impl MetadataServer {
    /// Starts one; `react` is told the question and how many there were before it.
    pub fn start(
        react: impl Fn(&Question, usize) -> Reaction + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (record, react) = (Arc::clone(&asked), Arc::new(react));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (record, react) = (Arc::clone(&record), Arc::clone(&react));
                std::thread::spawn(move || {
                    // A guest that hangs up is no failure of the server's.
                    let _ = serve(stream, &record, &*react);
                });
            }
        });
        Ok(Self { port, asked })
    }

    /// What it was asked so far, in order.
    pub fn asked(&self) -> Vec<Question> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, method and target alone.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|question| question.line).collect()
    }
}

fn serve(
    mut stream: TcpStream,
    record: &Mutex<Vec<Question>>,
    react: &dyn Fn(&Question, usize) -> Reaction,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?.take(64 << 10));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut question = Question {
        at: Instant::now(),
        line: line.trim_end().trim_end_matches(" HTTP/1.1").to_owned(),
        fields: Vec::new(),
    };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                question.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            None => break,
        }
    }
    let before = {
        let mut asked = record.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(question.clone());
        asked.len() - 1
    };
    let (status, fields, body) = match react(&question, before) {
        Reaction::Answer(status, fields, body) => (status, fields, body),
        Reaction::AnswerAfter(pause, status, fields, body) => {
            std::thread::sleep(pause);
            (status, fields, body)
        }
        Reaction::HangUp => return Ok(()),
        Reaction::Silence => {
            std::thread::sleep(Duration::from_mins(5));
            return Ok(());
        }
    };
    let head = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

/// A FAT volume with one file in its top folder.
pub fn fat(path: &Path, label: [u8; 11], name: &str, content: &[u8]) -> std::io::Result<()> {
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(path)?;
    file.set_len(4 << 20)?;
    fatfs::format_volume(&file, fatfs::FormatVolumeOptions::new().volume_label(label))?;
    let volume = fatfs::FileSystem::new(&file, fatfs::FsOptions::new())?;
    volume.root_dir().create_file(name)?.write_all(content)?;
    volume.unmount()
}

/// Size of a sector of ISO 9660.
const SECTOR: usize = 2048;

/// An ISO 9660 volume with one file below two folders (ECMA-119), without extensions: the kernel shows its names in
/// lower case and without their version.
pub fn iso(path: &Path, label: &str, names: [&str; 3], content: &[u8]) -> std::io::Result<()> {
    // Sectors: 16 the primary descriptor, 17 the terminator, 18 to 20 the folders, from 21 on the file.
    const ROOT: usize = 18;
    let mut image = vec![0; (ROOT + 3) * SECTOR];
    image.extend_from_slice(content);
    image.resize(image.len().next_multiple_of(SECTOR) + 16 * SECTOR, 0);
    let sectors = image.len() / SECTOR;

    let primary = &mut image[16 * SECTOR..];
    primary[..7].copy_from_slice(b"\x01CD001\x01");
    primary[8..72].fill(b' ');
    primary[40..40 + label.len()].copy_from_slice(label.as_bytes());
    primary[80..88].copy_from_slice(&both32(sectors));
    primary[120..124].copy_from_slice(&both16(1));
    primary[124..128].copy_from_slice(&both16(1));
    primary[128..132].copy_from_slice(&both16(SECTOR));
    let root = record(b"\0", ROOT, SECTOR, true);
    primary[156..156 + root.len()].copy_from_slice(&root);
    primary[881] = 1;
    image[17 * SECTOR..17 * SECTOR + 7].copy_from_slice(b"\xffCD001\x01");

    for (depth, name) in names.iter().enumerate() {
        let last = depth + 1 == names.len();
        let (own, parent) = (ROOT + depth, ROOT + depth.saturating_sub(1));
        let size = if last { content.len() } else { SECTOR };
        let folder = [
            record(b"\0", own, SECTOR, true),
            record(b"\x01", parent, SECTOR, true),
            record(name.as_bytes(), own + 1, size, !last),
        ]
        .concat();
        image[own * SECTOR..own * SECTOR + folder.len()].copy_from_slice(&folder);
    }
    std::fs::write(path, image)
}

/// A directory record (ECMA-119, 9.1).
fn record(name: &[u8], sector: usize, size: usize, folder: bool) -> Vec<u8> {
    let length = (33 + name.len()).next_multiple_of(2);
    let mut record = vec![u8::try_from(length).expect("names here are short"), 0];
    record.extend(both32(sector));
    record.extend(both32(size));
    record.extend([126, 1, 1, 0, 0, 0, 0, if folder { 2 } else { 0 }, 0, 0]);
    record.extend(both16(1));
    record.push(u8::try_from(name.len()).expect("names here are short"));
    record.extend(name);
    record.resize(length, 0);
    record
}

/// A number in both byte orders, as the standard has it.
fn both32(number: usize) -> [u8; 8] {
    let number = u32::try_from(number).expect("the volume is small");
    let mut both = [0; 8];
    both[..4].copy_from_slice(&number.to_le_bytes());
    both[4..].copy_from_slice(&number.to_be_bytes());
    both
}

fn both16(number: usize) -> [u8; 4] {
    let number = u16::try_from(number).expect("the number is small");
    let mut both = [0; 4];
    both[..2].copy_from_slice(&number.to_le_bytes());
    both[2..].copy_from_slice(&number.to_be_bytes());
    both
}
