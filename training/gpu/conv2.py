import os; os.environ["KERAS_BACKEND"]="torch"
import sys, zlib; sys.path[:0]=["training/gpu","."]
import numpy as np, torch, keras, nets
from training import networks
P="gpu/gpu2/"
def fill(k, t, flat):
    m=nets.modules(t); at=0
    for name in m:
        w=[]
        for a in k.get_layer(name).get_weights(): w.append(flat[at:at+a.size].reshape(a.shape).astype("float32")); at+=a.size
        k.get_layer(name).set_weights(w)
    assert at==len(flat)
n=34151879
content=b"".join(open(f"{P}vgg16.part{i}","rb").read() for i in range(4))
flat=np.empty((n,2),np.uint8); flat[:,0]=np.frombuffer(content[:n],np.uint8); flat[:,1]=np.frombuffer(zlib.decompress(content[n:]),np.uint8)
v=networks.build("vgg16"); fill(v, nets.VGG(), flat.view(np.float16).ravel())
for l in networks.head_norms(v): print(l.name, [float(np.max(w)) for w in l.get_weights()])
c=networks.build("compact"); fill(c, nets.Compact(), np.frombuffer(open(P+"compact.part0","rb").read(),np.float16))
images=np.load([f for f in __import__("glob").glob("~/.cache/age_gender/*.npy") if "order" not in f and np.load(f,mmap_mode="r").shape[0]==18495][0],mmap_mode="r")
networks.measure_norms(v, np.asarray(images[::9][:2048]))
for l in networks.head_norms(v): print(l.name, [float(np.max(w)) for w in l.get_weights()])
v.save_weights("gpu/gpu2/vgg16.weights.h5"); c.save_weights("gpu/gpu2/compact.weights.h5")
