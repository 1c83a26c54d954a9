//! Reading archives of every format, and refusing those that lie.

mod archive;

use archive::{Item, archive as print, closed, extension, padded, record};
use carrack_layer::tar::{BLOCK, Extent, Header, Reader, TarEntry, Type, Xattr};
use carrack_layer::{HeaderProblem, Limits, Time, UnpackError};
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Vec<(TarEntry, Vec<u8>)>, UnpackError> {
    let mut reader = Reader::new(bytes, &Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.pass_data(|piece| {
            data.extend_from_slice(piece);
            Ok(())
        })?;
        entries.push((entry, data));
    }
    Ok(entries)
}

fn names(bytes: &[u8]) -> Vec<String> {
    read(bytes).unwrap().into_iter().map(|(entry, _)| String::from_utf8(entry.name).unwrap()).collect()
}

fn problem(bytes: &[u8]) -> HeaderProblem {
    match read(bytes).unwrap_err() {
        UnpackError::Header { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

fn header(flag: u8, size: i64) -> Header {
    Header {
        name: b"file".to_vec(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        size,
        mtime: 0,
        flag,
        link: vec![],
        major: 0,
        minor: 0,
        gnu: false,
    }
}

#[test]
fn extensions_are_merged_into_their_entry_and_only_that() {
    let long = format!("{}/x", "d".repeat(200));
    let item = Item::file(&long, "data").owner(4_000_000_000, 3).mtime(5, 7).xattr("user.a", b"1\0=\n2");
    let entries = read(&print(&[item, Item::file("next", "")])).unwrap();
    let (first, data) = &entries[0];
    let want = TarEntry {
        kind: Type::File,
        name: long.into_bytes(),
        link: vec![],
        mode: 0o644,
        uid: 4_000_000_000,
        gid: 3,
        mtime: Time { seconds: 5, nanoseconds: 7 },
        device: (0, 0),
        size_bytes: 4,
        sparse: None,
        xattrs: vec![Xattr { name: b"user.a".to_vec(), value: b"1\0=\n2".to_vec() }],
    };
    assert_eq!((first, &data[..]), (&want, &b"data"[..]));
    assert_eq!((&entries[1].0.name[..], &entries[1].0.xattrs[..]), (&b"next"[..], &[][..]));
}

#[test]
fn gnu_long_names_and_links_end_at_their_nul() {
    let bytes = closed(&[
        extension(b'L', &[&[b'n'; 150][..], b"\0junk"].concat()),
        extension(b'K', &[&[b'l'; 150][..], b"\0"].concat()),
        Item::symlink("short", "short").print(),
    ]);
    let (entry, _) = read(&bytes).unwrap().remove(0);
    assert_eq!((entry.name, entry.link), (vec![b'n'; 150], vec![b'l'; 150]));
}

#[test]
fn global_records_change_nothing() {
    let bytes = closed(&[extension(b'g', &record(b"path", b"evil")), Item::file("good", "").print()]);
    assert_eq!(names(&bytes), ["good"]);
}

#[test]
fn ustar_prefixes_and_old_directories() {
    let mut block = header(b'0', 0).print().unwrap();
    block[345..348].copy_from_slice(b"a/b");
    let block = resum(block);
    let mut old = header(0, 0);
    old.name = b"old/".to_vec();
    let bytes = closed(&[block.to_vec(), old.print().unwrap().to_vec()]);
    let kinds: Vec<_> =
        read(&bytes).unwrap().into_iter().map(|(e, _)| (String::from_utf8(e.name).unwrap(), e.kind)).collect();
    assert_eq!(kinds, [("a/b/file".to_owned(), Type::File), ("old/".to_owned(), Type::Directory)]);
}

/// Puts the right checksum into a block.
fn resum(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[test]
fn the_archive_ends_at_zeros_or_between_entries_and_nowhere_else() {
    let file = Item::file("a", "hello").print();
    assert_eq!(names(&file), ["a"], "no closing blocks");
    assert_eq!(names(&[&file[..], &[0; BLOCK]].concat()), ["a"], "one closing block");
    assert_eq!(
        names(&[&closed(std::slice::from_ref(&file))[..], b"trailing garbage"].concat()),
        ["a"],
        "what follows is not looked at"
    );
    assert_eq!(names(&file[..BLOCK + 5]), ["a"], "the last padding is missing");
    assert_eq!(names(&[]), [""; 0]);
    assert_eq!(problem(&[&[0; BLOCK][..], &file].concat()), HeaderProblem::LoneZeroBlock);
    for cut in [1, BLOCK - 1, BLOCK + 4] {
        assert!(matches!(read(&file[..cut]).unwrap_err(), UnpackError::Truncated { .. }), "{cut}");
    }
}

#[test]
fn sizes_that_lie_are_found() {
    let mut lie = header(b'0', 1 << 40).print().unwrap().to_vec();
    lie.extend(padded(b"short"));
    assert!(matches!(read(&lie).unwrap_err(), UnpackError::Truncated { what: "an entry's data", .. }));
    assert_eq!(problem(&header(b'0', -1).print().unwrap()), HeaderProblem::Number { field: "size" });
    // A link has no data, whatever its size says.
    let link = header(b'2', 1 << 40).print().unwrap().to_vec();
    assert_eq!(names(&closed(&[link, Item::file("next", "").print()])), ["file", "next"]);
}

#[test]
fn extensions_are_bounded_before_they_are_read() {
    let huge = header(b'x', 1 << 50).print().unwrap();
    assert_eq!(problem(&huge), HeaderProblem::ExtensionTooLong { bytes: 1 << 50, limit: 1 << 20 });
    let flood: Vec<u8> = (0..17).flat_map(|_| extension(b'x', &record(b"comment", b"x"))).collect();
    assert_eq!(problem(&flood), HeaderProblem::ExtensionFlood { limit: 16 });
    let negative = header(b'L', -5).print().unwrap();
    assert_eq!(problem(&negative), HeaderProblem::Number { field: "size" });
}

#[test]
fn unknown_types_are_named() {
    assert_eq!(problem(&header(b'V', 0).print().unwrap()), HeaderProblem::Type { flag: 'V' });
}

#[test]
fn entries_are_counted() {
    let limits = Limits { entries: 2, ..Limits::default() };
    let bytes = print(&[Item::file("a", ""), Item::file("b", ""), Item::file("c", "")]);
    let mut reader = Reader::new(&bytes[..], &limits);
    assert!(reader.next_entry().unwrap().is_some() && reader.next_entry().unwrap().is_some());
    assert!(matches!(reader.next_entry().unwrap_err(), UnpackError::TooMany { what: "entries", limit: 2 }));
}

// ---- sparse files

const MAP: [Extent; 2] = [Extent { offset: 512, length: 512 }, Extent { offset: 4096, length: 3 }];

fn sparse_data() -> Vec<u8> {
    [&[b'a'; 512][..], b"end"].concat()
}

fn with_records(records: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
    let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key.as_bytes(), value.as_bytes())).collect();
    closed(&[extension(b'x', &records), Item::file("GNUSparseFile.1/f", data).print()])
}

fn old_sparse(parts: &[(u64, u64)], extended: bool, size: u64, data: &[u8]) -> Vec<u8> {
    let mut header = header(b'S', data.len() as i64);
    header.gnu = true;
    let mut block = header.print().unwrap();
    for (at, (offset, length)) in parts.iter().enumerate().take(4) {
        let at = 386 + at * 24;
        block[at..at + 12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
        block[at + 12..at + 24].copy_from_slice(format!("{length:011o}\0").as_bytes());
    }
    block[482] = u8::from(extended);
    block[483..495].copy_from_slice(format!("{size:011o}\0").as_bytes());
    resum(block).to_vec()
}

#[test]
fn all_four_sparse_forms_give_the_same_file() {
    let list = "512,512,4096,3";
    let map = padded(b"2\n512\n512\n4096\n3\n");
    let forms = [
        closed(&[old_sparse(&[(512, 512), (4096, 3)], false, 8192, &sparse_data()), padded(&sparse_data())]),
        with_records(
            &[
                ("GNU.sparse.size", "8192"),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.offset", "512"),
                ("GNU.sparse.numbytes", "512"),
                ("GNU.sparse.offset", "4096"),
                ("GNU.sparse.numbytes", "3"),
            ],
            &sparse_data(),
        ),
        with_records(
            &[
                ("GNU.sparse.size", "8192"),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.map", list),
                ("GNU.sparse.name", "f"),
            ],
            &sparse_data(),
        ),
        with_records(
            &[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "f"),
                ("GNU.sparse.realsize", "8192"),
            ],
            &[map, sparse_data()].concat(),
        ),
    ];
    for (number, bytes) in forms.iter().enumerate() {
        let (entry, data) = read(bytes).unwrap().remove(0);
        assert_eq!(
            (entry.sparse.as_deref(), entry.size_bytes, &data),
            (Some(&MAP[..]), 8192, &sparse_data()),
            "form {number}"
        );
    }
}

#[test]
fn long_old_maps_continue_in_further_blocks() {
    let parts: Vec<(u64, u64)> = (0..30).map(|at| (at * 1024, 1)).collect();
    let mut continuations = Vec::new();
    for (number, chunk) in parts[4..].chunks(21).enumerate() {
        let mut block = [0; BLOCK];
        for (at, (offset, length)) in chunk.iter().enumerate() {
            block[at * 24..at * 24 + 12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
            block[at * 24 + 12..at * 24 + 24].copy_from_slice(format!("{length:011o}\0").as_bytes());
        }
        block[504] = u8::from(number == 0);
        continuations.extend(block);
    }
    let bytes = closed(&[old_sparse(&parts, true, 1 << 20, &[7; 30]), continuations, padded(&[7; 30])]);
    let (entry, data) = read(&bytes).unwrap().remove(0);
    let want: Vec<Extent> = parts.iter().map(|&(offset, length)| Extent { offset, length }).collect();
    assert_eq!((entry.sparse, data), (Some(want), vec![7; 30]));
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let refused = |bytes: &[u8]| match problem(bytes) {
        HeaderProblem::SparseMap { what } => what,
        other => panic!("{other:?}"),
    };
    let records = |size, map| [("GNU.sparse.size", size), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", map)];
    assert_eq!(refused(&with_records(&records("100", "0,200"), &[0; 200])), "a part ends behind the file's end");
    assert_eq!(refused(&with_records(&records("100", "0,50"), &[0; 60])), "it does not add up to the stored bytes");
    assert_eq!(
        refused(&with_records(&records("100", "0,50,60,5"), &[0; 55])),
        "it has another number of parts than announced"
    );
    let version = [("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1")];
    assert_eq!(refused(&with_records(&version, b"x")), "its version is unknown");
    // CVE-2025-58183: a map that announces more than there is must not be allocated for.
    let endless = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1")];
    assert_eq!(
        refused(&with_records(&endless, &[&b"99999999999\n"[..], &b"1\n".repeat(250)].concat())),
        "it is longer than the data"
    );
    let huge = [b"1000000".to_vec(), b"\n0\n0".repeat(1 << 19), b"\n".to_vec()].concat();
    assert!(matches!(problem(&with_records(&endless, &padded(&huge))), HeaderProblem::ExtensionTooLong { .. }));
}

#[test]
fn an_old_map_without_end_is_cut_off() {
    let mut block = [0; BLOCK];
    block[504] = 1;
    let bytes = [old_sparse(&[], true, 1 << 20, &[]), block.repeat(3000)].concat();
    assert!(matches!(problem(&bytes), HeaderProblem::ExtensionTooLong { limit: 1_048_576, .. }));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let _ = read(&bytes);
    }

    #[test]
    fn a_damaged_archive_is_read_or_refused(at in 0usize..4096, byte in any::<u8>(), cut in 0usize..5000) {
        let mut bytes = closed(&[
            Item::file("d/f", "some data").xattr("user.x", b"y").mtime(1, 2).print(),
            with_records(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "8192")],
                         &[padded(b"2\n512\n512\n4096\n3\n"), sparse_data()].concat()),
        ]);
        let length = bytes.len();
        bytes[at % length] = byte;
        // With a right checksum the damage goes deeper.
        let start = (at % length) / BLOCK * BLOCK;
        let block: [u8; BLOCK] = bytes[start..start + BLOCK].try_into().unwrap();
        bytes[start..start + BLOCK].copy_from_slice(&resum(block));
        bytes.truncate(cut);
        let _ = read(&bytes);
    }
}
