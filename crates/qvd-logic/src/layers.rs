//! Layers of a container image, laid over each other as the OCI image specification says.
//!
//! A layer adds, replaces, and takes away: `.wh.NAME` removes what layers below have of that name, `.wh..wh..opq`
//! everything they have in its directory. What the layer itself adds stays, wherever in the layer the mark stands. The
//! parents of a path are resolved as a process would that has the image as its root, so no layer reaches out of it.

use std::collections::{BTreeMap, HashMap};

/// A path below the root: names with `/` between them, none of them empty, `.` or `..`. Empty is the root itself.
pub type Path = Vec<u8>;

/// What an entry of a layer is. `M` is what is kept about all but files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<M> {
    /// A directory.
    Directory(M),
    /// A file, by a number of its own.
    File(u64),
    /// A symbolic link.
    Symlink {
        /// Where it leads.
        target: Vec<u8>,
        /// About it.
        about: M,
    },
    /// A device or FIFO.
    Node(M),
    /// Another name of what has this path.
    HardLink(Vec<u8>),
}

/// Why a layer cannot be what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// A path has `..` in it.
    #[error("`{0}` leads out of the image")]
    Escape(String),
    /// A path is below a file.
    #[error("`{0}` is below something that is no directory")]
    BelowFile(String),
    /// Symbolic links lead in a circle.
    #[error("`{0}` leads in circles")]
    Circle(String),
    /// A hard link to nothing, or to a directory.
    #[error("`{0}` is another name of something that is not there")]
    Dangling(String),
    /// A mark that removes nothing that could have a name.
    #[error("`{0}` is a mark without a name")]
    Mark(String),
}

/// The layers so far, laid over each other.
#[derive(Debug)]
pub struct Layers<M> {
    tree: BTreeMap<Path, Place>,
    directories: Vec<M>,
    leaves: Vec<Leaf<M>>,
    layer: u32,
    names: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    layer: u32,
    what: What,
}

/// Numbers of a directory and of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Directory(usize),
    Leaf(usize),
}

#[derive(Debug)]
enum Leaf<M> {
    File(u64),
    Symlink { target: Vec<u8>, about: M },
    Node(M),
}

/// What the image is in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged<M> {
    /// Directories, parents first.
    pub directories: Vec<(Path, M)>,
    /// The names of each file that is left, by its number.
    pub files: HashMap<u64, Vec<Path>>,
    /// Everything else.
    pub others: Vec<Other<M>>,
}

/// A symbolic link, device or FIFO of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other<M> {
    /// Its names.
    pub names: Vec<Path>,
    /// Where a symbolic link leads.
    pub target: Option<Vec<u8>>,
    /// About it.
    pub about: M,
}

/// How many symbolic links a path may lead through, as in Linux.
const LINKS: usize = 40;
const MARK: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Marks of the file system that the first container images were made with.
const OWN: &[u8] = b".wh..wh.";

impl<M: Clone> Default for Layers<M> {
    fn default() -> Self {
        Self { tree: BTreeMap::new(), directories: Vec::new(), leaves: Vec::new(), layer: 0, names: 0 }
    }
}

impl<M: Clone> Layers<M> {
    /// What comes is part of the next layer.
    pub fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// How many bytes all names have that ever came: what the memory of it goes by.
    pub fn name_bytes(&self) -> u64 {
        self.names
    }

    /// Adds an entry of the layer; `given` is its path as it stands there.
    ///
    /// # Errors
    /// [`Contradiction`] when it cannot be part of an image.
    pub fn add(&mut self, given: &[u8], entry: Entry<M>) -> Result<(), Contradiction> {
        self.names += given.len() as u64;
        let plain = normal(given)?;
        let (parent, name) = match plain.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (plain.get(..at).unwrap_or_default(), plain.get(at + 1..).unwrap_or_default()),
            None => (&[][..], plain.as_slice()),
        };
        let parent = self.resolve(parent, given)?;
        if name == OPAQUE {
            self.remove_below(&parent, Some(self.layer));
            return Ok(());
        }
        if name.starts_with(OWN) {
            return Ok(());
        }
        if let Some(gone) = name.strip_prefix(MARK) {
            if matches!(gone, b"" | b"." | b"..") {
                return Err(Contradiction::Mark(text(given)));
            }
            let path = joined(&parent, gone);
            self.remove_below(&path, Some(self.layer));
            if self.tree.get(&path).is_some_and(|place| place.layer < self.layer) {
                self.tree.remove(&path);
            }
            return Ok(());
        }
        let path = joined(&parent, name);
        let what = match entry {
            Entry::Directory(about) => {
                self.directories.push(about);
                What::Directory(self.directories.len() - 1)
            }
            // The root is a directory whatever a layer says.
            _ if path.is_empty() => return Err(Contradiction::BelowFile(text(given))),
            Entry::File(number) => self.leaf(Leaf::File(number)),
            Entry::Symlink { target, about } => self.leaf(Leaf::Symlink { target, about }),
            Entry::Node(about) => self.leaf(Leaf::Node(about)),
            Entry::HardLink(target) => {
                let dangling = || Contradiction::Dangling(text(given));
                let plain = normal(&target)?;
                let at = plain.iter().rposition(|byte| *byte == b'/');
                let (holder, name) = at.map_or((&[][..], plain.as_slice()), |at| {
                    (plain.get(..at).unwrap_or_default(), plain.get(at + 1..).unwrap_or_default())
                });
                let holder = self.resolve(holder, &target)?;
                let found = self.tree.get(&joined(&holder, name)).map(|place| place.what);
                found.filter(|what| matches!(what, What::Leaf(_))).ok_or_else(dangling)?
            }
        };
        if matches!(what, What::Leaf(_)) {
            self.remove_below(&path, None);
        }
        self.tree.insert(path, Place { layer: self.layer, what });
        Ok(())
    }

    /// What is left of all layers.
    pub fn merged(self) -> Merged<M> {
        let mut merged = Merged { directories: Vec::new(), files: HashMap::new(), others: Vec::new() };
        let mut names: HashMap<usize, Vec<Path>> = HashMap::new();
        for (path, place) in self.tree {
            match place.what {
                What::Directory(number) => {
                    merged
                        .directories
                        .extend(self.directories.get(number).map(|about| (path, about.clone())));
                }
                What::Leaf(number) => names.entry(number).or_default().push(path),
            }
        }
        let mut left: Vec<_> = names.into_iter().collect();
        left.sort_unstable_by_key(|(number, _)| *number);
        for (number, names) in left {
            match self.leaves.get(number) {
                Some(Leaf::File(number)) => {
                    merged.files.insert(*number, names);
                }
                Some(Leaf::Symlink { target, about }) => {
                    let (target, about) = (Some(target.clone()), about.clone());
                    merged.others.push(Other { names, target, about });
                }
                Some(Leaf::Node(about)) => {
                    merged.others.push(Other { names, target: None, about: about.clone() });
                }
                None => {}
            }
        }
        merged
    }

    fn leaf(&mut self, leaf: Leaf<M>) -> What {
        self.leaves.push(leaf);
        What::Leaf(self.leaves.len() - 1)
    }

    /// Removes what is below a path; with `before` only what lower layers brought.
    fn remove_below(&mut self, path: &[u8], before: Option<u32>) {
        let below: Vec<Path> = if path.is_empty() {
            self.tree
                .range(Vec::new()..)
                .filter(|(path, _)| !path.is_empty())
                .map(|(path, _)| path.clone())
                .collect()
        } else {
            let (first, end) = (joined(path, b""), [path, b"0"].concat());
            self.tree.range(first..end).map(|(path, _)| path.clone()).collect()
        };
        for path in below {
            if before.is_none_or(|layer| self.tree.get(&path).is_some_and(|place| place.layer < layer)) {
                self.tree.remove(&path);
            }
        }
    }

    /// The directory that a path leads to.
    fn resolve(&self, path: &[u8], given: &[u8]) -> Result<Path, Contradiction> {
        let mut left: Vec<Vec<u8>> = names(path).rev().map(<[u8]>::to_vec).collect();
        let mut at = Path::new();
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == b".." {
                // The root is above itself.
                at.truncate(at.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            let next = joined(&at, &name);
            match self.tree.get(&next).map(|place| place.what) {
                // Directories need not have an entry.
                None | Some(What::Directory(_)) => at = next,
                Some(What::Leaf(number)) => {
                    let Some(Leaf::Symlink { target, .. }) = self.leaves.get(number) else {
                        return Err(Contradiction::BelowFile(text(given)));
                    };
                    links += 1;
                    if links > LINKS {
                        return Err(Contradiction::Circle(text(given)));
                    }
                    if target.first() == Some(&b'/') {
                        at.clear();
                    }
                    left.extend(names(target).rev().map(<[u8]>::to_vec));
                }
            }
        }
        Ok(at)
    }
}

/// The names of a path that mean anything.
fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

fn normal(path: &[u8]) -> Result<Path, Contradiction> {
    let mut plain = Path::new();
    for name in names(path) {
        if name == b".." {
            return Err(Contradiction::Escape(text(path)));
        }
        plain = joined(&plain, name);
    }
    Ok(plain)
}

fn joined(parent: &[u8], name: &[u8]) -> Path {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Given = (&'static str, Entry<u32>);

    fn merge(layers: &[&[Given]]) -> Result<Merged<u32>, Contradiction> {
        let mut all = Layers::default();
        for layer in layers {
            all.next_layer();
            for (path, entry) in *layer {
                all.add(path.as_bytes(), entry.clone())?;
            }
        }
        Ok(all.merged())
    }

    fn files(merged: &Merged<u32>) -> BTreeMap<String, u64> {
        let named = |(number, names): (&u64, &Vec<Path>)| {
            names.iter().map(|name| (text(name), *number)).collect::<Vec<_>>()
        };
        merged.files.iter().flat_map(named).collect()
    }

    fn link(target: &str) -> Entry<u32> {
        Entry::Symlink { target: target.as_bytes().to_vec(), about: 0 }
    }

    fn hard(target: &str) -> Entry<u32> {
        Entry::HardLink(target.as_bytes().to_vec())
    }

    #[test]
    fn marks_remove_what_is_below_and_keep_what_is_beside() {
        let below: &[Given] = &[
            ("./a/", Entry::Directory(1)),
            ("a/x", Entry::File(1)),
            ("a/y", Entry::File(2)),
            ("b", Entry::File(3)),
        ];
        let merged = merge(&[below, &[("a/.wh.x", Entry::File(4)), (".wh.b", Entry::File(5))]]).unwrap();
        assert_eq!(files(&merged), BTreeMap::from([("a/y".to_owned(), 2)]));
        // The mark stands after what the same layer adds, which stays.
        let merged = merge(&[below, &[("a/z", Entry::File(6)), ("a/.wh..wh..opq", Entry::File(7))]]).unwrap();
        assert_eq!(files(&merged), BTreeMap::from([("a/z".to_owned(), 6), ("b".to_owned(), 3)]));
        let merged = merge(&[
            below,
            &[("a/n", Entry::File(8)), (".wh.a", Entry::File(9)), (".wh..wh.plnk", Entry::File(10))],
        ])
        .unwrap();
        assert_eq!(files(&merged), BTreeMap::from([("a/n".to_owned(), 8), ("b".to_owned(), 3)]));
        assert!(merged.directories.is_empty(), "the directory below is gone, its attributes too");
        assert_eq!(merge(&[&[(".wh..", Entry::File(1))]]).unwrap_err(), Contradiction::Mark(".wh..".into()));
    }

    #[test]
    fn a_file_outlives_its_first_name() {
        let merged = merge(&[
            &[("a", Entry::File(1)), ("b", hard("a")), ("c", hard("./b"))],
            &[(".wh.a", Entry::File(2)), ("c", Entry::File(3))],
        ])
        .unwrap();
        assert_eq!(files(&merged), BTreeMap::from([("b".to_owned(), 1), ("c".to_owned(), 3)]));
        for gone in ["x", "d"] {
            let layer: &[Given] = &[("d/", Entry::Directory(0)), ("l", hard(gone))];
            assert_eq!(merge(&[layer]).unwrap_err(), Contradiction::Dangling("l".into()));
        }
    }

    #[test]
    fn links_among_parents_stay_inside() {
        let merged = merge(&[
            &[
                ("usr/lib/", Entry::Directory(1)),
                ("lib", link("usr/lib")),
                ("up", link("../../usr/./lib/..")),
                ("abs", link("/usr")),
            ],
            &[
                ("lib/x", Entry::File(1)),
                ("up/y", Entry::File(2)),
                ("abs/lib/z", Entry::File(3)),
                ("lib/.wh.q", Entry::File(4)),
            ],
        ])
        .unwrap();
        let wanted = [("usr/lib/x", 1), ("usr/lib/z", 3), ("usr/y", 2)];
        assert_eq!(files(&merged), wanted.map(|(name, n)| (name.to_owned(), n)).into());
        assert_eq!(merged.others.len(), 3);
        let bad: [(&[Given], Contradiction); 3] = [
            (&[("../x", Entry::File(1))], Contradiction::Escape("../x".into())),
            (
                &[("a", link("b")), ("b", link("a")), ("a/x", Entry::File(1))],
                Contradiction::Circle("a/x".into()),
            ),
            (&[("a", Entry::File(1)), ("a/x", Entry::File(2))], Contradiction::BelowFile("a/x".into())),
        ];
        for (layer, wanted) in bad {
            assert_eq!(merge(&[layer]).unwrap_err(), wanted);
        }
    }

    #[test]
    fn a_directory_and_a_file_replace_each_other() {
        let merged = merge(&[
            &[("a/", Entry::Directory(1)), ("a/x", Entry::File(1)), ("b", Entry::File(2))],
            &[("a", Entry::File(3)), ("b/", Entry::Directory(2)), ("b/y", Entry::File(4))],
        ])
        .unwrap();
        assert_eq!(files(&merged), BTreeMap::from([("a".to_owned(), 3), ("b/y".to_owned(), 4)]));
        assert_eq!(merged.directories, [(b"b".to_vec(), 2)]);
    }

    /// A step of a layer for the property: paths of up to three names of a few letters.
    #[derive(Debug, Clone)]
    enum Step {
        Directory,
        File,
        Gone,
        Opaque,
        Link(String),
    }

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
            .prop_map(|names| names.join("/"))
    }

    fn step() -> impl Strategy<Value = (String, Step)> {
        let step = prop_oneof![
            3 => Just(Step::Directory), 5 => Just(Step::File), 2 => Just(Step::Gone), 1 => Just(Step::Opaque),
            2 => path().prop_map(Step::Link),
        ];
        (path(), step)
    }

    /// The same done plainly: per layer first all marks, on what was there, then everything else in its order.
    #[derive(Default)]
    struct Plain {
        directories: BTreeSet<String>,
        files: BTreeMap<String, u64>,
    }

    impl Plain {
        fn remove(&mut self, path: &str, itself: bool) {
            let below = format!("{path}/");
            let stays = |name: &str| !(name.starts_with(&below) || (itself && name == path));
            self.directories.retain(|name| stays(name));
            self.files.retain(|name, _| stays(name));
        }

        fn is_below_file(&self, path: &str) -> bool {
            path.match_indices('/').any(|(at, _)| self.files.contains_key(&path[..at]))
        }
    }

    proptest! {
        #[test]
        fn layers_are_what_they_are_when_applied_one_after_the_other(
            layers in prop::collection::vec(prop::collection::vec(step(), 0..8), 1..4)
        ) {
            let (mut ours, mut plain, mut number) = (Layers::default(), Plain::default(), 0);
            for layer in &layers {
                ours.next_layer();
                let mut kept = Vec::new();
                // Only steps that make sense at their place; marks go by the tree before the layer.
                let mut after = Plain { directories: plain.directories.clone(), files: plain.files.clone() };
                for (path, step) in layer {
                    match step {
                        Step::Gone if !plain.is_below_file(path) && !after.is_below_file(path) => {
                            plain.remove(path, true);
                            kept.push((path, step));
                        }
                        Step::Opaque
                            if !plain.is_below_file(&format!("{path}/x")) && !after.is_below_file(&format!("{path}/x")) =>
                        {
                            plain.remove(path, false);
                            kept.push((path, step));
                        }
                        Step::Directory | Step::File => {
                            if after.is_below_file(path) || plain.is_below_file(path) {
                                continue;
                            }
                            if matches!(step, Step::File) {
                                after.files.insert(path.clone(), 0);
                            } else {
                                after.files.remove(path);
                            }
                            kept.push((path, step));
                        }
                        Step::Link(target) if !after.is_below_file(path) && !plain.is_below_file(path) => {
                            kept.push((path, step));
                            let _ = target;
                        }
                        _ => {}
                    }
                }
                let (mut marks, mut adds) = (Vec::new(), Vec::new());
                for (path, step) in kept {
                    match step {
                        Step::Gone => {
                            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                            marks.push((format!("{parent}/.wh.{name}"), path));
                        }
                        Step::Opaque => marks.push((format!("{path}/.wh..wh..opq"), path)),
                        _ => adds.push((path, step)),
                    }
                }
                let mut given: Vec<(String, Entry<u32>)> = Vec::new();
                for (path, step) in adds {
                    if plain.is_below_file(path) {
                        continue;
                    }
                    number += 1;
                    match step {
                        Step::Directory => {
                            plain.files.remove(path);
                            plain.directories.insert(path.clone());
                            given.push((path.clone(), Entry::Directory(0)));
                        }
                        Step::Link(target) => {
                            let Some(found) = plain.files.get(target).copied() else { continue };
                            if target == path || path.starts_with(&format!("{target}/")) {
                                continue;
                            }
                            plain.remove(path, true);
                            plain.files.insert(path.clone(), found);
                            given.push((path.clone(), hard(target)));
                        }
                        _ => {
                            plain.remove(path, true);
                            plain.files.insert(path.clone(), number);
                            given.push((path.clone(), Entry::File(number)));
                        }
                    }
                }
                // Whether marks come first or last must not matter, as long as their parents are directories.
                let late = given.len().is_multiple_of(2) && marks.iter().all(|(mark, _)| !plain.is_below_file(mark));
                let marks: Vec<_> = marks.into_iter().map(|(mark, _)| (mark, Entry::File(0))).collect();
                let order = if late { [given, marks] } else { [marks, given] };
                for (path, entry) in order.into_iter().flatten() {
                    ours.add(path.as_bytes(), entry).unwrap();
                }
            }
            let merged = ours.merged();
            prop_assert_eq!(files(&merged), plain.files);
            let directories: BTreeSet<String> = merged.directories.iter().map(|(path, _)| text(path)).collect();
            prop_assert_eq!(directories, plain.directories);
        }

        #[test]
        fn nothing_makes_it_fail_or_lead_out(
            layers in prop::collection::vec(prop::collection::vec(("[ab./]{0,8}", "[ab./]{0,6}", 0..5_u8), 0..10), 1..4)
        ) {
            let mut all = Layers::default();
            for layer in layers {
                all.next_layer();
                for (number, (path, target, kind)) in layer.into_iter().enumerate() {
                    let entry = match kind {
                        0 => Entry::Directory(0),
                        1 => Entry::File(number as u64),
                        2 => link(&target),
                        3 => hard(&target),
                        _ => Entry::Node(0),
                    };
                    let _ = all.add(path.as_bytes(), entry);
                }
            }
            let merged = all.merged();
            let others = merged.others.iter().flat_map(|other| &other.names);
            for path in merged.files.values().flatten().chain(others) {
                prop_assert!(!path.is_empty() && names(path).all(|name| name != b".."));
                // No path leads through a link or a file.
                for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                    prop_assert!(merged.files.values().flatten().all(|other| other.as_slice() != &path[..at]));
                }
            }
        }
    }
}
