"""The kit's networks in plain PyTorch, with weights from and to Keras's `get_weights()` order."""
import numpy as np, torch
from torch import nn
import torch.nn.functional as F

class Branch(nn.Module):
    def __init__(self, out, p):
        super().__init__()
        self.d1, self.d2, self.d3 = nn.Linear(18432, 512), nn.Linear(512, 512), nn.Linear(512, 32)
        self.norm, self.out, self.p = nn.BatchNorm1d(32, eps=1e-3, momentum=0.01), nn.Linear(32, out), p
    def forward(self, x):
        x = F.dropout(F.relu(self.d1(x)), self.p, self.training)
        x = F.dropout(F.relu(self.d2(x)), self.p, self.training)
        x = self.norm(F.relu(self.d3(x)).float())
        with torch.autocast(x.device.type, enabled=False): return self.out(x)
class VGG(nn.Module):
    def __init__(self, p=0.3):
        super().__init__()
        self.convs, c = nn.ModuleList(), 3
        for n, w in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            block = nn.ModuleList()
            for _ in range(n): block.append(nn.Conv2d(c, w, 3, padding=1)); c = w
            self.convs.append(block)
        self.age, self.gender = Branch(102, p), Branch(1, p)
        self.register_buffer("mean", torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1))
    def forward(self, x):  # [N,3,200,200] float RGB 0..255
        x = x.flip(1) - self.mean
        for block in self.convs:
            for conv in block: x = F.relu(conv(x), inplace=False)
            x = F.max_pool2d(x, 2)
        x = x.permute(0, 2, 3, 1).flatten(1)
        return self.age(x), self.gender(x).squeeze(1)

class CN(nn.Module):
    def __init__(self, i, o, k, s):
        super().__init__(); self.k, self.s = k, s
        self.conv, self.norm = nn.Conv2d(i, o, k, s, bias=False), nn.BatchNorm2d(o, eps=1e-3, momentum=0.01)
    def forward(self, x):
        if self.k > 1:
            h = x.shape[2]; total = max((-(-h // self.s) - 1) * self.s + self.k - h, 0); a = total // 2
            x = F.pad(x, (a, total - a, a, total - a))
        return self.norm(self.conv(x))
class Res(nn.Module):
    def __init__(self, i, o, s):
        super().__init__(); self.s = s
        self.a, self.b = CN(i, o, 3, s), CN(o, o, 3, 1)
        self.shortcut = CN(i, o, 1, 1) if s != 1 or i != o else None
    def forward(self, x):
        y = self.b(F.relu(self.a(x)))
        if self.shortcut is not None:
            if self.s != 1: x = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
            x = self.shortcut(x)
        return F.relu(x + y)
class Compact(nn.Module):
    def __init__(self, new=True, p=0.2):
        super().__init__(); self.new, self.p = new, p
        self.stem = nn.ModuleList([CN(3, 16, 3, 2), CN(16, 32, 3, 2)] if new else [CN(3, 32, 3, 2)])
        self.stages, c = nn.ModuleList(), 32
        for st, (w, n) in enumerate(zip((32, 64, 128, 192), (1, 2, 2, 2))):
            for b in range(n): self.stages.append(Res(c, w, 2 if b == 0 and st else 1)); c = w
        self.features = CN(c, 512, 1, 1) if new else None
        c = 512 if new else c
        self.pool, self.norm = nn.Conv2d(c, c, 7, groups=c, bias=False), nn.BatchNorm2d(c, eps=1e-3, momentum=0.01)
        self.gender, self.age = nn.Linear(c, 1), nn.Linear(c, 102)
    def forward(self, x):
        x = x / 64.0 - 2.0
        if not self.new: x = F.avg_pool2d(x, 2)
        for s in self.stem: x = F.relu(s(x))
        for s in self.stages: x = s(x)
        if self.features is not None: x = F.relu(self.features(x))
        x = F.dropout(self.norm(self.pool(x)).flatten(1).float(), self.p, self.training)
        with torch.autocast(x.device.type, enabled=False): return self.age(x), self.gender(x).squeeze(1)

# ---- Keras weights: a list of (layer name, [arrays]) in the order of network.layers
def named(network): return [(l.name, l.get_weights()) for l in network.layers if l.weights]
def modules(model):
    """Keras layer name -> torch module."""
    m = {}
    if isinstance(model, VGG):
        for i, block in enumerate(model.convs, 1):
            for j, conv in enumerate(block, 1): m[f"block{i}_conv{j}"] = conv
        for n, b in (("age", model.age), ("gender", model.gender)):
            m |= {f"{n}_dense1": b.d1, f"{n}_dense2": b.d2, f"{n}_dense3": b.d3, f"{n}_norm": b.norm, n: b.out}
        return m
    def cn(name, c): m[name], m[f"{name}_norm"] = c.conv, c.norm
    for i, c in enumerate(model.stem, 1): cn(f"stem{i}" if model.new else "stem", c)
    i = 0
    for st, n in enumerate((1, 2, 2, 2), 1):
        for b in range(1, n + 1):
            r = model.stages[i]; i += 1
            cn(f"stage{st}_{b}_a", r.a); cn(f"stage{st}_{b}_b", r.b)
            if r.shortcut is not None: cn(f"stage{st}_{b}_shortcut", r.shortcut)
    if model.features is not None: cn("features", model.features)
    m |= {"pool": model.pool, "pool_norm": model.norm, "gender": model.gender, "age": model.age}
    return m
def to_torch(mod, w):
    w = [torch.from_numpy(np.array(a, np.float32)) for a in w]
    with torch.no_grad():
        if isinstance(mod, nn.Linear): mod.weight.copy_(w[0].T); mod.bias.copy_(w[1])
        elif isinstance(mod, nn.Conv2d):
            mod.weight.copy_(w[0].permute(2, 3, 0, 1) if mod.groups > 1 else w[0].permute(3, 2, 0, 1))
            if mod.bias is not None: mod.bias.copy_(w[1])
        else:
            for t, a in zip((mod.weight, mod.bias, mod.running_mean, mod.running_var), w): t.copy_(a)
def from_torch(mod):
    n = lambda t: t.detach().float().cpu().numpy()
    if isinstance(mod, nn.Linear): return [n(mod.weight).T, n(mod.bias)]
    if isinstance(mod, nn.Conv2d):
        k = n(mod.weight); k = k.transpose(2, 3, 0, 1) if mod.groups > 1 else k.transpose(2, 3, 1, 0)
        return [k] + ([n(mod.bias)] if mod.bias is not None else [])
    return [n(t) for t in (mod.weight, mod.bias, mod.running_mean, mod.running_var)]
