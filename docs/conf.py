"""The site: the guides of this folder, tutorials that are run while it is built, and the reference from docstrings.

`make docs` builds it, offline; a warning is an error.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from streamdrnn import __version__

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CARDS = ROOT / "apps" / "speaker_id" / "assets"
# Files from elsewhere in the repository that are pages; each page includes its file.
PAGES = {
    **{CARDS / f"{name}.md": f"results/cards/{name}" for name in ("speaker", "activity", "overlap")},
    **{ROOT / f"{name.upper()}.md": f"project/{name}" for name in ("contributing", "changelog")},
    ROOT / "kernels" / "wasm" / "README.md": "project/wasm",
    ROOT / "streamdrnn" / "client" / "js" / "README.md": "project/javascript-client",
}

project = "streamdrnn"
author = "The streamdrnn developers"
project_copyright = author
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["demo"]
html_theme = "furo"
html_title = "streamdrnn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
templates_path: list[str] = []

default_role = "code"  # as docstrings write code
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True

myst_heading_anchors = 3

# A tutorial is run when its cells have changed (`make clean` forgets the results); a cell that fails stops the build.
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True


class RepositoryLinks(SphinxTransform):
    """What pages link to, relative to their own file as readers of the repository need it.

    A file that is a page of the site is linked as one. Others are at the address ``repository``; without an address
    a file comes along with the site, as a download, and the name of a folder stays text.
    """

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(self._is_link)):
            target, _, anchor = node["reftarget"].partition("#")
            if node["refdomain"] == "doc":  # MyST has found the file, and cut its ending off
                target, anchor = f"{DOCS / node['reftarget']}.md", node["reftargetid"]
            path = (Path(node.source).parent / target).resolve()
            page = PAGES.get(path) or self.env.path2doc(path)
            if page in self.env.found_docs:
                attributes = {**node.attributes, "refdomain": "doc", "reftarget": page, "reftargetid": anchor or None}
                node.replace_self(pending_xref("", *node.children, **attributes))
            elif path == DOCS / "demo":
                self._link(node, "../" * self.env.docname.count("/") + "demo/index.html")
            elif target and path.exists() and self.config.repository:
                self._link(node, f"{self.config.repository}/{path.relative_to(ROOT)}")
            elif target and path.is_file():
                here = Path(self.env.doc2path(self.env.docname)).parent
                file = os.path.relpath(path, here)
                node.replace_self(download_reference("", "", *node.children, reftarget=file, refdoc=self.env.docname))
            elif target and path.is_dir():
                node.replace_self(node.children)

    @staticmethod
    def _is_link(node: nodes.Node) -> bool:
        return isinstance(node, pending_xref | download_reference) and node.get("reftype") == "myst"

    @staticmethod
    def _link(node: nodes.Element, address: str) -> None:
        node.replace_self(nodes.reference("", "", *node.children, refuri=address, internal=False))


def copy_demo(app: Sphinx, exception: Exception | None) -> None:
    """The page that hears, as it is."""
    if exception is None and app.builder.format == "html":
        shutil.copytree(DOCS / "demo", Path(app.outdir) / "demo", dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    # Where files of the repository can be seen, up to the branch's name; empty until the project has an address.
    app.add_config_value("repository", "", "env")
    app.add_transform(RepositoryLinks)
    app.connect("build-finished", copy_demo)
