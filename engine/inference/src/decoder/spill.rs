//! Hidden states that wait for the next layer, in memory as far as they fit
//! and else in a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::ops::Parked;
use crate::error::InferenceError;

/// Bytes that are converted at once.
const BUFFER_BYTES: usize = 1 << 16;

/// A place for matrices, each of which is put and taken in turn.
pub struct Spill {
    memory_bytes_left: u64,
    /// Made when it is first needed; the system removes it with the process.
    file: Option<File>,
    file_bytes: u64,
}

/// A matrix that was put away.
pub enum Waiting {
    /// In memory.
    Memory(Parked),
    /// In the file: the matrix without its numbers, and their first byte.
    File(Parked, u64),
}

/// Where a matrix's numbers are kept from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Always in memory.
    Memory,
    /// From this byte of the file.
    File(u64),
}

impl Spill {
    /// Keeps up to so many bytes in memory.
    pub fn new(memory_bytes: u64) -> Self {
        Spill { memory_bytes_left: memory_bytes, file: None, file_bytes: 0 }
    }

    /// A place for a matrix of so many bytes.
    pub fn reserve(&mut self, bytes: u64) -> Place {
        match self.memory_bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.memory_bytes_left = left;
                Place::Memory
            }
            None => {
                let start = self.file_bytes;
                self.file_bytes += bytes;
                Place::File(start)
            }
        }
    }

    /// Puts a matrix into its place.
    pub fn put(&mut self, mut matrix: Parked, place: Place) -> Result<Waiting, InferenceError> {
        let Place::File(start) = place else { return Ok(Waiting::Memory(matrix)) };
        let numbers = std::mem::take(&mut matrix.numbers);
        self.write(start, &numbers).map_err(|source| InferenceError::Spill { source })?;
        Ok(Waiting::File(matrix, start))
    }

    /// Takes a matrix out again. Its place stays reserved.
    pub fn take(&mut self, waiting: Waiting) -> Result<Parked, InferenceError> {
        match waiting {
            Waiting::Memory(matrix) => Ok(matrix),
            Waiting::File(mut matrix, start) => {
                let read = self.read(start, matrix.rows * matrix.columns);
                matrix.numbers = read.map_err(|source| InferenceError::Spill { source })?;
                Ok(matrix)
            }
        }
    }

    fn at(&mut self, start: u64) -> io::Result<&mut File> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile()?);
        }
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the file is gone"))?;
        file.seek(SeekFrom::Start(start))?;
        Ok(file)
    }

    fn write(&mut self, start: u64, numbers: &[f32]) -> io::Result<()> {
        let file = self.at(start)?;
        let mut bytes = Vec::with_capacity(BUFFER_BYTES);
        for chunk in numbers.chunks(BUFFER_BYTES / size_of::<f32>()) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|number| number.to_le_bytes()));
            file.write_all(&bytes)?;
        }
        Ok(())
    }

    fn read(&mut self, start: u64, count: usize) -> io::Result<Vec<f32>> {
        let file = self.at(start)?;
        let mut numbers = Vec::with_capacity(count);
        let mut bytes = vec![0; BUFFER_BYTES];
        while numbers.len() < count {
            let length = (count - numbers.len()) * size_of::<f32>();
            let buffer = &mut bytes[..length.min(BUFFER_BYTES)];
            file.read_exact(buffer)?;
            let words = buffer.as_chunks::<4>().0;
            numbers.extend(words.iter().map(|&word| f32::from_le_bytes(word)));
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_come_back_from_memory_and_from_the_file() {
        let matrix = |index: usize| {
            let (rows, columns) = (index + 1, 20_000);
            let numbers = (0..rows * columns).map(|i| (i * (index + 3)) as f32).collect();
            Parked { rows, columns, numbers }
        };
        // Room for the first and the third.
        let mut spill = Spill::new(4 * 20_000 * 4);
        let mut kept = Vec::new();
        for index in [0, 3, 2] {
            let place = spill.reserve(4 * 20_000 * (index as u64 + 1));
            assert_eq!(matches!(place, Place::File(_)), index == 3);
            kept.push((place, spill.put(matrix(index), place).unwrap()));
        }
        for round in 0..2 {
            let mut next = Vec::new();
            for ((place, waiting), index) in kept.into_iter().zip([0, 3, 2]) {
                let mut found = spill.take(waiting).unwrap();
                let mut expected = matrix(index);
                for number in &mut expected.numbers {
                    *number += round as f32;
                }
                assert_eq!(found, expected);
                for number in &mut found.numbers {
                    *number += 1.0;
                }
                next.push((place, spill.put(found, place).unwrap()));
            }
            kept = next;
        }
    }
}
