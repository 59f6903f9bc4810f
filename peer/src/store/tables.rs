//! The tables of the ledger, and how each kind of record is laid out in them.
//!
//! | table        | key                          | value                       |
//! |--------------|------------------------------|-----------------------------|
//! | meta         | name                         | number                      |
//! | blocks       | hash of the bytes            | check, order, signed block  |
//! | certificates | run, round, hash of the bytes| check, order, certificate   |
//! | consensus    | run, round, order            | check, order, step          |
//! | residuals    | run                          | check, order, round, bytes  |
//! | sent         | run                          | check, order, round, update |
//! | followed     | run                          | check, order, bytes         |
//! | forgotten    | run                          | check, order, certificate   |
//!
//! Numbers in keys are big-endian, so that ranges are in order. `order` counts records as they came,
//! which gives back each kind in the order it was persisted. `check` is a hash over table, key and the
//! rest of the value: redb checks its pages, this names the record.
//!
//! The table `forgotten` is made when the first run is removed. A version of the program from before it refuses a ledger
//! that has one, as it must: it would follow the run again and sign a second history.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};
use tributary_protocol::codec;
use tributary_protocol::event::Record;
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::{Round, RunId};

use super::{Checks, StoreError};

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Order, key and value of a row.
type Row = (u64, Vec<u8>, Vec<u8>);

const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");

/// A table of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Followed,
    Forgotten,
    Blocks,
    Certificates,
    Residuals,
    Sent,
    Consensus,
}

impl Table {
    /// All of them, in the order in which a store gives them back.
    const ALL: [Self; 7] = [
        Self::Followed,
        Self::Forgotten,
        Self::Blocks,
        Self::Certificates,
        Self::Residuals,
        Self::Sent,
        Self::Consensus,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::Forgotten => "forgotten",
            Self::Blocks => "blocks",
            Self::Certificates => "certificates",
            Self::Residuals => "residuals",
            Self::Sent => "sent",
            Self::Consensus => "consensus",
        }
    }

    /// Whether a ledger may lack it.
    fn is_optional(self) -> bool {
        self == Self::Forgotten
    }

    fn rows(self) -> Rows {
        TableDefinition::new(self.name())
    }
}

/// Layout of this file. What older layouts lack is made up for in [`migrate`].
const VERSION: u64 = 2;
/// Bytes of a value's checksum.
const CHECK: usize = 16;
/// Checksum and order.
const HEAD: usize = CHECK + 8;

/// Makes the tables of an empty ledger, brings older ones up to date, and refuses what is not ours.
pub(super) fn prepare(database: &Database) -> Result<(), StoreError> {
    let found = {
        let read = database.begin_read().map_err(|e| fault(e.into()))?;
        check_names(&read)?;
        match read.open_table(META) {
            Ok(meta) => version_of(&meta)?,
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(e) => return Err(fault(e.into())),
        }
    };
    match found {
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION || found == 0 => Err(StoreError::Version {
            found,
            known: VERSION,
        }),
        Some(found) => migrate(database, found),
        None => transact(database, |write| {
            write.open_table(META)?.insert("version", VERSION)?;
            for table in Table::ALL.into_iter().filter(|table| !table.is_optional()) {
                write.open_table(table.rows())?;
            }
            Ok(())
        }),
    }
}

/// A table that this version does not know holds records that it would not give back.
fn check_names(read: &redb::ReadTransaction) -> Result<(), StoreError> {
    let tables = read.list_tables().map_err(|e| fault(e.into()))?;
    let ours = |name: &str| name == META.name() || Table::ALL.iter().any(|t| t.name() == name);
    for table in tables {
        if !ours(table.name()) {
            return Err(StoreError::UnknownTable(table.name().to_owned()));
        }
    }
    Ok(())
}

/// From an older layout to this one, in one commit.
fn migrate(database: &Database, from: u64) -> Result<(), StoreError> {
    let old = match from {
        1 => read_rows(database, Table::Residuals, Checks::Made)?,
        _ => Vec::new(),
    };
    transact(database, |write| {
        if from == 1 {
            split_residuals(write, &old)?;
        }
        write.open_table(META)?.insert("version", VERSION)?;
        Ok(())
    })
}

/// Until version 1 a residual's record held the update that was sent as well: `(feedback, Option<(round, update)>)`.
fn split_residuals(write: &redb::WriteTransaction, old: &[Row]) -> Result<(), redb::Error> {
    type Old = (Vec<u8>, Option<(Round, Vec<u8>)>);
    let mut residuals = write.open_table(Table::Residuals.rows())?;
    let mut sent = write.open_table(Table::Sent.rows())?;
    for (order, key, rest) in old {
        let (round, bytes) = rest.split_at(rest.len().min(4));
        let Ok((feedback, update)) = codec::decode::<Old, { usize::MAX }>(bytes) else {
            // It could not have been read before either; what is lost is what had not been sent.
            residuals.remove(key.as_slice())?;
            continue;
        };
        let value = seal(Table::Residuals, key, *order, &[round, &feedback].concat());
        residuals.insert(key.as_slice(), value.as_slice())?;
        if let Some((round, update)) = update {
            let rest = [round.0.to_be_bytes().as_slice(), &update].concat();
            let value = seal(Table::Sent, key, *order, &rest);
            sent.insert(key.as_slice(), value.as_slice())?;
        }
    }
    Ok(())
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
    transact(database, |write| put(write, records))
}

fn put(write: &redb::WriteTransaction, records: &[&Record]) -> Result<(), redb::Error> {
    let mut meta = write.open_table(META)?;
    let mut order = meta.get("order")?.map_or(0, |v| v.value());
    for record in records {
        if let Record::ConsensusDone { run, round } = record {
            forget_height(write, *run, *round)?;
        } else if let Some((table, key, rest)) = place(record, order) {
            let mut rows = write.open_table(table.rows())?;
            // What is content-addressed keeps its first order.
            let fixed = matches!(record, Record::Block(_) | Record::Certificate { .. });
            if fixed && rows.get(key.as_slice())?.is_some() {
                continue;
            }
            let value = seal(table, &key, order, &rest);
            rows.insert(key.as_slice(), value.as_slice())?;
            order += 1;
        }
    }
    meta.insert("order", order)?;
    Ok(())
}

/// Removes the rows of records that do not stay, and writes `mark`, in one commit.
pub(super) fn retain(
    database: &Database,
    stays: &dyn Fn(&Record) -> bool,
    mark: Option<&Record>,
) -> Result<(), StoreError> {
    let mut gone = Vec::new();
    for table in Table::ALL {
        for (_, key, rest) in read_rows(database, table, Checks::Made)? {
            let record = record_of(table, &key, rest, Checks::Made)
                .ok_or_else(|| damaged(table, &key, "its key has a wrong length"))?;
            if !stays(&record) {
                gone.push((table, key));
            }
        }
    }
    transact(database, |write| {
        for (table, key) in &gone {
            write.open_table(table.rows())?.remove(key.as_slice())?;
        }
        put(write, mark.as_slice())
    })
}

/// Where a record goes; `None` for kinds that are not rows.
fn place(record: &Record, order: u64) -> Option<(Table, Vec<u8>, Vec<u8>)> {
    let content = |bytes: &[u8]| hash::blob(bytes).as_bytes().to_vec();
    Some(match record {
        Record::Block(bytes) => (Table::Blocks, content(bytes), bytes.clone()),
        Record::Certificate { run, round, bytes } => {
            let key = [height(*run, *round), content(bytes)].concat();
            (Table::Certificates, key, bytes.clone())
        }
        Record::Consensus { run, round, bytes } => {
            let key = [height(*run, *round), order.to_be_bytes().to_vec()].concat();
            (Table::Consensus, key, bytes.clone())
        }
        Record::Residual { run, round, bytes } => {
            let rest = [&round.0.to_be_bytes(), &bytes[..]].concat();
            (Table::Residuals, run.as_bytes().to_vec(), rest)
        }
        Record::Sent { run, round, bytes } => {
            let rest = [&round.0.to_be_bytes(), &bytes[..]].concat();
            (Table::Sent, run.as_bytes().to_vec(), rest)
        }
        Record::Followed { run, bytes } => {
            (Table::Followed, run.as_bytes().to_vec(), bytes.clone())
        }
        Record::Forgotten { run, last } => {
            // No certificate has no bytes.
            let rest = last.clone().unwrap_or_default();
            (Table::Forgotten, run.as_bytes().to_vec(), rest)
        }
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
    let mut rows = write.open_table(Table::Consensus.rows())?;
    rows.retain_in(from.as_slice()..=to.as_slice(), |_, _| false)?;
    Ok(())
}

fn check(table: Table, key: &[u8], rest: &[u8]) -> [u8; CHECK] {
    let table = table.name();
    let lengths = [table.len() as u64, key.len() as u64].map(u64::to_be_bytes);
    let text = [table.as_bytes(), key, lengths.as_flattened(), rest].concat();
    let digest = hash::blob(&text);
    let mut out = [0; CHECK];
    out.copy_from_slice(&digest.as_bytes()[..CHECK]);
    out
}

fn seal(table: Table, key: &[u8], order: u64, rest: &[u8]) -> Vec<u8> {
    let body = [&order.to_be_bytes(), rest].concat();
    [check(table, key, &body).as_slice(), &body].concat()
}

/// Every row of a database, each kind in the order it was persisted.
pub(super) fn load(
    database: &impl ReadableDatabase,
    checks: Checks,
) -> Result<Vec<Record>, StoreError> {
    let read = database.begin_read().map_err(|e| fault(e.into()))?;
    let meta = read.open_table(META).map_err(|e| fault(e.into()))?;
    let found = version_of(&meta)?.unwrap_or(0);
    if found != VERSION {
        return Err(StoreError::Version {
            found,
            known: VERSION,
        });
    }
    check_names(&read)?;
    let mut out = Vec::new();
    for table in Table::ALL {
        let rows = read_rows(database, table, checks)?.into_iter();
        let records = rows.map(|(_, key, rest)| {
            record_of(table, &key, rest, checks)
                .ok_or_else(|| damaged(table, &key, "its key has a wrong length"))
        });
        out.extend(records.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(out)
}

/// The rows of a table in the order in which they were persisted: order, key and value.
fn read_rows(
    database: &impl ReadableDatabase,
    table: Table,
    checks: Checks,
) -> Result<Vec<Row>, StoreError> {
    let read = database.begin_read().map_err(|e| fault(e.into()))?;
    let rows = match read.open_table(table.rows()) {
        Ok(rows) => rows,
        Err(TableError::TableDoesNotExist(_)) if table.is_optional() => return Ok(Vec::new()),
        Err(e) => return Err(fault(e.into())),
    };
    let mut out = Vec::new();
    for row in rows.iter().map_err(|e| fault(e.into()))? {
        let (key, value) = row.map_err(|e| fault(e.into()))?;
        let (order, rest) = open_row(table, key.value(), value.value(), checks)?;
        out.push((order, key.value().to_vec(), rest.to_vec()));
    }
    out.sort_by_key(|(order, _, _)| *order);
    Ok(out)
}

fn damaged(table: Table, key: &[u8], why: &str) -> StoreError {
    StoreError::Damaged {
        table: table.name(),
        key: data_encoding::HEXLOWER.encode(key),
        why: why.into(),
    }
}

fn open_row<'a>(
    table: Table,
    key: &[u8],
    value: &'a [u8],
    checks: Checks,
) -> Result<(u64, &'a [u8]), StoreError> {
    let holds = || value[..CHECK] == check(table, key, &value[CHECK..]);
    if value.len() < HEAD || (checks == Checks::Made && !holds()) {
        return Err(damaged(table, key, "its checksum does not match"));
    }
    let order = array(&value[CHECK..HEAD]).expect("eight bytes");
    Ok((u64::from_be_bytes(order), &value[HEAD..]))
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn record_of(table: Table, key: &[u8], bytes: Vec<u8>, checks: Checks) -> Option<Record> {
    if table == Table::Blocks {
        let holds = checks == Checks::MadeBefore || key == hash::blob(&bytes).as_bytes();
        return holds.then_some(Record::Block(bytes));
    }
    let run = RunId(Digest::from_bytes(array(key.get(..32)?)?));
    let round = |from: Option<&[u8]>| Some(Round(u32::from_be_bytes(array(from?)?)));
    Some(match table {
        Table::Blocks => unreachable!("returned above"),
        Table::Certificates => Record::Certificate {
            run,
            round: round(key.get(32..36))?,
            bytes,
        },
        Table::Consensus => Record::Consensus {
            run,
            round: round(key.get(32..36))?,
            bytes,
        },
        Table::Residuals => Record::Residual {
            run,
            round: round(bytes.get(..4))?,
            bytes: bytes[4..].to_vec().into(),
        },
        Table::Sent => Record::Sent {
            run,
            round: round(bytes.get(..4))?,
            bytes: bytes[4..].to_vec().into(),
        },
        Table::Followed => Record::Followed { run, bytes },
        Table::Forgotten => Record::Forgotten {
            run,
            last: Some(bytes).filter(|bytes| !bytes.is_empty()),
        },
    })
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// A ledger as version 1 left it: an update that was sent stood in the residual's record.
    #[test]
    fn a_ledger_of_version_one_gives_its_residual_and_what_was_sent() {
        let database = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let run = RunId(hash::blob(b"run"));
        let old: (Vec<u8>, Option<(Round, Vec<u8>)>) = (vec![1; 8], Some((Round(3), vec![9; 5])));
        let rest = [&3u32.to_be_bytes(), codec::encode(&old).as_slice()].concat();
        transact(&database, |write| {
            write.open_table(META)?.insert("version", 1)?;
            for table in Table::ALL.into_iter().filter(|table| *table != Table::Sent) {
                write.open_table(table.rows())?;
            }
            let key = run.as_bytes().as_slice();
            let value = seal(Table::Residuals, key, 0, &rest);
            write
                .open_table(Table::Residuals.rows())?
                .insert(key, value.as_slice())?;
            Ok(())
        })
        .unwrap();
        prepare(&database).unwrap();
        let residual = Record::Residual {
            run,
            round: Round(3),
            bytes: vec![1; 8].into(),
        };
        let sent = Record::Sent {
            run,
            round: Round(3),
            bytes: vec![9; 5].into(),
        };
        assert_eq!(load(&database, Checks::Made).unwrap(), [residual, sent]);
        prepare(&database).expect("it is migrated once");
    }
}
