import os, sys, time, zlib, json, math
T0 = time.time()
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
D, OUT, BUDGET = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
LIMIT, B = int(os.environ.get("LIMIT", 0)), int(os.environ.get("BATCH", 128))
import numpy as np, cv2
def log(*a): print(f"[{time.time()-T0:6.1f}]", *a, flush=True)
def load(name):
    with np.load(D / f"{name}.npz") as z: z = {k: z[k] for k in z.files}
    n = len(z["size"]); n = min(n, LIMIT) if LIMIT else n
    ends = np.cumsum(z["size"]); blob = z["blob"]; images = np.empty((n, 200, 200, 3), np.uint8)
    def one(i): images[i] = cv2.imdecode(blob[ends[i] - z["size"][i]:ends[i]], cv2.IMREAD_COLOR)[..., ::-1]
    with ThreadPoolExecutor(os.cpu_count()) as pool: list(pool.map(one, range(n), chunksize=64))
    return {k: v[:n] for k, v in z.items() if k not in ("blob", "size")} | {"images": images}
pool = ThreadPoolExecutor(2); jobs = [pool.submit(load, n) for n in ("utk-train", "ff-train")]
import torch, torch.nn.functional as F
sys.path.insert(0, str(Path(__file__).parent)); import nets
dev = "cuda" if torch.cuda.is_available() else "cpu"
torch.backends.cudnn.benchmark = True; torch.set_float32_matmul_precision("high"); torch.manual_seed(1)
log("torch", dev)
def bands(z, power):
    g = (np.searchsorted([0, 3, 10, 20, 30, 40, 50, 60, 70], z["age_range"][:, 0], side="right") * 2 + z["gender"]) * 10 + z["race"] + 1
    _, inv = np.unique(g, return_inverse=True); w = np.maximum(np.bincount(inv)[inv], 10.0) ** -power
    w = w * np.where(z["turned"], 1.5, 1.0) if "turned" in z else w
    return torch.tensor(w / w.sum(), dtype=torch.float32, device=dev)
sets = []
for job, power in zip(jobs, (0.15, 0.3)):
    z = job.result()
    sets.append((torch.from_numpy(z["images"]).to(dev), torch.tensor(z["age_range"], dtype=torch.float32, device=dev), torch.tensor(z["gender"].astype("float32"), device=dev), bands(z, power)))
log("data on", dev, [len(s[0]) for s in sets])

# ---- networks
vgg, student, old = nets.VGG(0.3), nets.Compact(True, 0.2), nets.Compact(False)
m = nets.modules(vgg); content = (D / "vgg.bin").read_bytes(); n = 34151879
flat = np.empty((n, 2), np.uint8); flat[:, 0] = np.frombuffer(content[:n], np.uint8); flat[:, 1] = np.frombuffer(zlib.decompress(content[n:]), np.uint8)
flat = flat.view(np.float16).ravel(); at = 0
for name, mod in m.items():
    w = []
    for a in nets.from_torch(mod): w.append(flat[at:at + a.size].reshape(a.shape)); at += a.size
    nets.to_torch(mod, w)
assert at == n
z = np.load(D / "old.npz"); om, sm = nets.modules(old), nets.modules(student)
for name, mod in om.items(): nets.to_torch(mod, [z[f"{name}|{i}"] for i in range(len(nets.from_torch(mod)))])
for name, mod in sm.items():
    if name.startswith("stage"): nets.to_torch(mod, [z[f"{name}|{i}"] for i in range(len(nets.from_torch(mod)))])
for net in (vgg, student, old): net.to(dev, memory_format=torch.channels_last)
old.eval(); vgg.train(); student.train()
for p in old.parameters(): p.requires_grad_(False)

# ---- augmentation, as training/augment.py's "medium"
rad = math.radians
def u(n, low=-1.0, high=1.0): return torch.rand(n, 1, 1, 1, device=dev) * (high - low) + low
dct = torch.tensor([[math.sqrt((2 if k else 1) / 8) * math.cos(math.pi * (2 * j + 1) * k / 16) for j in range(8)] for k in range(8)], device=dev)
steps_q = torch.tensor([[10 + 7.0 * (i + j) for j in range(8)] for i in range(8)], device=dev)
luma = torch.tensor([0.299, 0.587, 0.114], device=dev).view(1, 3, 1, 1)
def augment(images):
    n = len(images); x = images.permute(0, 3, 1, 2).float()
    angle = u(n).view(-1) * rad(15); scale = torch.exp(u(n).view(-1) * math.log1p(0.12)); mirror = torch.where(u(n).view(-1) < 0, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    t = torch.stack([mirror * cos, -sin, u(n).view(-1) * 0.1, mirror * sin, cos, u(n).view(-1) * 0.1], -1).view(-1, 2, 3)
    x = F.grid_sample(x, F.affine_grid(t, x.shape, align_corners=True), padding_mode="border", align_corners=True)
    grey = (x * luma).sum(1, keepdim=True)
    x = grey + (x - grey) * torch.where(u(n, 0, 1) < 0.1, 0.0, 1 + u(n) * 0.3)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean * (1 + u(n) * 0.3) + (x - mean) * (1 + u(n) * 0.3)
    x = x * (1 + 0.05 * (2 * torch.rand(n, 3, 1, 1, device=dev) - 1))
    x = 255 * (x.clamp(0.5, 255) / 255) ** torch.exp(u(n) * math.log1p(0.2))
    local = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = local + (x - local) * (1 + u(n))
    coarse = F.interpolate(F.avg_pool2d(x, 8), size=(200, 200), mode="bilinear", align_corners=False)
    x = x + (coarse - x) * torch.where(u(n, 0, 1) < 0.15, u(n, 0.3, 1.0), 0.0)
    k = max(1, round(0.15 * n))  # JPEG: the first of the batch, whose order is random
    y = x[:k].mean(1).view(k, 25, 8, 25, 8)
    q = u(k, 0.5, 3.0).view(k, 1, 1, 1, 1) * steps_q[:, None, :]
    f = torch.einsum("ki,nhiwj,lj->nhkwl", dct, y, dct)
    y2 = torch.einsum("ki,nhkwl,lj->nhiwj", dct, torch.round(f / q) * q, dct)
    x = torch.cat([x[:k] + (y2 - y).reshape(k, 1, 200, 200), x[k:]])
    x = x + torch.randn(n, 1, 200, 200, device=dev) * 6.0 * u(n, 0, 1) ** 2
    rows, cols = torch.arange(200, device=dev).view(1, 1, -1, 1), torch.arange(200, device=dev).view(1, 1, 1, -1)
    inside = (u(n, 0, 1) < 0.1) & ((rows - u(n, 0, 200)).abs() < u(n, 10, 44)) & ((cols - u(n, 0, 200)).abs() < u(n, 10, 44))
    x = torch.where(inside, u(n, 0, 255), x)
    return x.clamp(0, 255).round().contiguous(memory_format=torch.channels_last)

years = torch.arange(102, device=dev).float()
def loss_of(age, gender, label, female, t_probs, t_female, share):
    logp = F.log_softmax(age, 1); p = logp.exp(); first, last = label[:, :1], label[:, 1:]
    target = F.softmax(-0.5 * ((years - first) / 2.0) ** 2, 1)
    known = -(target * logp).sum(1)
    within = -torch.log((p * ((years >= first) & (years <= last))).sum(1) + 1e-7)
    hard = torch.where((last > first)[:, 0], within, known)
    soft = -(t_probs * logp).sum(1)
    expected = (p * years).sum(1, keepdim=True)
    error = (F.relu(first - expected) + F.relu(expected - last)).squeeze(1)
    goal = (1 - share) * female + share * t_female
    return ((1 - share) * hard + share * soft + 0.1 * error).mean() + 2 * F.binary_cross_entropy_with_logits(gender, goal), error, ((gender > 0) == (female > 0.5)).float()

rates = {"block5": 0.6, "block4": 0.5, "block3": 0.45, "block2": 0.4, "block1": 0.3}
def groups(mods, rate, shares):
    out = []
    for name, mod in mods.items():
        r = rate * next((v for k, v in shares.items() if name.startswith(k)), 1.0)
        decay = 0.05 if not isinstance(mod, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)) else 0.0
        for key, p in mod.named_parameters():
            if p.requires_grad: out.append({"params": [p], "lr": r, "base": r, "weight_decay": decay if key == "weight" else 0.0})
    merged = {}
    for g in out: merged.setdefault((g["base"], g["weight_decay"]), {**g, "params": []})["params"] += g["params"]
    return list(merged.values())
opt = torch.optim.AdamW(groups(m, 2.5e-4, rates) + groups(sm, 1.5e-3, {}), fused=dev == "cuda", betas=(0.9, 0.999))
params = [p for net in (vgg, student) for p in net.parameters()]
ema = [p.detach().clone() for p in params]
gen = np.random.default_rng(1)
def draw(s, k):
    i = torch.multinomial(s[3], k, replacement=True)
    return s[0][i], s[1][i], s[2][i]

end = BUDGET - float(os.environ.get("TAIL", 12)); start = time.time(); step = 0; ran = float(os.environ.get("MAXSTEPS", 1e9))
acc = torch.zeros(4, device=dev)
while True:
    elapsed = time.time() - T0
    frac = min(1.0, (time.time() - start) / max(1e-6, end - (start - T0)))
    if frac >= 1 or step >= ran: break
    lr = min(1.0, (step + 1) / 150) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * frac)))
    for g in opt.param_groups: g["lr"] = g["base"] * lr
    a, b = draw(sets[0], B // 2), draw(sets[1], B - B // 2)
    order = torch.randperm(B, device=dev)
    images, label, female = (torch.cat(pair)[order] for pair in zip(a, b))
    with torch.no_grad(): x = augment(images)
    with torch.autocast(dev, dtype=torch.bfloat16):
        with torch.no_grad(): oa, og = old(x)
        va, vg = vgg(x); sa, sg = student(x)
    op, of = F.softmax(oa.float(), 1), torch.sigmoid(og.float())
    vp, vf = F.softmax(va.detach().float(), 1), torch.sigmoid(vg.detach().float())
    l1, e1, a1 = loss_of(va.float(), vg.float(), label, female, op, of, 0.25)
    l2, e2, a2 = loss_of(sa.float(), sg.float(), label, female, (op + vp) / 2, (of + vf) / 2, 0.6)
    opt.zero_grad(set_to_none=True)
    (l1 + l2).backward(); opt.step()
    mom = min(0.998, (step + 1) / (step + 10))
    with torch.no_grad(): torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - mom)
    acc += torch.stack([e1.mean(), a1.mean(), e2.mean(), a2.mean()]).detach(); step += 1
    if step % 10 == 0 and dev == "cuda": torch.cuda.synchronize()
    if step % 200 == 0 or (step == 20):
        k = 200 if step % 200 == 0 else 20
        log(f"step {step}, {B*step/(time.time()-start):.0f} faces/s, lr x{lr:.2f}, train error, gender: vgg", *(round(float(v), 4) for v in acc / k)); acc.zero_()
log("steps", step, "faces", step * B, f"{B*step/(time.time()-start):.0f} a second")
with torch.no_grad():
    for p, e in zip(params, ema): p.copy_(e)
def save(mods, name, dtype, compress):
    flat = np.concatenate([a.ravel() for mod in mods.values() for a in nets.from_torch(mod)]).astype(dtype)
    content = flat.tobytes()
    if compress:
        two = flat.view(np.uint8).reshape(-1, 2); content = two[:, 0].tobytes() + zlib.compress(two[:, 1].tobytes(), 1)
    size = 15 * 2**20
    for i in range(0, len(content), size): (OUT / f"{name}.part{i // size}").write_bytes(content[i:i + size])
    log("saved", name, len(content) / 2**20)
save(sm, "compact", np.float16, False); save(m, "vgg16", np.float16, True)
(OUT / "run.json").write_text(json.dumps({"steps": step, "batch": B, "seconds": time.time() - start}))
log("done")
