//! Dominators, and from them retained sizes: what would go if a node went.
//!
//! Semi-NCA (Georgiadis and Tarjan, "Finding Dominators Revisited", 2004), on
//! what is reached from the roots. Most nodes are referred to once only, by
//! something that has its dominator already: these need no more than that, and
//! take no part.

use crate::snapshot::graph::Graph;
use crate::snapshot::nodes::NONE;

/// Immediate dominators by position.
pub struct Dominators<'a> {
    /// From which position each was reached first: the dominator of what takes no part.
    parent: &'a [u32],
    part: Ranked,
    /// Of those that take part, in order.
    of: Vec<u32>,
}

impl Dominators<'_> {
    /// Of a position. [`NONE`]: the roots together.
    #[inline]
    pub fn of(&self, at: usize) -> u32 {
        match self.part.rank(at) {
            Some(rank) => self.of[rank],
            None => self.parent[at],
        }
    }

    /// Positions that have one.
    pub fn count(&self) -> usize {
        self.parent.len()
    }
}

/// A set of positions, and the place of each among them.
struct Ranked {
    bits: Vec<u64>,
    /// How many are in the words before.
    before: Vec<u32>,
}

impl Ranked {
    fn new(count: usize) -> Ranked {
        Ranked { bits: vec![0; count.div_ceil(64)], before: Vec::new() }
    }

    fn add(&mut self, at: usize) {
        self.bits[at / 64] |= 1 << (at % 64);
    }

    #[inline]
    fn has(&self, at: usize) -> bool {
        self.bits[at / 64] >> (at % 64) & 1 != 0
    }

    /// Counts; from now on nothing is added. Returns how many there are.
    fn rank_all(&mut self) -> usize {
        let mut sum = 0;
        self.before = Vec::with_capacity(self.bits.len());
        for word in &self.bits {
            self.before.push(sum);
            sum += word.count_ones();
        }
        sum as usize
    }

    #[inline]
    fn rank(&self, at: usize) -> Option<usize> {
        let (word, bit) = (self.bits[at / 64], at % 64);
        let below = word & ((1 << bit) - 1);
        (word >> bit & 1 != 0).then(|| (self.before[at / 64] + below.count_ones()) as usize)
    }
}

/// Computes them for the first `count` positions; what comes after them is no part of it.
pub fn dominators(graph: &Graph, count: usize) -> Dominators<'_> {
    // Nodes with one reference hang below it; the others, and those that refer to others, go in.
    let mut once = Ranked::new(count);
    // A node takes part if it can be a join, or lies on the way to one.
    let mut part = Ranked::new(count);
    let targets = |at: usize| {
        graph.targets(at as u32).iter().filter_map(|&node| {
            let position = graph.position[node as usize];
            ((position as usize) < count).then_some(position as usize)
        })
    };
    for at in 0..count {
        if graph.parent[at] == NONE {
            part.add(at);
        }
        for to in targets(at) {
            if once.has(to) { part.add(to) } else { once.add(to) }
        }
    }
    drop(once);
    for at in (0..count).rev() {
        // Positions grow along first reachings, so a child's answer is there already.
        if part.has(at) && graph.parent[at] != NONE {
            part.add(graph.parent[at] as usize);
        }
    }
    // All that refers to something that takes part must take part too.
    for at in (0..count).rev() {
        if !part.has(at) && targets(at).any(|to| part.has(to)) {
            let mut up = at;
            while !part.has(up) {
                part.add(up);
                if graph.parent[up] == NONE {
                    break;
                }
                up = graph.parent[up] as usize;
            }
        }
    }
    let members = part.rank_all();
    let mut solver = Solver::new(members);
    solver.number(graph, count, &part);
    solver.solve(graph, &targets, &part);
    let mut of = solver.number;
    for (number, &at) in solver.vertex.iter().enumerate().skip(1) {
        let idom = solver.idom[number];
        if let Some(rank) = part.rank(at as usize) {
            of[rank] = if idom == 0 { NONE } else { solver.vertex[idom as usize] };
        }
    }
    Dominators { parent: &graph.parent[..count], part, of }
}

/// Works on depth-first numbers; 0 is a root above all roots.
struct Solver {
    /// Number of each position that takes part, by its rank.
    number: Vec<u32>,
    /// Position of each number.
    vertex: Vec<u32>,
    parent: Vec<u32>,
    semi: Vec<u32>,
    label: Vec<u32>,
    ancestor: Vec<u32>,
    idom: Vec<u32>,
}

impl Solver {
    fn new(members: usize) -> Solver {
        let mut vertex = Vec::with_capacity(members + 1);
        vertex.push(NONE);
        let mut parent = Vec::with_capacity(members + 1);
        parent.push(0);
        Solver {
            number: vec![0; members],
            vertex,
            parent,
            semi: Vec::new(),
            label: Vec::new(),
            ancestor: Vec::new(),
            idom: Vec::new(),
        }
    }

    /// Depth-first numbers.
    fn number(&mut self, graph: &Graph, count: usize, part: &Ranked) {
        // Where to go on among the targets of each, and its number.
        let mut stack: Vec<(u32, u32, u32)> = Vec::new();
        for root in (0..count).filter(|&at| graph.parent[at] == NONE) {
            let Some(number) = self.enter(part, root, 0) else { continue };
            stack.push((root as u32, 0, number));
            while let Some((at, next, above)) = stack.last_mut() {
                let Some(&node) = graph.targets(*at).get(*next as usize) else {
                    stack.pop();
                    continue;
                };
                *next += 1;
                let (to, above) = (graph.position[node as usize] as usize, *above);
                if to < count
                    && let Some(number) = self.enter(part, to, above)
                {
                    stack.push((to as u32, 0, number));
                }
            }
        }
    }

    /// Gives a position its number, if it takes part and has none.
    fn enter(&mut self, part: &Ranked, at: usize, parent: u32) -> Option<u32> {
        let slot = self.number.get_mut(part.rank(at)?)?;
        if *slot != 0 {
            return None;
        }
        *slot = self.vertex.len() as u32;
        self.vertex.push(at as u32);
        self.parent.push(parent);
        Some(*slot)
    }

    fn number_of(&self, part: &Ranked, at: usize) -> Option<usize> {
        self.number.get(part.rank(at)?).map(|&number| number as usize)
    }

    fn solve<I: Iterator<Item = usize>>(
        &mut self,
        graph: &Graph,
        targets: &impl Fn(usize) -> I,
        part: &Ranked,
    ) {
        let members = self.vertex.len();
        // Edges the other way round, in numbers.
        let mut first = vec![0u32; members + 1];
        for number in 1..members {
            for to in targets(self.vertex[number] as usize) {
                if let Some(to) = self.number_of(part, to) {
                    first[to] += 1;
                }
            }
        }
        let mut sum = 0;
        for slot in &mut first {
            sum += *slot;
            *slot = sum;
        }
        let mut from = vec![0u32; sum as usize];
        for number in 1..members {
            for to in targets(self.vertex[number] as usize) {
                if let Some(to) = self.number_of(part, to) {
                    first[to] -= 1;
                    from[first[to] as usize] = number as u32;
                }
            }
        }
        self.semi = (0..members as u32).collect();
        self.label = self.semi.clone();
        // Not linked yet; the root above all is never linked.
        self.ancestor = vec![NONE; members];
        self.idom = self.parent.clone();
        for number in (1..members).rev() {
            let mut semi = self.parent[number];
            if graph.parent[self.vertex[number] as usize] == NONE {
                semi = 0;
            }
            for edge in first[number]..first[number + 1] {
                let before = from[edge as usize];
                let candidate = if before as usize <= number {
                    before
                } else {
                    let best = self.eval(before);
                    self.semi[best as usize]
                };
                semi = semi.min(candidate);
            }
            self.semi[number] = semi;
            self.ancestor[number] = self.parent[number];
        }
        for number in 1..members {
            let mut idom = self.idom[number];
            while idom > self.semi[number] {
                idom = self.idom[idom as usize];
            }
            self.idom[number] = idom;
        }
    }

    /// The node with the smallest semidominator on the linked path above, which is made shorter.
    fn eval(&mut self, number: u32) -> u32 {
        if self.ancestor[number as usize] == NONE {
            return self.label[number as usize];
        }
        let mut path = Vec::new();
        let mut at = number;
        while self.ancestor[self.ancestor[at as usize] as usize] != NONE {
            path.push(at);
            at = self.ancestor[at as usize];
        }
        for &at in path.iter().rev() {
            let above = self.ancestor[at as usize];
            let (own, upper) = (self.label[at as usize], self.label[above as usize]);
            if self.semi[upper as usize] < self.semi[own as usize] {
                self.label[at as usize] = upper;
            }
            self.ancestor[at as usize] = self.ancestor[above as usize];
        }
        self.label[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph of `edges` on `count` nodes, searched from the `roots`.
    fn graph(count: u32, roots: &[u32], edges: &[(u32, u32)]) -> Graph {
        let mut graph = Graph {
            order: Vec::new(),
            position: vec![NONE; count as usize],
            parent: Vec::new(),
            phases: Vec::new(),
            first_edge: vec![0],
            edges: Vec::new(),
            found: vec![0; count as usize],
            searched: 0,
            failed: Vec::new(),
            frames: hashbrown::HashMap::new(),
            gaps: hashbrown::HashMap::new(),
            strict: hashbrown::HashSet::new(),
            later: Vec::new(),
        };
        roots.iter().for_each(|&root| graph.reach(root, NONE, 1));
        let mut at = 0;
        while at < graph.order.len() {
            let node = graph.order[at];
            for &(_, to) in edges.iter().filter(|edge| edge.0 == node) {
                graph.edges.push(to);
                graph.reach(to, at as u32, 1);
            }
            graph.first_edge.push(graph.edges.len() as u32);
            at += 1;
        }
        graph
    }

    /// By the definition: what is not reached without it.
    fn brute(graph: &Graph) -> Vec<Vec<bool>> {
        let count = graph.order.len();
        let reached = |without: usize| {
            let mut seen = vec![false; count];
            let mut queue: Vec<usize> =
                (0..count).filter(|&at| graph.parent[at] == NONE && at != without).collect();
            while let Some(at) = queue.pop() {
                if core::mem::replace(&mut seen[at], true) {
                    continue;
                }
                for edge in graph.first_edge[at]..graph.first_edge[at + 1] {
                    let to = graph.position[graph.edges[edge as usize] as usize] as usize;
                    if to != without {
                        queue.push(to);
                    }
                }
            }
            seen
        };
        (0..count).map(|without| reached(without).iter().map(|&seen| !seen).collect()).collect()
    }

    fn check(count: u32, roots: &[u32], edges: &[(u32, u32)]) {
        let graph = graph(count, roots, edges);
        let reached = graph.order.len();
        let found = dominators(&graph, reached);
        let truth = brute(&graph);
        for at in 0..reached {
            let mut chain = vec![false; reached];
            let mut up = at as u32;
            while up != NONE {
                chain[up as usize] = true;
                up = found.of(up as usize);
            }
            let over: Vec<bool> = truth.iter().map(|without| without[at]).collect();
            assert_eq!(chain, over, "over {at} in {edges:?} from {roots:?}");
        }
    }

    #[test]
    fn known_graphs() {
        check(4, &[0], &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        check(3, &[0, 1], &[(0, 2), (1, 2)]);
        check(5, &[0], &[(0, 1), (1, 2), (2, 3), (3, 1), (2, 4), (4, 2)]);
        check(3, &[0, 1], &[(0, 1), (1, 2)]);
    }

    #[test]
    fn random_graphs_agree_with_the_definition() {
        let mut state = 12345u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..3000 {
            let count = 1 + random(12) as u32;
            let edges: Vec<(u32, u32)> = (0..random(30))
                .map(|_| (random(count.into()) as u32, random(count.into()) as u32))
                .collect();
            let roots: Vec<u32> = (0..1 + random(3)).map(|_| random(count.into()) as u32).collect();
            check(count, &roots, &edges);
        }
    }
}
