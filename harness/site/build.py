"""From stores to the files of a site: pages, their data as scripts, pictures, styles; whole or not at all.

    index.html              what every study at every profile found
    leaderboard.html        arms, ranked under each protocol by itself
    trials.html             every trial
    studies/<name>.html     a study's report, with its pictures beside it
    trials/<trial_id>.html  a trial: spec, scores, curves, samples, cost, command
    assets/                 style, script, Vega, and the data of the lists as scripts
    site.json               that this is a site, and of what

No page asks for anything over a network. A page that is opened as a file may not read others, so data are scripts.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from markupsafe import escape

from harness.analysis.wording import count
from harness.catalog import Catalog
from harness.errors import UserError
from harness.files import hidden_name, staged_folder
from harness.reporting import tables
from harness.reporting.blocks import Page, Picture, flat
from harness.reporting.figures import VERDICTS
from harness.reporting.parallel import in_parallel
from harness.reporting.provenance import other_versions
from harness.reporting.report import templates
from harness.site import lists
from harness.site.figures import scripts
from harness.site.merge import Merged, address, merged, opened
from harness.site.studies import Told, page_of, studies_of
from harness.site.trial_page import trial_page
from harness.spec import FOLDER
from harness.storage.layout import is_store
from harness.using.trial import Place, command, places

HERE = Path(__file__).parent
KIND = "gan-ablation site"
PARTS = {"index.html", "leaderboard.html", "trials.html", "studies", "trials", "assets", "site.json"}
"""All that lies at the root of a site."""
CHUNKS = 32
"""Parts into which trials are shared out among processes."""


def build(
    paths: Sequence[Path],
    out: Path,
    catalog: Catalog,
    own: Sequence[str] = (),
    *,
    processes: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Build a site; one that is there is replaced as a whole.

    Args:
        paths: Of the stores.
        out: The site's folder.
        catalog: The studies that can be judged.
        own: Paths of Python files that declare further ones.
        processes: How many draw figures at once.
        say: Is told what is done.

    Returns:
        What was built, in words.

    Raises:
        UserError: a store or `out` cannot be taken.
    """
    out = out.expanduser().resolve()
    _require_place(out, [path.expanduser().resolve() for path in paths])
    known = {**catalog.studies, **{study.name: study for study in map(catalog.find, own)}}
    vega, specs = scripts()  # refused before work starts where a package is missing
    stores = opened(paths, say)
    with TemporaryDirectory(prefix="gan-ablation-site-") as scratch, staged_folder(out, replace=True) as staging:
        site = _Site(staging, merged(stores, Path(scratch).resolve()), known)
        site.write_assets(vega, specs)
        site.write_studies(processes, say)
        site.write_trials(processes, say)
        site.write_lists()
        site.write("site.json", json.dumps(site.summary, indent=1) + "\n")
        files = [path for path in staging.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    told = f"{count(len(site.records), 'trial')} of {_studies(len(site.studies))}"
    return f"{told}: {count(len(files), 'file')}, {size / 2**20:,.1f} MiB"


def _require_place(out: Path, stores: Sequence[Path]) -> None:
    """Refuse a folder that holds anything but a site, lies in a store, or holds one of these."""
    other = "name an empty or new folder with --out"
    for folder in (out, *out.parents):
        if is_store(folder):
            raise UserError(f"{out} lies in the store {folder}; name a folder outside with --out")
    for store in stores:
        if store.is_relative_to(out):
            raise UserError(f"{out} holds the store {store}; name another folder with --out")
    if not out.parent.is_dir():
        raise UserError(f"cannot write {out}: {out.parent} is not a folder; {other}")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; {other}")
    there = {path.name for path in out.iterdir()} if out.exists() else set()
    if there and not _is_site(out):
        raise UserError(f"{out} holds something other than a site; {other}")
    if foreign := sorted(there - PARTS):
        raise UserError(
            f"{out} holds, beside a site, {', '.join(foreign[:4])}, which would be lost; move it away, or {other}"
        )
    probe = hidden_name(out)
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; {other}") from None


def _is_site(folder: Path) -> bool:
    try:
        return json.loads((folder / "site.json").read_bytes())["kind"] == KIND
    except (OSError, ValueError, KeyError, TypeError):
        return False


class _Site:
    """A site that is being written to a folder."""

    def __init__(self, folder: Path, stores: Merged, known: Mapping[str, Any]) -> None:
        self.folder, self.merged = folder, stores
        self.store = stores.views[0].store
        self.studies: list[Told] = studies_of(stores, known)
        self.protocols, self.records = lists.protocols_of(stores)
        self.places: dict[str, list[tuple[int, Place]]] = {}
        codes = {(told.view.store.root, told.study, told.profile): code for code, told in enumerate(self.studies)}
        for view in stores.views:
            for trial_id, found in places(view.store).items():
                at = [(codes[view.store.root, place.study, place.profile], place) for place in found]
                self.places.setdefault(trial_id, []).extend(at)
        self.seeds = [len({cell["seed"] for cell in told.plan["cells"]}) for told in self.studies]
        self.without_paths = _without_paths(self.studies, self.records)
        self.templates = templates(HERE, source=lambda picture: f"{self.of_study}/{picture.name}.png")
        self.of_study = ""  # the folder of pictures of the page that is being written
        self.templates.globals |= {"VERDICTS": list(VERDICTS), "command": command, "count": count}

    @property
    def summary(self) -> dict[str, Any]:
        """What site.json says."""
        return {
            "kind": KIND,
            "stores": list(self.merged.names),
            "studies": [told.label for told in self.studies],
            "trials": len(self.records),
        }

    def write(self, name: str, text: str) -> None:
        """Write a file of the site, without the paths of this machine that are known."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for here, there in self.without_paths.items():
            text = text.replace(here, there)
        path.write_text(text, encoding="utf-8")

    def page(self, name: str, template: str, **content: Any) -> None:
        """Render a page to a file."""
        root = "../" * name.count("/")
        self.write(name, self.templates.get_template(template).render(root=root, here=name, **content))

    def write_assets(self, vega: str, specs: str) -> None:
        """Style and scripts that pages share; a study's page has the style of reports."""
        styles = [self.templates.get_template("page.css").render(), (HERE / "site.css").read_text()]
        self.write("assets/site.css", "".join(styles))
        self.write("assets/site.js", (HERE / "site.js").read_text())
        self.write("assets/vega.js", vega)
        self.write("assets/figures.js", specs)

    def write_studies(self, processes: int, say: Callable[[str], None]) -> None:
        """A page for each study that was judged, and its pictures."""
        for told in self.studies:
            if told.evidence is None:
                if not told.is_search:
                    say(f"{told.label} has no page: {told.why_none}")
                continue
            say(f"drawing {told.label}")
            for line in other_versions(told.evidence):
                say(f"{told.label}: {line}")
            page = page_of(told, told.evidence, self.merged, processes)
            self.of_study = Path(told.page).stem
            self._write_pictures(page, self.folder / "studies" / self.of_study)
            self.page(told.page, "study.html.j2", page=page, WORDS=tables.WORDS)

    def _write_pictures(self, page: Page, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for part in flat(page.sections):
            if isinstance(part, Picture):
                (folder / f"{part.name}.png").write_bytes(part.png)

    def write_trials(self, processes: int, say: Callable[[str], None]) -> None:
        """A page for each trial, and the picture of its samples."""
        say(f"writing {count(len(self.records), 'page')} of trials")
        (self.folder / address("x")).parent.mkdir()
        ids = list(self.records)
        shares = [ids[i::CHUNKS] for i in range(min(CHUNKS, len(ids)))]
        in_parallel([partial(self._write_trials, share) for share in shares], processes)

    def _write_trials(self, trial_ids: Sequence[str]) -> None:
        for trial_id in trial_ids:
            made = trial_page(self.store, trial_id, self.merged, self.protocols)
            if made.samples:
                (self.folder / address(trial_id, ".png")).write_bytes(made.samples)
            at = [(self.studies[code], place, self.seeds[code]) for code, place in self.places.get(trial_id, [])]
            self.page(address(trial_id), "trial.html.j2", trial=made, places=at)

    def write_lists(self) -> None:
        """The pages that list claims, arms and trials, and their data."""
        scored = {trial_id: set(record["scores"]) for trial_id, record in self.records.items()}
        labels = [[told.label, told.page] for told in self.studies]
        for name, made in (
            ("claims", lists.claims(self.studies)),
            ("arms", lists.arms(self.studies, self.protocols, scored)),
            ("trials", lists.trials(self.records, self.places, self.protocols)),
        ):
            data = _json({"studies": labels, "table": made})
            self.write(f"assets/{name}.js", f"SITE.list({json.dumps(name)}, {data});\n")
        shared = sum(len(names) > 1 for names in self.merged.held_by.values())
        studies = [told for told in self.studies if not told.is_search]
        self.page(
            "index.html",
            "index.html.j2",
            several="a study" if len(studies) == 1 else _studies(len(studies)),
            studies=studies,
            tallies=[_tally(told) for told in studies],
            counts=Counter(record["status"] for record in self.records.values()),
            trials=len(self.records),
            merged=self.merged,
            held={name: len(store.trial_ids()) for name, store in self.merged.names.items()},
            shared=shared,
        )
        self.page("leaderboard.html", "leaderboard.html.j2")
        self.page("trials.html", "trials.html.j2")


def _studies(number: int) -> str:
    """1 study, 2 studies."""
    return "1 study" if number == 1 else f"{number:,} studies"


def _tally(told: Told) -> dict[str, int]:
    """Verdict -> how many claims of the study have it."""
    found = Counter(answer.verdict for answer in (told.evidence.answers if told.evidence else ()))
    return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}


def _without_paths(studies: Sequence[Told], records: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Paths of this machine that studies and specs name, as pages would have them -> what pages have instead."""
    names = {record["spec"]["dataset"] for record in records.values()}
    names |= {f"{FOLDER}{told.profile.partition(FOLDER)[2]}" for told in studies if FOLDER in told.profile}
    found = {name: lists.data_name(name) for name in names if name.startswith(FOLDER)}
    files = {str(told.plan["file"]) for told in studies if told.plan.get("file")}
    found |= {file: Path(file).name for file in files}
    return {
        form: there
        for here, there in sorted(found.items(), key=lambda one: -len(one[0]))
        for form in (here, str(escape(here)), json.dumps(here)[1:-1])
    }


def _json(content: Any) -> str:
    """As a script or an element of a page has it."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
