"""Networks, the LightningModule, augmentation, fitting."""
