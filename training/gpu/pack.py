import os, sys
os.environ["AGE_GENDER_DETECTOR"]="../shared/models/face_detection_yunet/face_detection_yunet_2023mar.onnx"
sys.path.insert(0,"."); os.chdir(".")
from training import data, evaluate
from training.framing import Cut, need_yunet
import numpy as np, cv2
from concurrent.futures import ThreadPoolExecutor
yunet = need_yunet(None); cut = Cut(yunet)
utk,_ = data.load_utkface("../shared/data/UTKFace-Cropped")
ff,_ = data.load_utkface("../shared/data/FairFace")
os.makedirs("gpu/pack", exist_ok=True)
def enc(images, q):
    one = lambda im: cv2.imencode(".webp", im[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, q])[1].tobytes()
    with ThreadPoolExecutor(2) as pool: return list(pool.map(one, images, chunksize=64))
def save(name, samples, blobs, **extra):
    size = np.array([len(b) for b in blobs])
    print(name, len(blobs), size.sum()/2**20, "MiB", size.mean(), flush=True)
    np.savez(f"gpu/pack/{name}.npz", blob=np.frombuffer(b"".join(blobs), np.uint8), size=size, age_range=samples.age_range, gender=samples.gender, race=samples.race, **extra)
for s in ("validation","test"):
    sam, im = data.decode(utk.split(s)); save("utk-"+s, sam, [b if isinstance(b,bytes) else open(b,'rb').read() for b in sam.encoded])
sam, im = data.decode(utk.split("train")); save("utk-train", sam, enc(im, int(os.environ.get("QU",60))))
sam, im = data.decode(ff.split("validation"), cut); save("ff-validation", sam, enc(im, 50))
sam, im = data.decode(ff.split("train"), cut)
turned = evaluate.views(im, yunet)["turned"]
print("turned", turned.mean())
save("ff-train", sam, enc(im, int(os.environ.get("QF",45))), turned=turned)
