//! Names that nobody else has.

use carrack_sys::rustix::rand::{GetRandomFlags, getrandom};

use crate::StoreError;

/// `length` random characters of `0-9a-v`, five bits each.
pub(crate) fn random_name(length: usize) -> Result<String, StoreError> {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut bytes = vec![0u8; length];
    let mut filled = 0;
    while filled < length {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .map_err(|error| StoreError::io("read random bytes from", "/dev/urandom".as_ref(), error))?;
    }
    Ok(bytes.iter().map(|byte| char::from(DIGITS[usize::from(byte & 31)])).collect())
}
