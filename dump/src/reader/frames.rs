//! The frames of all stacks, as a tree.
//!
//! A hundred thousand stacks of fifty frames are a hundred megabytes side by
//! side. In the log each has most of its outer frames in common with the one
//! before, and so they have here.

use crate::record::Frame;

/// A place in the tree; as `below`, of the frame that called. 0 is no frame.
pub(super) type Node = u32;

/// Nodes that say which frame, and which node called it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<(Frame, Node)>,
    /// The nodes of the last stack, outermost first.
    last: Vec<Node>,
    /// The modules that were known to it. An address means another module after the next is loaded, so
    /// that stacks of different times share nothing.
    modules_known: u32,
}

impl Tree {
    /// Adds a stack, innermost frame first; the node of that frame. `None` if there are too many.
    pub(super) fn add(&mut self, frames: &[Frame], modules_known: u32) -> Option<Node> {
        let Tree { nodes, last, .. } = self;
        let known = |node: &Node| nodes.get(*node as usize - 1).map(|it| it.0);
        let alike = last.iter().zip(frames.iter().rev());
        let shared = match self.modules_known == modules_known {
            true => alike.take_while(|(node, frame)| known(node) == Some(**frame)).count(),
            false => 0,
        };
        self.modules_known = modules_known;
        last.truncate(shared);
        for &frame in frames.iter().rev().skip(shared) {
            nodes.push((frame, last.last().copied().unwrap_or(0)));
            last.push(Node::try_from(nodes.len()).ok()?);
        }
        Some(last.last().copied().unwrap_or(0))
    }

    /// From a frame to the outermost.
    pub(super) fn from(&self, node: Node) -> impl Iterator<Item = Frame> + '_ {
        let node_of = |at: Node| self.nodes.get((at as usize).checked_sub(1)?);
        core::iter::successors(node_of(node), move |(_, below)| node_of(*below)).map(|it| it.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pcs: &[u64]) -> Vec<Frame> {
        pcs.iter().map(|&pc| Frame::Native { pc }).collect()
    }

    #[test]
    fn stacks_share_their_outer_frames() {
        let mut tree = Tree::default();
        let all = [&[4, 3, 2, 1][..], &[5, 3, 2, 1], &[], &[2, 1], &[6, 2, 1], &[2, 1]].map(frames);
        let nodes: Vec<Node> = all.iter().map(|stack| tree.add(stack, 1).unwrap()).collect();
        for (stack, node) in all.iter().zip(nodes) {
            assert_eq!(&tree.from(node).collect::<Vec<_>>(), stack);
        }
        assert_eq!(tree.nodes.len(), 8);
    }

    #[test]
    fn nothing_is_shared_across_the_loading_of_a_module() {
        let mut tree = Tree::default();
        let one = tree.add(&frames(&[2, 1]), 1).unwrap();
        let two = tree.add(&frames(&[2, 1]), 2).unwrap();
        assert_eq!((one, two, tree.nodes.len()), (2, 4, 4));
    }
}
