//! Addresses of pods: leases as files, handed out round-robin.
//!
//! Round-robin, because the interface of a removed pod may still be there for a moment, and because others may still talk to its address.
//! See [`crate::state`] for the files.

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;

use carrack_words::PodId;

use crate::state::{State, absent_is_fine, file_error, open_to_lock};
use crate::{NetworkError, Subnet4};

/// Host number 1 is the bridge's.
const FIRST: u32 = 2;

/// The leases of one subnet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leases<'a> {
    pub(crate) state: &'a State,
    pub(crate) subnet: Subnet4,
}

/// The host numbers to try after `last`, each once.
fn candidates(last: u32, greatest: u32) -> impl Iterator<Item = u32> {
    let next = if (FIRST..greatest).contains(&last) { last + 1 } else { FIRST };
    (next..=greatest).chain(FIRST..next)
}

impl Leases<'_> {
    /// Leases the next free address to the pod and gives its host number.
    pub(crate) fn take(&self, pod: &PodId) -> Result<u32, NetworkError> {
        let path = self.state.path("cursor");
        let mut cursor = open_to_lock(&path).map_err(file_error("open", &path))?;
        cursor.lock().map_err(file_error("lock", &path))?;
        let mut text = String::new();
        // Ten digits at most; whatever else stands there, the round begins anew.
        (&mut cursor).take(16).read_to_string(&mut text).map_err(file_error("read", &path))?;
        let last = text.trim().parse().unwrap_or(0);
        let directory = self.state.path("leases");
        for index in candidates(last, self.subnet.last_index()) {
            let lease = directory.join(self.subnet.at(index).to_string());
            match symlink(pod.as_str(), &lease) {
                Ok(()) => {
                    let text = format!("{index:<10}\n");
                    let written = cursor.seek(SeekFrom::Start(0)).and_then(|_| cursor.write_all(text.as_bytes()));
                    written.map_err(file_error("write", &path))?;
                    return Ok(index);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(file_error("create lease", &lease)(error)),
            }
        }
        let subnet = format!("{}/{}", self.subnet.network(), self.subnet.prefix());
        Err(NetworkError::NoAddressLeft { subnet, leased: self.subnet.last_index() - FIRST + 1 })
    }

    /// Gives an address back.
    pub(crate) fn release(&self, index: u32) -> Result<(), NetworkError> {
        let lease = self.state.path("leases").join(self.subnet.at(index).to_string());
        absent_is_fine(fs::remove_file(&lease)).map_err(file_error("remove lease", &lease))
    }

    /// All leases: the host number, and whose it is. A lease whose text is no pod's id is nobody's and is left out.
    pub(crate) fn all(&self) -> Result<Vec<(u32, PodId)>, NetworkError> {
        let directory = self.state.path("leases");
        let owner = |name: &String| {
            let address = name.parse::<Ipv4Addr>().ok().filter(|address| self.subnet.contains(*address))?;
            let text = fs::read_link(directory.join(name)).ok()?.into_os_string().into_string().ok()?;
            Some((u32::from(address) - u32::from(self.subnet.network()), PodId::new(text).ok()?))
        };
        Ok(self.state.names("leases")?.iter().filter_map(owner).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(last: u32, greatest: u32) -> Vec<u32> {
        candidates(last, greatest).collect()
    }

    #[test]
    fn the_round_goes_on_after_the_newest_lease_and_tries_each_address_once() {
        assert_eq!(tries(0, 6), [2, 3, 4, 5, 6]);
        assert_eq!(tries(2, 6), [3, 4, 5, 6, 2]);
        assert_eq!(tries(5, 6), [6, 2, 3, 4, 5]);
        assert_eq!(tries(6, 6), [2, 3, 4, 5, 6]);
        // A cursor of a larger subnet, or of no sense.
        assert_eq!(tries(4000, 6), [2, 3, 4, 5, 6]);
    }

    #[test]
    fn leases_go_round_survive_reopening_and_run_out_by_name() {
        let run = std::env::temp_dir().join(format!("carrack-network-lease-{}", std::process::id()));
        let subnet = Subnet4::new("10.9.8.0".parse().unwrap(), 29).unwrap();
        let pod = |n: u32| PodId::new(format!("pod{n}")).unwrap();
        let take = |n| Leases { state: &State::open(&run).unwrap(), subnet }.take(&pod(n));
        assert_eq!([take(2).unwrap(), take(3).unwrap()], [2, 3]);
        let state = State::open(&run).unwrap();
        let leases = Leases { state: &state, subnet };
        leases.release(2).unwrap();
        leases.release(2).unwrap();
        assert_eq!(take(4).unwrap(), 4, "the freed address has to wait for its turn");
        assert_eq!([take(5).unwrap(), take(6).unwrap(), take(7).unwrap()], [5, 6, 2]);
        let full = take(8).unwrap_err();
        assert_eq!(full.to_string(), "no address is left in 10.9.8.0/29: 5 are leased");
        assert_eq!(full.kind(), carrack_words::Kind::Exhausted);
        let mut all = leases.all().unwrap();
        all.sort();
        assert_eq!(all, [(2, pod(7)), (3, pod(3)), (4, pod(4)), (5, pod(5)), (6, pod(6))]);
        fs::remove_dir_all(run).unwrap();
    }
}
