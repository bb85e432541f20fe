"""Values as text that can be shown."""


def test_nothing_that_is_shown_can_hide_or_turn_the_text_around():
    from sktransfer.inspection.report.text import path_text, plain

    assert plain("a\u202egnp.exe\x00\n") == "a\\u202egnp.exe\\x00\\n"
    assert plain("x" * 200) == "x" * 119 + "…"
    assert path_text("/" + "a" * 200 + "/end.png").endswith("/end.png")
    assert path_text("caf\udce9.png") == "caf\\udce9.png"
