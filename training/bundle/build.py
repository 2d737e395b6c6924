"""From a trained network to its bundle: export, quantize, calibrate, evaluate once on test, plot, write."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from space.estimator import Estimator
from space.hub.card import hub_id
from space.text import command_line, counted
from training.atomic import clear, new_folder
from training.bundle import export, licenses, quantize
from training.data.cropping import pose_masks
from training.data.faces import Faces
from training.data.sources import public_name
from training.evaluation import calibrate, plots
from training.evaluation.metrics import cross_table_csv, measure, range_error, split_record
from training.evaluation.tables import table
from training.leakage import Measured, doubt
from training.options import to_command
from training.parents import Parent, dataset_records
from training.recipe import Recipe

SHARPNESS = (1.0, 1.15, 1.3, 1.45, 1.6, 1.8)  # of the age distribution, see `networks.sharpen_ages`
SHARPENED = 1000  # validation faces on which it is chosen
FEWEST = 200  # validation faces for a calibration better than that of the model that was fine-tuned


def build_bundle(
    network,
    recipe: Recipe,
    faces: dict[str, list[Faces]],
    out: Path,
    *,
    history: list[dict],
    parents: list[Parent],
    precision: str,
) -> Path:
    """Write the bundle of a trained network (float32 policy) to `out`/bundle; returns that folder.

    Args:
        network: from `networks.build`.
        recipe: as it ran.
        faces: of each split, as `load_faces` returns them.
        history: rows of `loop.fit`; empty if nothing was trained.
        parents: of the initial weights, and teachers.
        precision: the dtype policy of training.

    Raises:
        ExportError: ONNX and Keras disagree.
        OSError: the disk is full or can't be written; no partial bundle is left.
    """
    from training.fitting.checkpoints import final_weights  # imports Keras

    bundle, validation = out / "bundle", faces["validation"]
    with new_folder(bundle) as folder:
        kept = kept_calibration(parents, validation)
        # Weights that weren't trained here stay as they are.
        weights = final_weights(out) if history else None
        sharpen = weights and recipe.age_head == "distribution" and not kept and not weights["initial"]
        sharpness = choose_sharpness(network, recipe, validation[0]) if sharpen else None
        export.write_model(network, folder, faces=validation[0].images[:32])
        served = quantize.quantize(
            folder,
            faces["train"][0].spread(quantize.FACES),
            validation[0].images,
            validation[0].samples.age_range,
            validation[0].samples.gender == 1,
        )
        print(f"Served: {served['serve']}, because {served['reason']}")
        estimator = Estimator(folder / served["serve"])
        tables = kept or calibration_tables(estimator, validation)
        published = _published(recipe, faces["test"])
        published.save(folder)
        provenance = {
            "datasets": dataset_records(recipe, faces),
            "command": to_command(published),
            "epochs_run": len(history),
            "stages": _stages(history),
            "precision": precision if history else None,
            "sharpness": sharpness,
            "weights": weights,
            "calibrated_by": next(public_name(p.model) for p in parents if p.role == "init") if kept else None,
            "parents": [parent.as_dict() for parent in parents],
            **export.checkout(),
        }
        metrics, outputs, main = _measure(recipe, faces["test"], estimator, tables, provenance)
        _draw(folder, out, bool(history), main, outputs)
        export.write_card(
            folder,
            network,
            recipe.age_head,
            name=recipe.name,
            calibration=tables,
            metrics=metrics,
            provenance=provenance,
            served=served,
            license=licenses.of(provenance),
            mirror=recipe.mirror,
        )
    clear(bundle)  # of runs that were killed here
    for figures in (metrics, *metrics["others"]):
        print(f"{figures['dataset']}, test split", table(figures), sep="\n")
    print(f"Bundle: {bundle}\nServe it: {command_line('python', 'app.py', '--model', bundle)}")
    return bundle


def choose_sharpness(network, recipe: Recipe, validation: Faces) -> float:
    """Sharpen the age distribution as far as it lowers the error on some validation faces; returns the factor."""
    from training.model import networks
    from training.model.prediction import predict

    every = max(1, len(validation) // SHARPENED)
    age_range, faces = validation.samples.age_range[::every], np.asarray(validation.images[::every])
    # A network that averages a face and its mirror image sharpens each distribution before their mean.
    single = networks.build(recipe.network, age_head=recipe.age_head, dropout=recipe.dropout)
    single.set_weights(network.get_weights())
    views = [faces, faces[:, :, ::-1]] if recipe.mirror else [faces]
    probs = np.stack([predict(single, view)["age_probs"] for view in views]).astype(np.float64)

    def error(factor: float) -> float:
        sharp = probs**factor
        age = sharp @ np.arange(probs.shape[-1]) / sharp.sum(axis=-1)
        return float(np.mean(range_error(age.mean(axis=0), age_range)))

    best = min(SHARPNESS, key=error)
    networks.sharpen_ages(network, best)
    print(f"Age distribution sharpened by {best:g}: error {error(1.0):.3f} → {error(best):.3f} years")
    return best


def kept_calibration(parents: list[Parent], validation: list[Faces]) -> dict | None:
    """The calibration of the model that was fine-tuned, if there are too few validation faces for a new one."""
    count = sum(map(len, validation))
    initial = next((parent for parent in parents if parent.role == "init"), None)
    if initial is None or initial.calibration is None or count >= FEWEST:
        return None
    print(f"There are only {counted(count, 'validation face')}: the calibration of {initial.model} is kept.")
    return initial.calibration


def calibration_tables(estimator: Estimator, validation: list[Faces]) -> dict:
    """Calibration on the validation faces of all datasets."""
    found = [estimator.predict(np.asarray(faces.images)) for faces in validation]
    outputs = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    age_range = np.concatenate([faces.samples.age_range for faces in validation])
    female = np.concatenate([faces.samples.gender == 1 for faces in validation])
    source = np.repeat(np.arange(len(validation)), [len(faces) for faces in validation])
    return calibrate.fit(outputs, age_range, female, source=source)


def _measure(
    recipe: Recipe, test: list[Faces], estimator: Estimator, tables: dict, provenance: dict
) -> tuple[dict, dict, Faces]:
    """The figures of the first dataset with exact ages (or of the first), with those of the others under "others".

    Also returns that dataset's outputs and faces.
    """
    main = next((faces for faces in test if not faces.samples.binned), test[0])
    seen = _learned(provenance)
    found = []
    for number, faces in enumerate(test):
        outputs = calibrate.apply(tables, estimator.predict(np.asarray(faces.images)))
        binned = faces.samples.binned
        figures = measure(
            faces.samples,
            outputs,
            median_age=None if binned else faces.median_age,
            poses=pose_masks(faces.images) if binned else None,
        )
        figures |= {
            "dataset": public_name(faces.report.source),
            "collection": faces.report.collection,
            "revision": faces.report.revision,
            "rows": faces.report.rows,
            # Whether the network or one of its parents learned from this dataset's training split.
            "learned": number < len(recipe.train) or faces.report.collection in seen,
            "split": split_record(recipe, "test"),
        }
        measured = Measured.of(faces.report, faces.samples, recipe.protocol, "test", recipe.limit)
        doubts = [one for parent in provenance["parents"] if (one := doubt(parent, measured))]
        figures["doubt"] = doubts[0].reason if doubts else None
        found.append((faces, figures, outputs))
    faces, figures, outputs = next(entry for entry in found if entry[0] is main)
    return figures | {"others": [other for entry, other, _ in found if entry is not main]}, outputs, faces


def _learned(provenance: dict) -> set[str | None]:
    """The collections that the network or its parents learned from. None: a parent learned from unknown faces."""
    own = {one["collection"] for one in provenance["datasets"] if one["learned"]} - {None}
    return own.union(*(licenses.collections(parent) for parent in provenance["parents"]))


def _draw(folder: Path, out: Path, trained: bool, test: Faces, outputs: dict) -> None:
    (folder / "figures").mkdir()
    if trained:
        shutil.copy(out / "curves.png", folder / "figures" / "curves.png")
    plots.age_errors(test.samples, outputs, folder / "figures" / "ages.png")
    plots.calibration(test.samples, outputs, folder / "figures" / "calibration.png")
    plots.groups(test.samples, outputs, folder / "figures" / "groups.png")
    plots.worst_faces(test.samples, test.images, outputs, out / "worst.png")
    (folder / "groups.csv").write_text(cross_table_csv(test.samples, outputs), encoding="utf-8")


def _published(recipe: Recipe, test: list[Faces]) -> Recipe:
    """The recipe as its readers can run it: without local folders, and with the Hub's id for a copy of a collection."""
    names = []
    for source, faces in zip((*recipe.train, *recipe.test), test, strict=True):
        local = Path(source).expanduser().exists()
        names.append((hub_id(faces.report.as_dict()) if local else None) or public_name(source))
    count = len(recipe.train)
    return replace(recipe.public(), train=tuple(names[:count]), test=tuple(names[count:]))


def _stages(history: list[dict]) -> list[dict]:
    """What ran, from the log: stage, branch, name and the number of epochs, in order."""
    stages: dict[tuple, dict] = {}
    for row in history:
        key = (row["stage"], row["branch"])
        stages.setdefault(key, {"stage": key[0], "branch": key[1], "name": row["name"], "epochs": 0})["epochs"] += 1
    return list(stages.values())
