//! Any sequence of creations, publications, tags and deletions of images has the effect that the rules of
//! `spec/api.md` 5.6 say, seen through the API. The model below is written from the rules alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use crate::Installation;
use crate::sequences::every_sequence;

const VERSIONS: [&str; 4] = ["v1", "v2", "v3", "v4"];
/// Some are versions too.
const TAGS: [&str; 6] = ["stable", "beta", "v1", "v2", "head", "default"];

#[derive(Debug, Clone)]
enum Step {
    Create { version: usize },
    Publish { image: usize },
    Tag { image: usize, tag: usize },
    Untag { image: usize, tag: usize },
    Delete { image: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (image, tag) = (0..4_usize, 0..TAGS.len());
    prop_oneof![
        4 => (0..VERSIONS.len()).prop_map(|version| Step::Create { version }),
        4 => image.clone().prop_map(|image| Step::Publish { image }),
        4 => (image.clone(), tag.clone()).prop_map(|(image, tag)| Step::Tag { image, tag }),
        2 => (image.clone(), tag).prop_map(|(image, tag)| Step::Untag { image, tag }),
        1 => image.prop_map(|image| Step::Delete { image }),
    ]
}

#[derive(Debug)]
struct Image {
    version: &'static str,
    published: bool,
    /// Whether they are fixed.
    tags: BTreeMap<&'static str, bool>,
}

/// The images of a flavour, oldest first.
#[derive(Debug, Default)]
struct Model(Vec<Image>);

impl Model {
    /// What is to be done with which image, if there is any.
    fn target(&self, image: usize) -> Option<usize> {
        image.checked_rem(self.0.len())
    }

    /// Of an image that is being published, or is: within a flavour a tag means one usable image.
    fn consolidate(&mut self, image: usize) {
        let ours = self.0[image].tags.clone();
        for (_, other) in self.0.iter_mut().enumerate().filter(|(index, _)| *index != image) {
            other.tags.retain(|tag, _| match ours.get(tag) {
                Some(fixed) => !fixed && !other.published,
                None => true,
            });
        }
    }

    fn is_fixed_elsewhere(&self, image: usize, tag: &str) -> bool {
        let others = self.0.iter().enumerate().filter(|(index, _)| *index != image);
        others.into_iter().any(|(_, other)| other.tags.get(tag) == Some(&true))
    }

    /// Makes the step; the code that it is answered with.
    fn apply(&mut self, step: &Step) -> i64 {
        match *step {
            Step::Create { version } => {
                let version = VERSIONS[version];
                if self.0.iter().any(|image| image.version == version) {
                    return 7200;
                }
                let tags = [(version, true), ("head", false)].into();
                self.0.push(Image { version, published: false, tags });
            }
            Step::Publish { image } => {
                let Some(image) = self.target(image) else { return 0 };
                if self.0[image].published {
                    return 1100;
                }
                if !self.0.iter().any(|other| other.published && other.tags.contains_key("default")) {
                    self.0[image].tags.entry("default").or_insert(false);
                }
                self.consolidate(image);
                self.0[image].published = true;
            }
            Step::Tag { image, tag } => {
                let (Some(image), tag) = (self.target(image), TAGS[tag]) else { return 0 };
                if self.is_fixed_elsewhere(image, tag) {
                    return 7330;
                }
                self.0[image].tags.entry(tag).or_insert(false);
                if self.0[image].published {
                    self.consolidate(image);
                }
            }
            Step::Untag { image, tag } => {
                let (Some(image), tag) = (self.target(image), TAGS[tag]) else { return 0 };
                match self.0[image].tags.get(tag) {
                    Some(true) => return 7340,
                    Some(false) if tag == "head" || tag == "default" => return 7340,
                    _ => drop(self.0[image].tags.remove(tag)),
                }
            }
            Step::Delete { image } => {
                let Some(image) = self.target(image) else { return 0 };
                let gone = self.0.remove(image);
                for tag in ["head", "default"] {
                    let heir = self.0.iter_mut().rev().find(|other| other.published);
                    if let Some(heir) = heir
                        && gone.published
                        && gone.tags.contains_key(tag)
                    {
                        heir.tags.entry(tag).or_insert(false);
                    }
                }
            }
        }
        0
    }
}

/// A fresh flavour of one case, and its images, oldest first.
struct Case<'a> {
    it: &'a Installation,
    osf: Value,
    images: Vec<Value>,
}

impl<'a> Case<'a> {
    async fn new(it: &'a Installation) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("osf{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let request = json!({"action": "osf_create", "arguments": {"name": name, "tenant_id": 1}});
        let osf = it.post("/api", &request).await.1["rows"][0]["id"].clone();
        Self { it, osf, images: Vec::new() }
    }

    async fn apply(&mut self, step: &Step) -> i64 {
        let target = |image: usize| image.checked_rem(self.images.len());
        let tag = |verb: &str, tag: usize| json!({"__tags_changes__": {verb: [TAGS[tag]]}});
        let (path, action, image, arguments) = match *step {
            Step::Create { version } => return self.create(VERSIONS[version]).await,
            Step::Publish { image } => ("/api/di/publish", "", target(image), json!({})),
            Step::Tag { image, tag: wanted } => ("/api", "di_update", target(image), tag("create", wanted)),
            Step::Untag { image, tag: wanted } => ("/api", "di_update", target(image), tag("delete", wanted)),
            Step::Delete { image } => ("/api", "di_delete", target(image), json!({})),
        };
        let Some(image) = image else { return 0 };
        let id = self.images[image].clone();
        let request = match step {
            Step::Publish { .. } => json!({"id": id}),
            _ => json!({"action": action, "filters": {"id": id}, "arguments": arguments}),
        };
        let answer = self.it.post(path, &request).await.1;
        let code = match answer["status"].as_i64() {
            Some(1200) => answer["failures"][id.to_string()]["status"].as_i64(),
            status => status,
        };
        if matches!(step, Step::Delete { .. }) && code == Some(0) {
            self.images.remove(image);
        }
        code.unwrap_or_else(|| panic!("{request}: {answer}"))
    }

    async fn create(&mut self, version: &str) -> i64 {
        let arguments = json!({"disk_image": "image.tar.gz", "osf_id": self.osf, "version": version});
        let request = json!({"action": "di_create", "arguments": arguments});
        let answer = self.it.post("/api", &request).await.1;
        if answer["status"] == 0 {
            let id = answer["rows"][0]["id"].clone();
            // Its file is of no interest here.
            self.it.sql(&format!("UPDATE di_runtimes SET state = 'ready' WHERE di_id = {id}")).await;
            self.images.push(id);
        }
        answer["status"].as_i64().unwrap_or_else(|| panic!("{request}: {answer}"))
    }

    async fn tags(&self) -> Vec<(String, BTreeMap<String, bool>)> {
        let request = json!({"action": "di_get_list", "filters": {"osf_id": self.osf}, "block": 0,
                             "fields": ["state", "tags"], "order_by": {"field": "id", "order": "-asc"}});
        let answer = self.it.post("/api", &request).await.1;
        let rows = answer["rows"].as_array().unwrap();
        let tag = |tag: &Value| {
            (tag["tag"].as_str().unwrap().to_owned(), tag["fixed"] == 1 || tag["fixed"] == true)
        };
        rows.iter()
            .map(|row| {
                let tags = row["tags"].as_array().unwrap().iter().map(tag).collect();
                (row["state"].as_str().unwrap().to_owned(), tags)
            })
            .collect()
    }
}

async fn check(it: &Installation, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut case = Case::new(it).await;
    let mut model = Model::default();
    for step in &steps {
        prop_assert_eq!(case.apply(step).await, model.apply(step), "{:?}", step);
        let expected: Vec<_> = model
            .0
            .iter()
            .map(|image| {
                let tags = image.tags.iter().map(|(tag, fixed)| ((*tag).to_owned(), *fixed)).collect();
                (if image.published { "published" } else { "ready" }.to_owned(), tags)
            })
            .collect();
        prop_assert_eq!(case.tags().await, expected, "after {:?}", step);
    }
    Ok(())
}

#[test]
fn tags_are_as_their_rules_say() {
    every_sequence("tagmodel", 16, step(), check);
}
