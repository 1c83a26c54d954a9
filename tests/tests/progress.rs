//! What a pull shows on a terminal, and how it leaves it.

#![forbid(unsafe_code)]

use std::fs;

use carrack_sys::rustix::process::{Pid, Signal, kill_process};
use carrack_tests::command::DEADLINE;
use carrack_tests::image;
use carrack_tests::node::{children_of, with_busybox};
use carrack_tests::pty::Terminal;
use carrack_tests::registry::Fault;
use carrack_tests::wait::wait_until;

#[test]
fn root_a_pull_fits_its_terminal_and_ends_cleanly_when_it_is_told_to() {
    let (node, registry, reference) = with_busybox("pull-terminal");
    let blob = image::busybox().layers[0].clone();
    registry.fault(Fault::Hold { digest: blob.clone(), after: 100_000 });
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let terminal = Terminal::start(&mut node.carrack_with_terminal(&["pull", &reference]));
        terminal.wait_for("total");
        terminal.wait_for("] ");
        terminal.wait_for("B/s");
        assert_eq!(too_wide(&terminal.seen(), 80), Vec::<String>::new());
        // Drawn anew for a narrow window, without a bar, though nothing comes.
        let before = terminal.seen().len();
        terminal.resize(24, 20);
        let drawn = || terminal.seen()[before..].match_indices('%').map(|(at, _)| before + at).collect::<Vec<_>>();
        wait_until("it is drawn anew", DEADLINE, || drawn().len() >= 4);
        let seen = terminal.seen();
        let narrow = seen[drawn()[1]..].split_once('\r').expect("each drawing begins at the left").1;
        assert_eq!(too_wide(narrow, 20), Vec::<String>::new());
        let pid = Pid::from_raw(children_of(terminal.child.id())[0] as i32).unwrap();
        kill_process(pid, signal).unwrap();
        terminal.wait_until_cooked();
        assert_eq!(terminal.finish(), code);
        assert_eq!(fs::read_dir(node.root().join("ingest")).unwrap().count(), 0);
    }
    registry.release();
    node.ok(&["pull", &reference]);
    node.finish();
}

/// The lines that reach a terminal's last column, where a longer one would go on below. Sequences that move and colour do not count; a line
/// may be padded with blanks to get to the next one.
fn too_wide(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => drop(letters.by_ref().find(char::is_ascii_alphabetic)),
            '\r' | '\n' => lines.push(String::new()),
            letter => lines.last_mut().expect("it is never empty").push(letter),
        }
    }
    let rows = lines.iter().flat_map(|line| {
        let letters: Vec<char> = line.chars().collect();
        letters.chunks(width).map(String::from_iter).collect::<Vec<_>>()
    });
    rows.filter(|row| row.trim_end().chars().count() >= width).collect()
}
