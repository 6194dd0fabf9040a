"""All 43 systems that saccade set out to build: listed, with hosts and claims, a page whose code runs, and figures."""

from importlib import import_module
from pathlib import Path

import pytest

from saccade.core.catalogue import systems
from tests.test_docs import RUNNABLE

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAPERS = {  # folder: arXiv number
    "adaspa": "2502.21079", "attencraft": "2405.17965", "attention_at": "2009.12064", "attention_vat": "2104.08763",
    "clear": "2412.16112", "consistedit": "2510.17803", "dc_dit": "2603.06351",
    "deconstructing_attention": "2510.11602", "dico": "2505.11196", "diffeye": "2509.16767", "diffuhaul": "2406.01594",
    "dit_mem": "2511.19229", "dit_moe": "2407.11633", "ditctrl": "2412.18597", "dma": "2508.02124",
    "draft_attention": "2505.14708", "dreamrelation": "2503.07602", "dydila": "2601.13683", "e_mmdit": "2510.27135",
    "flashbias": "2505.12044", "freeflux": "2503.16153", "graph_moe": "2505.00792", "headhunter": "2506.10978",
    "in_context_brush": "2505.20271", "kinetics": "2506.05333", "lamic": "2508.00477", "mask2dit": "2503.19881",
    "minimal_transformer": "2410.13732", "mmface_dit": "2603.29029", "moh": "2410.11842", "muon_mla_moe": "2509.24406",
    "ninformer": "2403.02411", "oat": "2407.13335", "patnet": "2503.03148", "position_bias": "2502.01951",
    "pt_dit": "2409.04005", "re_ttention": "2505.22918", "scale_dit": "2510.16325", "siamlayout": "2412.03859",
    "sparsed": "2509.24014", "ulsam": "2006.15102", "visual_sink": "2503.03321", "vmoba": "2506.23858",
}  # fmt: skip


def test_there_are_forty_three() -> None:
    assert len(PAPERS) == 43 == len({*PAPERS.values()})


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_is_listed_with_hosts_and_claims(name: str) -> None:
    own = [entry for entry in systems().values() if entry.paper.arxiv == PAPERS[name]]
    assert own and all(entry.hosts and entry.paper.claims for entry in own)
    assert import_module(f"saccade.papers.{name}").PAPER == own[0].paper


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_has_a_page_whose_code_runs_and_figures_that_were_measured(name: str) -> None:
    page = DOCS / "papers" / f"{name}.md"
    assert any("saccade" in example.code for example in RUNNABLE[page]), f"no python of {page.name} runs"
    assert any((DOCS / "results").glob(f"{name}*")), f"nothing of {name} was measured"
    assert "<!-- figures:" in page.read_text()
