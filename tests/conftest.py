"""What every test runs under: two threads, unwritten memory shows as NaN, hypothesis repeats itself exactly."""

import os

import torch
from hypothesis import settings

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
settings.register_profile("saccade", deadline=None, derandomize=True, max_examples=30, print_blob=True)
settings.load_profile("saccade")
