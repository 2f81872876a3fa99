"""The imitated device behaves as a real one: its tensors do not mix with the CPU's, and every wait is counted."""

import pytest
import torch
from elsewhere import DEVICE, Elsewhere
from torch import nn


def test_tensors_made_there_say_so_and_compute_as_on_the_cpu():
    with Elsewhere():
        made = [
            torch.zeros(2, 3, device=DEVICE),
            torch.arange(3, device=DEVICE),
            torch.tensor([1.0, 2.0], device=DEVICE),
            torch.ones(2, 3).to(DEVICE),
            torch.randn(3, device="mps"),
        ]
        made += [
            made[0].new_ones(2),
            made[0].new_tensor([1.0]),
            torch.empty_like(made[0]),
            made[0].t(),
            made[0] @ made[0].T,
            made[1].float(),
        ]
        assert all(tensor.device == DEVICE for tensor in made)
        assert torch.zeros(2).device.type == "cpu" and (torch.zeros(2) + torch.ones(2)).device.type == "cpu"
        there = torch.arange(6.0).view(2, 3).to(DEVICE)
        there[1] += 10
        there.view(-1)[0] = 5
        assert there.sum(dim=1).tolist() == [8.0, 42.0]


@pytest.mark.parametrize(
    "mix",
    [
        lambda there, here: there + here,
        lambda there, here: here @ there,
        lambda there, here: torch.cat((there, here)),
        lambda there, here: there.copy_(there).index_select(0, here[0].long()),
        lambda there, here: torch.where(there > 0, there, here),
        lambda there, here: there.index_put_((here[0].long(),), there.clone()),
    ],
)
def test_tensors_of_two_devices_do_not_mix(mix):
    with Elsewhere():
        there, here = torch.ones(2, 2, device=DEVICE), torch.ones(2, 2)
        mix(there, there), mix(here, here)
        with pytest.raises(RuntimeError, match="two devices"):
            mix(there, here)


def test_a_scalar_of_the_cpu_mixes():
    with Elsewhere():
        assert (torch.ones(2, device=DEVICE) * torch.tensor(3.0)).tolist() == [3.0, 3.0]


WAITS = {
    "item": lambda t: t.sum().item(),
    "bool": lambda t: bool(t.sum()),
    "float": lambda t: float(t.sum()),
    "tolist": lambda t: t.tolist(),
    "cpu": lambda t: t.cpu(),
    "to": lambda t: t.to("cpu"),
    "to another tensor's": lambda t: t.to(torch.zeros(1)),
    "nonzero": lambda t: t.nonzero(),
    "unique": lambda t: t.unique(),
    "unique pairs": lambda t: torch.unique(torch.stack((t, t)), dim=1),
    "a mask as an index": lambda t: t[t > 1],
    "a mask to write through": lambda t: t.__setitem__(t > 1, torch.ones(2, device=DEVICE)),
    "masked_select": lambda t: t.masked_select(t > 1),
    "equal": lambda t: torch.equal(t, t),
    "a copy to the CPU": lambda t: torch.zeros(4).copy_(t),
    "a copy from the CPU": lambda t: t.copy_(torch.zeros(4)),
    "an upload": lambda t: torch.zeros(4).to(DEVICE),
    "a tensor from a list": lambda t: torch.tensor([1, 2], device=DEVICE),
}


@pytest.mark.parametrize("name", WAITS)
def test_every_wait_of_the_host_is_counted_once(name):
    with Elsewhere() as elsewhere:
        there = torch.arange(4.0).to(DEVICE, non_blocking=True)
        WAITS[name](there)
    assert elsewhere.waits.total() == 1


def test_work_on_the_device_is_no_wait():
    with Elsewhere() as elsewhere:
        there = torch.arange(4.0).to(DEVICE, non_blocking=True)
        there.copy_(torch.zeros(4), non_blocking=True)
        order = there.argsort()
        there[order] = there.cumsum(0).where(there > 1, 0.0)
        torch.zeros(4, device=DEVICE).scatter_add_(0, order, there).to(there).to(torch.float64).max()
        torch.zeros(4).nonzero(), torch.zeros(4).tolist(), torch.zeros(4).to("cpu")
    assert not elsewhere.waits


def test_its_tensors_have_no_numpy():
    with Elsewhere(), pytest.raises(TypeError, match="numpy"):
        torch.zeros(2, device=DEVICE).numpy()


def test_a_generator_serves_only_its_own_device():
    with Elsewhere():
        there, here = torch.Generator(DEVICE).manual_seed(3), torch.Generator().manual_seed(3)
        assert there.device == DEVICE and here.device.type == "cpu"
        drawn = torch.rand(4, generator=there, device=DEVICE)
        assert drawn.tolist() == torch.rand(4, generator=here).tolist()
        assert torch.equal(there.get_state(), here.get_state())
        for generator, device in ((there, "cpu"), (here, DEVICE)):
            with pytest.raises(RuntimeError, match="device type for generator"):
                torch.rand(4, generator=generator, device=device)
    assert torch.Generator().device.type == "cpu"


def test_a_module_trains_there_as_on_the_cpu():
    def trained(device):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).to(device)
        optimiser, images = torch.optim.Adam(model.parameters(), 0.1), torch.rand(5, 1, 4, 4).to(device)
        for _ in range(5):
            loss = nn.functional.normalize(model(images), dim=1).logsumexp(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert all(p.device == device and p.grad.device == device for p in model.parameters())
        return {name: tensor.cpu() for name, tensor in model.state_dict().items()}

    with Elsewhere():
        here, there = trained(torch.device("cpu")), trained(DEVICE)
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_a_saved_tensor_loads_on_the_cpu(tmp_path):
    with Elsewhere():
        torch.save({"a": torch.arange(3, device=DEVICE)}, tmp_path / "x.pt")
    assert torch.load(tmp_path / "x.pt", weights_only=True)["a"].tolist() == [0, 1, 2]
