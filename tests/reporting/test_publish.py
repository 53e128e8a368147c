"""What `make publish` makes of reports: folders, and how far an earlier run agrees."""

from pathlib import Path

import pytest

from reports import publish
from studies.catalog import STUDIES

HEAD = "question,claim,level,verdict,effect,low,high,scale\n"


def test_every_page_names_a_study_and_its_profile() -> None:
    for study, profile in publish.PAGES:
        assert STUDIES[study].profile(profile.partition("@")[0]).name
    folders = [publish.folder_of(*page) for page in publish.PAGES]
    assert len(set(folders)) == len(folders)
    assert publish.folder_of("depth", "alternating").name == "depth-alternating"
    assert publish.folder_of("noise", "laptop@fashion-mnist").name == "noise-fashion-mnist"


def test_agreement_says_what_became_of_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "HOME", tmp_path)
    monkeypatch.setattr(publish, "EARLIER", tmp_path / "earlier")
    assert publish.agreement("noise", "laptop") == "–"
    for folder, rows in {
        "earlier/noise": "a,,1,supported\na,,2,refuted\nb,,,unresolved\nc,,,supported\ngone,,,refuted\n",
        "noise": "a,,1,supported\na,,2,supported\nb,,,refuted\nc,,,not testable at this budget\nnew,,,refuted\n",
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "verdicts.csv").write_text(HEAD + rows)
    assert publish.agreement("noise", "laptop") == "1 of 4 (1 turned, 1 opened, 1 closed)"
    (tmp_path / "noise-long").mkdir()
    (tmp_path / "noise-long" / "verdicts.csv").write_text(
        HEAD + "a,,1,refuted\na,,2,supported\nc,,,unresolved\nnew,,,unresolved\n"
    )
    assert publish.agreement("noise", "long") == "2 of 4 (1 turned, 1 opened)", "with the page on digits"
    (tmp_path / "noise-long" / "verdicts.csv").write_text(
        HEAD + "c,Fewer is worse,,unresolved,0.9,0.7,1.2,ratio\na,More is worse,1,refuted,1.5,1.2,1.9,ratio\n"
    )
    (tmp_path / "noise" / "verdicts.csv").write_text(
        HEAD + "a,More is worse,1,supported,0.5,0.4,0.6,ratio\nc,Fewer is worse,,supported,,,,ratio\n"
    )
    assert publish.differences([("noise", "laptop"), ("noise", "long")]).splitlines()[-2:] == [
        "| [noise-long](noise-long/noise.md) | More is worse | turned | supported, ×0.50 [0.40, 0.60] "
        "| refuted, ×1.50 [1.20, 1.90] |",
        "| [noise-long](noise-long/noise.md) | Fewer is worse | opened | supported, – "
        "| unresolved, ×0.90 [0.70, 1.20] |",
    ]
    assert publish.left_over([("noise", "laptop"), ("noise", "long")]) == ""
    assert "comparable with these: [noise](noise/noise.md), [noise-long](noise-long/noise.md)." in publish.left_over(
        [("depth", "laptop")]
    )


def test_a_published_page_is_replaced_whole(tmp_path: Path) -> None:
    written, folder = tmp_path / "written", tmp_path / "noise"
    (written / "pictures").mkdir(parents=True)
    for name in ("noise.md", "noise.html", "verdicts.csv", "pictures/a.png"):
        (written / name).write_text("new")
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "old.png").write_text("old")
    publish.publish(written, folder)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*")) == [
        "noise.md",
        "pictures/a.png",
        "verdicts.csv",
    ]


def test_pages_are_added_beside_what_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "HOME", tmp_path)
    monkeypatch.setattr(publish, "EARLIER", tmp_path / "earlier")
    told = {("noise", "laptop"): (108, "2026-11-27", "AMD EPYC"), ("architecture-tuned", "laptop"): (120, "x", "y")}
    (tmp_path / "README.md").write_text(f"{publish.INTRODUCTION}\n{publish.listing(told)}{publish.COMPARED}")
    assert publish.listed() == {page: tuple(map(str, said)) for page, said in told.items()}
    for folder, verdict in (("architecture", "supported"), ("architecture-tuned", "unresolved")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "verdicts.csv").write_text(HEAD + f"a,DC is better,1,{verdict},0.5,0.4,0.6,ratio\n")
    assert publish.agreement("architecture-tuned", "laptop") == "0 of 1 (1 opened)", "with the study without tuning"
    assert "supported, ×0.50 [0.40, 0.60] | unresolved" in publish.differences(told)
