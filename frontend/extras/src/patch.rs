//! Draws nodes by changing only what differs. Everything is made as DOM nodes; nothing passes through `innerHTML`.

use wasm_bindgen::JsCast;
use web_sys::{CharacterData, Element, Node as DomNode};

use super::{formula::is_mathml, node::Node};

/// Makes the children of `parent` from `offset` on be `new`, where they are `old`: what is the same is not touched.
pub fn patch(parent: &DomNode, old: &[Node], new: &[Node], offset: u32) {
    let children = parent.child_nodes();
    for (i, node) in new.iter().enumerate() {
        let at = offset + i as u32;
        match (old.get(i), children.item(at)) {
            (Some(old), Some(_)) if old == node => {}
            (Some(Node::Text(old)), Some(dom)) if matches!(node, Node::Text(_)) => {
                let (Node::Text(text), Some(data)) = (node, dom.dyn_ref::<CharacterData>()) else {
                    continue;
                };
                match text.strip_prefix(old.as_str()) {
                    Some(more) => {
                        let _ = data.append_data(more);
                    }
                    None => data.set_data(text),
                }
            }
            (
                Some(Node::Element {
                    tag: old_tag,
                    attributes: old_attributes,
                    children: old_children,
                }),
                Some(dom),
            ) if matches!(node, Node::Element { tag, attributes, .. } if tag == old_tag && attributes == old_attributes) => {
                if let Node::Element { children, .. } = node {
                    patch(&dom, old_children, children, 0);
                }
            }
            (_, there) => {
                let Some(made) = create(node) else { continue };
                let _ = match there {
                    Some(dom) => parent.replace_child(&made, &dom),
                    None => parent.append_child(&made),
                };
            }
        }
    }
    let wanted = offset + new.len() as u32;
    while children.length() > wanted {
        let Some(last) = parent.last_child() else {
            break;
        };
        let _ = parent.remove_child(&last);
    }
}

/// The namespace of formulas.
const MATHML: &str = "http://www.w3.org/1998/Math/MathML";

fn create(node: &Node) -> Option<DomNode> {
    let document = web_sys::window()?.document()?;
    match node {
        Node::Text(text) => Some(document.create_text_node(text).into()),
        Node::Element {
            tag,
            attributes,
            children,
        } => {
            let element: Element = if is_mathml(tag) {
                document.create_element_ns(Some(MATHML), tag).ok()?
            } else {
                document.create_element(tag).ok()?
            };
            for (name, value) in attributes {
                let _ = element.set_attribute(name, value);
            }
            for child in children {
                if let Some(child) = create(child) {
                    let _ = element.append_child(&child);
                }
            }
            Some(element.into())
        }
    }
}
