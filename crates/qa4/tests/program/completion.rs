//! Completion as a real bash does it.

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
