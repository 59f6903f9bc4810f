//! The tables of the ledger, and how each kind of record is laid out in them.
//!
//! | table        | key                          | value                       |
//! |--------------|------------------------------|-----------------------------|
//! | meta         | name                         | number                      |
//! | blocks       | hash of the bytes            | check, order, signed block  |
//! | certificates | run, round, hash of the bytes| check, order, certificate   |
//! | consensus    | run, round, order            | check, order, step          |
//! | residuals    | run                          | check, order, round, bytes  |
//! | followed     | run                          | check, order, bytes         |
//!
//! Numbers in keys are big-endian, so that ranges are in order. `order` counts records as they came,
//! which gives back each kind in the order it was persisted. `check` is a hash over table, key and the
//! rest of the value: redb checks its pages, this names the record.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tributary_protocol::event::Record;
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::{Round, RunId};

use super::StoreError;

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
const BLOCKS: Bytes = TableDefinition::new("blocks");
const CERTIFICATES: Bytes = TableDefinition::new("certificates");
const CONSENSUS: Bytes = TableDefinition::new("consensus");
const RESIDUALS: Bytes = TableDefinition::new("residuals");
const FOLLOWED: Bytes = TableDefinition::new("followed");

/// Layout of this file.
const VERSION: u64 = 1;
/// Bytes of a value's checksum.
const CHECK: usize = 16;
/// Checksum and order.
const HEAD: usize = CHECK + 8;

/// Makes the tables of an empty ledger, or checks that the version is ours.
pub(super) fn prepare(database: &Database) -> Result<(), StoreError> {
    let found = {
        let read = database.begin_read().map_err(|e| fault(e.into()))?;
        match read.open_table(META) {
            Ok(meta) => version_of(&meta)?,
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(e) => return Err(fault(e.into())),
        }
    };
    match found {
        Some(VERSION) => return Ok(()),
        Some(found) => {
            return Err(StoreError::Version {
                found,
                known: VERSION,
            });
        }
        None => {}
    }
    transact(database, |write| {
        write.open_table(META)?.insert("version", VERSION)?;
        for table in [BLOCKS, CERTIFICATES, CONSENSUS, RESIDUALS, FOLLOWED] {
            write.open_table(table)?;
        }
        Ok(())
    })
}

fn version_of(meta: &impl ReadableTable<&'static str, u64>) -> Result<Option<u64>, StoreError> {
    let version = meta.get("version").map_err(|e| fault(e.into()))?;
    Ok(version.map(|v| v.value()))
}

fn fault(e: redb::Error) -> StoreError {
    StoreError::running("read", e)
}

/// One commit: two-phase, because content and timing of what is written are a stranger's choice.
fn transact(
    database: &Database,
    body: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), StoreError> {
    let run = || -> Result<(), redb::Error> {
        let mut write = database.begin_write()?;
        write.set_two_phase_commit(true);
        write.set_quick_repair(true);
        body(&write)?;
        write.commit()?;
        Ok(())
    };
    run().map_err(|e| StoreError::running("write", e))
}

/// Writes records in one commit.
pub(super) fn write(database: &Database, records: &[&Record]) -> Result<(), StoreError> {
    transact(database, |write| {
        let mut meta = write.open_table(META)?;
        let mut order = meta.get("order")?.map_or(0, |v| v.value());
        for record in records {
            if let Record::ConsensusDone { run, round } = record {
                forget_height(write, *run, *round)?;
            } else if let Some((table, key, rest)) = place(record, order) {
                let mut rows = write.open_table(table)?;
                // What is content-addressed keeps its first order.
                let fixed = matches!(record, Record::Block(_) | Record::Certificate { .. });
                if fixed && rows.get(key.as_slice())?.is_some() {
                    continue;
                }
                let value = seal(table_name(&table), &key, order, &rest);
                rows.insert(key.as_slice(), value.as_slice())?;
                order += 1;
            }
        }
        meta.insert("order", order)?;
        Ok(())
    })
}

/// Where a record goes; `None` for kinds that are not rows.
fn place(record: &Record, order: u64) -> Option<(Bytes, Vec<u8>, Vec<u8>)> {
    let content = |bytes: &[u8]| hash::blob(bytes).as_bytes().to_vec();
    Some(match record {
        Record::Block(bytes) => (BLOCKS, content(bytes), bytes.clone()),
        Record::Certificate { run, round, bytes } => {
            let key = [height(*run, *round), content(bytes)].concat();
            (CERTIFICATES, key, bytes.clone())
        }
        Record::Consensus { run, round, bytes } => {
            let key = [height(*run, *round), order.to_be_bytes().to_vec()].concat();
            (CONSENSUS, key, bytes.clone())
        }
        Record::Residual { run, round, bytes } => {
            let rest = [&round.0.to_be_bytes(), bytes.as_slice()].concat();
            (RESIDUALS, run.as_bytes().to_vec(), rest)
        }
        Record::Followed { run, bytes } => (FOLLOWED, run.as_bytes().to_vec(), bytes.clone()),
        Record::Blob { .. } | Record::ConsensusDone { .. } => return None,
    })
}

fn height(run: RunId, round: Round) -> Vec<u8> {
    [run.as_bytes().as_slice(), &round.0.to_be_bytes()].concat()
}

fn forget_height(
    write: &redb::WriteTransaction,
    run: RunId,
    round: Round,
) -> Result<(), redb::Error> {
    let from = [height(run, round), vec![0; 8]].concat();
    let to = [height(run, round), vec![0xff; 8]].concat();
    let mut rows = write.open_table(CONSENSUS)?;
    rows.retain_in(from.as_slice()..=to.as_slice(), |_, _| false)?;
    Ok(())
}

fn table_name(table: &Bytes) -> &'static str {
    let name = redb::TableHandle::name(table);
    let all = [
        "blocks",
        "certificates",
        "consensus",
        "residuals",
        "followed",
    ];
    all.into_iter()
        .find(|known| *known == name)
        .unwrap_or("meta")
}

fn check(table: &str, key: &[u8], rest: &[u8]) -> [u8; CHECK] {
    let lengths = [table.len() as u64, key.len() as u64].map(u64::to_be_bytes);
    let text = [table.as_bytes(), key, lengths.as_flattened(), rest].concat();
    let digest = hash::blob(&text);
    let mut out = [0; CHECK];
    out.copy_from_slice(&digest.as_bytes()[..CHECK]);
    out
}

fn seal(table: &str, key: &[u8], order: u64, rest: &[u8]) -> Vec<u8> {
    let body = [&order.to_be_bytes(), rest].concat();
    [check(table, key, &body).as_slice(), &body].concat()
}

/// Every row of a database, each kind in the order it was persisted.
pub(super) fn load(database: &impl ReadableDatabase) -> Result<Vec<Record>, StoreError> {
    let read = database.begin_read().map_err(|e| fault(e.into()))?;
    let meta = read.open_table(META).map_err(|e| fault(e.into()))?;
    let found = version_of(&meta)?.unwrap_or(0);
    if found != VERSION {
        return Err(StoreError::Version {
            found,
            known: VERSION,
        });
    }
    let mut out = Vec::new();
    for table in [FOLLOWED, BLOCKS, CERTIFICATES, RESIDUALS, CONSENSUS] {
        let rows = read.open_table(table).map_err(|e| fault(e.into()))?;
        let mut kind = Vec::new();
        for row in rows.iter().map_err(|e| fault(e.into()))? {
            let (key, value) = row.map_err(|e| fault(e.into()))?;
            kind.push(open_row(table_name(&table), key.value(), value.value())?);
        }
        kind.sort_by_key(|(order, _)| *order);
        out.extend(kind.into_iter().map(|(_, record)| record));
    }
    Ok(out)
}

fn open_row(table: &'static str, key: &[u8], value: &[u8]) -> Result<(u64, Record), StoreError> {
    let damaged = |why: &str| StoreError::Damaged {
        table,
        key: data_encoding::HEXLOWER.encode(key),
        why: why.into(),
    };
    if value.len() < HEAD || value[..CHECK] != check(table, key, &value[CHECK..]) {
        return Err(damaged("its checksum does not match"));
    }
    let order = u64::from_be_bytes(array(&value[CHECK..HEAD]).ok_or_else(|| damaged("order"))?);
    let rest = &value[HEAD..];
    let record =
        record_of(table, key, rest).ok_or_else(|| damaged("its key has a wrong length"))?;
    Ok((order, record))
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn record_of(table: &str, key: &[u8], rest: &[u8]) -> Option<Record> {
    let bytes = rest.to_vec();
    if table == "blocks" {
        return (key == hash::blob(rest).as_bytes()).then_some(Record::Block(bytes));
    }
    let run = RunId(Digest::from_bytes(array(key.get(..32)?)?));
    let round = |from: Option<&[u8]>| Some(Round(u32::from_be_bytes(array(from?)?)));
    Some(match table {
        "certificates" => Record::Certificate {
            run,
            round: round(key.get(32..36))?,
            bytes,
        },
        "consensus" => Record::Consensus {
            run,
            round: round(key.get(32..36))?,
            bytes,
        },
        "residuals" => Record::Residual {
            run,
            round: round(rest.get(..4))?,
            bytes: rest[4..].to_vec(),
        },
        _ => Record::Followed { run, bytes },
    })
}
