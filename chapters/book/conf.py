"""Sphinx's settings for the book; emc2_lite.course.book writes the pages and runs Sphinx."""

from pathlib import Path

from emc2_lite import __version__
from emc2_lite.course import pages

project = "EMC2, a course"
author = "The emc2-lite engineers"
copyright = "the emc2-lite engineers, Apache License 2.0"
release = __version__
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax", "sphinx_copybutton"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
myst_all_links_external = False
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

# A word between single back-ticks is a public name of the library, or else code.
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
viewcode_line_numbers = True

html_theme = "furo"
html_title = "EMC2: negatives from Markov chains"
html_static_path = [str(Path(__file__).resolve().parents[1] / "static")]
html_css_files = ["widgets.css", "book.css"]
html_js_files = ["book.js"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}


def _docstring(app, what, name, thing, options, lines):
    """A docstring as Sphinx reads it, and below it the chapters that use the name."""
    lines[:] = pages.plain_docstring(lines)
    if what != "module" and name in pages.public_names():
        chapters = [f":doc:`{stem[:2]} </{stem}>`" for stem in pages.chapters_of(name)]
        if chapters:
            noun = "chapter" if len(chapters) == 1 else "chapters"
            lines += ["", f"In the course: {noun} {', '.join(chapters)}.", ""]


def _no_fields(app, what, name, thing, skip, options):
    """The fields of a named tuple are described in its docstring."""
    return True if (getattr(thing, "__doc__", "") or "").startswith("Alias for field number") else None


def _levels(app, pagename, templatename, context, doctree):
    """Captions of the list of chapters are headings, and a heading has a level."""
    for part in ("furo_navigation_tree", "body"):
        if part in context:
            context[part] = context[part].replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app):
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-skip-member", _no_fields)
    app.connect("html-page-context", _levels, priority=900)
