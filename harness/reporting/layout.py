"""How a report's page looks: its style, contents, folds and boxes. Knows nothing of studies or stores."""

import html
import re


def page(title: str, body: str) -> str:
    """A whole page that stands alone, from the HTML that Markdown and pictures were turned into.

    What stands before the first heading of the second level is the page's head; the table of contents lists the
    headings of that level. `<a id="NAME"></a>` alone in a paragraph gives the heading below it its name. Wide tables
    scroll inside their own box, a table whose head is empty is a list of facts, verdicts are badges, and a heading of
    the fourth level folds what stands below it up to the next heading.
    """
    body = re.sub(r'<p><a id="([^"]+)"></a></p>\s*<h2>', r'<h2 id="\1">', body)
    head, *rest = re.split(r"(?=<h2)", _boxed(body), maxsplit=1)
    entries = re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', body)
    contents = "\n".join(f'<li><a href="#{name}">{text}</a></li>' for name, text in entries)
    return (
        HTML.replace("{title}", html.escape(title))
        .replace("{contents}", contents)
        .replace("{head}", _folded(head))
        .replace("{body}", _folded("".join(rest)))
    )


def _boxed(body: str) -> str:
    body = re.sub(r"<table(>\s*<thead>\s*<tr>\s*<th[^>]*>\s*</th>)", r'<table class="facts"\1', body)
    body = re.sub(r"(<table.*?</table>)", r'<div class="scroll">\1</div>', body, flags=re.DOTALL)
    body = re.sub(r"<td[^>]*>(supported|refuted|unresolved)</td>", r'<td><span class="\1">\1</span></td>', body)
    return re.sub(r"<td[^>]*>(?:(?!</td>|<a ).)*</td>", _interval_apart, body, flags=re.DOTALL)


def _interval_apart(cell: re.Match[str]) -> str:
    """An interval in a cell stands below its number."""
    return re.sub(r" (\[[^\]<>a-z]*\])", r' <span class="interval">\1</span>', cell[0])


def _folded(body: str) -> str:
    fold = re.compile(r"<h4[^>]*>(.*?)</h4>(.*)", re.DOTALL)
    parts = re.split(r"(?=<h[1-4])", body)
    return "".join(fold.sub(r"<details><summary>\1</summary>\2</details>", part) for part in parts)


HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif;
  color: #1a1a1a; background: #fff; margin: 0; }
.page { display: grid; grid-template-columns: 15rem minmax(0, 1fr); column-gap: 2.5rem;
  max-width: 78rem; margin: 0 auto; padding: 1.5rem 1.5rem 4rem; }
header, main { grid-column: 2; min-width: 0; }
nav { grid-column: 1; grid-row: 1 / span 2; font-size: .88rem; line-height: 1.4; }
nav div { position: sticky; top: 1.5rem; max-height: calc(100vh - 3rem); overflow-y: auto; }
nav ul { list-style: none; margin: .3rem 0; padding: 0; }
nav li { margin: .45rem 0; }
p, li, blockquote { max-width: 54rem; }
a { color: #005a8f; text-underline-offset: .15em; }
nav a, td a { color: inherit; text-decoration-color: #bbb; }
a:hover { text-decoration-thickness: 2px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3rem 0 .8rem; padding-top: 1rem; border-top: 1px solid #ddd; }
main > h2:first-child { margin-top: 1.5rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; white-space: nowrap; border-bottom: 1px solid #e4e4e4; }
th { border-bottom: 2px solid #888; white-space: normal; vertical-align: bottom; line-height: 1.3; min-width: 2.5rem; }
td:not([style*="right"]) { white-space: normal; min-width: 4.5rem; overflow-wrap: break-word; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; padding-left: 0; }
td:has(+ td > .supported, + td > .refuted, + td > .unresolved) { min-width: 13rem; position: static; }
td:not([style*="right"]):has(br) { min-width: 17rem; }
.interval { display: block; color: #666; font-size: .92em; }
td:not([style*="right"]) .interval { display: inline; white-space: nowrap; }
.facts { width: 100%; }
.facts thead { display: none; }
.facts td { vertical-align: top; min-width: 0 !important; }
.facts td:first-child { font-weight: 600; white-space: nowrap; width: 9rem; }
.facts td:last-child { overflow-wrap: anywhere; }
blockquote { margin: 1rem 0; padding: .2rem 1rem; border-left: 4px solid #d55e00; background: #fdf3ec; }
img { max-width: min(100%, 54rem); height: auto; display: block; }
details { border: 1px solid #ddd; border-radius: 4px; margin: .6rem 0; padding: 0 .8rem; }
summary { cursor: pointer; padding: .5rem 0; font-weight: 600; }
.supported, .refuted, .unresolved { font-weight: 600; white-space: nowrap; }
.supported { color: #005a8f; } .supported::before { content: "● "; }
.refuted { color: #9a4200; } .refuted::before { content: "✕ "; }
.unresolved { color: #555; } .unresolved::before { content: "◇ "; }
code { overflow-wrap: anywhere; background: #f3f3f3; padding: .1em .3em; border-radius: 3px; }
@media (max-width: 62rem) {
  .page { display: block; padding: 1rem 1rem 3rem; }
  nav div { position: static; max-height: none; }
  nav { border-top: 1px solid #ddd; padding-top: .5rem; margin: 1rem 0 2rem; }
}
@media (max-width: 36rem) {
  h1 { font-size: 1.5rem; }
  ul { padding-left: 1.2rem; }
  .facts td { display: block; }
  .facts td:first-child { position: static; border-bottom: 0; padding-bottom: 0; }
  .facts td:last-child { padding-left: 0; }
}
@media print {
  .page { display: block; max-width: none; padding: 0; }
  nav div { position: static; max-height: none; }
  h2 { break-after: avoid; }
  img, .scroll { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
</style>
</head>
<body>
<div class="page">
<header>
{head}
</header>
<nav aria-label="Contents"><div>
<strong>On this page</strong>
<ul>
{contents}
</ul>
</div></nav>
<main>
{body}
</main>
</div>
</body>
</html>
"""
