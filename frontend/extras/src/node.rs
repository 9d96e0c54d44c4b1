//! What an answer is drawn as.

/// A node of a rendered answer: text, or an element of HTML or MathML.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Text(String),
    Element {
        tag: &'static str,
        attributes: Vec<(&'static str, String)>,
        children: Vec<Node>,
    },
}

impl Node {
    /// An element without attributes and children.
    pub fn element(tag: &'static str) -> Node {
        Node::Element {
            tag,
            attributes: Vec::new(),
            children: Vec::new(),
        }
    }

    /// An element with one attribute.
    pub fn with(tag: &'static str, name: &'static str, value: impl Into<String>) -> Node {
        Node::Element {
            tag,
            attributes: vec![(name, value.into())],
            children: Vec::new(),
        }
    }
}

/// Appends a node to the children of an element; text joins the text before it.
pub fn append(siblings: &mut Vec<Node>, node: Node) {
    if let (Node::Text(more), Some(Node::Text(text))) = (&node, siblings.last_mut()) {
        return text.push_str(more);
    }
    siblings.push(node);
}
