import shutil, logging, dataclasses
from pathlib import Path
import gsclip.pretraining.backbone as B
from gsclip.determinism import make_deterministic
from gsclip.features.backbone import build_embedded
from gsclip.training.checkpoints import run_key
from safetensors.torch import load_file
if __name__ == "__main__":
    make_deterministic()
    s = B.BackboneTraining()
    key = run_key({**dataclasses.asdict(s), "image_size": 240})
    folder = Path("/tmp/train2/.gsclip/backbone"); folder.mkdir(parents=True, exist_ok=True)
    pairs = folder / f"pairs-{key}.h5"
    if not pairs.exists():
        pairs.symlink_to(next(Path("/tmp/train/.gsclip/backbone").glob("pairs-*.h5")))
    clip = build_embedded().train()
    clip.load_state_dict({k: v.float() for k, v in load_file("/tmp/ev/new.safetensors").items()})
    curve = B._train_pairs(clip, folder, s, key, ranked=True)
    curve.to_csv(folder / "ranked-curve.csv", index=False)
    B._save(clip, folder / "ranked.safetensors")
