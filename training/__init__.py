"""What the training scripts share: settings, data, augmentation, sampling, state."""
