"""Translates a config into the phases and the recipe for `fit`."""

from __future__ import annotations

import math

from training.config import TrainConfig
from training.fitting.loop import Phase, Recipe
from training.model import networks
from training.model.augment import STRENGTHS


def phases(config: TrainConfig, *, fresh_heads: bool = True) -> list[Phase]:
    """The phases of training that a config asks for; `fresh_heads`: the initial weights are those of the base alone."""

    def train_all(network):
        for layer in network.layers:
            layer.trainable = True

    def train_heads(network):
        train_all(network)
        for layer in networks.convolutional_base(network):
            layer.trainable = False

    def train_block5(network):
        train_heads(network)
        for layer in networks.convolutional_base(network, "block5"):
            layer.trainable = True

    rate, epochs = config.learning_rate, config.epochs
    if config.network == "compact" or config.init == "none":
        first = math.ceil(epochs / 3) if config.pretrain and config.init == "none" else 0
        found = [
            Phase("pretrain", first, rate, train_all, extra=math.inf),
            Phase("all", epochs - first, rate, train_all),
        ]
    elif config.unfreeze == "none":
        found = [Phase("heads", epochs, rate, train_heads)]
    else:
        half = min(config.half_size_epochs, epochs)
        heads = min(1, epochs) if fresh_heads else 0
        # Pretrained layers change less than new ones, the early ones least (discriminative fine-tuning; Howard & Ruder
        # 2018, arXiv 1801.06146).
        rates = {"block5": 0.3, "block4": 0.25, "block3": 0.225, "block2": 0.2, "block1": 0.15, "": 0.5}
        rates = rates if config.unfreeze == "all" else {"block5": 0.1, "": 0.5} if config.preset != "published" else {}
        prepare = train_all if config.unfreeze == "all" else train_block5
        name = config.unfreeze
        half_all = max(0, half - heads)
        found = [
            Phase("heads", heads, rate if config.preset == "published" else 2 * rate, train_heads, half_size=half > 0),
            Phase(f"{name} at half size", half_all, rate, prepare, rates=rates, half_size=True),
            Phase(name, epochs - heads - half_all, rate, prepare, rates=rates),
        ]
    return [phase for phase in found if phase.epochs]


def recipe(config: TrainConfig) -> Recipe:
    """How the network is fitted, beyond its phases."""
    return Recipe(
        age_head=config.age_head,
        batch_size=config.batch_size,
        augment=STRENGTHS[config.augment],
        optimizer=config.optimizer,
        weight_decay=0.05 if config.optimizer == "adamw" else 0.0,
        schedule=config.schedule,
        average=config.average,
        patience=config.patience,
        seed=config.seed,
        gender_weight=config.gender_weight,
        teacher_weight=0.5 if config.teacher else 0.0,
    )
