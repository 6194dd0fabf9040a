"""One long video of two prompts by windows that share keys and values, on random weights: half a minute.

python examples/ditctrl.py [folder of a CogVideoX, HunyuanVideo or Wan pipeline]
"""

import sys
from pathlib import Path
from typing import Any

import saccade
from saccade.metrics import cscv, pooled_pixels
from saccade.models.scenes_wan import ScenesWan
from saccade.multi_prompt import Record, replay, write_sheet
from saccade.pipelines.loading import load_pipeline

PROMPTS = ("a red circle moving right on a gray background", "a blue circle moving right on a gray background")
RANDOM = ScenesWan(
    hidden=32, head_dim=16, feed_forward=32, blocks=3, text_dim=32, text_heads=2, text_layers=1, autoencoder_width=4
)
pipe = load_pipeline(sys.argv[1]) if len(sys.argv) > 1 else RANDOM.pipeline()
small: dict[str, Any] = {"steps": 4, "tile": 3, "overlap": 1, "height": 48, "width": 48, "text_tokens": 16}
options: dict[str, Any] = {} if len(sys.argv) > 1 else small
arms: dict[str, dict[str, Any]] = {"isolated": {"isolated": True}, "blended": {"sharing": None}, "shared": {}}
for name, arm in arms.items():
    made = saccade.multi_prompt(pipe, PROMPTS, **arm, **options)
    print(f"{name}: {len(made.videos[0])} frames, CSCV {cscv(made.videos[0], pooled_pixels):.3f}")
write_sheet(made, Path("ditctrl.png"))
made.record.save("ditctrl.safetensors")
again = replay(pipe, Record.load("ditctrl.safetensors"))
same = again.record.digests == made.record.digests
print(f"ditctrl.png: {made.windows.count} windows, drawn again {'bit for bit' if same else 'with other bits'}")
