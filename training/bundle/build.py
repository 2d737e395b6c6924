"""From a trained network to its bundle: export, quantize, calibrate, evaluate once on test, plot, write."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np

from space.estimator import Estimator
from training.atomic import clear, new_folder
from training.bundle import export, quantize
from training.config import TrainConfig, public_name
from training.data.samples import dataset_hash
from training.evaluation import calibrate, plots
from training.evaluation.metrics import cross_table_csv, measure, split_record, spread_ages
from training.evaluation.tables import table
from training.faces import FaceSet

SHARPNESS = (1.0, 1.15, 1.3, 1.45, 1.6, 1.8)  # of the age distribution, see `networks.sharpen_ages`
SHARPENED = 1000  # validation faces on which it is chosen


def build_bundle(
    network,
    config: TrainConfig,
    *,
    history: list[dict],
    sets: dict[str, FaceSet],
    photos: dict[str, FaceSet] | None,
    out: Path,
    recipe: dict,
) -> Path:
    """Write the bundle of a trained network (float32 policy) to `out`/bundle; returns that folder.

    Args:
        network: from `networks.build`.
        history: rows of `loop.fit`.
        sets, photos: the run's faces.
        recipe: plain values for the card.

    Raises:
        ExportError: ONNX and Keras disagree.
        OSError: the disk is full or can't be written; no partial bundle is left.
    """
    bundle = out / "bundle"
    validation, test = sets["validation"], sets["test"]
    with new_folder(bundle) as folder:
        if config.age_head == "distribution":
            recipe = {**recipe, "sharpness": choose_sharpness(network, validation)}
        export.write_model(network, folder, faces=validation.images[:32])
        ranges = quantize.sample(sets["train"].images)
        served = quantize.quantize(
            folder, ranges, validation.images, validation.samples.age, validation.samples.gender == 1
        )
        print(f"Served: {served['serve']} ({served['reason']}); float32 {served['float32']}, int8 {served['int8']}")
        estimator = Estimator(folder / served["serve"])
        tables = calibration_tables(estimator, validation, photos and photos["validation"])
        outputs = calibrate.apply(tables, estimator.predict(test.images))
        metrics = measure(test.samples, outputs, median_age=float(np.median(sets["train"].samples.age)))
        metrics["split"] = split_record(config, "test")
        if photos:
            metrics["fairface"] = _measure_photos(config, photos["test"], estimator, tables)
        _draw(folder, out, bool(history), test, outputs)
        provenance = _provenance(config, history, sets, photos, recipe)
        export.write_card(
            folder, network, config.age_head, calibration=tables, metrics=metrics, provenance=provenance, served=served
        )
    clear(bundle)  # of runs that were killed here
    print(table(metrics))
    print(f"Bundle: {bundle}   serve it with: python app.py --model {bundle}")
    return bundle


def choose_sharpness(network, validation: FaceSet) -> float:
    """Sharpen the age distribution as far as it lowers the MAE on some validation faces; returns the factor."""
    from training.model.networks import sharpen_ages
    from training.model.prediction import predict

    every = max(1, len(validation.images) // SHARPENED)
    probs = predict(network, validation.images[::every])["age_probs"].astype(np.float64)
    age, years = validation.samples.age[::every], np.arange(probs.shape[1])

    def mae(factor: float) -> float:
        sharp = probs**factor
        return float(np.mean(np.abs(sharp @ years / sharp.sum(axis=1) - age)))

    best = min(SHARPNESS, key=mae)
    sharpen_ages(network, best)
    print(f"Age distribution sharpened by {best:g}: MAE {mae(1.0):.3f} → {mae(best):.3f} years on {len(age)} faces")
    return best


def calibration_tables(estimator: Estimator, validation: FaceSet, photos: FaceSet | None) -> dict:
    """Calibration on the validation faces of both sources; an age known as a band counts as spread over it."""
    outputs, age = estimator.predict(validation.images), validation.samples.age
    female, source = validation.samples.gender == 1, np.zeros(len(age), int)
    if photos:
        more = estimator.predict(photos.images)
        outputs = {name: np.concatenate([values, more[name]]) for name, values in outputs.items()}
        age = np.concatenate([age, spread_ages(photos.samples.age_range)])
        female = np.concatenate([female, photos.samples.gender == 1])
        source = np.concatenate([source, np.ones(len(photos.samples), int)])
    return calibrate.fit(outputs, age, female, source=source)


def _measure_photos(config: TrainConfig, photos: FaceSet, estimator: Estimator, tables: dict) -> dict:
    outputs = calibrate.apply(tables, estimator.predict(photos.images))
    poses = pose_masks(photos.images)
    return {
        "dataset": public_name(config.pretrain),
        "split": split_record(config, "test"),
        **measure(photos.samples, outputs, poses=poses),
    }


def _draw(folder: Path, out: Path, trained: bool, test: FaceSet, outputs: dict) -> None:
    (folder / "figures").mkdir()
    if trained:
        shutil.copy(out / "curves.png", folder / "figures" / "curves.png")
    plots.age_errors(test.samples, outputs, folder / "figures" / "ages.png")
    plots.calibration(test.samples, outputs, folder / "figures" / "calibration.png")
    plots.groups(test.samples, outputs, folder / "figures" / "groups.png")
    plots.worst_faces(test.samples, test.images, outputs, out / "worst.png")
    (folder / "groups.csv").write_text(cross_table_csv(test.samples, outputs))


def _provenance(config: TrainConfig, history, sets, photos, recipe: dict) -> dict:
    def faces(parts: dict[str, FaceSet]) -> dict:
        return {name: {"n": len(part.samples), "sha256": dataset_hash(part.samples)} for name, part in parts.items()}

    def source(name: str, revision: str | None, parts: dict[str, FaceSet]) -> dict:
        report = parts["train"].report.as_dict()
        return {
            "dataset": public_name(name),
            "dataset_revision": revision,
            "data_report": report | {"source": public_name(report["source"])},
        }

    return {
        **source(config.dataset, config.dataset_revision, sets),
        "command": config.to_command(),
        "faces": faces(sets),
        "pretrain": photos and {**source(config.pretrain, config.pretrain_revision, photos), **faces(photos)},
        "config": dataclasses.asdict(config)
        | {
            "init": public_name(config.init),
            "teacher": [*map(public_name, config.teacher)],
            "dataset": public_name(config.dataset),
            "pretrain": config.pretrain and public_name(config.pretrain),
        },
        "epochs_run": len(history),
        "recipe": recipe,
        "seed": config.seed,
        "commit": export.current_commit(),
    }
