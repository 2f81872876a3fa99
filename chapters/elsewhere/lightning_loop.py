"""EMC2 in a LightningModule: the chains are buffers of the criterion, so Lightning's checkpoints hold them too."""

import pytorch_lightning as pl
import torch
from torchvision.transforms import v2

from emc2_lite.losses import EMC2Loss
from emc2_lite.vision import DigitEncoder, SeededViews, load_digits


class Contrastive(pl.LightningModule):
    def __init__(self, views):
        super().__init__()
        self.views, self.encoder = views, DigitEncoder()
        self.criterion = EMC2Loss(num_samples=len(views), temperature=0.2)

    def training_step(self, batch):
        x1, x2, index, view = batch
        return self.criterion(self.encoder(x1), self.encoder(x2), index, view.T, self.encode)

    def encode(self, index, view):
        return self.encoder(self.views(index, view))

    def on_train_batch_end(self, *_):
        self.log("contrast", self.criterion.stats.loss, on_step=False, on_epoch=True, batch_size=32)

    def on_train_epoch_end(self):
        print(f"epoch {self.current_epoch}: loss {self.trainer.callback_metrics['contrast']:.3f}")

    def configure_optimizers(self):
        return torch.optim.Adam(self.encoder.parameters(), lr=1e-3)


pl.seed_everything(0)
transform = v2.Compose([v2.RandomAffine(15, (0.1, 0.1), (0.85, 1.15)), v2.ColorJitter(0.4, 0.4)])
views = SeededViews(load_digits("train").images[:256], transform)
loader = torch.utils.data.DataLoader(views, batch_size=32, shuffle=True, drop_last=True)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
pl.Trainer(max_epochs=8, accelerator="cpu", **quiet).fit(Contrastive(views), loader)
