//! TensorBoard's event files: records of a length, its checksum, an `Event` in protobuf, and its checksum.
//!
//! The form is TensorFlow's `tensorflow/core/lib/io/record_writer.h` and `core/util/event.proto`.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// An event file under way.
pub(super) struct Events {
    file: File,
}

impl Events {
    /// Begins a new file in `folder`; files of earlier parts of the run stay. TensorBoard then forgets what they say of
    /// steps from `first` on.
    ///
    /// # Errors
    /// As for any file.
    pub fn create(folder: &Path, first: u64) -> io::Result<Self> {
        let now = seconds();
        // TensorBoard reads a folder's files in the order of their names: a later part has a later second.
        let mut second = now as u64;
        let file = loop {
            let path = folder.join(format!("events.out.tfevents.{second:010}.autochrome"));
            match File::create_new(path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => second += 1,
                file => break file?,
            }
        };
        let mut events = Self { file };
        events.write(&version(now))?;
        events.write(&start(now, first))?;
        Ok(events)
    }

    /// Notes numbers of a step by their tags.
    ///
    /// # Errors
    /// As for any file.
    pub fn scalars(&mut self, step: u64, scalars: &[(String, f32)]) -> io::Result<()> {
        self.write(&summary(seconds(), step, scalars))
    }

    fn write(&mut self, event: &[u8]) -> io::Result<()> {
        self.file.write_all(&record(event))
    }
}

fn seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The first event of a file: its version.
fn version(wall: f64) -> Vec<u8> {
    [double(1, wall), bytes(3, b"brain.Event:2")].concat()
}

/// The event that says that a part of the run begins, so that later steps of earlier files are forgotten.
fn start(wall: f64, first: u64) -> Vec<u8> {
    const START: u64 = 1;
    let log = number(1, START);
    [double(1, wall), number(2, first), bytes(7, &log)].concat()
}

fn summary(wall: f64, step: u64, scalars: &[(String, f32)]) -> Vec<u8> {
    let value = |(tag, value): &(String, f32)| {
        let value = [bytes(1, tag.as_bytes()), float(2, *value)].concat();
        bytes(1, &value)
    };
    let values: Vec<u8> = scalars.iter().flat_map(value).collect();
    [double(1, wall), number(2, step), bytes(5, &values)].concat()
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let sums = [&length, data].map(|d| masked(crc32c(d)).to_le_bytes());
    [&length, &sums[0][..], data, &sums[1]].concat()
}

/// A checksum of data that holds checksums is a weak one: so they are stored changed.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), as in iSCSI (RFC 3720).
fn crc32c(data: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL * (crc & 1))
        })
    };
    !data.iter().fold(!0, byte)
}

// Protobuf's fields: a key of number and kind, then the value.

fn key(field: u8, kind: u8) -> u8 {
    field << 3 | kind
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u8, value: u64) -> Vec<u8> {
    [vec![key(field, 0)], varint(value)].concat()
}

fn double(field: u8, value: f64) -> Vec<u8> {
    [&[key(field, 1)], &value.to_le_bytes()[..]].concat()
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [&[key(field, 2)], &varint(value.len() as u64)[..], value].concat()
}

fn float(field: u8, value: f32) -> Vec<u8> {
    [&[key(field, 5)], &value.to_le_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of TensorBoard's own writer, from tests/golden/events.py.
    #[test]
    fn the_file_is_byte_for_byte_tensorboards() {
        let events = [
            version(1_700_000_000.5),
            start(1_700_000_001.25, 41),
            summary(
                1_700_000_002.,
                1_000_000,
                &[
                    ("loss/l1".into(), 0.1),
                    ("validation/psnr_ab".into(), -27.5),
                    ("rate".into(), f32::NAN),
                ],
            ),
        ];
        let file: Vec<u8> = events.iter().flat_map(|e| record(e)).collect();
        let golden = include_bytes!("../../../tests/golden/events.tfevents");
        assert!(file == golden, "{file:02x?}\n{golden:02x?}");
    }

    #[test]
    fn the_checksum_is_the_standards() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
