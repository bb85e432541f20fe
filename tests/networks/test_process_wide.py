"""Changes of the process that its threads share."""

from contextlib import ExitStack

import pytest

from sktransfer.networks.process_wide import ProcessWide


def test_the_first_to_enter_makes_the_change_and_the_last_to_leave_undoes_it():
    told = []

    def change(undo: ExitStack) -> None:
        told.append("changed")
        undo.callback(told.append, "undone")

    shared = ProcessWide(change)
    for _ in range(2):
        first, second = ExitStack(), ExitStack()
        first.enter_context(shared)
        second.enter_context(shared)
        first.close()
        assert told == ["changed"]
        second.close()
        assert told == ["changed", "undone"]
        told.clear()


def test_a_change_that_fails_half_way_is_undone_and_made_again_next_time():
    told = []

    def change(undo: ExitStack) -> None:
        undo.callback(told.append, "undone")
        if not told:
            raise RuntimeError("half-way")

    shared = ProcessWide(change)
    with pytest.raises(RuntimeError, match="half-way"), shared:
        pass
    assert told == ["undone"]
    with shared:
        assert told == ["undone"]
    assert told == ["undone", "undone"]
