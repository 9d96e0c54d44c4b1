//! Markdown as it streams: parsed from the beginning of the last open block, as nodes of which only those that differ have to
//! be drawn. Raw HTML stands as text and no picture loads.

use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// A node of a rendered answer.
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
    fn element(tag: &'static str) -> Node {
        Node::Element {
            tag,
            attributes: Vec::new(),
            children: Vec::new(),
        }
    }

    fn with(tag: &'static str, name: &'static str, value: impl Into<String>) -> Node {
        Node::Element {
            tag,
            attributes: vec![(name, value.into())],
            children: Vec::new(),
        }
    }
}

const OPTIONS: Options = Options::ENABLE_TABLES.union(Options::ENABLE_STRIKETHROUGH);

/// A growing text and the nodes of its open block. Blocks before it are never looked at again.
#[derive(Default)]
pub struct Document {
    /// How many nodes the finished blocks have.
    finished: usize,
    /// Where in the text the open block begins.
    open: usize,
    /// The open block's nodes.
    tail: Vec<Node>,
}

/// From node `from` on, `old` becomes `new`.
pub struct Change<'a> {
    pub from: usize,
    pub old: Vec<Node>,
    pub new: Vec<Node>,
    document: &'a mut Document,
}

impl Change<'_> {
    /// It is drawn.
    pub fn keep(self) {
        self.document.keep(self.new, self.from);
    }
}

impl Document {
    /// Takes in all of the text so far; `over` when it will not grow any more.
    pub fn update(&mut self, text: &str, over: bool) -> Change<'_> {
        let from = self.finished;
        let rest = text.get(self.open..).unwrap_or_default();
        // A line that is not whole yet may still turn out to belong to the block before it.
        let whole = rest.rfind('\n').map_or(0, |end| end + 1);
        let last = if over {
            rest.len()
        } else {
            last_block(&rest[..whole])
        };
        let mut new = nodes(&rest[..last]);
        self.open += last;
        self.finished += new.len();
        if !over {
            let mut open = rest[last..].to_owned();
            close_marks(&mut open);
            new.extend(nodes(&open));
        }
        Change {
            from,
            old: std::mem::take(&mut self.tail),
            new,
            document: self,
        }
    }

    fn keep(&mut self, mut new: Vec<Node>, from: usize) {
        self.tail = new.split_off(self.finished - from);
    }
}

/// Where the last top-level block of `text` begins, at the beginning of its line.
fn last_block(text: &str) -> usize {
    let (mut depth, mut last) = (0usize, 0);
    for (event, range) in Parser::new_ext(text, OPTIONS).into_offset_iter() {
        let begins = match event {
            Event::Start(_) => {
                depth += 1;
                depth == 1
            }
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        };
        if begins {
            last = range.start;
        }
    }
    text[..last].rfind('\n').map_or(0, |end| end + 1)
}

/// Closes the emphasis that the open block has begun, so that its marks never flash up as text.
fn close_marks(block: &mut String) {
    let trimmed = block.trim_start();
    if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
        return;
    }
    let line = block.rsplit("\n\n").next().unwrap_or_default();
    if line.matches('`').count() % 2 == 1 {
        return block.push('`');
    }
    let bold = line.matches("**").count() % 2 == 1;
    // Marks with nothing after them yet are no marks yet.
    if bold && block.ends_with("**") {
        block.truncate(block.len() - 2);
    } else if bold {
        let end = block.trim_end_matches([' ', '*']).len();
        block.truncate(end);
        block.push_str("**");
    } else if block.ends_with('*') && !block.ends_with("**") {
        block.pop();
    } else if opens_emphasis(line) {
        block.push('*');
    }
}

/// Whether a single `*` is open in `line`: one before a letter opens, one after a letter closes; a bullet does neither.
fn opens_emphasis(line: &str) -> bool {
    let mut open = false;
    let mut before = ' ';
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '*' {
            let mut run = 1;
            while rest.next_if_eq(&'*').is_some() {
                run += 1;
            }
            let after = rest.peek().copied().unwrap_or(' ');
            if run == 1 && !open && !after.is_whitespace() {
                open = true;
            } else if run == 1 && open && !before.is_whitespace() {
                open = false;
            }
        }
        before = c;
    }
    open && !before.is_whitespace()
}

/// The nodes of a whole text.
pub fn nodes(text: &str) -> Vec<Node> {
    let mut stack: Vec<Node> = Vec::new();
    let mut roots = Vec::new();
    let mut alignments: Vec<Alignment> = Vec::new();
    let (mut column, mut head) = (0, false);
    for event in Parser::new_ext(text, OPTIONS) {
        let (stack, roots) = (&mut stack, &mut roots);
        match event {
            Event::Start(tag) => {
                let node = match tag {
                    Tag::Paragraph => Node::element("p"),
                    Tag::Heading { level, .. } => Node::element(heading(level)),
                    Tag::BlockQuote(_) => Node::element("blockquote"),
                    Tag::CodeBlock(kind) => {
                        stack.push(Node::element("pre"));
                        match kind {
                            CodeBlockKind::Fenced(language) if !language.is_empty() => {
                                Node::with("code", "data-language", language.to_string())
                            }
                            _ => Node::element("code"),
                        }
                    }
                    Tag::List(None) => Node::element("ul"),
                    Tag::List(Some(1)) => Node::element("ol"),
                    Tag::List(Some(start)) => Node::with("ol", "start", start.to_string()),
                    Tag::Item => Node::element("li"),
                    Tag::Table(columns) => {
                        alignments = columns;
                        stack.push(Node::with("div", "class", "table"));
                        Node::element("table")
                    }
                    Tag::TableHead => {
                        (column, head) = (0, true);
                        stack.push(Node::element("thead"));
                        Node::element("tr")
                    }
                    Tag::TableRow => {
                        column = 0;
                        Node::element("tr")
                    }
                    Tag::TableCell => {
                        let tag = if head { "th" } else { "td" };
                        let align = alignments.get(column).copied();
                        column += 1;
                        match align {
                            Some(Alignment::Right) => Node::with(tag, "class", "right"),
                            Some(Alignment::Center) => Node::with(tag, "class", "center"),
                            _ => Node::element(tag),
                        }
                    }
                    Tag::Emphasis => Node::element("em"),
                    Tag::Strong => Node::element("strong"),
                    Tag::Strikethrough => Node::element("del"),
                    Tag::Link { dest_url, .. } => link(&dest_url),
                    // Only the description of a picture is shown.
                    Tag::Image { .. } => Node::element("span"),
                    Tag::HtmlBlock => Node::element("p"),
                    _ => Node::element("span"),
                };
                stack.push(node);
            }
            Event::End(end) => {
                close(stack, roots);
                match end {
                    TagEnd::CodeBlock | TagEnd::Table => close(stack, roots),
                    TagEnd::TableHead => {
                        head = false;
                        close(stack, roots);
                    }
                    _ => {}
                }
            }
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => {
                add(stack, roots, Node::Text(text.to_string()));
            }
            Event::Code(text) => {
                stack.push(Node::element("code"));
                add(stack, roots, Node::Text(text.to_string()));
                close(stack, roots);
            }
            Event::SoftBreak | Event::HardBreak => add(stack, roots, Node::element("br")),
            Event::Rule => add(stack, roots, Node::element("hr")),
            _ => {}
        }
    }
    roots
}

fn add(stack: &mut [Node], roots: &mut Vec<Node>, node: Node) {
    let siblings = match stack.last_mut() {
        Some(Node::Element { children, .. }) => children,
        _ => roots,
    };
    if let (Node::Text(more), Some(Node::Text(text))) = (&node, siblings.last_mut()) {
        return text.push_str(more);
    }
    siblings.push(node);
}

fn close(stack: &mut Vec<Node>, roots: &mut Vec<Node>) {
    if let Some(node) = stack.pop() {
        add(stack, roots, node);
    }
}

fn heading(level: HeadingLevel) -> &'static str {
    // The page's own stands above those of an answer.
    match level {
        HeadingLevel::H1 => "h2",
        HeadingLevel::H2 => "h3",
        HeadingLevel::H3 => "h4",
        HeadingLevel::H4 => "h5",
        _ => "h6",
    }
}

fn link(url: &str) -> Node {
    let lower = url.trim().to_ascii_lowercase();
    if !["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| lower.starts_with(scheme))
    {
        return Node::element("span");
    }
    Node::Element {
        tag: "a",
        attributes: vec![
            ("href", url.trim().to_owned()),
            ("rel", "noopener noreferrer".to_owned()),
            ("target", "_blank".to_owned()),
        ],
        children: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(nodes: &[Node]) -> String {
        nodes
            .iter()
            .map(|node| match node {
                Node::Text(text) => text.replace('<', "&lt;"),
                Node::Element {
                    tag,
                    attributes,
                    children,
                } => {
                    let attributes: String = attributes
                        .iter()
                        .map(|(n, v)| format!(" {n}={v:?}"))
                        .collect();
                    format!("<{tag}{attributes}>{}</{tag}>", html(children))
                }
            })
            .collect()
    }

    #[test]
    fn blocks_and_marks() {
        assert_eq!(
            html(&nodes("# A\n\n- **b** `c`\n- d\n\n|x|y|\n|-|-:|\n|1|2|")),
            "<h2>A</h2><ul><li><strong>b</strong> <code>c</code></li><li>d</li></ul>\
             <div class=\"table\"><table><thead><tr><th>x</th><th class=\"right\">y</th></tr></thead>\
             <tr><td>1</td><td class=\"right\">2</td></tr></table></div>"
        );
        assert_eq!(
            html(&nodes("```rust\nlet a;\n```")),
            "<pre><code data-language=\"rust\">let a;\n</code></pre>"
        );
    }

    #[test]
    fn nothing_dangerous_comes_out() {
        let out = html(&nodes(
            "<script>alert(1)</script>\n\na <b>c</b> [x](javascript:alert(1)) ![y](http://z/w.png) [q](https://q/) [m](mailto:a@b.c) [f](file:///x) [r](/y)",
        ));
        assert!(
            !out.contains("<script")
                && !out.contains("<b>")
                && !out.contains("javascript")
                && !out.contains("img")
        );
        assert!(out.contains("href=\"https://q/\" rel=\"noopener noreferrer\""));
        assert!(out.contains("href=\"mailto:a@b.c\""));
        assert!(!out.contains("file:") && !out.contains("/y"));
    }

    /// What stands on the page after each change.
    fn stream(document: &mut Document, shown: &mut Vec<Node>, text: &str, over: bool) {
        let change = document.update(text, over);
        assert_eq!(shown[change.from..], change.old[..]);
        shown.truncate(change.from);
        shown.extend(change.new.iter().cloned());
        change.keep();
    }

    #[test]
    fn streaming_ends_where_a_single_pass_does() {
        let text = "Intro **bold** text.\n\n1. one\n2. two *x*\n\n```\ncode **no**\n\nmore\n```\n\n> quote\n\n    indented\n\n|a|b|\n|-|-|\n|1|2|\n\nEnd.";
        let (mut document, mut shown) = (Document::default(), Vec::new());
        for (end, _) in text.char_indices() {
            stream(&mut document, &mut shown, &text[..end], false);
        }
        stream(&mut document, &mut shown, text, true);
        assert_eq!(html(&shown), html(&nodes(text)));
    }

    #[test]
    fn open_marks_do_not_flash_up() {
        for open in [
            "a **bo",
            "a **bold** and **x",
            "a `co",
            "a *",
            "a **",
            "1. on the *l",
            "* item *on",
        ] {
            let (mut document, mut shown) = (Document::default(), Vec::new());
            stream(&mut document, &mut shown, open, false);
            let out = html(&shown);
            assert!(!out.contains('*') && !out.contains('`'), "{open}: {out}");
        }
    }
}
