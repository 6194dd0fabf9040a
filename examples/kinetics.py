"""What 32,768 tokens of every Qwen3 cost, reading all keys and 1,024 of them: a table and a picture, in a second.

python examples/kinetics.py
"""

from saccade.papers.kinetics import B200, QWEN3, Budget, Use, cost_of
from saccade.papers.kinetics.drawing import cost_curves

use, few = Use(prompt=256, generated=32768), Budget(top=1024, block=16)
for name, shape in QWEN3.items():
    dense, sparse = cost_of(shape, use), cost_of(shape, use, few)
    print(f"{name:>5}  {dense.equivalent() / 1e12:9,.0f}  {sparse.equivalent() / 1e12:9,.0f} tera-FLOPs")
cost_curves(QWEN3, (None, few), prompt=256, trials=1, intensity=B200).savefig("kinetics.png")
print("kinetics.png")
