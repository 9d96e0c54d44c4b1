//! LaTeX as MathML nodes. Only elements and attributes that are listed here come out, so that nothing but a formula does.

use math_core::{LatexToMathML, MathCoreConfig, MathDisplay};

use super::node::{Node, append};

/// The elements of MathML Core that a formula is made of.
const TAGS: [&str; 27] = [
    "math",
    "menclose",
    "merror",
    "mfrac",
    "mi",
    "mmultiscripts",
    "mn",
    "mo",
    "mover",
    "mpadded",
    "mphantom",
    "mprescripts",
    "mroot",
    "mrow",
    "ms",
    "mspace",
    "msqrt",
    "mstyle",
    "msub",
    "msubsup",
    "msup",
    "mtable",
    "mtd",
    "mtext",
    "mtr",
    "munder",
    "munderover",
];

/// Attributes that are kept; `style` is not among them, which the page's policy forbids.
const ATTRIBUTES: [&str; 22] = [
    "accent",
    "accentunder",
    "columnspan",
    "depth",
    "dir",
    "display",
    "displaystyle",
    "fence",
    "form",
    "height",
    "largeop",
    "linethickness",
    "lspace",
    "mathvariant",
    "maxsize",
    "minsize",
    "movablelimits",
    "rspace",
    "scriptlevel",
    "separator",
    "stretchy",
    "width",
];

/// Whether an element is one of MathML.
pub fn is_mathml(tag: &str) -> bool {
    TAGS.contains(&tag)
}

/// The `math` element of a formula in LaTeX, in a line of text or on a line of its own (`display`). `None` for LaTeX that
/// is not understood.
pub fn formula(latex: &str, display: bool) -> Option<Node> {
    let converter = LatexToMathML::new(MathCoreConfig::default()).ok()?;
    let display = if display {
        MathDisplay::Block
    } else {
        MathDisplay::Inline
    };
    let mathml = converter.convert_with_local_counter(latex, display).ok()?;
    parse(&mathml)
}

/// The one element that `mathml` is; `None` where it holds anything that is not listed.
fn parse(mathml: &str) -> Option<Node> {
    let (mut stack, mut roots) = (Vec::new(), Vec::new());
    let mut rest = mathml;
    while let Some(at) = rest.find('<') {
        let (text, markup) = rest.split_at(at);
        if !text.trim().is_empty() {
            add(&mut stack, &mut roots, Node::Text(unescape(text)));
        }
        let (inner, after) = markup[1..].split_once('>')?;
        rest = after;
        if inner.starts_with('/') {
            let node = stack.pop()?;
            add(&mut stack, &mut roots, node);
            continue;
        }
        let (inner, closed) = match inner.strip_suffix('/') {
            Some(inner) => (inner, true),
            None => (inner, false),
        };
        let node = element(inner)?;
        if closed {
            add(&mut stack, &mut roots, node);
        } else {
            stack.push(node);
        }
    }
    let one = stack.is_empty() && roots.len() == 1;
    roots.pop().filter(|_| one)
}

fn add(stack: &mut [Node], roots: &mut Vec<Node>, node: Node) {
    let siblings = match stack.last_mut() {
        Some(Node::Element { children, .. }) => children,
        _ => roots,
    };
    append(siblings, node);
}

/// The element of a tag's inside, as in `mo stretchy="false"`.
fn element(inner: &str) -> Option<Node> {
    let (name, mut rest) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
    let tag = TAGS.iter().find(|tag| **tag == name)?;
    let mut attributes = Vec::new();
    while let Some((name, value)) = rest.trim_start().split_once("=\"") {
        let (value, after) = value.split_once('"')?;
        if let Some(name) = ATTRIBUTES.iter().find(|known| **known == name) {
            attributes.push((*name, unescape(value)));
        }
        rest = after;
    }
    Some(Node::Element {
        tag,
        attributes,
        children: Vec::new(),
    })
}

/// Text of XML without its five entities and numbered characters.
fn unescape(text: &str) -> String {
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (entity, rest) = part.split_once(';').unwrap_or(("", part));
        let number = || {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        };
        let c = match entity {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => number(),
        };
        out.extend(c);
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(node: &Node) -> String {
        match node {
            Node::Text(text) => text.clone(),
            Node::Element { children, .. } => children.iter().map(text).collect(),
        }
    }

    #[test]
    fn latex_becomes_one_math_element_without_styles() {
        let node = formula(r"\frac{a}{b} < \sqrt{x_1^2}", true).unwrap();
        let Node::Element {
            tag, attributes, ..
        } = &node
        else {
            panic!("{node:?}");
        };
        assert_eq!(*tag, "math");
        assert!(attributes.contains(&("display", "block".into())));
        assert!(format!("{node:?}").contains("mfrac"));
        assert_eq!(text(&node), "ab<x12");
        assert!(!format!("{node:?}").contains("style"));
    }

    #[test]
    fn what_is_not_latex_is_no_formula() {
        assert_eq!(formula(r"\frac{a", false), None);
        assert_eq!(formula(r"\nosuchcommand", false), None);
    }

    #[test]
    fn only_what_is_listed_comes_out() {
        assert_eq!(parse("<math><script>alert(1)</script></math>"), None);
        assert_eq!(parse("<math></math><math></math>"), None);
        let node =
            parse(r#"<math><mi style="x" onclick="y" mathvariant="normal">&lt;&#x61;</mi></math>"#)
                .unwrap();
        assert_eq!(text(&node), "<a");
        assert!(
            format!("{node:?}").contains("mathvariant") && !format!("{node:?}").contains("click")
        );
    }
}
