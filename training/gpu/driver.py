import io, json, os, sys, time, zlib
T0 = time.time()
os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path[:0] = [os.getcwd(), os.path.dirname(os.path.abspath(__file__))]
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np, cv2
import torch
if os.environ["KERAS_BACKEND"] == "torch":
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
import keras
import old_networks
from training import networks
from training.augment import STRENGTHS
from training.batches import Faces, predict
from training.fit import FaceSets, Phase, Recipe, fit, validate

stage, budget, data_dir, run_dir, out_dir = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5])
LIMIT = int(os.environ.get("LIMIT", 0))
def log(*a): print(f"[{time.time()-T0:6.1f}]", *a, flush=True)
log(stage, "cuda", torch.cuda.is_available())

def load(name):
    with np.load(data_dir / f"{name}.npz") as z:
        z = {k: z[k] for k in z.files}
    n = len(z["size"]); n = min(n, LIMIT) if LIMIT else n
    ends = np.cumsum(z["size"]); blob = z["blob"]
    images = np.empty((n, 200, 200, 3), np.uint8)
    def one(i):
        images[i] = cv2.imdecode(blob[ends[i] - z["size"][i]:ends[i]], cv2.IMREAD_COLOR)[..., ::-1]
    with ThreadPoolExecutor(os.cpu_count()) as pool: list(pool.map(one, range(n)))
    return {k: v[:n] for k, v in z.items() if k not in ("blob", "size")} | {"images": images}

BANDS = np.array([0, 3, 10, 20, 30, 40, 50, 60, 70])
def weights(z, power):
    group = (np.searchsorted(BANDS, z["age_range"][:, 0], side="right") * 2 + z["gender"]) * 10 + z["race"] + 1
    count = np.unique(group, return_inverse=True)
    count = np.bincount(count[1])[count[1]]
    w = np.maximum(count, 10.0) ** -power
    return w * np.where(z["turned"], 1.5, 1.0) if "turned" in z else w
def faces(z, power=0.0):
    return Faces(z["images"], z["age_range"].astype("float32"), z["gender"].astype("float32"), weights(z, power) if power else None)

_save = keras.Model.save_weights
def save_weights(self, path, *a, **k):
    if "state-" in str(path): Path(path).touch()
    else: _save(self, path, *a, **k)
keras.Model.save_weights = save_weights
names = ["utk-train", "utk-validation", "ff-train", "ff-validation"][:2 if stage == "published" else 4]
with ThreadPoolExecutor(4) as pool: sets = dict(zip(names, pool.map(load, names)))
log("decoded", {k: len(v["gender"]) for k, v in sets.items()})
if stage != "published":
  v2 = sets["ff-validation"]; v2 = {k: v[::2] for k, v in v2.items()}
  balanced = FaceSets(faces(sets["utk-train"], 0.25), faces(sets["utk-validation"]), faces(sets["ff-train"], 0.35), faces(v2))
POLICY = "mixed_bfloat16" if torch.cuda.is_available() or os.environ.get("BF16") else "float32"
keras.config.set_dtype_policy(POLICY)
keras.utils.set_random_seed(1)

def base_weights(network):
    z = np.load(data_dir / "base.npz")
    for layer in network.layers:
        if layer.name + "/0" in z.files:
            layer.set_weights([z[f"{layer.name}/{i}"].astype("float32") for i in range(len(layer.weights))])
def old_compact():
    teacher = old_networks.build("compact")
    z = np.load(data_dir / "old_compact.npz"); teacher.set_weights([z[k] for k in z.files])
    return teacher
def train_all(network):
    for layer in network.layers: layer.trainable = True
def train_heads(network):
    train_all(network)
    for layer in networks.convolutional_base(network): layer.trainable = False
def train_block5(network):
    train_heads(network)
    for layer in networks.convolutional_base(network, "block5"): layer.trainable = True

def seconds_a_step(network, batch, half=False, teachers=(), steps=12):
    """The time of a training step, on a network that is thrown away."""
    for i, t in enumerate(teachers):
        t.trainable = False; t.name = f"t{i}_{t.name}"
    from training.fit import _Run
    from training.checkpoints import RunState
    from training.optimizers import build_optimizer
    from training.losses import losses
    recipe = Recipe("distribution" if "age_probs" in network.output else "regression", batch, STRENGTHS["medium"], "adamw", 0.05, "constant", True, 0, 1, teacher_weight=0.4 if teachers else 0.0)
    run = _Run(network, recipe, balanced, run_dir, RunState(), tuple(teachers), 0)
    trainer = run._trainer(0, Phase("x", 1, 0.0, train_all, half_size=half))
    loss, lw = losses(recipe.age_head, 1.0, recipe.teacher_weight)
    trainer.compile(optimizer=build_optimizer("adamw", 0.0, weight_decay=0.05, ema=0.99, rates={"block": 0.5}), loss=loss, loss_weights=lw)
    from training.batches import Batches
    b = Batches(list(network.output), [balanced.train, balanced.train2], extra=1.0, batch_size=batch, seed=0)
    for i in range(3): trainer.train_on_batch(*b[i])
    if torch.cuda.is_available(): torch.cuda.synchronize()
    t = time.time()
    for i in range(steps): trainer.train_on_batch(*b[i])
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return (time.time() - t) / steps

def save_parts(network, name, dtype, compress):
    flat = np.concatenate([np.asarray(w, np.float32).ravel() for w in network.get_weights()]).astype(dtype)
    if compress:
        two = flat.view(np.uint8).reshape(-1, 2)
        content = two[:, 0].tobytes() + zlib.compress(two[:, 1].tobytes(), 6)
    else:
        content = flat.tobytes()
    size = 15 * 2**20
    parts = [content[i:i + size] for i in range(0, len(content), size)]
    for i, part in enumerate(parts): (out_dir / f"{name}.part{i}").write_bytes(part)
    log("saved", name, len(flat), "values,", len(content) / 2**20, "MiB in", len(parts), "parts")

def answers(network, name):
    out = {}
    for s in ("utk-validation", "utk-test"):
        if (data_dir / f"{s}.npz").exists():
            z = sets.get(s) or load(s)
            o = predict(network, z["images"])
            out |= {f"{s}/{k}": v for k, v in o.items() if k != "age_probs"}
    np.savez(out_dir / f"{name}-answers.npz", **out)

def vgg16():
    network = networks.build("vgg16", dropout=0.3)
    base_weights(network)
    teacher = old_compact()
    B = int(os.environ.get("BATCH", 128))
    t100, t200 = seconds_a_step(network, B, True, [teacher]), seconds_a_step(network, B, False, [teacher])
    keras.utils.set_random_seed(1)
    network = networks.build("vgg16", dropout=0.3); base_weights(network)
    steps = 2 * len(balanced.train) // B
    left = budget - (time.time() - T0) - 12
    n100 = int(os.environ.get("N100", 6))
    n200 = int((left - steps * t100 * (n100 + 0.5) - 4 * n100) / (steps * t200 + 4))
    n200 = max(1, min(n200, 20))
    log(f"step {1000*t100:.1f} / {1000*t200:.1f} ms, {steps} steps an epoch, {left:.0f} s left, epochs {n100} + {n200}")
    rates = {"block5": 0.35, "block4": 0.3, "block3": 0.25, "block2": 0.2, "block1": 0.15, "": 0.6}
    phases = [
        Phase("heads", 1, 1e-3, train_heads, half_size=True),
        Phase("half", n100, 5e-4, train_all, rates=rates, half_size=True),
        Phase("full", n200, 4e-4, train_all, rates=rates),
    ]
    recipe = Recipe("distribution", B, STRENGTHS["medium"], "adamw", 0.05, "cosine", True, 0, 1, gender_weight=2.0, teacher_weight=0.4)
    history = fit(network, phases, recipe, balanced, run_dir, teachers=[teacher], verbose=2)
    (out_dir / "vgg16-history.json").write_text(json.dumps(history))
    np.savez(run_dir / "vgg16.npz", *network.get_weights())
    log("best", max(h["epoch"] for h in history), validate(network, balanced))
    answers(network, "vgg16")
    save_parts(network, "vgg16", np.float16, True)

def compact():
    teacher = networks.build("vgg16", dropout=0.0)
    z = np.load(run_dir / "vgg16.npz"); teacher.set_weights([z[k] for k in z.files])
    old = old_compact()
    network = networks.build("compact", dropout=0.2)
    B = int(os.environ.get("BATCH", 192))
    t = seconds_a_step(networks.build("compact", dropout=0.2), B, False, [teacher, old])
    keras.utils.set_random_seed(2)
    network = networks.build("compact", dropout=0.2)
    for layer in network.layers:
        if layer.name.startswith("stage"):
            layer.set_weights(old.get_layer(layer.name).get_weights())
    steps = int(2.0 * len(balanced.train)) // B
    left = budget - (time.time() - T0) - 8
    n = max(1, min(60, int(left / (steps * t + 2.5))))
    log(f"step {1000*t:.1f} ms, {steps} steps an epoch, {left:.0f} s left, {n} epochs")
    recipe = Recipe("distribution", B, STRENGTHS["medium"], "adamw", 0.05, "cosine", True, 0, 2, gender_weight=2.0, teacher_weight=0.6)
    history = fit(network, [Phase("all", n, 2e-3, train_all)], recipe, balanced, run_dir / "c", teachers=[teacher, old], verbose=2)
    (out_dir / "compact-history.json").write_text(json.dumps(history))
    log("best", validate(network, balanced))
    answers(network, "compact")
    save_parts(network, "compact", np.float32, False)

def published():
    plain = FaceSets(faces(sets["utk-train"]), faces(sets["utk-validation"]))
    B = 32
    network = networks.build("vgg16", age_head="regression", dropout=0.5); base_weights(network)
    left = budget - (time.time() - T0) - 8
    recipe = Recipe("regression", B, STRENGTHS["published"], "adam", 0.0, "constant", False, 10, 3)
    class Stop(Exception): pass
    import training.fit as f
    start, original = time.time(), f.validate
    def timed(*a):
        row = original(*a); row["elapsed"] = time.time() - start; return row
    f.validate = timed
    phases = [Phase("heads", 3, 1e-4, train_heads), Phase("block5", 197, 1e-4, train_block5, rates={"": 1.0})]
    old_end = f._EpochCheckpoint.on_epoch_end
    def on_epoch_end(self, epoch, logs=None):
        old_end(self, epoch, logs)
        if time.time() - T0 > budget - 20:
            log("out of time"); self.model.stop_training = True
    f._EpochCheckpoint.on_epoch_end = on_epoch_end
    history = fit(network, phases, recipe, plain, run_dir / "p", verbose=2)
    (out_dir / "published-history.json").write_text(json.dumps(history))
    answers(network, "published")
    log("published done", len(history), "epochs")

globals()[stage]()
log("done")
