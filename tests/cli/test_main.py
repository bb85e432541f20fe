"""The command line, run as a user runs it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sktransfer import FeatureStore, PretrainedCNNFeatures
from sktransfer.cli.main import main
from sktransfer.cli.printing import plain_warnings, printable
from sktransfer.datasets import list_images


@pytest.fixture
def folder(digits, tmp_path):
    """Thirty digits in three classes."""
    X, y = digits
    for label in (0, 1, 2):
        (tmp_path / "in" / f"class {label}").mkdir(parents=True)
        for i in np.flatnonzero(y == label)[:10]:
            image = Image.fromarray((X[i] * 255).astype(np.uint8))
            image.save(tmp_path / "in" / f"class {label}" / f"{i}.png")
    return tmp_path / "in"


def extract(folder, output, *more):
    arguments = ["extract", str(folder), "-o", str(output), "--image-size", "32", "--json"]
    return main([*arguments, *more])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["parquet", "csv", "npy"])
def test_extract_writes_what_the_estimator_computes(suffix, folder, tmp_path, capsys):
    output = tmp_path / f"features.{suffix}"
    assert extract(folder, output, "--layer", "blocks.3", "--layer", "-1") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["classes"] == {"class 0": 10, "class 1": 10, "class 2": 10}
    assert summary["layers"] == ["blocks.3", "blocks.6"]
    assert summary["cross_validated_accuracy"]["blocks.3"] > 0.9

    paths, labels = list_images(folder)
    estimator = PretrainedCNNFeatures(layer=("blocks.3", -1), image_size=32)
    expected = estimator.fit_transform(paths)
    if suffix == "npy":
        features = np.load(output)
        table = pd.read_csv(tmp_path / "features.index.csv", keep_default_na=False)
    else:
        table = pd.read_parquet(output) if suffix == "parquet" else pd.read_csv(output)
        features = table[list(estimator.get_feature_names_out())].to_numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert table["path"].tolist() == paths.tolist()
    assert table["label"].tolist() == labels.tolist()
    assert not list(tmp_path.glob(".*"))


def test_extract_with_a_store_computes_each_image_once(folder, tmp_path, capsys):
    forwarded = []
    for name in ("a", "b"):
        more = ["--cache", str(tmp_path / "store"), "--engine", "torch", "--fast-decode"]
        assert extract(folder, tmp_path / f"{name}.npy", *more) == 0
        forwarded.append(json.loads(capsys.readouterr().out)["forwarded"])
    assert forwarded == [30, 0]
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


@pytest.mark.slow
def test_extract_keeps_failed_files_as_rows_and_lists_them(folder, tmp_path, capsys):
    bad = folder / "class 1" / "broken.png"
    bad.write_bytes(b"broken")
    assert extract(folder, tmp_path / "f.csv") == 1
    printed = capsys.readouterr()
    assert [entry["path"] for entry in json.loads(printed.out)["failed"]] == [str(bad)]
    assert f"failed: {bad}: it is not a readable" in printed.err
    with open(tmp_path / "f.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"] == str(bad)]
    assert len(rows) == 1
    assert rows[0]["error"].startswith("it is not a readable")
    assert rows[0]["penultimate_0"] == "nan"


def test_extract_without_classes_scores_nothing(folder, tmp_path, capsys):
    assert extract(folder / "class 0", tmp_path / "f.npy") == 0
    assert json.loads(capsys.readouterr().out)["cross_validated_accuracy"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(2, 2), (3, 2), (1, 9), (5, 5)])
def test_few_images_are_written_and_scored_only_if_that_means_anything(
    sizes, digits, tmp_path, capsys
):
    for label, count in enumerate(sizes):
        (tmp_path / "in" / str(label)).mkdir(parents=True)
        for i in np.flatnonzero(digits[1] == label)[:count]:
            image = Image.fromarray((digits[0][i] * 255).astype(np.uint8))
            image.save(tmp_path / "in" / str(label) / f"{i}.png")
    assert extract(tmp_path / "in", tmp_path / "f.csv") == 0
    printed = capsys.readouterr()
    scores = json.loads(printed.out)["cross_validated_accuracy"]
    assert bool(scores) == (min(sizes) >= 5)
    notes = json.loads(printed.out)["warnings"]
    if min(sizes) < 5:
        assert notes[0].startswith(
            "no cross-validated accuracy: each class needs 5 readable images"
        )
        assert f"'1' has {sizes[1]}" in notes[0] or sizes[1] >= 5
        assert printed.err.splitlines()[-1] == f"sktransfer: warning: {notes[0]}"
    else:
        assert "warning" not in printed.err
        assert notes == []
    assert "Warning" not in printed.err


@pytest.mark.slow
def test_files_beside_the_subfolders_are_written_but_do_not_keep_the_classes_from_a_score(
    folder, tmp_path, capsys
):
    assert extract(folder, tmp_path / "f.npy") == 0
    expected = json.loads(capsys.readouterr().out)["cross_validated_accuracy"]
    source = next((folder / "class 0").iterdir())
    os.link(source, folder / "loose.png")
    assert extract(folder, tmp_path / "f.csv") == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["images"] == 31
    assert summary["cross_validated_accuracy"] == pytest.approx(expected)
    (note,) = summary["warnings"]
    assert note.startswith("files beside the subfolders, 1 of 31, have no class")
    assert f"sktransfer: warning: {note}\n" in printed.err


def test_a_subfolder_alone_is_told_that_two_are_needed(folder, tmp_path, capsys):
    for name in ("class 1", "class 2"):
        shutil.rmtree(folder / name)
    assert extract(folder, tmp_path / "f.npy") == 0
    assert "no cross-validated accuracy: two classes or more" in capsys.readouterr().err


FORGED = "a\n\x1b[31mfailed: \u202egnp.png"
ESCAPED = r"a\n\x1b[31mfailed: \u202egnp.png"


def test_names_of_files_cannot_forge_lines_or_reach_the_terminal(folder, tmp_path, capsys):
    (folder / "class 1" / FORGED).write_bytes(b"broken")
    output = tmp_path / "out\x1b[0m.npy"
    assert main(["extract", str(folder), "-o", str(output), "--image-size", "32", "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0].startswith(f"failed: {folder}/class 1/{ESCAPED}: it is not")
    assert len(printed.err.splitlines()) == 1
    assert r"out\x1b[0m.npy" in printed.out
    assert all(line.isprintable() for line in (printed.out + printed.err).split("\n"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", FORGED, "-o", "f.csv"],
        ["extract", ".", "-o", FORGED],
        ["rank", FORGED],
        ["check", FORGED],
        ["cache", "info", FORGED],
        ["cache", "prune", ".", FORGED],
        ["demo", "--plot", f"{FORGED}/x.png"],
    ],
)
def test_errors_repeat_arguments_in_printable_form(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        sys.exit(main(arguments))
    printed = capsys.readouterr().err.splitlines()
    assert r"\x1b" in printed[-1]
    assert "error: " in printed[-1]
    assert all(line.isprintable() for line in printed)


def test_a_name_that_is_not_utf8_is_shown_by_its_bytes():
    assert printable(os.fsdecode(b"caf\xe9 \xc3\xa9.png")) == r"caf\xe9 é.png"


def test_warnings_are_lines_of_the_command_and_come_once(tmp_path, capsys):
    file = FeatureStore(tmp_path)._database.file
    file.write_bytes(b"not a database" * 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["cache", "info", str(tmp_path)]) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"sktransfer: warning: {file} is damaged (")

        before = warnings.showwarning
        with plain_warnings():
            for text in ("one\x1b", "one\x1b", "two"):
                warnings.warn(text, stacklevel=1)
        assert warnings.showwarning is before
    printed = capsys.readouterr().err
    assert printed == "sktransfer: warning: one\\x1b\nsktransfer: warning: two\n"


@pytest.mark.parametrize("suffix", ["parquet", "csv", "npy"])
def test_file_names_need_not_be_utf8(suffix, folder, tmp_path, capsys):
    source = next((folder / "class 0").iterdir())
    os.link(source, os.path.join(os.fsencode(folder / "class 0"), b"\xff.png"))
    output = tmp_path / f"f.{suffix}"
    assert extract(folder, output) == 0
    index = tmp_path / "f.index.csv" if suffix == "npy" else output
    table = pd.read_parquet(index) if suffix == "parquet" else pd.read_csv(index)
    assert table["path"].str.endswith("\\xff.png").sum() == 1


def test_files_of_others_are_left_alone(folder, tmp_path):
    (tmp_path / "f.txt.part").write_text("precious")
    (tmp_path / "f.csv.part").write_text("precious")
    assert extract(folder, tmp_path / "f.txt") == 2
    assert extract(folder, tmp_path / "f.csv") == 0
    for name in ("f.txt.part", "f.csv.part"):
        assert (tmp_path / name).read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "f.csv", "f.txt.part", "f.csv.part"}


def test_an_index_that_extract_did_not_write_is_refused(folder, tmp_path, capsys):
    index = tmp_path / "f.index.csv"
    index.write_text("name,price\nscrew,3\n")
    assert extract(folder, tmp_path / "f.npy") == 2
    assert "was not written by `sktransfer extract`; move it away" in capsys.readouterr().err
    assert index.read_text() == "name,price\nscrew,3\n"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "f.index.csv"}


def test_an_index_of_an_earlier_run_is_replaced_with_its_features(folder, tmp_path, monkeypatch):
    output = tmp_path / "f.npy"
    assert extract(folder / "class 0", output) == 0
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            extract(folder, output)
    for source, n in ((None, 10), (folder, 30)):
        if source is not None:
            assert extract(source, output) == 0
        assert len(np.load(output)) == len(pd.read_csv(tmp_path / "f.index.csv")) == n
    assert {path.name for path in tmp_path.iterdir()} == {"in", "f.npy", "f.index.csv"}


def test_what_cannot_be_written_is_found_out_first_and_leaves_nothing(folder, tmp_path, capsys):
    (tmp_path / "taken.csv").mkdir()
    assert extract(folder, tmp_path / "taken.csv") == 2
    assert "is a directory" in capsys.readouterr().err
    assert extract(folder, tmp_path / "f.csv", "--backbone", "nope") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"in", "taken.csv"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{in}", "-o", "{out}/f.txt"], "must end in .parquet, .csv, .npy"),
        (["{in}", "-o", "{out}/no/f.csv"], "does not exist"),
        (["{in}/absent", "-o", "{out}/f.csv"], "not a directory"),
        (["{in}", "-o", "{out}/f.csv", "--layer", "nope"], "layer='nope'"),
        (["{in}", "-o", "{out}/f.csv", "--backbone", "nope"], "backbone='nope'"),
        (["{in}", "-o", "{out}/f.csv", "--weights", "nope.pth"], "nope.pth"),
    ],
)
def test_a_mistake_is_one_line_and_status_two(arguments, message, folder, tmp_path, capsys):
    filled = [a.format(**{"in": folder, "out": tmp_path}) for a in arguments]
    assert main(["extract", *filled]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.slow
def test_the_module_runs_and_shows_progress_on_stderr(folder, tmp_path):
    command = [sys.executable, "-m", "sktransfer", "extract", str(folder), "-o"]
    done = subprocess.run(
        [*command, str(tmp_path / "f.npy"), "--image-size", "32"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "100%" in done.stderr
    assert done.stdout.startswith("30 images, 1280 features")


COMMANDS = (
    "demo",
    "extract",
    "rank",
    "check",
    "report",
    "cache info",
    "cache prune",
    "cache verify",
)


def run(*arguments, code="from sktransfer.cli.main import main; sys.exit(main())", **kwargs):
    """A command in a process of its own, started with what is imported by then."""
    command = [sys.executable, "-c", f"import sys; {code}", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_of_json_and_exit_status(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert "exit status:\n  0    " in text
    assert "\n  130  interrupted\n" in text
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_neither_torch_nor_scikit_learn(command):
    code = """
from sktransfer.cli.main import main
try:
    main()
finally:
    print({"torch", "sklearn", "numpy"} & set(sys.modules), file=sys.stderr)
"""
    with run(*command.split(), "--help", code=f"\n{code}") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "set()\n")
    assert "usage: sktransfer" in out


@pytest.mark.parametrize("arguments", [[], ["nope"], ["extract"], ["rank", ".", "--metric", "x"]])
def test_a_wrong_call_shows_the_usage_and_has_status_two(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("usage: sktransfer")


@pytest.mark.parametrize("value", ["abc", "0", "-3", "1.5", ""])
def test_a_count_that_is_none_is_refused_in_plain_words(value, capsys):
    with pytest.raises(SystemExit):
        main(["demo", f"--seeds={value}"])
    printed = capsys.readouterr().err
    assert f"argument --seeds: must be a whole number of at least 1, got {value!r}" in printed


@pytest.mark.parametrize("command", ["extract . -o f.csv", "rank .", "report . -o f.html"])
def test_commands_that_run_a_network_take_the_same_options(command, capsys):
    for option in ("--image-size", "--batch-size"):
        with pytest.raises(SystemExit):
            main([*command.split(), option, "abc"])
        message = f"argument {option}: must be a whole number of at least 1, got 'abc'"
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--precision", "bfloat16", "--fast-decode", "--help"])
    assert stopped.value.code == 0


@pytest.mark.slow
def test_mistakes_in_a_call_are_told_before_torch_is_loaded(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").touch()
    code = """
from sktransfer.cli.main import main
for line in sys.stdin.read().splitlines():
    assert main(line.split()) == 2, line
    assert "torch" not in sys.modules, line
    assert "sklearn" not in sys.modules, line
"""
    calls = [
        "extract absent -o f.csv",
        "extract empty -o f.csv",
        "extract in -o f.txt",
        "extract in -o no/f.csv",
        "rank absent",
        "rank empty",
        "rank in",
        "check absent",
        "check empty",
        "report empty -o f.html",
        "report in -o f.html",
        "report in -o f.pdf",
        "demo --plot no/plot.png",
        "demo --plot in",
        "demo --plot plot.doc",
    ]
    with run(code=f"\n{code}", stdin=subprocess.PIPE, cwd=tmp_path) as process:
        _, err = process.communicate("\n".join(calls), timeout=60)
    assert process.returncode == 0, err
    assert len(err.splitlines()) == len(calls)
    assert all(line.startswith("sktransfer: error: ") for line in err.splitlines())


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    FeatureStore(tmp_path).verify()
    PretrainedCNNFeatures(image_size=32, cache=tmp_path).fit_transform(np.zeros((1, 8, 8)))
    process = run("cache", "info", str(tmp_path))
    process.stdout.close()
    with process:
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.slow
def test_an_interrupt_leaves_status_130_and_no_half_written_file(folder, tmp_path):
    for source in sorted(folder.rglob("*.png")):
        for i in range(40):
            os.link(source, source.with_name(f"{source.stem}-{i}.png"))
    output = tmp_path / "f.npy"
    # A shell starts what runs in the background deaf to interrupts, and that is inherited.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    arguments = ("extract", str(folder), "-o", str(output), "--engine", "torch")
    with run(*arguments, preexec_fn=heard) as process:
        while (seen := process.stderr.read(1)) and seen != "%":  # of the progress bar
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("sktransfer: interrupted\n")
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("plot", "message"), [("no/plot.png", "does not exist"), ("plot.doc", "must end in one of")]
)
def test_demo_refuses_a_plot_it_could_not_save_before_it_works(plot, message, tmp_path, capsys):
    assert main(["demo", "--plot", str(tmp_path / plot)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "searching" not in printed.err
