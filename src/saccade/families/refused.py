"""Classes of host libraries that are no hosts, and why. What is in no list is unknown; `attach` says how to read it."""

WRAPPER = "holds several models and attends by itself nowhere; attach those in its `nets`"
TOWERS = "holds a model of text and one of pictures; attach its `text_model` or `vision_model`"
WRITTEN_OUT = (
    "its attention multiplies q and k itself and makes no call to follow; use a model whose library can choose its "
    "attention, or hooks of your own"
)
RECURRENT = "carries a state along the text and has no map of pairs; take a model with attention"
BLOCKS = "attends in blocks of its own, written out, and makes no call to follow; give a dense model a mask instead"
FOURIER = "mixes tokens by a Fourier transform and has no map of pairs; take a model with attention"
TALKING = "its heads mix their scores before the softmax and after, so none has a map of its own; take a timm ViT"
CHANNELS = "attends among channels, not tokens, so nothing has a place; take a timm ViT"
COSINE = "its scores are cosines it computes itself, without a call; take SwinTransformer, the first version"
FOLDED_HEADS = "folds heads into batch rows before its call, so heads and rows cannot be kept apart; take a timm ViT"
UNROLLED = "its tokens stand in the order of its pooling, windows an axis of their own; take a timm Swin or ViT"

REFUSED: dict[str, str] = {
    "BigBirdForMaskedLM": BLOCKS,
    "BigBirdModel": BLOCKS,
    "BloomForCausalLM": WRITTEN_OUT,
    "BloomModel": WRITTEN_OUT,
    "CLIPModel": TOWERS,
    "Cait": TALKING,
    "CodeGenForCausalLM": WRITTEN_OUT,
    "CodeGenModel": WRITTEN_OUT,
    "ControlNetXSAdapter": "holds parts for a UNetControlNetXSModel and runs nothing by itself; attach that",
    "DebertaV2ForMaskedLM": WRITTEN_OUT,
    "DebertaV2Model": WRITTEN_OUT,
    "FNetForMaskedLM": FOURIER,
    "FNetModel": FOURIER,
    "FalconMambaForCausalLM": RECURRENT,
    "FalconMambaModel": RECURRENT,
    "FluxMultiControlNetModel": WRAPPER,
    "GPTJForCausalLM": WRITTEN_OUT,
    "GPTJModel": WRITTEN_OUT,
    "GPTNeoForCausalLM": WRITTEN_OUT,
    "GPTNeoModel": WRITTEN_OUT,
    "Hiera": UNROLLED,
    "HunyuanDiT2DMultiControlNetModel": WRAPPER,
    "LongformerForMaskedLM": BLOCKS,
    "LongformerModel": BLOCKS,
    "MPNetForMaskedLM": WRITTEN_OUT,
    "MPNetModel": WRITTEN_OUT,
    "Mamba2ForCausalLM": RECURRENT,
    "Mamba2Model": RECURRENT,
    "MambaForCausalLM": RECURRENT,
    "MambaModel": RECURRENT,
    "MiniMaxMusic3RVQDepthDecoder": (
        "its sequence is the codes of one moment of sound, which have no places; attach MiniMaxMusic3Transformer1DModel"
    ),
    "MotionAdapter": "holds motion modules for a UNetMotionModel and runs nothing by itself; attach that",
    "MptForCausalLM": WRITTEN_OUT,
    "MptModel": WRITTEN_OUT,
    "MultiControlNetModel": WRAPPER,
    "MultiControlNetUnionModel": WRAPPER,
    "QwenImageMultiControlNetModel": WRAPPER,
    "RFD4ProteinaTransformer": (
        "its tokens are residues of a protein, neither text nor a grid, and what it knows of each pair biases every "
        "score; attach one of its attention modules by hand with layout=Layout.plain(n, 'extra') to read it"
    ),
    "RoFormerForMaskedLM": WRITTEN_OUT,
    "RoFormerModel": WRITTEN_OUT,
    "RwkvForCausalLM": RECURRENT,
    "RwkvModel": RECURRENT,
    "SD3MultiControlNetModel": WRAPPER,
    "SiglipModel": TOWERS,
    "SwinTransformerV2": COSINE,
    "SwinTransformerV2Cr": COSINE,
    "T5FilmDecoder": (
        "its attention is not scaled, so diffusers multiplies q, k and v by hand (AttnProcessor) and no call shows "
        "what passes; models of sound that can be read are StableAudioDiTModel and AceStepTransformer1DModel"
    ),
    "TransformerTemporalModel": "stands within U-Nets for video, and its batch rows are frames; attach the U-Net",
    "UNet1DModel": (
        "multiplies q, k and v by hand, so no call can be seen; give its SelfAttention1d a forward that calls "
        "F.scaled_dot_product_attention and attach with layout="
    ),
    "VisionTransformerSAM": FOLDED_HEADS,
    "XGLMForCausalLM": WRITTEN_OUT,
    "XGLMModel": WRITTEN_OUT,
    "XLNetLMHeadModel": WRITTEN_OUT,
    "XLNetModel": WRITTEN_OUT,
    "Xcit": CHANNELS,
    "xLSTMForCausalLM": RECURRENT,
    "xLSTMModel": RECURRENT,
}
