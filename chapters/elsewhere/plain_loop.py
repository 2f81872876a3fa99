"""A loop of your own in plain PyTorch: every view has a name, (index, view), and `encode` makes it again."""

import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from emc2_lite.losses import EMC2Loss
from emc2_lite.vision import DigitEncoder, SeededViews, load_digits

torch.manual_seed(0)
transform = v2.Compose([v2.RandomAffine(15, (0.1, 0.1), (0.85, 1.15)), v2.ColorJitter(0.4, 0.4)])
views = SeededViews(load_digits("train").images[:256], transform)
loader = DataLoader(views, batch_size=32, shuffle=True, drop_last=True)
encoder = DigitEncoder()
criterion = EMC2Loss(num_samples=len(views), temperature=0.2)
optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)


def encode(index, view):
    return encoder(views(index, view))


for epoch in range(8):
    total = 0.0
    for x1, x2, index, view in loader:
        loss = criterion(encoder(x1), encoder(x2), index, view.T, encode)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += criterion.stats.loss.item()
    print(f"epoch {epoch}: loss {total / len(loader):.3f}")
