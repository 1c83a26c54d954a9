//! How a field that may be absent is read and written.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// A value that is not written when it says nothing.
pub(crate) trait Absent {
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for String {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for bool {
    fn is_absent(&self) -> bool {
        !self
    }
}

pub(crate) fn is_absent<T: Absent>(value: &T) -> bool {
    value.is_absent()
}

/// Reads `null` as the default value: programs written in Go print empty lists and maps so.
pub(crate) fn null_is_default<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// Declares wire structs. A field after `req` must be there; one after `opt` may be absent or null, and is then not written.
macro_rules! wire {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident {
            $(req { $( $(#[$req_doc:meta])* $req:ident : $req_type:ty, )* })?
            $(opt { $( $(#[$opt_doc:meta])* $opt:ident : $opt_type:ty, )* })?
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($( $(#[$req_doc])* pub $req: $req_type, )*)?
            $($(
                $(#[$opt_doc])*
                #[serde(default, deserialize_with = "crate::wire::null_is_default", skip_serializing_if = "crate::wire::is_absent")]
                pub $opt: $opt_type,
            )*)?
        }
    )*};
}
