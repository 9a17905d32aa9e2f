//! Completion as real shells do it.

use std::process::Command;

use crate::Program;
use crate::installation::Installation;

/// What bash offers at the end of `line`, with the words as bash splits them.
fn offered(program: &Program, line: &str) -> Vec<String> {
    let script = r#"
        eval "$("$QA4" completion bash)"
        COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDS=("$QA4" rest); COMP_CWORD=1
        _qa4
        ((${#COMPREPLY[@]})) && printf '%s\n' "${COMPREPLY[@]}"
        true
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash", line]);
    let as_program = program.command();
    bash.env_clear().env("QA4", as_program.get_program());
    for (name, value) in as_program.get_envs().filter_map(|(n, v)| Some((n, v?))) {
        bash.env(name, value);
    }
    let output = tokio::task::block_in_place(|| bash.output()).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bash_completes_words_fields_values_and_names() {
    let it = Installation::start("bash").await;
    let program = Program::of(&it, "superadmin", "*");
    for line in [
        &["user", "new", "name=anna,password=x"][..],
        &["user", "new", "name=annika,password=x"],
        &["osf", "new", "name=office"],
        &["vm", "new", "name='My desktop',user=anna,osf=office"],
    ] {
        let run = program.run(line);
        assert_eq!(run.exit, 0, "{run:?}");
    }
    for (line, expected) in [
        ("qa4 prop", &["property"][..]),
        ("qa4 --quiet vm unb", &["unblock"]),
        ("qa4 vm user=anni", &["annika"]),
        ("qa4 vm user=ann", &["anna", "annika"]),
        ("qa4 vm new name=x, osf=", &["office"]),
        ("qa4 vm My", &["\"'My desktop'\""]),
        ("qa4 vm get name,i", &["name,id", "name,ip", "name,ip_in_use"]),
        ("qa4 config set key=l7r.por", &["l7r.port"]),
        ("qa4 --no-h", &["--no-headers"]),
        ("qa4 nonsense x", &[]),
    ] {
        assert_eq!(offered(&program, line), expected, "{line}");
    }
    it.stop().await;
    // Where no API answers, only names are missing.
    assert_eq!(offered(&program, "qa4 vm user=ann"), [""; 0]);
    assert_eq!(offered(&program, "qa4 vm x st"), ["start", "stop"]);
}

/// A shell that finds the program as `qa4`, with the program's own environment.
fn shell(program: &Program, it: &Installation, name: &str) -> Command {
    let bin = it.path("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(program.command().get_program(), bin.join("qa4")).unwrap();
    }
    let mut shell = Command::new("timeout");
    shell.args(["60", name]).env_clear();
    shell.envs(program.command().get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).env("TERM", "dumb");
    shell
}

/// Types into an interactive zsh on a terminal of its own, presses Tab, and waits for what it makes of it.
const ZSH: &str = r#"
    zmodload zsh/zpty
    zpty it zsh -f -i
    zpty -w it 'PS1=; autoload -Uz compinit; compinit -u -D; source <(qa4 completion zsh); echo REA""DY'
    zpty -r it shown '*READY*'
    zpty -w -n it "$1"$'\t'
    zpty -r it shown "*$2*" && print found
    zpty -d it
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zsh_and_fish_complete_as_well() {
    let it = Installation::start("othershells").await;
    let program = Program::of(&it, "superadmin", "*");
    let run = program.run(&["user", "new", "name=annika,password=x"]);
    assert_eq!(run.exit, 0, "{run:?}");
    for (line, whole) in [
        ("qa4 --no-h", "qa4 --no-headers"),
        ("qa4 vm x unb", "qa4 vm x unblock"),
        ("qa4 vm user=ann", "qa4 vm user=annika"),
        ("qa4 config set key=l7r.por", "qa4 config set key=l7r.port"),
    ] {
        let mut zsh = shell(&program, &it, "zsh");
        zsh.args(["-f", "-c", ZSH, "zsh", line, whole]);
        let output = tokio::task::block_in_place(|| zsh.output()).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "found\n", "zsh, {line}: {output:?}");

        let mut fish = shell(&program, &it, "fish");
        fish.args(["--no-config", "-c", "qa4 completion fish | source; complete -C $argv[1]", line]);
        let output = tokio::task::block_in_place(|| fish.output()).unwrap();
        let word = whole.rsplit(' ').next().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{word}\n"), "fish, {line}: {output:?}");
    }
    it.stop().await;
}
