//! Pull and unpack from a registry on loopback onto a fresh filesystem, against containerd and Podman.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use carrack_tests::command::run;
use carrack_tests::cri::Cri;
use carrack_tests::image::{Builder, Image, Packing, Tarball};
use carrack_tests::place::Place;
use carrack_tests::programs;
use carrack_tests::registry::CannedRegistry;

use crate::carrack::Carrack;
use crate::containerd::Containerd;
use crate::measure::{Contender, Sample, race, time_program};
use crate::table::{self, Target};

const TARGETS: &[Target] = &[Target { peer: "containerd", at_most: 0.5 }, Target { peer: "podman", at_most: 0.5 }];

/// Measures one great layer, and eleven of all sizes.
pub fn run_suite() {
    let place = Place::new("bench-pull");
    let registry = CannedRegistry::serve(TcpListener::bind("127.0.0.1:0").expect("loopback has free ports"));
    println!("\nmaking the two images");
    let one = registry.publish("bench/one-layer", "1", &image(&[51_000]));
    let eleven = registry.publish(
        "bench/eleven-layers",
        "1",
        &image(&[18_000, 12_000, 9_000, 8_000, 6_000, 5_000, 4_000, 3_000, 2_000, 1_000, 500]),
    );
    for (title, reference) in [("one layer with 51,000 files", &one), ("eleven layers with 68,500 files", &eleven)] {
        let mut contenders = vec![Contender::work("carrack", |_| pull_with_carrack(&place, reference))];
        if programs::is_installed("containerd") {
            contenders.push(Contender::work("containerd", |_| pull_with_containerd(&place, reference)));
        }
        if programs::is_installed("podman") {
            contenders.push(Contender::work("podman", |_| pull_with_podman(&place, reference)));
        }
        race(&mut contenders, 3, 1, Duration::ZERO);
        table::print(&format!("pull and unpack {title}, fresh ext4 for each"), &contenders, TARGETS);
    }
}

fn pull_with_carrack(place: &Place, reference: &str) -> Sample {
    let disk = Disk::mount(place);
    let carrack = Carrack::new(&disk.at);
    time_program(&mut carrack.command(&["pull", "--quiet", reference]))
}

fn pull_with_podman(place: &Place, reference: &str) -> Sample {
    let disk = Disk::mount(place);
    let mut command = Command::new("podman");
    command.arg("--root").arg(disk.at.join("root")).arg("--runroot").arg(disk.at.join("run"));
    let sample = time_program(command.args(["pull", "--quiet", "--tls-verify=false", reference]));
    // Podman leaves its storage directory mounted on itself.
    run(Command::new("umount").arg(disk.at.join("root/overlay")));
    sample
}

fn pull_with_containerd(place: &Place, reference: &str) -> Sample {
    let disk = Disk::mount(place);
    let daemon = Containerd::start(&disk.at, reference);
    let cri = Cri::connect(&daemon.socket).expect("it has just answered");
    let started = Instant::now();
    cri.pull(reference).unwrap_or_else(|status| panic!("pull {reference}: {status}"));
    Sample { took: started.elapsed(), ..Sample::default() }
}

/// A fresh ext4 in a file: an old filesystem's history would be measured too.
struct Disk {
    at: PathBuf,
    file: PathBuf,
}

impl Disk {
    fn mount(place: &Place) -> Self {
        let disk = Self { at: place.directory("disk"), file: place.join("disk.img") };
        run(Command::new("truncate").args(["--size", "8G"]).arg(&disk.file)).ok();
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&disk.file))
        .ok();
        run(Command::new("mount").args(["-o", "loop"]).arg(&disk.file).arg(&disk.at)).ok();
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.at);
        let _ = std::fs::remove_file(&self.file);
    }
}

/// A daemon that has just been ended may still close its files.
fn unmount(at: &Path) {
    for _ in 0..50 {
        if run(Command::new("umount").arg(at)).code == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    run(Command::new("umount").args(["--lazy"]).arg(at)).ok();
}

/// An image with a layer for each number of files.
fn image(layers: &[u32]) -> Image {
    let mut noise = Noise(1);
    layers
        .iter()
        .enumerate()
        .fold(Builder::default(), |builder, (index, files)| {
            builder.layer(Packing::Gzip, layer(&mut noise, index, *files))
        })
        .build()
}

/// Files as a distribution has them: ten to a directory, most of them small, 12 kB on average, and text that packs to less than
/// a half.
fn layer(noise: &mut Noise, index: usize, files: u32) -> Vec<u8> {
    const WORDS: &[&str] = &[
        "anchor", "ballast", "capstan", "davit", "export", "fo'c'sle", "gunwale", "hawser", "include", "jib", "keel",
        "return",
    ];
    let mut tar = Tarball::default();
    tar.directory(&format!("layer{index}"), 0o755);
    for number in 0..files {
        let directory = format!("layer{index}/directory{}", number / 10);
        if number % 10 == 0 {
            tar.directory(&directory, 0o755);
        }
        let size = match noise.next() % 100 {
            0..60 => noise.next() % 4_000,
            60..97 => noise.next() % 20_000,
            _ => noise.next() % 460_000,
        };
        let mut content = Vec::with_capacity(size as usize);
        while content.len() < size as usize {
            let random = noise.next();
            content.extend_from_slice(WORDS[(random % WORDS.len() as u64) as usize].as_bytes());
            content.extend_from_slice(&(random as u32).to_le_bytes()[..(random >> 32) as usize % 5]);
        }
        tar.file(&format!("{directory}/file{number}"), 0o644, &content);
    }
    tar.finish()
}

/// Numbers that look random and are the same on every machine (xorshift64*).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
