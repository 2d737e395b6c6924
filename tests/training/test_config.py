"""Options, presets and refusals of the training command."""

from __future__ import annotations

import shlex
import time

import pytest

from tests.support.app import python
from tests.support.faces import write_folder
from tests.support.training import command, refused
from training import config as configs
from training import train
from training.fitting import plan

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.slow
def test_help_is_quick_and_names_the_options():
    started = time.monotonic()
    result = python("training/train.py", "--help")
    assert result.returncode == 0 and time.monotonic() - started < 20
    for option in "network dataset init age-head epochs batch-size unfreeze preset limit seed out resume push".split():
        assert f"--{option}" in result.stdout


def vgg16_phases(*arguments: str, **options) -> list:
    return plan.phases(configs.parse([*arguments, "--out", "nowhere"])[0], **options)


def test_phases_of_vgg16():
    ours = vgg16_phases()
    assert [(p.name, p.epochs, p.half_size) for p in ours] == [
        ("heads", 1, True),
        ("all at half size", 5, True),
        ("all", 18, False),
    ]
    assert [p.name for p in vgg16_phases(fresh_heads=False)] == ["all at half size", "all"]
    assert [(p.name, p.epochs) for p in vgg16_phases("--preset", "published")] == [("heads", 1), ("block5", 199)]
    assert [p.name for p in vgg16_phases("--epochs", "0")] == []
    assert [p.name for p in vgg16_phases("--unfreeze", "none")] == ["heads"]
    assert [p.name for p in vgg16_phases("--init", "none", "--pretrain", "x/y")] == ["pretrain", "all"]


def test_settings_that_do_not_fit_are_explained(made_up, trained, tmp_path, capsys):
    refused(capsys, ["", "--network", "compact", "--dataset", tmp_path / "gone"], "No dataset at", "gone")
    refused(capsys, ["", "--network", "compact", "--dataset", made_up, "--out", trained], "--resume")
    other = ["", "--network", "compact", "--out", trained, "--resume", "--batch-size", "7"]
    refused(capsys, other, "--batch-size", "Omit")
    refused(capsys, command(made_up, tmp_path / "x", "--init", "imagenet"), "no ImageNet weights", "--init none")
    refused(capsys, command(made_up, tmp_path / "x", "--half-size-epochs", "2"), "vgg16")
    frozen = ["", "--init", "none", "--unfreeze", "block5", "--dataset", made_up]
    refused(capsys, frozen, "--unfreeze block5", "Omit")
    few = write_folder({p.name: p.read_bytes() for p in list(made_up.iterdir())[:1]}, tmp_path / "one")
    refused(capsys, ["", "--network", "compact", "--dataset", few, "--out", tmp_path / "y"], "split", "is empty")
    assert not (tmp_path / "x" / "bundle").exists()


@pytest.mark.parametrize(
    "words",
    [["--epochs", "-1"], ["--network", "resnet"], ["--learning-rate", "-1"], ["--patience", "-1"], ["--limit", "x"]],
)
def test_wrong_options_show_the_usage(words, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(words)
    assert stop.value.code == 2 and words[0] in capsys.readouterr().err


def test_a_run_without_its_config_is_told(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text("{}")
    refused(capsys, ["", "--network", "compact", "--out", tmp_path / "run", "--resume"], "has no config.json")


def test_a_config_is_saved_read_back_and_printed_as_a_command(tmp_path):
    words = ["--network", "compact", "--epochs", "3", "--no-mirror", "--teacher", "a/b", "c/d", "--pretrain", "x/y"]
    config, to = configs.parse([*words, "--out", str(tmp_path)])
    config.save(tmp_path)
    assert configs.TrainConfig.load(tmp_path) == config and to.push is None
    command_ = shlex.split(config.to_command())
    assert configs.parse([*command_[2:], "--out", str(tmp_path / "again")])[0] == config
    local = configs.TrainConfig(dataset=str(tmp_path)).to_command()
    assert str(tmp_path.parent) not in local and tmp_path.name in local
