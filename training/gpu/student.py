"""Compact, taught further on the CPU: clean answers of the VGG16 and of the former compact, answered once and kept."""
import os, sys, time, json, math, glob
T0 = time.time()
import numpy as np, torch, torch.nn.functional as F
sys.path[:0] = ["training/gpu"]
import nets
D = "gpu/student"; os.makedirs(D, exist_ok=True)
torch.manual_seed(3); torch.set_num_threads(2)
def log(*a): print(f"[{time.time()-T0:6.1f}]", *a, flush=True)
caches = {}
for f in glob.glob("~/.cache/age_gender/*.npy"):
    if "order" not in f:
        a = np.load(f, mmap_mode="r"); caches[a.shape[0]] = a
order = {}
labels = [dict(np.load(f"gpu/pack/{n}.npz")) for n in ("utk-train", "ff-train")]
utk, ff = caches[18495], caches[31916]
sets = []
for im, z in ((utk, labels[0]), (ff, labels[1])):
    n = len(z["gender"]); sets.append((im[:n], z["age_range"].astype("float32"), z["gender"].astype("float32"), z))
vgg, student, old = nets.VGG(0.0), nets.Compact(True, 0.2), nets.Compact(False)
def fill(t, path, keras_name):
    z = np.load(path); 
    for name, mod in nets.modules(t).items(): nets.to_torch(mod, [z[f"{name}|{i}"] for i in range(len(nets.from_torch(mod)))])
fill(vgg, "gpu/gpu2/vgg16.npz", "vgg16"); fill(student, "gpu/gpu2/compact.npz", "compact"); fill(old, "gpu/pack2/old.npz", "old")
for net in (vgg, student, old): net.to(memory_format=torch.channels_last)
vgg.eval(); old.eval()
def answers(k):
    path = f"{D}/answers{k}.npz"
    if os.path.exists(path): z = np.load(path); return z["p"], z["f"]
    im = sets[k][0]; n = len(im) ; P, Q = np.zeros((n, 102), np.float16), np.zeros(n, np.float32)
    pick = np.arange(n) if k == 0 else np.sort(np.random.default_rng(5).permutation(n)[:31000])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for i in range(0, len(pick), 32):
            j = pick[i:i + 32]
            x = torch.from_numpy(np.asarray(im[j])).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
            p, q = 0, 0
            for net, w, views in ((vgg, .7, [x]), (old, .15, [x, x.flip(3)])) if k == 0 else ((old, .5, [x, x.flip(3)]),):
                for view in views:
                    a, g = net(view); p = p + w * F.softmax(a.float(), 1); q = q + w * torch.sigmoid(g.float())
            P[j], Q[j] = p.numpy(), q.numpy()
            if i % 3200 == 0: log("answers", k, i, len(pick))
    np.savez(path, p=P, f=Q); return P, Q
ans = [answers(0), answers(1)]
known = [np.arange(len(sets[0][0])), np.flatnonzero(ans[1][0].astype("float32").sum(1) > 0.5)]
log("answers done", [len(k) for k in known])
src = open("training/gpu/go.py").read()
dev = "cpu"
exec(src[src.index("rad = math.radians"):src.index("rates = {")])

END = float(sys.argv[1])  # unix time
B = 96
sm = nets.modules(student)
opt = torch.optim.AdamW([{"params": [q for m_ in sm.values() for k, q in m_.named_parameters() if (k == "weight" and q.ndim > 1) == d], "weight_decay": 0.05 if d else 0.0} for d in (True, False)], lr=5e-4)
params = list(student.parameters()); ema = [q.detach().clone() for q in params]
student.train()
def bands(z, power):
    g = (np.searchsorted([0, 3, 10, 20, 30, 40, 50, 60, 70], z["age_range"][:, 0], side="right") * 2 + z["gender"]) * 10 + z["race"] + 1
    _, inv = np.unique(g, return_inverse=True); return np.maximum(np.bincount(inv)[inv], 10.0) ** -power
w = [bands(labels[0], 0.0), bands(labels[1], 0.3) * np.where(labels[1]["turned"], 1.5, 1.0)]
w = [a[k] / a[k].sum() for a, k in zip(w, known)]
gen = np.random.default_rng(7)
start, step, acc = time.time(), 0, torch.zeros(2)
def save():
    raw = [q.detach().clone() for q in params]
    with torch.no_grad():
        for q, e in zip(params, ema): q.copy_(e)
    np.savez(f"{D}/student.partial.npz", **{f"{name}|{i}": a for name, mod in sm.items() for i, a in enumerate(nets.from_torch(mod))})
    os.replace(f"{D}/student.partial.npz", f"{D}/student.npz")
    with torch.no_grad():
        for q, r in zip(params, raw): q.copy_(r)
while True:
    frac = (time.time() - start) / (END - start)
    if frac >= 1: break
    for g in opt.param_groups: g["lr"] = 5e-4 * min(1, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * frac)))
    idx = [gen.choice(known[k], B // 2, p=w[k]) for k in (0, 1)]
    cat = lambda f: np.concatenate([f(k, idx[k]) for k in (0, 1)])
    images = torch.from_numpy(np.concatenate([np.asarray(sets[k][0][np.sort(idx[k])]) for k in (0, 1)]))
    idx = [np.sort(i) for i in idx]
    order = torch.randperm(B)
    t = lambda a: torch.from_numpy(a)[order]
    label, female = t(cat(lambda k, i: sets[k][1][i])), t(cat(lambda k, i: sets[k][2][i]))
    tp, tf = t(cat(lambda k, i: ans[k][0][i]).astype("float32")), t(cat(lambda k, i: ans[k][1][i]).astype("float32"))
    with torch.no_grad(): x = augment(images[order])
    with torch.autocast("cpu", dtype=torch.bfloat16): sa, sg = student(x)
    l, e, a = loss_of(sa.float(), sg.float(), label, female, tp, tf, 0.6)
    opt.zero_grad(set_to_none=True); l.backward(); opt.step()
    mom = min(0.998, (step + 1) / (step + 10))
    with torch.no_grad(): torch._foreach_lerp_(ema, [q.detach() for q in params], 1 - mom)
    acc += torch.stack([e.mean(), a.mean()]).detach(); step += 1
    if step % 100 == 0:
        log(f"step {step}, {B*step/(time.time()-start):.0f} faces/s, {100*frac:.0f}%", *(round(float(v)/100, 4) for v in acc)); acc.zero_()
        if step % 500 == 0: save()
save(); log("done", step)
