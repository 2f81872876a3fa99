"""lightly's data set, transform and projection head, and EMC2 in the place of lightly's loss."""

import torch
from lightly.data import LightlyDataset
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRViewTransform
from torch.nn import functional as F
from torchvision.transforms.v2.functional import to_pil_image

from emc2_lite.losses import EMC2Loss
from emc2_lite.vision import ResNetEncoder, SeededViews, load_digits

torch.manual_seed(0)
digits = [(to_pil_image(image).convert("RGB"), 0) for image in load_digits("train").images[:128]]
dataset = LightlyDataset.from_torch_dataset(digits)  # or LightlyDataset("folder/of/images")
views = SeededViews(dataset, SimCLRViewTransform(input_size=32, cj_strength=0.5, min_scale=0.5))
loader = torch.utils.data.DataLoader(views, batch_size=32, shuffle=True, drop_last=True)
head = SimCLRProjectionHead(64, 64, 32, batch_norm=False)
model = torch.nn.Sequential(ResNetEncoder(8, norm="group").trunk, head)
criterion = EMC2Loss(num_samples=len(views), temperature=0.2)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(6):
    total = 0.0
    for x1, x2, index, view in loader:
        z1, z2 = F.normalize(model(x1)), F.normalize(model(x2))
        loss = criterion(z1, z2, index, view.T, encode=lambda i, v: F.normalize(model(views(i, v))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += criterion.stats.loss.item()
    print(f"epoch {epoch}: loss {total / len(loader):.3f}")
