"""State: double-buffered, guarded, owned by the run."""

import pytest
import torch

from saccade.core.errors import StateError
from saccade.core.state import MemoryBank, Tape


def test_what_a_step_puts_shows_at_the_next_tick() -> None:
    bank = MemoryBank()
    memory = bank.of("s", "site")
    memory.put("x", 1)
    assert not memory.has("x")
    bank.tick()
    memory.put("x", 2)
    assert memory.get("x") == 1
    bank.tick()
    assert memory.get("x") == 2


def test_branches_sites_and_systems_are_kept_apart() -> None:
    bank = MemoryBank()
    bank.of("s", "a", "cond").put("x", 1)
    bank.tick()
    for other in (bank.of("s", "a", "uncond"), bank.of("s", "b", "cond"), bank.of("t", "a", "cond")):
        assert not other.has("x")


def test_reading_before_writing_and_reuse_with_another_shape_are_errors() -> None:
    bank = MemoryBank()
    memory = bank.of("sparsed", "blocks.0", "cond")
    with pytest.raises(StateError, match="'sparsed' at 'blocks.0' \\(cond\\) reads 'pattern' before any step put it"):
        memory.get("pattern")
    memory.put("pattern", torch.zeros(2, 3))
    bank.tick()
    assert memory.get("pattern", shape=(2, 3)).shape == (2, 3)
    with pytest.raises(StateError, match=r"of shape \(2, 3\), this call needs \(2, 4\)"):
        memory.get("pattern", shape=(2, 4))


def test_clear_forgets_everything_and_forward_state_lives_for_one_forward() -> None:
    bank = MemoryBank()
    a, b = bank.of("s", "a"), bank.of("s", "b")
    a.forward["seen"] = 1
    a.run["kept"] = 2
    a.put("x", 3)
    bank.tick()
    assert b.forward["seen"] == 1 and b.run["kept"] == 2
    bank.begin_forward()
    assert not b.forward and b.run
    bank.clear()
    assert not a.has("x") and not b.run


def test_a_tape_is_found_by_sigma_and_site_or_says_what_it_holds() -> None:
    tape = Tape()
    tape.record(0.5, "a", "value")
    assert tape.at(0.5 + 1e-9, "a") == "value"
    with pytest.raises(StateError, match=r"nothing at sigma=0.25 for site 'a'; it holds sigmas \[0.5\]"):
        tape.at(0.25, "a")


def test_a_result_is_read_with_what_the_last_step_put() -> None:
    memory = MemoryBank().of("s", "a")
    memory.put("x", 1)
    assert memory.last("x") == 1 and not memory.has("x")
    memory.tick()
    assert memory.last("x") == 1
    with pytest.raises(StateError, match="reads 'y' before any step put it"):
        memory.last("y")


def test_a_slot_counts_as_recorded_once_it_is_filled() -> None:
    tape = Tape()
    slot = tape.slot(0.5, "a")
    assert tape.levels("a") == []
    with pytest.raises(StateError, match=r"nothing at sigma=0.5 for site 'a'; it holds sigmas \[\]"):
        tape.at(0.5, "a")
    slot["q"] = 1
    assert tape.at(0.5, "a") is slot is tape.slot(0.5 + 1e-9, "a") and tape.levels("a") == [0.5]
