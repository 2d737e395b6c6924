"""Recipes and the command line: what they hold, and what they refuse."""

from __future__ import annotations

import dataclasses
import re
import shlex
import time

import pytest

from tests.support.app import python
from tests.support.faces import write_folder
from tests.support.training import SHORT, command, refused
from training import options, recipe, train
from training.recipe import RecipeError, Stage

pytestmark = pytest.mark.usefixtures("tiny")
STAGE = "train = ['x']\n[[stages]]\nname = 'a'\nepochs = 1\n"


def parse(*words: str):
    return options.parse([*words, "--out", "nowhere"])[0]


@pytest.mark.slow
def test_help_is_quick_and_names_the_options():
    started = time.monotonic()
    result = python("training/train.py", "--help")
    assert result.returncode == 0 and time.monotonic() - started < 20
    named = set(re.findall(r"--([a-z-]+)", result.stdout.split("options")[-1]))
    wanted = "recipe init teacher dataset test-dataset limit epochs batch-size precision seed out resume push".split()
    assert set(wanted) <= named, result.stdout
    assert len(dataclasses.fields(options.Options)) <= 20


@pytest.mark.parametrize("name", recipe.names())
def test_each_recipe_of_the_kit_is_saved_and_read_back(name, tmp_path):
    found = recipe.load(name)
    found.save(tmp_path)
    assert recipe.load(tmp_path / recipe.FILE) == found and found.name == name


def test_recipes_of_the_kit():
    assert recipe.names() == ["compact", "open", "published", "vgg16"]
    ours = parse()
    assert ours.network == "vgg16" and ours.init == "imagenet"
    assert [(s.name, s.epochs, s.size) for s in ours.stages] == [
        ("heads", 1, 100), ("small faces", 5, 100), ("full size", 18, 200)
    ]  # fmt: skip
    published = parse("--recipe", "published")
    assert [(s.layers, s.epochs) for s in published.stages] == [("heads", 1), ("block5", 199)]
    assert (published.age_head, published.batch_size, published.optimizer) == ("regression", 32, "adam")
    assert recipe.load("open").train == ("HuggingFaceM4/FairFace",)  # nothing else, or its license is another
    assert parse("--network", "compact") == parse("--recipe", "compact")


def test_options_change_the_recipe():
    changed = parse(
        "--recipe", "compact", "--epochs", "2", "--teacher", "a/b", "c/d", "--dataset", "x/y@main", "--seed", "3"
    )
    assert {s.epochs for s in changed.stages} == {2}
    assert changed.teacher == ("a/b", "c/d") and changed.train == ("x/y@main",) and changed.seed == 3
    words = shlex.split(options.to_command(changed))
    assert parse(*words[2:]) == changed


def test_a_model_given_with_init_is_fine_tuned_and_a_recipe_s_own_init_trains_its_stages(tmp_path):
    compact = recipe.load("compact")
    tuned = parse("--recipe", "compact", "--init", "open")
    assert tuned.stages == compact.fine_tuning and not tuned.fine_tuning
    assert parse("--recipe", "compact").stages == compact.stages
    text = (recipe.RECIPES / "compact.toml").read_text().replace("mirror =", 'init = "open"\nmirror =')
    (tmp_path / "mine.toml").write_text(text)
    own = parse("--recipe", str(tmp_path / "mine.toml"))
    assert own.init == "open" and own.stages == compact.stages and not own.fine_tuning and own.name == "mine"
    _, to = options.parse(["--recipe", "compact", "--init", "open", "--push"])
    assert tuned.name == to.out.name == "compact-finetuned" and to.push.repo_id == "age-gender-compact-finetuned"
    (tmp_path / "mine.toml").write_text(text.split("[[fine_tuning]]")[0])
    tuned_by_its_stages = parse("--recipe", str(tmp_path / "mine.toml"), "--init", "compact")
    assert tuned_by_its_stages.stages == compact.stages and tuned_by_its_stages.name == "mine-finetuned"
    for ran in (tuned, parse("--recipe", "compact", "--init", "open", "--epochs", "1")):
        assert parse(*shlex.split(options.to_command(ran))[2:]) == ran  # the recorded command repeats it


def test_a_run_without_epochs_needs_initial_weights():
    with pytest.raises(RecipeError, match="--init MODEL"):
        parse("--recipe", "compact", "--epochs", "0")
    with pytest.raises(RecipeError, match="--init MODEL"):
        parse("--epochs", "0")  # ImageNet's weights have no heads
    assert {stage.epochs for stage in parse("--recipe", "compact", "--epochs", "0", "--init", "open").stages} == {0}


def test_branches_are_the_stage_with_other_settings():
    stage = Stage("s", 2, 1e-3, gender_weight=2.0, branches=({"augment": "medium"}, {"balance": True, "epochs": 1}))
    first, second = stage.variants()
    assert (first.augment, first.epochs, first.gender_weight) == ("medium", 2, 2.0)
    assert (second.augment, second.epochs, second.balance) == ("mild", 1, True)
    assert Stage("s", 2, 1e-3).variants() == [Stage("s", 2, 1e-3)]
    assert [variant.epochs for variant in stage.lasting(3).variants()] == [3, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("network = 'compact'", ["train"]),
        ("network = 'resnet'\ntrain = ['x']\nstages = []", ["network", "vgg16"]),
        ("network = 'compact'\ntrain = []\nstages = []", ["no dataset"]),
        ("network = 'compact'\ntrain = ['x']\ncolor = 3\nstages = []", ["color"]),
        ("network = 'compact'\ntrain = ['x']\nbatch_size = 0\nstages = []", ["batch_size", "greater than 0"]),
        ("network = 'compact'\ntrain = ['x']\n[[stages]]\nname = 'a'", ["epochs"]),
        (
            "network = 'compact'\ntrain = ['x']\n[[stages]]\nname = 'a'\nepochs = 1\nlearning_rate = nan",
            ["learning_rate"],
        ),
        (
            "network = 'compact'\ntrain = ['x']\n[[stages]]\nname = 'a'\nepochs = 1\nlearning_rate = 1\nsize = 'x'",
            ["size"],
        ),
        (
            "network = 'compact'\ntrain = ['x']\n[[stages]]\nname = 'a'\nepochs = 1\nlearning_rate = 1\n"
            "branches = [{ augment = 'wild' }]",
            ["branch", "wild", "medium"],
        ),
        (
            "network = 'vgg16'\ntrain = ['x']\n[[stages]]\nname = 'a'\nepochs = 1\nlearning_rate = 1\nlayers = 'heads'",
            ["pretrained weights"],
        ),
        (
            "network = 'vgg16'\ntrain = ['x']\n[[stages]]\nname = 'a'\nepochs = 1\nlearning_rate = 1\nsize = 150",
            ["100"],
        ),
        (
            "network = 'vgg16'\ninit = 'none'\n" + STAGE + "learning_rate = 1\nbranches = [{ layers = 'heads' }]",
            ["pretrained weights"],
        ),
        ("network = 'compact'\ntrain = ['x']\nstages = []", ["no stages"]),
        ("network = 'compact'\ntrain = 'x/y'\nstages = []", ["train must be a list"]),
        ("network = 'compact'\ntrain = ['x', 'x']\nstages = []", ["twice"]),
        ("network = 'compact'\n" + STAGE + "learning_rate = 1\nteacher_weight = 1.5", ["at most 1"]),
        ("network = 'compact'\n" + STAGE.replace("epochs = 1", "epochs = 1.5") + "learning_rate = 1", ["an integer"]),
        ("network = 'compact'\n" + STAGE + "learning_rate = 1\nrates = { a = 1.5 }", ["shares from 0 to 1"]),
        ("network = 'compact'\n" + STAGE + "learning_rate = 1\nrates = { a = -0.1 }", ["shares from 0 to 1"]),
        ("network = 'compact'\n" + STAGE + "learning_rate = 1\nbranches = [{ size = 96 }]", ["a branch can't do"]),
        (
            "network = 'compact'\n" + STAGE + "learning_rate = 1\nbranches = [{ branches = [{}] }]",
            ["has branches, which a branch can't have"],
        ),
        ("network = ", ["can't be read"]),
        ("", ["missing arguments", "network"]),
        ("network = 'compact'\ntrain = ['x']\n[stages]\nname = 'a'", ["[[stages]]", "double brackets"]),
        ("network = 'compact'\nname = 5\n" + STAGE + "learning_rate = 1", ["name", "a string"]),
        ("network = 'compact'\nmirror = 'yes'\n" + STAGE + "learning_rate = 1", ["mirror", "true or false"]),
        ("network = 'compact'\ninit = 5\n" + STAGE + "learning_rate = 1", ["init", "a string"]),
        ("network = 'compact'\nseed = -1\n" + STAGE + "learning_rate = 1", ["seed", "0 or greater"]),
        ("network = 'compact'\ndropout = 1.0\n" + STAGE + "learning_rate = 1", ["dropout", "less than 1"]),
        ("network = 'compact'\n" + STAGE + "learning_rate = inf", ["learning_rate", "finite"]),
        ("network = 'compact'\n" + STAGE + "learning_rate = 1\nsize = 7", ["size", "from 64 to 200"]),
        ("network = 'compact'\n" + STAGE + "learning_rate = 1\nbalance = 'no'", ["balance", "true or false"]),
        ("network = 'compact'\n" + STAGE + "learning_rate = 1\nrates = { a = 'x' }", ["rates", "shares from 0 to 1"]),
        (
            "network = 'compact'\n" + STAGE + "learning_rate = 1\nbranches = { balance = true }",
            ["branches", "list of tables"],
        ),
        ("stages = 3\nnetwork = 'compact'\ntrain = ['x']", ["isn't a recipe"]),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(text, words, tmp_path):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(RecipeError) as error:
        recipe.load(tmp_path / "mine.toml")
    for word in ("mine.toml", *words):
        assert word in str(error.value)


def test_settings_that_do_not_fit_are_explained(made_up, trained, tmp_path, capsys):
    refused(capsys, ["", "--recipe", "compact", "--dataset", tmp_path / "gone"], "No dataset at", "gone")
    refused(capsys, ["", "--recipe", SHORT, "--dataset", made_up, "--out", trained], "--resume")
    other = ["", "--recipe", SHORT, "--out", trained, "--resume", "--batch-size", "7"]
    refused(capsys, other, "--batch-size", "Omit")
    refused(capsys, command(made_up, tmp_path / "x", "--init", "imagenet"), "no ImageNet weights", "--init none")
    refused(capsys, ["", "--init", "none", "--dataset", made_up], "pretrained weights", "--init MODEL")
    refused(capsys, ["", "--recipe", tmp_path / "none.toml"], "No recipe at", "compact, open")
    few = write_folder({p.name: p.read_bytes() for p in list(made_up.iterdir())[:1]}, tmp_path / "one")
    refused(capsys, command(few, tmp_path / "y"), "split", "is empty")
    assert not (tmp_path / "x" / "bundle").exists()


@pytest.mark.parametrize("words", [["--limit", "x"], ["--precision", "int8"], ["--wrong", "1"]])
def test_wrong_options_show_the_usage(words, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(words)
    assert stop.value.code == 2 and words[0] in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--limit", "0"], ["--epochs", "-1"], ["--batch-size", "0"]])
def test_impossible_numbers_are_refused(words, capsys):
    refused(capsys, ["", *words], words[0].strip("-").replace("-", "_"), "must be")


def test_a_run_without_its_recipe_fails_with_a_message(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text("{}")
    refused(capsys, ["", "--out", tmp_path / "run", "--resume"], "has no recipe.toml")


def test_a_recipe_whose_name_no_model_can_have_is_refused_before_training(tmp_path):
    for name in ("my recipe.toml", "müller.toml", f"{'x' * 70}.toml"):
        (tmp_path / name).write_text(SHORT.read_text())
        with pytest.raises(RecipeError, match="rename the file"):
            recipe.load(tmp_path / name)


def test_the_recorded_command_names_the_kit_s_recipe_only_if_that_is_what_ran(tmp_path):
    text = (recipe.RECIPES / "compact.toml").read_text().replace("learning_rate = 1e-3", "learning_rate = 3e-3")
    (tmp_path / "compact.toml").write_text(text)
    changed = options.parse(["--recipe", str(tmp_path / "compact.toml"), "--out", "nowhere"])[0]
    assert options.to_command(changed) == "python training/train.py --recipe recipe.toml"


def test_datasets_may_have_the_same_name_in_different_folders_but_not_be_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a/faces", "b/faces"):
        (tmp_path / folder).mkdir(parents=True)
    found = parse("--recipe", "compact", "--dataset", "a/faces", "--test-dataset", "b/faces")
    assert found.public().train == found.public().test == ("faces",)
    assert options.to_command(found.public())  # cards print it
    for same in ("a/faces/", "./a/faces", str(tmp_path / "a" / "faces")):
        with pytest.raises(RecipeError, match="names a dataset twice"):
            parse("--recipe", "compact", "--dataset", "a/faces", same)


@pytest.mark.parametrize("words", [["--repo-id", "me/x"], ["--private"], ["--revision", "v1"], ["--pr"]])
def test_options_of_a_push_need_a_push(words):
    with pytest.raises(RecipeError, match=f"{words[0]} has no effect without --push"):
        parse(*words)


def test_the_run_folder_may_be_this_one_but_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options.parse(["--recipe", "compact", "--out", "."])[1].out == tmp_path
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match="is a file: choose a folder"):
        options.parse(["--recipe", "compact", "--out", "file"])


def test_a_recipe_saved_by_an_editor_of_windows_is_read(tmp_path):
    (tmp_path / "mine.toml").write_text(SHORT.read_text(), encoding="utf-8-sig")
    assert recipe.load(tmp_path / "mine.toml").stages == recipe.load(SHORT).stages


def test_a_resumed_run_is_pushed_under_its_own_name(tmp_path):
    parse("--recipe", "compact").save(tmp_path)
    (tmp_path / "state.json").write_text("{}")
    _, to = options.parse(["--out", str(tmp_path), "--resume", "--push"])
    assert to.push.repo_id == "age-gender-compact"


def test_a_fine_tuning_run_resumes_without_its_initial_weights_if_it_is_the_only_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resume = ["--recipe", "compact", "--resume"]
    with pytest.raises(RecipeError, match=f"runs.compact has no {recipe.FILE}"):
        options.parse(resume)
    tuned = tmp_path / "runs" / "compact-finetuned"
    tuned.mkdir(parents=True)
    parse("--recipe", "compact", "--init", "open").save(tuned)
    found, to = options.parse(resume)
    assert found.init == "open" and to.out.name == "compact-finetuned" and to.resume
    plain = tmp_path / "runs" / "compact"
    plain.mkdir()
    parse("--recipe", "compact").save(plain)
    for words, name in ([], "compact"), (["--init", "open"], "compact-finetuned"):
        assert options.parse([*resume, *words])[1].out.name == name


def test_what_a_run_learns_from_is_not_also_a_dataset_that_it_never_learned_from():
    changed = parse("--recipe", "open", "--dataset", "py97/UTKFace-Cropped")
    assert changed.train == ("py97/UTKFace-Cropped",) and changed.test == ()


def test_published_recipes_omit_local_folders(tmp_path):
    local = parse("--recipe", "compact", "--dataset", str(tmp_path), f"{tmp_path}/*.parquet")
    for text in (options.to_command(local), str(local.public())):
        assert str(tmp_path.parent) not in text and tmp_path.name in text
