//! Which VM.

use qvd_connect::VmEntry;

use crate::arguments::Arguments;
use crate::ask;
use crate::failure::Failure;

/// Prints the list as a table.
pub(crate) fn print(vms: &[VmEntry]) {
    println!("{:>6}  {:<24}  {:<10}  BLOCKED", "ID", "NAME", "STATE");
    for vm in vms {
        let blocked = if vm.blocked { "yes" } else { "no" };
        println!("{:>6}  {:<24}  {:<10}  {blocked}", vm.id, vm.name, vm.state);
    }
}

/// The VM that the arguments name, the only one, or the one that the user chooses.
pub(crate) async fn choose(arguments: &Arguments, vms: &[VmEntry]) -> Result<i32, Failure> {
    let first = vms.first().ok_or_else(|| Failure::NoVm { user: who(arguments) })?;
    let list = || vms.iter().map(|vm| format!("{} {}", vm.id, vm.name)).collect::<Vec<_>>().join(", ");
    if let Some(id) = arguments.vm {
        let known = vms.iter().any(|vm| vm.id == id);
        return if known { Ok(id) } else { Err(Failure::UnknownVm { id: id.to_string(), list: list() }) };
    }
    if arguments.one || vms.len() == 1 {
        return Ok(first.id);
    }
    if !ask::somebody() {
        return Err(Failure::NoChoice { list: list() });
    }
    print(vms);
    let answer = ask::line("VM (id or name): ".to_owned()).await.unwrap_or_default();
    named(vms, &answer).ok_or_else(|| Failure::UnknownVm { id: answer, list: list() })
}

/// The VM with this id or name, or the only one whose name begins so.
fn named(vms: &[VmEntry], answer: &str) -> Option<i32> {
    if let Some(vm) = vms.iter().find(|vm| vm.id.to_string() == answer || vm.name == answer) {
        return Some(vm.id);
    }
    let mut beginning = vms.iter().filter(|vm| !answer.is_empty() && vm.name.starts_with(answer));
    let only = beginning.next()?;
    beginning.next().is_none().then_some(only.id)
}

/// Whose VMs, in messages.
pub(crate) fn who(arguments: &Arguments) -> String {
    arguments.user.clone().unwrap_or_else(|| "the owner of the token".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_names_and_unambiguous_beginnings_choose() {
        let vm = |id, name: &str| VmEntry {
            id,
            state: "running".into(),
            name: name.into(),
            blocked: false,
            is_application: false,
        };
        let vms = [vm(7, "office"), vm(12, "office-test"), vm(9, "lab")];
        for (answer, id) in
            [("12", Some(12)), ("office", Some(7)), ("l", Some(9)), ("off", None), ("", None), ("x", None)]
        {
            assert_eq!(named(&vms, answer), id, "{answer}");
        }
    }
}
