"""Classes of diffusers that are no hosts, and why. What is in no list is unknown; `attach` says how to read it."""

FLEX = "attends by flex attention alone, over padded buffers with a cache of its own and a map made of code; attach {}"
WRAPPER = "holds several models and attends by itself nowhere; attach those in its `nets`"

REFUSED: dict[str, str] = {
    "AnyFlowFARTransformer3DModel": FLEX.format("AnyFlowTransformer3DModel, which makes whole videos"),
    "ControlNetXSAdapter": "holds parts for a UNetControlNetXSModel and runs nothing by itself; attach that",
    "Cosmos3OmniTransformer": (
        "it takes one sample without a batch axis, text, video, sound and actions packed in lists, so nothing says "
        "what a batch row is; attach CosmosTransformer3DModel"
    ),
    "FluxMultiControlNetModel": WRAPPER,
    "HunyuanDiT2DMultiControlNetModel": WRAPPER,
    "Kandinsky6SRTransformer3DModel": (
        "it picks blocks of keys from q and k in every call (NABLA), over tokens that stand in tiles and not in rows; "
        "attach the model that makes the video, Kandinsky6Transformer3DModel"
    ),
    "MiniMaxMusic3RVQDepthDecoder": (
        "its sequence is the codes of one moment of sound, which have no places; attach MiniMaxMusic3Transformer1DModel"
    ),
    "MotionAdapter": "holds motion modules for a UNetMotionModel and runs nothing by itself; attach that",
    "MultiControlNetModel": WRAPPER,
    "MultiControlNetUnionModel": WRAPPER,
    "QwenImageMultiControlNetModel": WRAPPER,
    "RFD4ProteinaTransformer": (
        "its tokens are residues of a protein, neither text nor a grid, and what it knows of each pair biases every "
        "score; attach one of its attention modules by hand with layout=Layout.plain(n, 'extra') to read it"
    ),
    "SD3MultiControlNetModel": WRAPPER,
    "T5FilmDecoder": (
        "its attention is not scaled, so diffusers multiplies q, k and v by hand (AttnProcessor) and no call shows "
        "what passes; models of sound that can be read are StableAudioDiTModel and AceStepTransformer1DModel"
    ),
    "TransformerTemporalModel": "stands within U-Nets for video, and its batch rows are frames; attach the U-Net",
    "UNet1DModel": (
        "multiplies q, k and v by hand, so no call can be seen; give its SelfAttention1d a forward that calls "
        "F.scaled_dot_product_attention and attach with layout="
    ),
    "WanAnimate2Transformer3DModel": FLEX.format("WanAnimateTransformer3DModel"),
}
