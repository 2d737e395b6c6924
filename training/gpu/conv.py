import os; os.environ["KERAS_BACKEND"]="torch"
import sys, zlib, json; sys.path[:0]=["training/gpu","training/gpu","."]
import numpy as np, torch, keras, old_networks, nets
from training import networks
P="gpu/gpu1/"
content=b"".join(open(f"{P}vgg16.part{i}","rb").read() for i in range(4))
n=34151879
flat=np.empty((n,2),np.uint8); flat[:,0]=np.frombuffer(content[:n],np.uint8); flat[:,1]=np.frombuffer(zlib.decompress(content[n:]),np.uint8)
flat=flat.view(np.float16).ravel()
v=networks.build("vgg16"); ws=[]; at=0
for w in v.get_weights(): ws.append(flat[at:at+w.size].reshape(w.shape).astype("float32")); at+=w.size
v.set_weights(ws); v.save_weights("gpu/gpu1/vgg16.weights.h5")
o=old_networks.build("compact"); z=np.load("gpu/pack/old_compact.npz"); o.set_weights([z[k] for k in z.files])
c=networks.build("compact")
x=np.random.default_rng(0).integers(0,256,(3,200,200,3),np.uint8)
for k,t in ((v,nets.VGG()),(o,nets.Compact(new=False)),(c,nets.Compact())):
    m=nets.modules(t)
    assert sorted(m)==sorted(n for n,_ in nets.named(k)), set(m)^set(n for n,_ in nets.named(k))
    for name,w in nets.named(k): nets.to_torch(m[name], w)
    t.eval()
    a,g=t(torch.from_numpy(x).permute(0,3,1,2).float())
    y=k.predict_on_batch(x)
    print(k.name, np.abs(torch.softmax(a,1).detach().numpy()-y["age_probs"]).max(), np.abs(torch.sigmoid(g).detach().numpy()-y["p_female"]).max())
    for name,w in nets.named(k):
        for p,q in zip(w, nets.from_torch(m[name]), strict=True): assert np.array_equal(p,q), name
# what travels: VGG float16 in the order of `modules`
os.makedirs("gpu/pack2",exist_ok=True)
t=nets.VGG(); m=nets.modules(t)
by=dict(nets.named(v))
flat=np.concatenate([a.ravel() for name in m for a in by[name]]).astype(np.float16).view(np.uint8).reshape(-1,2)
open("gpu/pack2/vgg.bin","wb").write(flat[:,0].tobytes()+zlib.compress(flat[:,1].tobytes(),9))
by=dict(nets.named(o)); np.savez("gpu/pack2/old.npz",**{f"{k}|{i}":a.astype("float16") if a.ndim>1 else a for k,w in by.items() for i,a in enumerate(w)})
