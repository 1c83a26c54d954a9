//! Reads container logs in the CRI format (`TIME STREAM TAGS CONTENT`).

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// RFC 3339 with nanoseconds.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Whether this ends a line of the container (`F`) or is a piece of one (`P`).
    pub is_full: bool,
    /// The bytes, as text.
    pub content: String,
}

/// Reads a whole log; panics at a line that is not of the format.
pub fn parse(text: &str) -> Vec<Record> {
    text.lines().map(|line| record(line).unwrap_or_else(|| panic!("not a line of a CRI log: {line:?}"))).collect()
}

/// The contents of one stream, joined as a reader of logs joins them.
pub fn stream(records: &[Record], name: &str) -> String {
    let mut joined = String::new();
    for record in records.iter().filter(|record| record.stream == name) {
        joined.push_str(&record.content);
        if record.is_full {
            joined.push('\n');
        }
    }
    joined
}

fn record(line: &str) -> Option<Record> {
    let mut fields = line.splitn(4, ' ');
    let (time, stream, tags, content) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let is_time = time.len() >= 20 && time.as_bytes()[10] == b'T';
    let is_stream = stream == "stdout" || stream == "stderr";
    let is_full = match tags.split(':').next()? {
        "F" => true,
        "P" => false,
        _ => return None,
    };
    (is_time && is_stream).then(|| Record {
        time: time.into(),
        stream: stream.into(),
        is_full,
        content: content.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_line_are_joined() {
        let text = "2016-10-06T00:17:09.669794202Z stdout F one\n\
                    2016-10-06T00:17:09.669794203Z stderr P tw\n\
                    2016-10-06T00:17:09.669794204Z stderr F o\n";
        let records = parse(text);
        assert_eq!(stream(&records, "stdout"), "one\n");
        assert_eq!(stream(&records, "stderr"), "two\n");
    }
}
