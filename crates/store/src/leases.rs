//! Leases keep what is being fetched from being collected.

use carrack_words::{ProcessId, Timestamp};
use rusqlite::{Transaction, params};
use std::time::Duration;

use crate::random::random_name;
use crate::{Resource, Store, StoreError, holds};

/// The table of leases.
#[derive(Debug)]
pub struct Leases<'a> {
    store: &'a Store,
}

/// A lease; what it holds stays while it lives. Dropping it releases it.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    id: String,
}

impl<'a> Leases<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Makes a lease. With a `term` it lasts that long, whoever lives; without one as long as this process. `purpose` is for people.
    pub fn create(&self, purpose: &str, term: Option<Duration>) -> Result<Lease, StoreError> {
        let id = random_name(16)?;
        let now = Timestamp::now().nanoseconds();
        let owner = match term {
            None => Some(this_process()?),
            Some(_) => None,
        };
        let boot = owner.map(|_| &self.store.host().boot_id[..]);
        self.store.database().write("create a lease", |transaction| {
            transaction.execute(
                "INSERT INTO leases (id, purpose, created, expires, pid, start_time, boot) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    id,
                    purpose,
                    now,
                    term.map(|term| after(now, term)),
                    owner.map(|owner| owner.pid),
                    owner.map(|owner| owner.start_time as i64),
                    boot
                ],
            )
        })?;
        Ok(Lease { store: self.store.clone(), id })
    }
}

impl Lease {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Holds one more resource.
    pub fn add(&self, resource: &Resource) -> Result<(), StoreError> {
        let holder = self.holder();
        self.store.database().write("add to a lease", |transaction| holds::add(transaction, &holder, resource))
    }

    /// Lets a lease with a term end `term` from now.
    pub fn renew(&self, term: Duration) -> Result<(), StoreError> {
        let expires = after(Timestamp::now().nanoseconds(), term);
        self.store.database().write("renew a lease", |transaction| {
            transaction.execute(
                "UPDATE leases SET expires = ?2 WHERE id = ?1 AND expires IS NOT NULL",
                params![self.id, expires],
            )
        })?;
        Ok(())
    }

    /// Ends it; what nobody else holds may be collected.
    pub fn release(mut self) -> Result<(), StoreError> {
        let id = std::mem::take(&mut self.id);
        release(&self.store, &id)
    }

    pub(crate) fn holder(&self) -> String {
        holder(&self.id)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.id.is_empty() {
            // What cannot be released now is released when this process is gone.
            let _ = release(&self.store, &self.id);
        }
    }
}

fn holder(id: &str) -> String {
    format!("lease:{id}")
}

fn release(store: &Store, id: &str) -> Result<(), StoreError> {
    store.database().write("release a lease", |transaction| remove(transaction, id))
}

fn remove(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM leases WHERE id = ?1", [id])?;
    holds::replace(transaction, &holder(id), &[])
}

fn after(now: i64, term: Duration) -> i64 {
    now.saturating_add(i64::try_from(term.as_nanos()).unwrap_or(i64::MAX))
}

/// Whether a lease's process was killed, or its time is over, and nobody has cleared up behind it.
pub(crate) fn has_dead(store: &Store) -> Result<bool, StoreError> {
    Ok(!dead(store)?.is_empty())
}

/// Ends the leases whose time is over or whose process is gone.
pub(crate) fn end_dead(store: &Store) -> Result<(), StoreError> {
    let dead = dead(store)?;
    store.database().write("end dead leases", |transaction| {
        dead.iter().try_for_each(|id| remove(transaction, id))?;
        // What was committed in the name of a lease that had ended before.
        transaction.execute(
            "DELETE FROM holds WHERE holder GLOB 'lease:*' AND substr(holder, 7) NOT IN (SELECT id FROM leases)",
            [],
        )?;
        Ok(())
    })
}

fn dead(store: &Store) -> Result<Vec<String>, StoreError> {
    type Row = (String, Option<i64>, Option<i32>, Option<i64>, Option<String>);
    let rows: Vec<Row> = store.database().read("list the leases", |transaction| {
        let mut statement = transaction.prepare("SELECT id, expires, pid, start_time, boot FROM leases")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?.collect()
    })?;
    let now = Timestamp::now().nanoseconds();
    let dead = rows
        .into_iter()
        .filter(|(_, expires, pid, start_time, boot)| {
            let owner = pid.zip(*start_time).map(|(pid, start)| ProcessId { pid, start_time: start as u64 });
            let rebooted = boot.as_ref().is_some_and(|boot| *boot != store.host().boot_id);
            expires.is_some_and(|expires| expires <= now) || rebooted || owner.is_some_and(|owner| !is_alive(owner))
        })
        .map(|(id, ..)| id)
        .collect();
    Ok(dead)
}

fn this_process() -> Result<ProcessId, StoreError> {
    let pid = std::process::id() as i32;
    let path = std::path::Path::new("/proc/self/stat");
    let start_time = start_time("self")
        .ok_or_else(|| StoreError::io("read", path, std::io::Error::from(std::io::ErrorKind::InvalidData)))?;
    Ok(ProcessId { pid, start_time })
}

fn is_alive(process: ProcessId) -> bool {
    start_time(&process.pid.to_string()) == Some(process.start_time)
}

/// Field 22 of `/proc/<pid>/stat`; `None` if there is no such process, or only its zombie.
fn start_time(pid: &str) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let mut rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace();
    match rest.next()? {
        "Z" | "X" => None,
        _ => rest.nth(18)?.parse().ok(),
    }
}
