"""How Sphinx builds these pages; `docs/build.py` gives it the files."""

import importlib.metadata
import posixpath
import re
from typing import Any

project, author, language = "GAN ablation laboratory", "The authors of gan-ablation", "en"
release = importlib.metadata.version("gan-ablation")
extensions = ["myst_parser"]
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = html_copy_source = html_show_copyright = False
html_theme_options = {"footer_icons": []}

NAVIGATION = {
    "Start": ["docs/tutorial"],
    "How to": [
        *("docs/howto/question", "docs/howto/architecture", "docs/howto/loss", "docs/howto/data"),
        *("docs/howto/extractor", "docs/howto/inception", "deploy/README", "docs/using"),
    ],
    "What it means": ["docs/statistics", "docs/fid", "docs/metrics", "docs/data", "reports/published/README"],
    "Reference": [f"docs/reference/{name}" for name in ("commands", "spec", "metrics", "columns", "protocols")],
    "The project": [
        *("docs/architecture", "docs/machines", "docs/benchmarks", "docs/performance", "docs/log"),
        *("CHANGELOG", "CONTRIBUTING", "SECURITY"),
    ],
}
"""Heading -> pages. The README is the first page; on a git host it links to them itself."""


def setup(app: Any) -> None:
    """Ask to see each page's source before it is parsed."""
    app.connect("source-read", prepare)


def prepare(app: Any, page: str, source: list[str]) -> None:
    """Give the first page the navigation, and point links to the README, as a git host has them, to the first page."""
    folder = posixpath.dirname(page)

    def to_index(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found[1]))
        return f"]({posixpath.relpath('index.md', folder or '.')}{found[2]})" if target == "README.md" else found[0]

    source[0] = re.sub(r"\]\(([^)\s#]*README\.md)(#[^)]*)?\)", to_index, source[0])
    if folder.startswith("reports/published"):  # whose anchors are HTML, which MyST does not look into
        source[0] = re.sub(r"\[([^\]]+)\]\(#([\w-]+)\)", r'<a href="#\2">\1</a>', source[0])
        source[0] = re.sub(r"^####", "###", source[0], flags=re.MULTILINE)
    if page == app.config.root_doc:
        trees = (
            f"```{{toctree}}\n:hidden:\n:caption: {name}\n\n{chr(10).join(pages)}\n```"
            for name, pages in NAVIGATION.items()
        )
        source[0] += "\n\n" + "\n\n".join(trees) + "\n"
    elif page == "reports/published/README":
        source[0] += "\n\n```{toctree}\n:hidden:\n:glob:\n\n*/*\n```\n"
