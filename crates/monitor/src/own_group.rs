//! Control groups of the monitor itself and of the first process of a shared pid namespace.

use std::path::Path;

use carrack_cgroup::{CgroupError, Group, GroupPath, GroupPathError, Host, PlanError};
use carrack_words::Kind;

/// A control group cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnGroupError {
    /// It has no such path.
    #[error("control group {path:?} of the pod's configuration")]
    Path {
        /// What the configuration says.
        path: String,
        /// Why.
        source: GroupPathError,
    },
    /// It cannot be planned.
    #[error("plan control group {path}")]
    Plan {
        /// The group.
        path: String,
        /// Why.
        source: PlanError,
    },
    /// It cannot be made or entered.
    #[error("enter control group {path}")]
    Enter {
        /// The group.
        path: String,
        /// Why.
        source: CgroupError,
    },
}

impl OwnGroupError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            OwnGroupError::Path { source, .. } => source.kind(),
            OwnGroupError::Plan { source, .. } => source.kind(),
            OwnGroupError::Enter { source, .. } => source.kind(),
        }
    }
}

/// Makes the group at `path` without limits, or takes it as it is if others are in it already.
pub fn make(path: &Path) -> Result<Group, OwnGroupError> {
    Place::find(path)?.make()
}

/// Moves this process into the group at `path`, which all monitors share: only the first one makes it.
pub fn enter(path: &Path) -> Result<(), OwnGroupError> {
    let place = Place::find(path)?;
    let present = enter_group(&place.host.open(&place.path));
    // Not there, or just being made by another monitor.
    present.or_else(|_| enter_group(&place.make()?).map_err(|source| place.enter_error(source)))
}

fn enter_group(group: &Group) -> Result<(), CgroupError> {
    group.enter_handles()?.enter_self()
}

struct Place {
    host: Host,
    path: GroupPath,
    text: String,
}

impl Place {
    fn find(path: &Path) -> Result<Self, OwnGroupError> {
        let text = path.to_string_lossy().into_owned();
        let path = GroupPath::parse(&text).map_err(|source| OwnGroupError::Path { path: text.clone(), source })?;
        let host = Host::probe().map_err(|source| OwnGroupError::Enter { path: text.clone(), source })?;
        Ok(Self { host, path, text })
    }

    fn make(&self) -> Result<Group, OwnGroupError> {
        let plan = self.host.plan(&self.path, None);
        let plan = plan.map_err(|source| OwnGroupError::Plan { path: self.text.clone(), source })?;
        match self.host.create(&plan) {
            Err(CgroupError::NotEmpty { .. }) => Ok(self.host.open(&self.path)),
            made => made.map_err(|source| self.enter_error(source)),
        }
    }

    fn enter_error(&self, source: CgroupError) -> OwnGroupError {
        OwnGroupError::Enter { path: self.text.clone(), source }
    }
}
