//! [`ExecOutput`] → `ExecSyncResponse`.

use carrack_cri_proto::v1;
use carrack_engine::view::ExecOutput;

/// Room for the exit code and the two fields' tags and lengths.
const OVERHEAD_BYTES: usize = 64;

/// The answer, cut so that it fits into `limit_bytes`: clients refuse a larger message, and then have nothing at all.
///
/// If both streams are too long each keeps half; otherwise the shorter one is kept whole.
pub(crate) fn exec_sync_response(output: ExecOutput, limit_bytes: usize) -> v1::ExecSyncResponse {
    let ExecOutput { mut stdout, mut stderr, exit } = output;
    let room = limit_bytes.saturating_sub(OVERHEAD_BYTES);
    let half = room / 2;
    let stdout_room =
        if stderr.len() < half { room - stderr.len() } else { half.max(room.saturating_sub(stderr.len())) };
    stdout.truncate(stdout_room);
    stderr.truncate(room - stdout.len());
    v1::ExecSyncResponse { stdout, stderr, exit_code: exit.code() }
}

#[cfg(test)]
mod tests {
    use carrack_words::Exit;
    use prost::Message;

    use super::*;

    fn output(stdout: usize, stderr: usize, exit: Exit) -> ExecOutput {
        ExecOutput { stdout: vec![b'o'; stdout], stderr: vec![b'e'; stderr], exit }
    }

    #[test]
    fn ordinary_output_arrives_whole() {
        let wanted = v1::ExecSyncResponse { stdout: vec![b'o'; 5], stderr: vec![b'e'; 3], exit_code: 137 };
        assert_eq!(exec_sync_response(output(5, 3, Exit::Signal(9)), 1000), wanted);
    }

    #[test]
    fn the_answer_always_fits() {
        let limit = 16 << 20;
        for (stdout, stderr, kept) in [
            (limit, 0, (limit - 64, 0)),
            (0, limit, (0, limit - 64)),
            (limit, limit, ((limit - 64) / 2, (limit - 64) / 2)),
            (limit, 1000, (limit - 64 - 1000, 1000)),
            (1000, limit, (1000, limit - 64 - 1000)),
        ] {
            let answer = exec_sync_response(output(stdout, stderr, Exit::Code(255)), limit);
            assert_eq!((answer.stdout.len(), answer.stderr.len()), kept);
            assert!(answer.encoded_len() <= limit);
        }
    }
}
