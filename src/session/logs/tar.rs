//! Reads the texts of a tar archive (POSIX ustar): as much as is needed to show logs.

/// Headers and contents begin at multiples of this.
const BLOCK: usize = 512;

/// The files one after the other, each under its name. An archive that breaks off gives what is there.
pub fn text_of(archive: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = archive;
    while let Some((header, after)) = rest.split_at_checked(BLOCK) {
        // An empty header is the end.
        let Some((name, size)) = name_and_size(header) else { break };
        let content = after.get(..size).unwrap_or(after);
        if header.get(156).is_some_and(|kind| matches!(kind, 0 | b'0')) {
            text.push_str(&format!("==> {name} <==\n{}\n", String::from_utf8_lossy(content)));
        }
        // The size is the uploader's word, and may be any number.
        rest = size.checked_next_multiple_of(BLOCK).and_then(|end| after.get(end..)).unwrap_or_default();
    }
    text
}

fn name_and_size(header: &[u8]) -> Option<(String, usize)> {
    let field = |from: usize, to: usize| {
        let bytes = header.get(from..to)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(bytes.get(..end)?).ok()
    };
    let name = field(0, 100).filter(|name| !name.is_empty())?;
    let size = usize::from_str_radix(field(124, 136)?.trim(), 8).ok()?;
    Some((name.to_owned(), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: u8, content: &str) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        bytes[156] = kind;
        bytes.extend(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    #[test]
    fn files_are_shown_one_after_the_other() {
        let mut archive = entry("log/", b'5', "");
        archive.extend(entry("log/a.log", b'0', "one\n"));
        archive.extend(entry("b.log", 0, &"x".repeat(BLOCK)));
        archive.extend([0; 2 * BLOCK]);
        assert_eq!(text_of(&archive), format!("==> log/a.log <==\none\n\n==> b.log <==\n{}\n", "x".repeat(BLOCK)));
    }

    #[test]
    fn an_archive_that_breaks_off_gives_what_is_there() {
        let archive = entry("a.log", b'0', "0123456789");
        assert_eq!(text_of(&archive[..BLOCK + 4]), "==> a.log <==\n0123\n");
        for broken in [&b""[..], &[0; 100], &[0xff; 2 * BLOCK]] {
            assert_eq!(text_of(broken), "");
        }
    }
}
