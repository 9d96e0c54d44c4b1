//! Markdown as it streams: parsed from the beginning of the last open block, as nodes of which only those that differ have to
//! be drawn. Raw HTML stands as text and no picture loads.

use std::borrow::Cow;

use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::{
    formula::formula,
    node::{Node, append},
};

const OPTIONS: Options = Options::ENABLE_TABLES
    .union(Options::ENABLE_STRIKETHROUGH)
    .union(Options::ENABLE_TASKLISTS)
    .union(Options::ENABLE_MATH);

/// What LaTeX writes around a formula, in the place of one and two dollars.
const BRACKETS: [(&str, &str); 2] = [("\\(", "\\)"), ("\\[", "\\]")];

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
    /// Takes the answer as drawn so: what comes next is compared with this.
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
    let dollars = with_dollars(text);
    for (event, range) in Parser::new_ext(&dollars, OPTIONS).into_offset_iter() {
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

/// The text with `$$` in the place of the brackets that LaTeX writes around a formula, which Markdown would take for escaped
/// ones; code is left alone. Every byte else stays where it is.
fn with_dollars(text: &str) -> Cow<'_, str> {
    if !BRACKETS.iter().any(|(open, _)| text.contains(open)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['`', '~', '\\']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let length = match from.as_bytes()[0] {
            b'\\' => match bracketed(from) {
                Some(length) => {
                    out.push_str("$$");
                    out.push_str(&from[2..length - 2]);
                    out.push_str("$$");
                    rest = &from[length..];
                    continue;
                }
                None => from.char_indices().nth(2).map_or(from.len(), |(at, _)| at),
            },
            mark => {
                let run = from.bytes().take_while(|b| *b == mark).count();
                let close = from[run..].find(&from[..run]);
                match close {
                    Some(close) if mark == b'`' || run >= 3 => run + close + run,
                    // Code that is still open goes to the end.
                    None if run >= 3 => from.len(),
                    _ => run,
                }
            }
        };
        out.push_str(&from[..length]);
        rest = &from[length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// How long the formula in brackets is that `text` begins with, its brackets counted.
fn bracketed(text: &str) -> Option<usize> {
    let (_, close) = BRACKETS.iter().find(|(open, _)| text.starts_with(open))?;
    let inside = &text[2..2 + text[2..].find(close)?];
    let formula = !inside.trim().is_empty() && !inside.contains('$') && !inside.contains("\n\n");
    formula.then_some(inside.len() + 4)
}

/// A formula, or what stands for it in `source` where it is none.
fn drawn_formula(latex: &str, display: bool, source: &str) -> Node {
    formula(latex, display).unwrap_or_else(|| Node::Text(source.to_owned()))
}

/// The nodes of a whole text.
pub fn nodes(source: &str) -> Vec<Node> {
    let text = &*with_dollars(source);
    let mut stack: Vec<Node> = Vec::new();
    let mut roots = Vec::new();
    let mut alignments: Vec<Alignment> = Vec::new();
    let (mut column, mut head) = (0, false);
    for (event, range) in Parser::new_ext(text, OPTIONS).into_offset_iter() {
        let (stack, roots) = (&mut stack, &mut roots);
        match event {
            Event::Start(tag) => {
                let node = match tag {
                    Tag::Paragraph => block("p"),
                    Tag::Heading { level, .. } => block(heading(level)),
                    Tag::BlockQuote(_) => block("blockquote"),
                    Tag::CodeBlock(kind) => {
                        stack.push(Node::with("div", "class", "code"));
                        stack.push(scrolls("pre"));
                        match kind {
                            CodeBlockKind::Fenced(language) if !language.is_empty() => {
                                Node::with("code", "data-language", language.to_string())
                            }
                            _ => Node::element("code"),
                        }
                    }
                    Tag::List(None) => block("ul"),
                    Tag::List(Some(1)) => block("ol"),
                    Tag::List(Some(start)) => Node::with("ol", "start", start.to_string()),
                    Tag::Item => Node::element("li"),
                    Tag::Table(columns) => {
                        alignments = columns;
                        let mut table = scrolls("div");
                        if let Node::Element { attributes, .. } = &mut table {
                            attributes.push(("class", "table".into()));
                        }
                        stack.push(table);
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
                    TagEnd::CodeBlock => {
                        close(stack, roots);
                        add(stack, roots, Node::with("button", "type", "button"));
                        close(stack, roots);
                    }
                    TagEnd::Table => close(stack, roots),
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
            // A sum of money before another: no formula ends before a digit.
            Event::InlineMath(_) if text[range.end..].starts_with(|c: char| c.is_ascii_digit()) => {
                add(stack, roots, Node::Text(source[range].to_owned()));
            }
            Event::InlineMath(latex) => {
                add(stack, roots, drawn_formula(&latex, false, &source[range]));
            }
            Event::DisplayMath(latex) => {
                let display = !source[range.clone()].starts_with(BRACKETS[0].0);
                add(stack, roots, drawn_formula(&latex, display, &source[range]));
            }
            Event::TaskListMarker(done) => {
                let mark = if done { "☑ " } else { "☐ " };
                add(stack, roots, Node::Text(mark.to_owned()));
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
    append(siblings, node);
}

/// An element that is read in the direction of what it says.
fn block(tag: &'static str) -> Node {
    Node::with(tag, "dir", "auto")
}

/// An element that may be wider than the page: who has no mouse scrolls it with the keys.
fn scrolls(tag: &'static str) -> Node {
    Node::with(tag, "tabindex", "0")
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
                        .filter(|(n, _)| !matches!(*n, "dir" | "tabindex"))
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
            "<div class=\"code\"><pre><code data-language=\"rust\">let a;\n</code></pre><button type=\"button\"></button></div>"
        );
    }

    #[test]
    fn formulas_are_found_before_markdown_eats_them() {
        for (text, formulas) in [
            ("$x^2$", 1),
            (r"so \(a_1 * b_2 * c\) is", 1),
            ("\\[\n\\sum_{i=0}^n i\n\\]", 1),
            ("$$E = mc^2$$", 1),
            ("$5 and $10", 0),
            ("between $5-$10 each", 0),
            (r"`\(x\)`", 0),
            ("```\n\\[x\\]\n```", 0),
            (r"half \(open", 0),
            ("half $open", 0),
            (r"an escaped \\(x\\)", 0),
        ] {
            let out = html(&nodes(text));
            assert_eq!(out.matches("<math").count(), formulas, "{text}: {out}");
            assert!(
                formulas == 0 || !out.contains('$') && !out.contains('\\'),
                "{out}"
            );
        }
        assert!(html(&nodes("$5 and $10")).contains("$5 and $10"));
        assert!(html(&nodes(r"\(x\)")).contains("<p><math><mi>x</mi></math></p>"));
        assert!(html(&nodes("\\[x\\]")).contains("display=\"block\""));
    }

    #[test]
    fn tasks_are_ticked() {
        let out = html(&nodes("- [x] one\n- [ ] two"));
        assert_eq!(out, "<ul><li>☑ one</li><li>☐ two</li></ul>");
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
