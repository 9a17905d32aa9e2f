//! The interactive shell, typed into through a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};

use crate::Program;
use crate::installation::Installation;

/// A program at a terminal, and what it has shown that nobody has looked at yet.
pub struct Terminal {
    screen: File,
    child: Child,
    shown: String,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Terminal {
    pub fn start(program: &Program, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).unwrap();
        // A session of its own, whose terminal this is: Ctrl-C and questions for passwords need one.
        let program = program.command();
        let mut command = Command::new("/usr/bin/setsid");
        command.args(["--ctty", "--wait"]).arg(program.get_program()).args(arguments);
        command.env_clear().env("TERM", "xterm").current_dir(program.get_current_dir().unwrap());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        for stream in [Command::stdin, Command::stdout, Command::stderr] {
            stream(&mut command, Stdio::from(pair.slave.try_clone().unwrap()));
        }
        let child = command.spawn().unwrap();
        Self { screen: File::from(pair.master), child, shown: String::new() }
    }

    pub fn types(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until this is shown, and returns everything up to there.
    pub fn expect(&mut self, wanted: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown.find(wanted) {
                let rest = self.shown.split_off(at + wanted.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            assert!(self.read(end), "{wanted:?} in {:?}", self.shown);
        }
    }

    /// Reads what comes; `false` at the end, or when it is too late.
    fn read(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let mut ready = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::try_from(left).unwrap()).unwrap() == 0 {
            return false;
        }
        let mut bytes = [0; 4096];
        match self.screen.read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
                true
            }
        }
    }

    /// The exit code.
    pub fn end(mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        while self.read(end) {}
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal's hangup reaches a program only when nobody else has the other end.
        let _gone = self.child.kill();
        let _code = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_completed_confirmed_paged_and_remembered() {
    let it = Installation::start("shell").await;
    let program = Program::of(&it, "superadmin", "*");
    for line in [&["osf", "new", "name=office"][..], &["user", "new", "name=annika,password=x"]] {
        assert_eq!(program.run(line).exit, 0);
    }
    tokio::task::block_in_place(|| {
        // Options alone open the shell.
        let mut shell = Terminal::start(&program, &["--for-tenant", "default"]);
        shell.expect("> ");
        // Words and the names of objects.
        shell.types("use\t ann\t ge\t nam\t\r");
        shell.expect("| annika |");
        shell.expect("Total: 1");
        shell.expect("> ");
        for n in 1..=3 {
            shell.types(&format!("vm new name=vm{n}, user=annika, osf=office\r"));
            shell.expect("Total: 1");
            shell.expect("> ");
        }
        // A change of everything asks first; only yes goes on.
        shell.types("vm block\r");
        let question = shell.expect("y/n: ");
        assert!(question.contains("all 3 virtual machines: vm1, vm2, vm3"), "{question}");
        shell.types("n\r");
        shell.expect("nothing was changed");
        shell.expect("> ");
        shell.types("vm block\r");
        shell.expect("y/n: ");
        shell.types("Yes\r");
        shell.expect("Total: 3");
        shell.expect("> ");
        // Pages.
        shell.types("block 2\r");
        shell.expect("> ");
        // Pasted lines run one after the other.
        shell.types("\u{1b}[200~block\nusage filters\u{1b}[201~\r");
        shell.expect("\r\n2\r\n");
        shell.expect("SELECTIONS");
        shell.expect("> ");
        shell.types("vm get name\r");
        shell.expect("vm2");
        shell.expect("page 1/2");
        shell.types("n");
        shell.expect("vm3");
        shell.expect("page 2/2");
        shell.types("b");
        shell.expect("vm1");
        shell.expect("page 1/2");
        shell.types("q");
        shell.expect("> ");
        // A slip is shown at its place, and leaves nothing behind.
        shell.types("vm del name=vm1\r");
        let told = shell.expect("^");
        assert!(told.contains("put the filter before the action: vm name=vm1 del"), "{told}");
        shell.expect("> ");
        // Secrets stay out of the history; Ctrl-C gives up a line, twice in a row the shell.
        shell.types("user new name=bob, password=s3cr3t\r");
        shell.expect("Total: 1");
        shell.expect("> ");
        shell.types("vm get oops\u{3}");
        shell.expect("Ctrl-C again");
        shell.expect("> ");
        shell.types("version\r");
        shell.expect("API 4.");
        shell.expect("> ");
        shell.types("quit\r");
        assert_eq!(shell.end(), 1, "a command failed");
    });
    let history = program.home(".qvd/qa.history");
    let text = std::fs::read_to_string(&history).unwrap();
    assert!(text.contains("vm get name") && !text.contains("s3cr3t"), "{text}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&history).unwrap());
    assert_eq!(mode & 0o777, 0o600);

    tokio::task::block_in_place(|| {
        let mut shell = Terminal::start(&program, &[]);
        shell.expect("> ");
        // The line above, of the last session.
        shell.types("\u{1b}[A\u{1b}[A");
        shell.expect("version");
        shell.types("\u{15}exit\r");
        assert_eq!(shell.end(), 0);
        let mut shell = Terminal::start(&program, &[]);
        shell.expect("> ");
        shell.types("\u{3}");
        shell.expect("Ctrl-C again");
        shell.expect("> ");
        shell.types("\u{3}");
        assert_eq!(shell.end(), 130);
    });
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_shot_shell_pipe_and_file_give_the_same() {
    let it = Installation::start("forms").await;
    let program = Program::of(&it, "superadmin", "*");
    assert_eq!(program.run(&["user", "new", "name=ann,password=x"]).exit, 0);
    let once = program.run(&["user", "name=ann", "get", "name, blocked"]);
    assert_eq!(once.exit, 0, "{once:?}");
    let line = "user name=ann get name, blocked";
    let piped = program.fed(&[], &format!("# a comment\n{line} # another\n\n"));
    assert_eq!((piped.exit, &piped.out), (0, &once.out), "{piped:?}");
    let file = it.path("script");
    std::fs::write(&file, "user name=ann \\\n  get name, blocked\n").unwrap();
    let scripted = program.run(&["--file", file.to_str().unwrap()]);
    assert_eq!((scripted.exit, &scripted.out), (0, &once.out), "{scripted:?}");
    let typed = tokio::task::block_in_place(|| {
        let mut shell = Terminal::start(&program, &[]);
        shell.expect("> ");
        shell.types(&format!("{line}\r"));
        shell.expect("\r\n");
        let typed = shell.expect("Total: 1\r\n");
        shell.types("quit\r");
        assert_eq!(shell.end(), 0);
        typed
    });
    let table = once.out.replace('\n', "\r\n");
    assert!(typed.ends_with(&table), "{typed:?}");
    // A script asks nothing, says where it failed, and may go on.
    let failing = "user block\nuser nobody del\nuser get name\n";
    let stopped = program.fed(&[], failing);
    assert_eq!((stopped.exit, stopped.out.as_str()), (10, ""), "{stopped:?}");
    assert!(stopped.err.starts_with("qa4: -:1: "), "{stopped:?}");
    let kept = program.fed(&["--keep-going"], failing);
    assert_eq!(kept.exit, 10, "{kept:?}");
    assert!(kept.err.contains("-:2: ") && kept.out.contains("| ann  |"), "{kept:?}");
    it.stop().await;
}
