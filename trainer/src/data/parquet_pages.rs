//! The pages of a Parquet file, Zstandard ones unpacked here.
//!
//! The library unpacks Zstandard through a C library, which this project does not build. So the pages of such a
//! column are read as if they were not packed, and unpacked on their way to the library's decoder. All other
//! columns take the library's own way.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::RowGroupReader;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

use super::unpack;

/// One row group of a file in memory.
pub(super) struct Group<'a> {
    bytes: Arc<Bytes>,
    metadata: &'a RowGroupMetaData,
}

impl<'a> Group<'a> {
    /// A row group of the file `bytes`.
    pub(super) fn new(bytes: Bytes, metadata: &'a RowGroupMetaData) -> Self {
        Self {
            bytes: Arc::new(bytes),
            metadata,
        }
    }

    fn pages(&self, column: &ColumnChunkMetaData) -> Result<SerializedPageReader<Bytes>> {
        let rows = usize::try_from(self.metadata.num_rows())?;
        SerializedPageReader::new(self.bytes.clone(), column, rows, None)
    }
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, at: usize) -> Result<Box<dyn PageReader>> {
        let column = self.metadata.column(at);
        if !matches!(column.compression(), Compression::ZSTD(_)) {
            return Ok(Box::new(self.pages(column)?));
        }
        let packed = (column.clone().into_builder())
            .set_compression(Compression::UNCOMPRESSED)
            .build()?;
        Ok(Box::new(Unpacking {
            pages: self.pages(&packed)?,
            left: u64::try_from(column.uncompressed_size())?,
        }))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// Pages that are still packed, on their way out.
struct Unpacking {
    pages: SerializedPageReader<Bytes>,
    /// Bytes that the column says its pages still hold.
    left: u64,
}

impl Unpacking {
    /// Unpacks what stands behind the first `plain` bytes, the levels of a page of the second version.
    fn unpack(&mut self, buffer: &Bytes, plain: usize) -> Result<Bytes> {
        let damaged = |why: &str| ParquetError::General(why.to_owned());
        let (levels, packed) = buffer
            .split_at_checked(plain)
            .ok_or_else(|| damaged("a page is shorter than its levels"))?;
        if packed.is_empty() {
            return Ok(buffer.clone());
        }
        let values = unpack::zstd(packed, self.left)
            .map_err(|e| damaged(&format!("a page cannot be unpacked: {e}")))?;
        self.left -= values.len() as u64;
        Ok([levels, &values].concat().into())
    }
}

impl Iterator for Unpacking {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Unpacking {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.pages.get_next_page()? else {
            return Ok(None);
        };
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => {
                *buf = self.unpack(buf, 0)?;
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } if *is_compressed => {
                let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                *buf = self.unpack(buf, levels)?;
                *is_compressed = false;
            }
            Page::DataPageV2 { .. } => {}
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}
