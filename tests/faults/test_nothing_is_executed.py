"""What is downloaded, loaded or configured is data: nothing of it is run. Read from the source's syntax trees."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import normlab
from normlab.errors import UserError

SOURCE = Path(normlab.__file__).parent
TREES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}
# The one place where code that is not the package's is run: norm types that the user wrote, in the user's own folder.
_USER_NORMS = "model/norms/registry.py"
_RUNS_CODE = {"eval", "exec", "compile", "__import__", "execfile", "runpy.run_path", "runpy.run_module", "os.system",
              "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open", "dill.load",
              "dill.loads", "joblib.load", "cloudpickle.load", "cloudpickle.loads", 
              "yaml.unsafe_load", "yaml.full_load", "numpy.load", "np.load", "torch.jit.load", "torch.hub.load",
              "pandas.read_pickle", "pd.read_pickle"}  # fmt: skip


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call in the package: where, what, and itself."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield f"{name}:{node.lineno}", ast.unparse(node.func), node


def keywords(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def test_nothing_evaluates_or_unpickles() -> None:
    assert len(TREES) > 100
    assert [(where, what) for where, what, _ in calls() if what in _RUNS_CODE] == []


def test_yaml_is_loaded_by_a_safe_loader() -> None:
    """Named in the file that calls ``load``: the one in C where there is one."""
    for where, what, _ in calls():
        if what in ("yaml.load", "yaml.load_all"):
            names = set(re.findall(r"\w*Loader\b", (SOURCE / where.partition(":")[0]).read_text()))
            assert names <= {"Loader", "SafeLoader", "CSafeLoader"} and "SafeLoader" in names, where


def test_only_the_users_own_norms_are_run_as_code() -> None:
    running = {where.partition(":")[0] for where, what, _ in calls() if what.endswith("exec_module")}
    assert running == {_USER_NORMS}


def test_tensors_are_loaded_as_tensors() -> None:
    loads = [
        (where, keywords(call)) for where, what, call in calls() if what in ("torch.load", "load") and "torch" in what
    ]
    assert all(given.get("weights_only") == "True" for _, given in loads), loads


def test_no_code_of_a_hub_repository_is_trusted() -> None:
    for where, what, call in calls():
        assert keywords(call).get("trust_remote_code", "False") == "False", where
        assert not what.endswith("get_class_from_dynamic_module"), where


def test_no_shell_reads_what_we_run() -> None:
    assert [where for where, _, call in calls() if keywords(call).get("shell", "False") != "False"] == []


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """torch's own reader of plain tensors refuses it: what protects whoever loads a checkpoint with torch."""
    torch.save({"model": _Bomb()}, tmp_path / "step.pt")
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        torch.load(tmp_path / "step.pt", weights_only=True)
    assert "executed" not in capsys.readouterr().out


def test_yaml_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An experiment, a placement and a run's config.yaml with a Python object in them."""
    from normlab.cli import main
    from normlab.report.runs import load_runs

    evil = "!!python/object/apply:builtins.print [executed]"
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(f"question: {evil}\ngrid: {{placement: [pre]}}\n")
    Path("configs/placement").mkdir(parents=True)
    Path("configs/placement/mine.yaml").write_text(f"attn: {{pre: {evil}}}\n")
    Path("runs/a/b/seed0").mkdir(parents=True)
    Path("runs/a/b/seed0/config.yaml").write_text(f"seed: {evil}\n")
    assert main(["sweep", "mine.yaml"]) == 2
    assert main(["train", "placement=mine"]) == 2
    assert load_runs("runs/a")["status"].tolist() == ["corrupt"]
    assert "executed" not in capsys.readouterr().out.splitlines()
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(evil)


def test_reading_somebodys_runs_runs_none_of_their_files(tmp_path: Path) -> None:
    """A config.yaml names the norm files that a run used; a report only reads the name."""
    from normlab.report.runs import load_runs

    (tmp_path / "norm.py").write_text("raise SystemExit('executed')")
    plain = normlab.compose([]).model_dump(mode="json", by_alias=True)
    plain["norm"]["files"] = {str(tmp_path / "norm.py"): "0123"}
    folder = tmp_path / "runs" / "a" / "seed0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(plain))
    assert len(load_runs(tmp_path / "runs")) == 1


def test_norm_files_cannot_be_named_on_the_command_line(tmp_path: Path) -> None:
    """They are found in the user's own folders, not set: somebody's override or YAML runs nothing."""
    (tmp_path / "norm").mkdir()
    (tmp_path / "norm" / "mine.yaml").write_text(f"type: rmsnorm\nfiles: {{{tmp_path}/evil.py: x}}\n")
    with contextlib.suppress(UserError):
        assert normlab.compose(["norm=mine"], tmp_path).norm.files == {}
    with contextlib.suppress(UserError):
        assert normlab.compose([f"norm.files='{{{tmp_path}/evil.py: x}}'"]).norm.files == {}
