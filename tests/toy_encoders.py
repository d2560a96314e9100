"""Speech encoders of toy size, with their front ends, saved as on the Hub."""

import torch
from transformers import (
    HubertConfig,
    HubertModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
# Four convolutions, so that half a second is a few frames of 20 ms.
CONVOLUTIONS = {
    "conv_dim": (16, 16, 16, 16),
    "conv_kernel": (10, 8, 4, 4),
    "conv_stride": (5, 4, 4, 4),
    "num_feat_extract_layers": 4,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "intermediate_size": 32,
}


def _wav2vec2(config, model, **settings):
    front_end = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return model(config(**SIZES, **CONVOLUTIONS, **settings)), front_end


def build_toy_encoder(kind):
    """An encoder of random weights and its feature extractor."""
    torch.manual_seed(0)
    if kind == "whisper":
        sizes = {"d_model": 16, "encoder_layers": 4, "decoder_layers": 1, "vocab_size": 32}
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
        widths = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_start_token_id": 0}
        config = WhisperConfig(**sizes, **heads, **tokens, **widths)
        return WhisperModel(config), WhisperFeatureExtractor()
    if kind == "wav2vec2-bert":
        config = Wav2Vec2BertConfig(
            **SIZES, intermediate_size=32, feature_projection_input_dim=160, add_adapter=False
        )
        return Wav2Vec2BertModel(config), SeamlessM4TFeatureExtractor()
    layer = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    return {
        "wav2vec2": lambda: _wav2vec2(Wav2Vec2Config, Wav2Vec2Model),
        "wav2vec2-layer-norm": lambda: _wav2vec2(Wav2Vec2Config, Wav2Vec2Model, **layer),
        "hubert": lambda: _wav2vec2(HubertConfig, HubertModel),
        "wavlm": lambda: _wav2vec2(WavLMConfig, WavLMModel),
    }[kind]()


def save_toy_encoder(folder, kind="whisper", dtype=torch.float32):
    """Save one as a folder that stands for a Hub id; returns the folder as text."""
    model, front_end = build_toy_encoder(kind)
    model.to(dtype).save_pretrained(folder)
    front_end.save_pretrained(folder)
    return str(folder)


def save_whisper(folder, layers=3):
    """A tiny Whisper of random weights, in half precision, as many on the Hub are."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16,
        encoder_layers=layers,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=32,
        num_mel_bins=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperModel(config).half().save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=20).save_pretrained(folder)
    return folder
