//! Who has to do with whom: adjacency lists both ways, by id, with names that may not exist yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::table::{Table, set};
use super::{ServiceId, Spec};

/// What a link means to the service that declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// Up only while the other is; down before it.
    Requires,
    /// After the other, if that is starting too.
    After,
    /// The other is started along.
    Wants,
    /// Never both.
    Conflicts,
}

impl LinkKind {
    /// Does it say who comes first?
    const fn orders(self) -> bool {
        match self {
            Self::Requires | Self::After => true,
            Self::Wants | Self::Conflicts => false,
        }
    }
}

/// A declared link. `to` is none while nothing has that name.
#[derive(Clone, Debug)]
pub struct Link {
    /// What it means.
    pub kind: LinkKind,
    /// The name it was declared with.
    pub name: Rc<str>,
    /// Who has that name now.
    pub to: Option<ServiceId>,
}

/// The links of all services.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Table<Node>,
    names: BTreeMap<Rc<str>, ServiceId>,
    /// Who waits for a name that nothing has, and the place of that link among its links.
    absent: BTreeMap<Rc<str>, Vec<(ServiceId, usize)>>,
    /// The members of each cycle over `requires` and `after`, with the cycle they are in.
    cyclic: Table<Rc<[Rc<str>]>>,
    /// How many services and links there are.
    size: usize,
}

/// A breadth-first search that looks out for another one.
struct Search {
    seen: BTreeSet<ServiceId>,
    queue: VecDeque<ServiceId>,
}

impl Search {
    fn from(id: ServiceId) -> Self {
        Self {
            seen: set([id]),
            queue: VecDeque::from([id]),
        }
    }

    /// Takes in `next`; has the other search been there?
    fn meets(&mut self, next: ServiceId, other: &Self) -> bool {
        if self.seen.insert(next) {
            self.queue.push_back(next);
        }
        other.seen.contains(&next)
    }
}

#[derive(Clone, Debug)]
struct Node {
    name: Rc<str>,
    links: Vec<Link>,
    /// Who declares a link to this one, and the place of that link among its links.
    back: BTreeMap<(LinkKind, ServiceId), usize>,
}

impl Graph {
    /// Who has this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ServiceId> {
        self.names.get(name).copied()
    }

    /// All services by name.
    pub fn names(&self) -> impl Iterator<Item = (&Rc<str>, ServiceId)> {
        self.names.iter().map(|(name, id)| (name, *id))
    }

    /// What `id` declares: requires, after, wants, conflicts, each in declared order.
    #[must_use]
    pub fn links(&self, id: ServiceId) -> &[Link] {
        self.nodes.get(id).map_or(&[], |node| &node.links)
    }

    /// Who declares a link to `id`, and of which kind.
    pub fn back(&self, id: ServiceId) -> impl Iterator<Item = (LinkKind, ServiceId)> {
        self.nodes
            .get(id)
            .into_iter()
            .flat_map(|node| node.back.keys().copied())
    }

    /// Who `id` must not be up together with, whichever of the two says so.
    pub fn rivals(&self, id: ServiceId) -> impl Iterator<Item = ServiceId> {
        let declared = self
            .links(id)
            .iter()
            .filter(|link| link.kind == LinkKind::Conflicts)
            .filter_map(|link| link.to);
        let declaring = self
            .back(id)
            .filter(|(kind, _)| *kind == LinkKind::Conflicts)
            .map(|(_, other)| other);
        declared.chain(declaring)
    }

    /// The cycle `id` is a member of, as names in order; the last leads back to the first.
    #[must_use]
    pub fn cycle(&self, id: ServiceId) -> Option<&[Rc<str>]> {
        self.cyclic.get(id).map(|names| &**names)
    }

    /// How many services and links there are.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Adds `id`, or gives it new links. Whoever waited for its name is linked to it.
    pub(super) fn put(&mut self, id: ServiceId, spec: &Spec) {
        self.unlink(id);
        let node = Node {
            name: spec.name.clone(),
            links: Vec::new(),
            back: BTreeMap::new(),
        };
        if self.nodes.get(id).is_none() {
            self.nodes.insert(id, node);
            self.size += 1;
        }
        self.names.insert(spec.name.clone(), id);
        let lists = [
            (LinkKind::Requires, &spec.links.requires),
            (LinkKind::After, &spec.links.after),
            (LinkKind::Wants, &spec.links.wants),
            (LinkKind::Conflicts, &spec.links.conflicts),
        ];
        let mut links = Vec::with_capacity(lists.iter().map(|(_, names)| names.len()).sum());
        for (kind, names) in lists {
            let mut seen: BTreeSet<&str> = BTreeSet::new();
            // Nobody is his own rival.
            let is_self = |name: &str| kind == LinkKind::Conflicts && *name == *spec.name;
            let names = names.iter().filter(|name| !is_self(name));
            for name in names.filter(|name| seen.insert(name)) {
                let to = self.find(name);
                if let Some(other) = to {
                    self.back_of(other, |back| back.insert((kind, id), links.len()));
                } else {
                    let waiting = self.absent.entry(name.clone()).or_default();
                    waiting.push((id, links.len()));
                }
                links.push(Link {
                    kind,
                    name: name.clone(),
                    to,
                });
            }
        }
        self.size += links.len();
        if let Some(node) = self.nodes.get_mut(id) {
            node.links = links;
        }
        self.resolve(&spec.name, id);
    }

    /// Forgets `id`. Links to it become links to a name that nothing has.
    pub(super) fn remove(&mut self, id: ServiceId) {
        self.unlink(id);
        let Some(node) = self.nodes.remove(id) else {
            return;
        };
        self.size -= 1;
        self.names.remove(&node.name);
        self.cyclic.remove(id);
        for ((_, other), place) in node.back {
            if let Some(link) = self.link_mut(other, place) {
                link.to = None;
            }
            let waiting = self.absent.entry(node.name.clone()).or_default();
            waiting.push((other, place));
        }
    }

    /// After `changed` got new links, from them or to them: finds the cycles anew, and says who is
    /// in another one, or in none, now.
    pub(super) fn find_cycles(&mut self, changed: &[ServiceId]) -> Vec<ServiceId> {
        // A cycle that came or went leads through what changed. For a single service it is cheaper
        // to look from there than at everything; for many it is not.
        if let [id] = *changed
            && self.cyclic.get(id).is_none()
            && !self.leads_back(id)
        {
            return Vec::new();
        }
        let mut cyclic = Table::default();
        for members in self.cycles() {
            let names = self.spell(&members);
            for id in members {
                cyclic.insert(id, Rc::clone(&names));
            }
        }
        let before = std::mem::replace(&mut self.cyclic, cyclic);
        let members = set(before.iter().chain(self.cyclic.iter()).map(|(id, _)| id));
        let turned = |id: &ServiceId| before.get(*id) != self.cyclic.get(*id);
        members.into_iter().filter(turned).collect()
    }

    /// Does some way lead from `id` back to it? Searched from both sides in turn, so that it costs
    /// no more than the smaller of what `id` needs and what needs `id`.
    fn leads_back(&self, id: ServiceId) -> bool {
        let (mut needed, mut needing) = (Search::from(id), Search::from(id));
        loop {
            let Some(at) = needed.queue.pop_front() else {
                return false;
            };
            if self.order(at).any(|next| needed.meets(next, &needing)) {
                return true;
            }
            let Some(at) = needing.queue.pop_front() else {
                return false;
            };
            let mut followers = self
                .back(at)
                .filter(|(kind, _)| kind.orders())
                .map(|(_, other)| other);
            if followers.any(|next| needing.meets(next, &needed)) {
                return true;
            }
        }
    }

    /// Takes back what the links of `id` left in other nodes.
    fn unlink(&mut self, id: ServiceId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let links = std::mem::take(&mut node.links);
        self.size -= links.len();
        for (place, link) in links.into_iter().enumerate() {
            if let Some(other) = link.to {
                self.back_of(other, |back| back.remove(&(link.kind, id)));
            } else if let Some(waiting) = self.absent.get_mut(&link.name) {
                waiting.retain(|known| *known != (id, place));
                if waiting.is_empty() {
                    self.absent.remove(&link.name);
                }
            }
        }
    }

    fn resolve(&mut self, name: &Rc<str>, id: ServiceId) {
        for (other, place) in self.absent.remove(name).unwrap_or_default() {
            let Some(link) = self.link_mut(other, place) else {
                continue;
            };
            link.to = Some(id);
            let kind = link.kind;
            self.back_of(id, |back| back.insert((kind, other), place));
        }
    }

    fn link_mut(&mut self, id: ServiceId, place: usize) -> Option<&mut Link> {
        self.nodes.get_mut(id)?.links.get_mut(place)
    }

    fn back_of<T>(
        &mut self,
        id: ServiceId,
        change: impl FnOnce(&mut BTreeMap<(LinkKind, ServiceId), usize>) -> T,
    ) {
        if let Some(node) = self.nodes.get_mut(id) {
            change(&mut node.back);
        }
    }

    /// Who must be up before `id` may be.
    fn order(&self, id: ServiceId) -> impl Iterator<Item = ServiceId> {
        self.links(id)
            .iter()
            .filter(|link| link.kind.orders())
            .filter_map(|link| link.to)
    }

    /// The strongly connected components of more than one service, or of one that needs itself:
    /// Tarjan's algorithm, with a stack of its own in place of recursion.
    fn cycles(&self) -> Vec<Vec<ServiceId>> {
        let mut marks: Table<Mark> = Table::default();
        let mut path: Vec<ServiceId> = Vec::new();
        let mut found = Vec::new();
        let mut number = 0;
        for &root in self.names.values() {
            if marks.get(root).is_some() {
                continue;
            }
            let mut visits = vec![(root, self.order(root))];
            marks.insert(root, Mark::new(&mut number));
            path.push(root);
            while let Some((id, rest)) = visits.last_mut() {
                let id = *id;
                if let Some(next) = rest.next() {
                    match marks.get(next).copied() {
                        None => {
                            marks.insert(next, Mark::new(&mut number));
                            path.push(next);
                            visits.push((next, self.order(next)));
                        }
                        Some(mark) if mark.on_path => marks.or_default(id).reach(mark.number),
                        Some(_) => {}
                    }
                    continue;
                }
                visits.pop();
                let own = *marks.or_default(id);
                if let Some((parent, _)) = visits.last() {
                    marks.or_default(*parent).reach(own.low);
                }
                if own.low == own.number {
                    let start = path.iter().rposition(|on_path| *on_path == id).unwrap_or(0);
                    let members = path.split_off(start);
                    for member in &members {
                        marks.or_default(*member).on_path = false;
                    }
                    if members.len() > 1 || self.order(id).any(|next| next == id) {
                        found.push(members);
                    }
                }
            }
        }
        found
    }

    /// One round through a component, from its first name: breadth-first, so a short one.
    fn spell(&self, members: &[ServiceId]) -> Rc<[Rc<str>]> {
        let name = |id: ServiceId| self.nodes.get(id).map(|node| Rc::clone(&node.name));
        let Some(start) = members.iter().copied().min_by_key(|id| name(*id)) else {
            return Rc::new([]);
        };
        let inside = set(members.iter().copied());
        let mut came_from: Table<ServiceId> = Table::default();
        let mut queue = VecDeque::from([start]);
        while let Some(id) = queue.pop_front() {
            for next in self.order(id).filter(|next| inside.contains(next)) {
                if next == start {
                    let back = std::iter::successors(Some(id), |at| came_from.get(*at).copied());
                    let mut round: Vec<Rc<str>> = back.filter_map(name).collect();
                    round.reverse();
                    return round.into();
                }
                if next != id && came_from.get(next).is_none() {
                    came_from.insert(next, id);
                    queue.push_back(next);
                }
            }
        }
        name(start).into_iter().collect()
    }
}

/// Where Tarjan's algorithm stands with a service.
#[derive(Clone, Copy, Default)]
struct Mark {
    number: usize,
    /// The lowest number that it leads back to.
    low: usize,
    on_path: bool,
}

impl Mark {
    fn new(next: &mut usize) -> Self {
        let number = *next;
        *next += 1;
        Self {
            number,
            low: number,
            on_path: true,
        }
    }

    fn reach(&mut self, number: usize) {
        self.low = self.low.min(number);
    }
}

/// The cycles over `requires` and `after` among these specs, each as names in order; the last
/// leads back to the first.
#[must_use]
pub fn cycles(specs: &[&Spec]) -> Vec<Vec<Rc<str>>> {
    let mut graph = Graph::default();
    for (index, spec) in (0u32..).zip(specs) {
        graph.put(
            ServiceId {
                index,
                generation: 0,
            },
            spec,
        );
    }
    graph
        .cycles()
        .iter()
        .map(|members| graph.spell(members).to_vec())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, requires: &[&str]) -> Spec {
        let mut spec = Spec::target(name);
        spec.links.requires = requires.iter().map(|name| Rc::from(*name)).collect();
        spec
    }

    fn found(specs: &[Spec]) -> Vec<String> {
        cycles(&specs.iter().collect::<Vec<_>>())
            .iter()
            .map(|names| names.join(" "))
            .collect()
    }

    #[test]
    fn a_cycle_is_spelled_and_takes_in_no_bystander() {
        let specs = [
            spec("a", &["b"]),
            spec("b", &["c"]),
            spec("c", &["b", "d"]),
            spec("d", &[]),
        ];
        assert_eq!(found(&specs), ["b c"]);
        assert_eq!(found(&[spec("me", &["me"])]), ["me"]);
        assert!(found(&[spec("a", &["b", "c"]), spec("b", &["c"]), spec("c", &[])]).is_empty());
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_needs_no_stack() {
        let names: Vec<String> = (0..100_000).map(|n| format!("s{n}")).collect();
        let mut specs: Vec<Spec> = names
            .windows(2)
            .map(|pair| spec(&pair[0], &[&pair[1]]))
            .collect();
        specs.push(spec(&names[99_999], &["s0"]));
        assert_eq!(cycles(&specs.iter().collect::<Vec<_>>())[0].len(), 100_000);
    }

    #[test]
    fn a_name_that_appears_and_goes_is_linked_and_unlinked() {
        let id = |index| ServiceId {
            index,
            generation: 0,
        };
        let mut graph = Graph::default();
        graph.put(id(0), &spec("a", &["ghost", "ghost"]));
        assert_eq!(graph.links(id(0)).len(), 1);
        assert_eq!(graph.links(id(0))[0].to, None);
        graph.put(id(1), &spec("ghost", &[]));
        assert_eq!(graph.links(id(0))[0].to, Some(id(1)));
        assert_eq!(
            graph.back(id(1)).collect::<Vec<_>>(),
            [(LinkKind::Requires, id(0))]
        );
        graph.remove(id(1));
        assert_eq!(graph.links(id(0))[0].to, None);
        graph.remove(id(0));
        assert!(
            graph.absent.is_empty()
                && graph.nodes.iter().next().is_none()
                && graph.names.is_empty()
        );
    }
}
