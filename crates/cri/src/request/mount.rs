//! Mounts of a container.

use carrack_cri_proto::v1;
use carrack_engine::request::{MountRequest, MountSource, Propagation};

use super::{HostFacts, RequestError, absolute_path, invalid, known, unsupported};

/// The mounts, in the caller's order.
///
/// `selinux_relabel` is not read: a container without a label (see [`super::security`]) needs no relabelled files.
pub(super) fn mounts(mounts: &[v1::Mount], host: &HostFacts, field: &str) -> Result<Vec<MountRequest>, RequestError> {
    mounts.iter().enumerate().map(|(index, given)| mount(given, host, &format!("{field}[{index}]"))).collect()
}

fn mount(mount: &v1::Mount, host: &HostFacts, field: &str) -> Result<MountRequest, RequestError> {
    if mount.image.is_some() {
        return Err(RequestError::ImageVolume { field: format!("{field}.image") });
    }
    if !mount.image_sub_path.is_empty() {
        return Err(invalid(format!("{field}.image_sub_path"), "needs an image"));
    }
    for (name, mappings) in [("uidMappings", &mount.uid_mappings), ("gidMappings", &mount.gid_mappings)] {
        if !mappings.is_empty() {
            return Err(unsupported(format!("{field}.{name}"), "id-mapped mounts are not supported yet"));
        }
    }
    let propagation = match known(mount.propagation, &format!("{field}.propagation"))? {
        v1::MountPropagation::PropagationPrivate => Propagation::Private,
        v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    if mount.recursive_read_only {
        recursive_read_only(mount, propagation, host, &format!("{field}.recursive_read_only"))?;
    }
    Ok(MountRequest {
        // A missing source is an error: the kubelet makes what it mounts.
        source: MountSource::Bind {
            path: absolute_path(&mount.host_path, &format!("{field}.host_path"))?,
            create: false,
        },
        destination: absolute_path(&mount.container_path, &format!("{field}.container_path"))?,
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_read_only,
        propagation,
    })
}

fn recursive_read_only(
    mount: &v1::Mount,
    propagation: Propagation,
    host: &HostFacts,
    field: &str,
) -> Result<(), RequestError> {
    if !mount.readonly {
        return Err(invalid(field, "needs readonly"));
    }
    if propagation != Propagation::Private {
        return Err(invalid(field, "needs private propagation: a mount that arrives later would be writable"));
    }
    if !host.recursive_readonly {
        return Err(RequestError::RecursiveReadOnly { field: field.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostFacts = HostFacts { apparmor: false, selinux: false, recursive_readonly: true };
    const OLD: HostFacts = HostFacts { recursive_readonly: false, ..HOST };

    fn plain() -> v1::Mount {
        v1::Mount { container_path: "/data".into(), host_path: "/srv/data".into(), ..Default::default() }
    }

    #[test]
    fn mounts_arrive_in_order_with_their_attributes() {
        let propagated = |propagation: v1::MountPropagation| v1::Mount { propagation: propagation.into(), ..plain() };
        let given = [
            plain(),
            v1::Mount { readonly: true, selinux_relabel: true, ..plain() },
            v1::Mount { readonly: true, recursive_read_only: true, ..plain() },
            propagated(v1::MountPropagation::PropagationHostToContainer),
            propagated(v1::MountPropagation::PropagationBidirectional),
        ];
        let base = MountRequest {
            source: MountSource::Bind { path: "/srv/data".into(), create: false },
            destination: "/data".into(),
            readonly: false,
            recursive_readonly: false,
            propagation: Propagation::Private,
        };
        let wanted = vec![
            base.clone(),
            MountRequest { readonly: true, ..base.clone() },
            MountRequest { readonly: true, recursive_readonly: true, ..base.clone() },
            MountRequest { propagation: Propagation::HostToContainer, ..base.clone() },
            MountRequest { propagation: Propagation::Bidirectional, ..base },
        ];
        assert_eq!(mounts(&given, &HOST, "m"), Ok(wanted));
    }

    #[test]
    fn what_cannot_be_mounted_is_refused_with_its_place() {
        let ids = vec![v1::IdMapping { host_id: 1, container_id: 0, length: 1 }];
        let from_image = v1::Mount {
            image: Some(v1::ImageSpec { image: "data".into(), ..Default::default() }),
            host_path: String::new(),
            ..plain()
        };
        for (wrong, host, wanted) in [
            (v1::Mount { host_path: "".into(), ..plain() }, HOST, "m[0].host_path: is empty"),
            (v1::Mount { host_path: "a".into(), ..plain() }, HOST, r#"m[0].host_path: "a" is not an absolute path"#),
            (
                v1::Mount { container_path: "a".into(), ..plain() },
                HOST,
                r#"m[0].container_path: "a" is not an absolute path"#,
            ),
            (
                v1::Mount { container_path: "/a/../b".into(), ..plain() },
                HOST,
                r#"m[0].container_path: "/a/../b" contains .."#,
            ),
            (v1::Mount { propagation: 3, ..plain() }, HOST, "m[0].propagation: unknown value 3"),
            (v1::Mount { recursive_read_only: true, ..plain() }, HOST, "m[0].recursive_read_only: needs readonly"),
            (
                v1::Mount { recursive_read_only: true, readonly: true, propagation: 1, ..plain() },
                HOST,
                "m[0].recursive_read_only: needs private propagation: a mount that arrives later would be writable",
            ),
            (
                v1::Mount { recursive_read_only: true, readonly: true, ..plain() },
                OLD,
                "RROUnsupported: m[0].recursive_read_only: recursive read-only mounts need Linux 5.12",
            ),
            (from_image, HOST, "ImageVolumeMountFailed: m[0].image: volumes from images are not supported yet"),
            (v1::Mount { image_sub_path: "a".into(), ..plain() }, HOST, "m[0].image_sub_path: needs an image"),
            (
                v1::Mount { uid_mappings: ids.clone(), ..plain() },
                HOST,
                "m[0].uidMappings: id-mapped mounts are not supported yet",
            ),
            (
                v1::Mount { gid_mappings: ids, ..plain() },
                HOST,
                "m[0].gidMappings: id-mapped mounts are not supported yet",
            ),
        ] {
            assert_eq!(mounts(&[wrong], &host, "m").expect_err(wanted).to_string(), wanted);
        }
    }
}
