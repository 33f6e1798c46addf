//! A small SVG writer: a few shapes, escaped text, and colours that colour-blind readers can distinguish.

use std::fmt::Write as _;

/// From the palette of Okabe and Ito, whose colours differ for all kinds of colour vision.
pub const BLUE: &str = "#0072b2";
pub const ORANGE: &str = "#e69f00";
pub const GREY: &str = "#8c8c8c";
pub const GREEN: &str = "#009e73";
const INK: &str = "#1f2328";
const FAINT: &str = "#d0d7de";

/// The position of a text relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// An image under construction.
#[derive(Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    /// An empty image of this size in pixels. Its background is white, so that it is legible on a dark page too.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// Adds a filled rectangle.
    pub fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{:.1}" height="{height:.1}" fill="{colour}"/>"#,
            width.max(0.0)
        );
    }

    /// Adds a thin grey line, for axes and grids.
    pub fn rule(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.path(&[from, to], FAINT, 1.0);
    }

    /// Adds a line through points.
    pub fn path(&mut self, points: &[(f64, f64)], colour: &str, width: f64) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.body,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width}"/>"#,
            points.join(" ")
        );
    }

    /// Adds a dot, as on a line through points.
    pub fn dot(&mut self, (x, y): (f64, f64), colour: &str) {
        let _ = writeln!(self.body, r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}"/>"#);
    }

    /// Adds a text. `size` is in pixels.
    pub fn text(&mut self, x: f64, y: f64, size: u32, anchor: Anchor, text: &str) {
        self.write(x, y, size, anchor, "normal", text);
    }

    /// Adds a bold text that starts at this point. `size` is in pixels.
    pub fn heading(&mut self, x: f64, y: f64, size: u32, text: &str) {
        self.write(x, y, size, Anchor::Start, "bold", text);
    }

    fn write(&mut self, x: f64, y: f64, size: u32, anchor: Anchor, weight: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{INK}">{text}</text>"#
        );
    }

    /// The text of the SVG file. Screen readers read the title.
    pub fn finish(self, title: &str) -> String {
        let Self { width, height, body } = self;
        let title = escaped(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif\" role=\"img\">\n\
             <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Whether every opened element is closed, in the right order, and all text is escaped.
#[cfg(test)]
pub fn is_well_formed(svg: &str) -> bool {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        if rest[..at].contains('>') {
            return false;
        }
        let Some(end) = rest[at..].find('>') else { return false };
        let tag = &rest[at + 1..at + end];
        if tag.contains('<') || tag.matches('"').count() % 2 == 1 {
            return false;
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return false;
            }
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap_or_default());
        }
        rest = &rest[at + end + 1..];
    }
    let entities = svg
        .split('&')
        .skip(1)
        .all(|after| ["amp;", "lt;", "gt;", "quot;"].iter().any(|entity| after.starts_with(entity)));
    open.is_empty() && rest.trim().is_empty() && entities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_well_formed_with_any_text() {
        let mut svg = Svg::new(100.0, 50.0);
        svg.bar(1.0, 2.0, -3.0, 4.0, BLUE);
        svg.rule((0.0, 0.0), (10.0, 10.0));
        svg.dot((5.0, 5.0), ORANGE);
        svg.text(1.0, 1.0, 12, Anchor::Middle, "a < b && \"c\" > d </text>");
        svg.heading(1.0, 1.0, 14, "µs");
        let text = svg.finish("<title> & more");
        assert!(is_well_formed(&text), "{text}");
        assert!(text.contains("a &lt; b &amp;&amp; &quot;c&quot; &gt; d &lt;/text&gt;"), "{text}");
        assert!(text.contains(r#"width="0.0""#), "a width is never negative: {text}");
    }

    #[test]
    fn malformed_svg_is_detected() {
        for bad in ["<svg>", "<svg></a>", "<svg>a & b</svg>", "<svg>a > b</svg>", "<a b=\"></a>", "<a></a>x"]
        {
            assert!(!is_well_formed(bad), "{bad}");
        }
        assert!(is_well_formed("<svg a=\"b\"><c/>&amp;</svg>\n"));
    }
}
