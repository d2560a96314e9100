"""Sound and models of toy size."""

import numpy as np
import torch

RATE = 22_025


def make_wave(seconds=1.0, rate=RATE, seed=0):
    """A gliding tone in noise, `(samples,)` float32 in -1 to 1."""
    time = np.arange(round(seconds * rate)) / rate
    glide = 0.3 * np.sin(2 * np.pi * (200 * time + 150 * time**2))
    noise = 0.02 * np.random.default_rng(seed).standard_normal(len(time))
    return (glide + noise).astype(np.float32)


def randomize(model, seed=0):
    """Give parameters and BatchNorm statistics values as training leaves them: none is special."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 16
                tensor.normal_(std=2 * fan_in**-0.5, generator=generator)
    return model
