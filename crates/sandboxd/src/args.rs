//! The command line.

use crate::session::restore;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What `--help` prints, and what follows a misuse.
pub const USAGE: &str = "\
Usage:
  sandboxd init -- ROLE              supervise ROLE (`session` or `town`) as the first process of a container;
  sandboxd init -- /PATH ARG...      or any other program, named by its path
  sandboxd session                   serve the sessions of a sandbox
  sandboxd town                      serve a town
  sandboxd restore [--file PATH] KILO_SESSION_ID WORKSPACE
                                     put an exported session back into the agent's storage and its files into WORKSPACE;
                                     deletes PATH, or what it downloaded, and prints one line of JSON
  sandboxd host --listen ADDRESS --root DIR [--exit-with-stdin]
                                     run containers as process groups of this machine, for development and tests
  sandboxd --version | --help

`session` and `town` are configured by their environment, `host` takes its token from HOLDFAST_HOST_TOKEN, `restore` without
--file downloads from KILO_SESSION_INGEST_URL with KILOCODE_TOKEN.";

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Print the usage.
    Help,
    /// Run a local container host.
    Host(HostOptions),
    /// Supervise a child.
    Init {
        /// What follows `--`; not empty.
        child: Vec<OsString>,
    },
    /// Put an exported session back.
    Restore(restore::Options),
    /// Serve sessions.
    Session,
    /// Serve a town.
    Town,
    /// Print the version.
    Version,
}

/// The options of `sandboxd host`.
#[derive(Debug, PartialEq, Eq)]
pub struct HostOptions {
    /// Where it listens: loopback, port 0 for a free one.
    pub listen: SocketAddr,
    /// Holds the disks and logs of the containers.
    pub root: PathBuf,
    /// Ends the host when its standard input does, that is, when the process that started it died.
    pub exit_with_stdin: bool,
}

/// Parses what follows the program's name, or says what is wrong in one sentence.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut args = args.into_iter();
    let Some(name) = args.next() else { return Err("a role is missing".to_owned()) };
    let command = match name.to_str() {
        Some("--help" | "-h") => Command::Help,
        Some("--version" | "-V") => Command::Version,
        Some("host") => return parse_host(args).map(Command::Host),
        Some("init") => return parse_init(args),
        Some("restore") => return parse_restore(args).map(Command::Restore),
        Some("session") => Command::Session,
        Some("town") => Command::Town,
        _ => return Err(format!("unknown role {}", name.display())),
    };
    match args.next() {
        Some(more) => Err(format!("unexpected argument {}", more.display())),
        None => Ok(command),
    }
}

fn parse_init(mut args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    if args.next().is_none_or(|separator| separator != "--") {
        return Err("init: expected `--` and the role to supervise".to_owned());
    }
    let child: Vec<OsString> = args.collect();
    match child.first().map(|first| first.to_string_lossy()) {
        None => Err("init: the role to supervise is missing after `--`".to_owned()),
        Some(name) if name == "session" || name == "town" || name.contains('/') => Ok(Command::Init { child }),
        Some(name) => Err(format!("init: {name} is neither `session` nor `town` nor the path of a program")),
    }
}

fn parse_host(mut args: impl Iterator<Item = OsString>) -> Result<HostOptions, String> {
    let (mut listen, mut root, mut exit_with_stdin) = (None, None, false);
    while let Some(option) = args.next() {
        match option.to_str() {
            Some("--listen") => {
                let text = args.next().ok_or("host: --listen needs an address")?;
                let address = text.to_str().and_then(|text| text.parse::<SocketAddr>().ok());
                listen = Some(address.ok_or("host: --listen needs an address such as 127.0.0.1:8790")?);
            }
            Some("--root") => root = Some(PathBuf::from(args.next().ok_or("host: --root needs a folder")?)),
            Some("--exit-with-stdin") => exit_with_stdin = true,
            _ => return Err(format!("host: unexpected argument {}", option.display())),
        }
    }
    let listen = listen.ok_or("host: --listen is missing")?;
    if !listen.ip().is_loopback() {
        return Err(format!("host: {listen} is not a loopback address; whoever reaches the host runs programs on it"));
    }
    Ok(HostOptions { listen, root: root.ok_or("host: --root is missing")?, exit_with_stdin })
}

fn parse_restore(mut args: impl Iterator<Item = OsString>) -> Result<restore::Options, String> {
    let (mut file, mut places) = (None, Vec::new());
    while let Some(argument) = args.next() {
        match argument.to_str() {
            Some("--file") => file = Some(PathBuf::from(args.next().ok_or("restore: --file needs a path")?)),
            Some(option) if option.starts_with('-') => return Err(format!("restore: unexpected argument {option}")),
            _ => places.push(argument),
        }
    }
    match <[OsString; 2]>::try_from(places) {
        Ok([session, workspace]) => {
            Ok(restore::Options { file, session: session.to_string_lossy().into_owned(), workspace: workspace.into() })
        }
        Err(_) => Err("restore: expected a session id and a workspace".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn every_role_is_understood() {
        assert_eq!(parsed("session"), Ok(Command::Session));
        assert_eq!(parsed("town"), Ok(Command::Town));
        assert_eq!(parsed("--version"), Ok(Command::Version));
        assert_eq!(parsed("init -- session"), Ok(Command::Init { child: vec!["session".into()] }));
        assert_eq!(
            parsed("init -- /bin/sh -c x"),
            Ok(Command::Init { child: vec!["/bin/sh".into(), "-c".into(), "x".into()] })
        );
        assert_eq!(
            parsed("host --root /r --listen 127.0.0.1:0 --exit-with-stdin"),
            Ok(Command::Host(HostOptions {
                listen: "127.0.0.1:0".parse().unwrap(),
                root: "/r".into(),
                exit_with_stdin: true
            }))
        );
    }

    #[test]
    fn restore_takes_its_file_anywhere() {
        let options = |file: Option<&str>| {
            Ok(Command::Restore(restore::Options {
                file: file.map(PathBuf::from),
                session: "ses_1".into(),
                workspace: "/w".into(),
            }))
        };
        assert_eq!(parsed("restore ses_1 /w"), options(None));
        assert_eq!(parsed("restore --file /f ses_1 /w"), options(Some("/f")));
        assert_eq!(parsed("restore ses_1 /w --file /f"), options(Some("/f")));
    }

    #[test]
    fn misuse_is_named() {
        for (line, word) in [
            ("", "missing"),
            ("serve", "serve"),
            ("town now", "now"),
            ("init", "--"),
            ("init --", "missing"),
            ("init -- host", "host"),
            ("restore ses_1", "workspace"),
            ("restore ses_1 /w /x", "workspace"),
            ("restore ses_1 /w --file", "path"),
            ("restore --files /f ses_1 /w", "--files"),
            ("host --root /r", "--listen"),
            ("host --listen 127.0.0.1:0", "--root"),
            ("host --root /r --listen here", "127.0.0.1"),
            ("host --root /r --listen 127.0.0.1:0 --port", "--port"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn a_host_listens_on_loopback_only() {
        for address in ["0.0.0.0:80", "192.168.1.1:80", "[::]:80"] {
            assert!(parsed(&format!("host --root /r --listen {address}")).unwrap_err().contains("loopback"));
        }
        assert!(parsed("host --root /r --listen [::1]:80").is_ok());
    }
}
