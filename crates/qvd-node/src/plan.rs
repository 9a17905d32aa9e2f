//! What a start needs, read and checked before anything is touched.

use qvd_db::node::{StartFacts, TaggedImage};
use qvd_model::{Failure, FailureCode, Generation, VmId, network};
use qvd_runtime::Values;
use qvd_runtime::config::ConfigError;

use crate::checks::address_plan;
use crate::record::Record;

/// Memory of a desktop whose OSF names none, in MB.
const DEFAULT_MEMORY: u32 = 256;

/// The one image that a VM is to run, or why there is none (`spec/node.md` 3.3 and 15.4).
pub fn choose_image(facts: &StartFacts, images: Vec<TaggedImage>) -> Result<TaggedImage, Failure> {
    let (osf, tag) = (&facts.osf_name, &facts.tag);
    let mut images = images.into_iter();
    let Some(image) = images.next() else {
        return Err(Failure::new(FailureCode::NoImage, format!("OSF {osf} has no image with tag `{tag}`")));
    };
    if let Some(other) = images.next() {
        let detail =
            format!("images {} and {} of OSF {osf} both have tag `{tag}`", image.version, other.version);
        return Err(Failure::new(FailureCode::SeveralImages, detail));
    }
    if image.blocked {
        let detail = format!("image {} of OSF {osf}, which has tag `{tag}`, is blocked", image.version);
        return Err(Failure::new(FailureCode::ImageBlocked, detail));
    }
    if image.state != "published" {
        let detail = format!("image {} of OSF {osf} is {}, not published", image.version, image.state);
        return Err(Failure::new(FailureCode::ImageNotPublished, detail));
    }
    Ok(image)
}

/// The record of a start that is about to happen. `secret` is what router and daemon will show to the agent.
pub fn draw_up(
    vm: VmId,
    generation: Generation,
    facts: StartFacts,
    image: TaggedImage,
    (boot, secret): (String, String),
    values: &Values,
) -> Result<Record, Failure> {
    let address = facts.address.ok_or_else(|| {
        Failure::new(FailureCode::NetworkFailed, format!("VM {} has no IPv4 address", facts.name))
    })?;
    let plan = address_plan(values).map_err(|problem| Failure::new(FailureCode::Configuration, problem))?;
    if !plan.is_vm(address) || plan.gateway() == Some(address) {
        // The firewall knows desktops by their range: one outside it would be held for a node.
        let detail = format!(
            "VM {} has the address {address}; VMs have addresses from {} to {} (vm.network.ip.start, vm.network.netmask)",
            facts.name,
            plan.first_vm(),
            plan.last_vm()
        );
        return Err(Failure::new(FailureCode::NetworkFailed, detail));
    }
    let read = || -> Result<Record, ConfigError> {
        Ok(Record {
            boot,
            vm,
            name: facts.name.clone(),
            generation,
            user: facts.user,
            login: facts.login.clone(),
            osf: facts.osf,
            di: image.di,
            image: image.path.clone(),
            sha256: image.sha256.clone(),
            memory: facts.memory.and_then(|mb| u32::try_from(mb).ok()).unwrap_or(DEFAULT_MEMORY),
            persistent: facts.overlay && values.flag("vm.overlay.persistent")?,
            home: facts.home != Some(0),
            home_per_user: values.flag("vm.lxc.home.per.user")?,
            address,
            mac: network::mac(&values.text("vm.network.mac.prefix")?, address),
            secret,
            process: None,
        })
    };
    read().map_err(configuration)
}

/// A wrong configuration as the reason of a failed start.
pub fn configuration(error: ConfigError) -> Failure {
    Failure::new(FailureCode::Configuration, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use qvd_model::{DiId, OsfId, TenantId, UserId};

    use super::*;

    fn facts() -> StartFacts {
        StartFacts {
            name: "TestVM".to_owned(),
            user: UserId(1),
            login: "test".to_owned(),
            tenant: TenantId(1),
            osf: OsfId(1),
            osf_name: "MyOSF".to_owned(),
            tag: "default".to_owned(),
            address: Some(Ipv4Addr::new(10, 0, 0, 100)),
            memory: Some(512),
            overlay: true,
            home: None,
        }
    }

    fn image(id: i32) -> TaggedImage {
        TaggedImage {
            di: DiId(id),
            path: format!("{id}-image.tar.gz"),
            version: format!("v{id}"),
            blocked: false,
            state: "published".to_owned(),
            sha256: None,
        }
    }

    #[test]
    fn each_reason_why_there_is_no_image_has_its_code() {
        let code = |images| choose_image(&facts(), images).map(|i| i.di.0).map_err(|f| f.code);
        assert_eq!(code(vec![image(1)]), Ok(1));
        assert_eq!(code(vec![]), Err(FailureCode::NoImage));
        assert_eq!(code(vec![image(1), image(2)]), Err(FailureCode::SeveralImages));
        assert_eq!(code(vec![TaggedImage { blocked: true, ..image(1) }]), Err(FailureCode::ImageBlocked));
        let ready = TaggedImage { state: "ready".to_owned(), ..image(1) };
        assert_eq!(code(vec![ready]), Err(FailureCode::ImageNotPublished));
    }

    #[test]
    fn a_desktop_never_has_the_address_of_a_node() {
        let config = qvd_runtime::Config::parse("f", "vm.network.gateway = 10.0.0.200").unwrap();
        let draw = |address: [u8; 4]| {
            let facts = StartFacts { address: Some(Ipv4Addr::from(address)), ..facts() };
            let made = (String::new(), String::new());
            draw_up(VmId(1), Generation(1), facts, image(1), made, &config.now()).map_err(|f| f.code)
        };
        assert!(draw([10, 0, 0, 100]).is_ok() && draw([10, 0, 255, 254]).is_ok());
        for foreign in [[10, 0, 0, 1], [10, 0, 0, 99], [10, 0, 0, 200], [10, 0, 255, 255], [8, 8, 8, 8]] {
            assert_eq!(draw(foreign), Err(FailureCode::NetworkFailed), "{foreign:?}");
        }
    }

    #[test]
    fn an_undefined_home_is_unlimited_and_zero_is_none() {
        let config = qvd_runtime::Config::parse("f", "").unwrap();
        let draw = |facts: StartFacts| {
            let made = (String::new(), String::new());
            draw_up(VmId(1), Generation(1), facts, image(1), made, &config.now()).unwrap()
        };
        assert!(draw(facts()).home);
        assert!(!draw(StartFacts { home: Some(0), ..facts() }).home);
        assert_eq!(draw(facts()).mac, "54:52:00:00:00:64");
    }
}
