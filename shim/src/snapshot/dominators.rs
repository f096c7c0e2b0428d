//! Dominators, and from them retained sizes: what would go if a node went.
//!
//! Semi-NCA (Georgiadis and Tarjan, "Finding Dominators Revisited", 2004), on
//! what is reached from the roots. Most nodes are referred to once only, by
//! something that has its dominator already: these need no more than that, and
//! take no part.

use crate::snapshot::graph::Graph;
use crate::snapshot::nodes::NONE;

/// Immediate dominators by position. [`NONE`]: the roots together.
pub struct Dominators {
    /// Of each position.
    pub of: Vec<u32>,
}

/// Computes them for the first `count` positions; what comes after them is no part of it.
pub fn dominators(graph: &Graph, count: usize) -> Dominators {
    let mut of = vec![NONE; count];
    // Nodes with one reference hang below it; the others, and those that refer to others, go in.
    let mut references = vec![0u8; count];
    let targets = |at: usize| {
        let edges = graph.first_edge[at] as usize..graph.first_edge[at + 1] as usize;
        graph.edges[edges].iter().filter_map(|&node| {
            let position = graph.position[node as usize];
            ((position as usize) < count).then_some(position as usize)
        })
    };
    for at in 0..count {
        if graph.parent[at] == NONE {
            references[at] = 2;
        }
        for to in targets(at) {
            references[to] = references[to].saturating_add(1);
        }
    }
    // A node takes part if it can be a join, or lies on the way to one.
    let mut part = vec![false; count];
    for at in (0..count).rev() {
        // Positions grow along first reachings, so a child's answer is there already.
        if references[at] > 1 {
            part[at] = true;
        }
        if part[at] && graph.parent[at] != NONE {
            part[graph.parent[at] as usize] = true;
        }
    }
    // All that refers to something that takes part must take part too.
    for at in (0..count).rev() {
        if !part[at] && targets(at).any(|to| part[to]) {
            let mut up = at;
            while !part[up] {
                part[up] = true;
                if graph.parent[up] == NONE {
                    break;
                }
                up = graph.parent[up] as usize;
            }
        }
    }
    let mut solver = Solver::new(graph, count, &part);
    solver.number(graph, count, &part);
    solver.solve(graph, &targets, &part);
    for (number, &at) in solver.vertex.iter().enumerate().skip(1) {
        let idom = solver.idom[number];
        of[at as usize] = if idom == 0 { NONE } else { solver.vertex[idom as usize] };
    }
    for at in 0..count {
        if !part[at] {
            of[at] = graph.parent[at];
        }
    }
    Dominators { of }
}

/// Works on depth-first numbers; 0 is a root above all roots.
struct Solver {
    /// Number of each position that takes part.
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
    fn new(graph: &Graph, count: usize, part: &[bool]) -> Solver {
        let members = part.iter().filter(|&&part| part).count() + 1;
        let _ = graph;
        let mut vertex = Vec::with_capacity(members);
        vertex.push(NONE);
        let mut parent = Vec::with_capacity(members);
        parent.push(0);
        Solver {
            number: vec![0; count],
            vertex,
            parent,
            semi: Vec::new(),
            label: Vec::new(),
            ancestor: Vec::new(),
            idom: Vec::new(),
        }
    }

    /// Depth-first numbers.
    fn number(&mut self, graph: &Graph, count: usize, part: &[bool]) {
        let mut stack: Vec<(u32, u32)> = Vec::new();
        for root in 0..count {
            if graph.parent[root] != NONE || !part[root] || self.number[root] != 0 {
                continue;
            }
            self.enter(root, 0);
            stack.push((root as u32, graph.first_edge[root]));
            while let Some((at, edge)) = stack.last_mut() {
                let at = *at as usize;
                if *edge == graph.first_edge[at + 1] {
                    stack.pop();
                    continue;
                }
                let to = graph.position[graph.edges[*edge as usize] as usize] as usize;
                *edge += 1;
                if to < count && part[to] && self.number[to] == 0 {
                    let above = self.number[at];
                    self.enter(to, above);
                    stack.push((to as u32, graph.first_edge[to]));
                }
            }
        }
    }

    fn enter(&mut self, at: usize, parent: u32) {
        self.number[at] = self.vertex.len() as u32;
        self.vertex.push(at as u32);
        self.parent.push(parent);
    }

    fn solve<I: Iterator<Item = usize>>(
        &mut self,
        graph: &Graph,
        targets: &impl Fn(usize) -> I,
        part: &[bool],
    ) {
        let members = self.vertex.len();
        // Edges the other way round, in numbers.
        let mut first = vec![0u32; members + 1];
        for number in 1..members {
            for to in targets(self.vertex[number] as usize).filter(|&to| part[to]) {
                first[self.number[to] as usize] += 1;
            }
        }
        let mut sum = 0;
        for slot in &mut first {
            sum += *slot;
            *slot = sum;
        }
        let mut from = vec![0u32; sum as usize];
        for number in 1..members {
            for to in targets(self.vertex[number] as usize).filter(|&to| part[to]) {
                let slot = &mut first[self.number[to] as usize];
                *slot -= 1;
                from[*slot as usize] = number as u32;
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
            phase: Vec::new(),
            first_edge: vec![0],
            edges: Vec::new(),
            found: vec![0; count as usize],
            searched: 0,
            failed: Vec::new(),
            frames: hashbrown::HashMap::new(),
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
        let found = dominators(&graph, reached).of;
        let truth = brute(&graph);
        for at in 0..reached {
            let mut chain = vec![false; reached];
            let mut up = at as u32;
            while up != NONE {
                chain[up as usize] = true;
                up = found[up as usize];
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
