"""A random LLaVA with sinks in its picture writes with their weight moved to the rest of the picture, in seconds.

python examples/visual_sink.py
"""

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

import saccade
from saccade.papers.visual_sink import SinkRedistribution

torch.manual_seed(0)
vision = CLIPVisionConfig(
    hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4
)
text = LlamaConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=4, eos_token_id=None
)
model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=36)).eval()
with torch.no_grad():  # channel 7 is loud in some of the picture's tokens
    model.model.multi_modal_projector.linear_2.weight[7] *= 60
ids = torch.tensor([[1, 2, 3, *[36] * 16, 4, 5, 6]])
prompt = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(1, 3, 16, 16)}
how = {"max_new_tokens": 8, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
before = model.generate(**prompt, **how)
with saccade.attach(model, SinkRedistribution(dims=(7,), tau=4.0, rho=0.1)) as run:
    after = model.generate(**prompt, **how)
    print(run.report())
moved = (torch.stack(after.logits) - torch.stack(before.logits)).abs().max()
print(f"logits move by up to {moved:.4f}")
