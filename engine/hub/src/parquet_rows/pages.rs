//! Pages of one column, read one by one and decompressed within limits.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};

use super::thrift::{Fault, PageHeader, PageKind, read_page_header};
use crate::limits::{MAX_NESTED_VALUES, MAX_PAGE_BYTES, MAX_PAGE_HEADER_BYTES};
use crate::read_at::ReadAt;

/// Bytes that are read to find a page header in; nearly all are shorter.
const HEADER_GUESS_BYTES: usize = 1 << 7;

/// The pages of a column in one row group.
pub(super) struct Pages {
    source: Arc<dyn ReadAt>,
    codec: Compression,
    /// Next byte, and the one after the last.
    at: u64,
    end: u64,
    /// The header at `at`, when it has been read.
    header: Option<(PageHeader, PageKind)>,
    /// Whether rows may have several values.
    nested: bool,
    /// Values of data pages so far.
    values: u64,
}

impl Pages {
    pub fn new(
        source: Arc<dyn ReadAt>,
        codec: Compression,
        (start, length): (u64, u64),
        nested: bool,
    ) -> Result<Self> {
        let end = start.checked_add(length).filter(|end| *end <= source.len());
        let end = end.ok_or_else(|| broken("a column lies beyond the end of the file"))?;
        Ok(Pages { source, codec, at: start, end, header: None, nested, values: 0 })
    }

    /// The next page header that a reader cares about, if there is one.
    fn header(&mut self) -> Result<Option<(PageHeader, PageKind)>> {
        loop {
            if let Some(header) = self.header {
                return Ok(Some(header));
            }
            let left = self.end - self.at;
            if left == 0 {
                return Ok(None);
            }
            let header = self.read_header(left)?;
            if (header.bytes + header.stored_bytes) as u64 > left {
                return Err(broken("a page is longer than its column"));
            }
            if header.page_bytes > MAX_PAGE_BYTES || header.stored_bytes > MAX_PAGE_BYTES {
                return Err(broken(&format!("a page has more than {MAX_PAGE_BYTES} bytes")));
            }
            match header.kind {
                Some(kind) => self.header = Some((header, kind)),
                None => self.at += (header.bytes + header.stored_bytes) as u64,
            }
        }
    }

    fn read_header(&self, left: u64) -> Result<PageHeader> {
        let mut length = HEADER_GUESS_BYTES;
        loop {
            let window = left.min(length as u64) as usize;
            let bytes = self.source.read_at(self.at, window).map_err(external)?;
            match read_page_header(&bytes) {
                Err(Fault::Ends) if length < MAX_PAGE_HEADER_BYTES && window == length => {
                    length *= 8;
                }
                header => return header.map_err(|fault| broken(fault.text())),
            }
        }
    }

    fn pass(&mut self, header: &PageHeader, kind: PageKind) -> Result<()> {
        self.at += (header.bytes + header.stored_bytes) as u64;
        self.header = None;
        if let PageKind::Data { values, .. } | PageKind::DataV2 { values, .. } = kind {
            self.values += u64::from(values);
        }
        if self.nested && self.values > MAX_NESTED_VALUES {
            return Err(broken(&format!(
                "a column of lists has more than {MAX_NESTED_VALUES} values in a row group; \
                 name the columns that are needed under `columns`"
            )));
        }
        Ok(())
    }

    fn read(&self, header: &PageHeader, kind: PageKind) -> Result<Page> {
        let start = self.at + header.bytes as u64;
        let stored = self.source.read_at(start, header.stored_bytes).map_err(external)?;
        // Levels of the second version stand before what is compressed.
        let plain = match kind {
            PageKind::DataV2 { definition_bytes, repetition_bytes, .. } => {
                definition_bytes as usize + repetition_bytes as usize
            }
            _ => 0,
        };
        if plain > stored.len() || plain > header.page_bytes {
            return Err(broken("the levels of a page are longer than the page"));
        }
        let is_compressed = !matches!(kind, PageKind::DataV2 { compressed: false, .. });
        let buf = if is_compressed && self.codec != Compression::UNCOMPRESSED {
            let (levels, body) = stored.split_at(plain);
            let mut page = levels.to_vec();
            page.extend(decompress(self.codec, body, header.page_bytes - plain)?);
            Bytes::from(page)
        } else {
            Bytes::from(stored)
        };
        Ok(page(kind, buf))
    }
}

fn page(kind: PageKind, buf: Bytes) -> Page {
    match kind {
        PageKind::Data { values, encoding, definition, repetition } => Page::DataPage {
            buf,
            num_values: values,
            encoding,
            def_level_encoding: definition,
            rep_level_encoding: repetition,
            statistics: None,
        },
        PageKind::DataV2 {
            values,
            nulls,
            rows,
            encoding,
            definition_bytes,
            repetition_bytes,
            compressed,
        } => Page::DataPageV2 {
            buf,
            num_values: values,
            encoding,
            num_nulls: nulls,
            num_rows: rows,
            def_levels_byte_len: definition_bytes,
            rep_levels_byte_len: repetition_bytes,
            is_compressed: compressed,
            statistics: None,
        },
        PageKind::Dictionary { values, encoding } => {
            Page::DictionaryPage { buf, num_values: values, encoding, is_sorted: false }
        }
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some((header, kind)) = self.header()? else { return Ok(None) };
        let page = self.read(&header, kind)?;
        self.pass(&header, kind)?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        let metadata = self.header()?.map(|(_, kind)| match kind {
            PageKind::DataV2 { values, rows, .. } => PageMetadata {
                num_rows: Some(rows as usize),
                num_levels: Some(values as usize),
                is_dict: false,
            },
            PageKind::Data { values, .. } => {
                PageMetadata { num_rows: None, num_levels: Some(values as usize), is_dict: false }
            }
            PageKind::Dictionary { .. } => {
                PageMetadata { num_rows: None, num_levels: None, is_dict: true }
            }
        });
        Ok(metadata)
    }

    fn skip_next_page(&mut self) -> Result<()> {
        match self.header()? {
            Some((header, kind)) => self.pass(&header, kind),
            None => Ok(()),
        }
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// Exactly `length` bytes, or an error: what holds more is refused before
/// there is memory for it.
fn decompress(codec: Compression, stored: &[u8], length: usize) -> Result<Vec<u8>> {
    if length == 0 {
        return Ok(Vec::new());
    }
    let found = match codec {
        Compression::SNAPPY => {
            let promised = snap::raw::decompress_len(stored).map_err(external)?;
            if promised != length {
                return Err(wrong_length());
            }
            snap::raw::Decoder::new().decompress_vec(stored).map_err(external)?
        }
        Compression::GZIP(_) => drain(flate2::read::MultiGzDecoder::new(stored), length)?,
        Compression::BROTLI(_) => drain(brotli::Decompressor::new(stored, 1 << 12), length)?,
        Compression::ZSTD(_) => {
            let mut bytes = vec![0; length];
            let count = zstd::bulk::decompress_to_buffer(stored, &mut bytes)?;
            bytes.truncate(count);
            bytes
        }
        Compression::LZ4_RAW => {
            let mut bytes = vec![0; length];
            let count = lz4_flex::block::decompress_into(stored, &mut bytes).map_err(external)?;
            bytes.truncate(count);
            bytes
        }
        other => return Err(broken(&format!("its compression {other} is not read"))),
    };
    if found.len() == length { Ok(found) } else { Err(wrong_length()) }
}

fn drain(from: impl Read, length: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(length as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn wrong_length() -> ParquetError {
    broken("a page does not have the length that its header says")
}

/// An error of the file's own.
pub(super) fn broken(reason: &str) -> ParquetError {
    ParquetError::General(reason.to_owned())
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn pages_hold_what_their_header_says_and_no_more() {
        const LENGTH: usize = 10_000_000;
        let zeros = vec![0_u8; LENGTH];
        let gzip = {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            writer.write_all(&zeros).unwrap();
            writer.finish().unwrap()
        };
        let mut brotli = Vec::new();
        brotli::CompressorWriter::new(&mut brotli, 4096, 5, 22).write_all(&zeros).unwrap();
        let stored = [
            (Compression::GZIP(Default::default()), gzip),
            (Compression::BROTLI(Default::default()), brotli),
            (Compression::ZSTD(Default::default()), zstd::bulk::compress(&zeros, 3).unwrap()),
            (Compression::SNAPPY, snap::raw::Encoder::new().compress_vec(&zeros).unwrap()),
            (Compression::LZ4_RAW, lz4_flex::block::compress(&zeros)),
        ];
        for (codec, stored) in stored {
            assert!(stored.len() < LENGTH / 10, "{codec}");
            assert_eq!(decompress(codec, &stored, LENGTH).unwrap().len(), LENGTH, "{codec}");
            for wrong in [1, LENGTH / 2, LENGTH - 1, LENGTH + 1] {
                assert!(decompress(codec, &stored, wrong).is_err(), "{codec} {wrong}");
            }
            assert!(decompress(codec, &stored[..stored.len() / 2], LENGTH).is_err(), "{codec}");
        }
        assert!(decompress(Compression::LZO, &[0], 1).is_err());
        assert!(decompress(Compression::LZ4, &[0], 1).is_err());
    }
}
