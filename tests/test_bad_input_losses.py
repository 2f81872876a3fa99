"""A loss refuses a bad batch, setting or state in one clear sentence, and does not change."""

import copy
import math

import pytest
import torch
from trials import LOSSES

from emc2_lite.laboratory import embedding_table
from emc2_lite.losses import EMC2Loss, NegativeCacheLoss, SogCLRLoss, global_contrastive_loss, make_criterion

TABLE = embedding_table(num_samples=10, dim=4)
INDEX = torch.tensor([3, 1, 7])
VIEW = torch.tensor([[0, 0, 0], [1, 1, 1]])
REMEMBERED = ("EMC2 remembered", "EMC2 multiproposal remembered")


def batch(**changes):
    z1, z2 = TABLE[INDEX].unbind(1)
    names = {"index": INDEX, "view": VIEW, "generator": torch.Generator().manual_seed(0)}
    return {"z1": z1, "z2": z2, **names, "encode": lambda i, v: TABLE[i, v]} | changes


def visited(name):
    """A loss that has been called once, with a state that asks for encodings of views outside the batch."""
    criterion = LOSSES[name](10, 4, 0.2)
    criterion(**batch())
    if name.startswith("EMC2"):
        criterion.chain_index[:, 0], criterion.chain_index[:, 1] = 0, 9
    if name in REMEMBERED:
        criterion.chain_embedding.copy_(TABLE)  # the highest possible scores
    return criterion


def refusal_of(call, kind=ValueError):
    """The one sentence in which a call is refused."""
    with pytest.raises(kind) as refusal:
        call()
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


class Untouched:
    """A context after which a loss must have its state and readable numbers of before."""

    def __init__(self, criterion):
        self.criterion = criterion

    def __enter__(self):
        self.state, self.stats = copy.deepcopy(self.criterion.state_dict()), self.criterion.stats

    def __exit__(self, *_):
        now = self.criterion.state_dict()
        assert self.state.keys() == now.keys() and self.criterion.stats is self.stats
        assert all(torch.equal(self.state[name], now[name]) for name in now)


def nan_at_one_place(z):
    z = z.clone()
    z[0, 0] = math.nan
    return z


def one_row_of_zeros():
    z = TABLE[INDEX, 1].clone()
    z[1] = 0
    return z


BAD_BATCHES = {
    "z1 has shape (3, 4) and z2 (2, 4): both must be the same (b, d)": {"z2": TABLE[:2, 0]},
    "z1 has shape (3, 1, 4) and z2 (3, 1, 4)": {"z1": TABLE[INDEX][:, :1], "z2": TABLE[INDEX][:, 1:]},
    "z1 is a list: pass a torch.Tensor": {"z1": [[1.0, 0.0]]},
    "z2 is a NoneType: pass a torch.Tensor": {"z2": None},
    "index is a ndarray: pass a torch.Tensor": {"index": INDEX.numpy()},
    "view is a ndarray: pass a torch.Tensor": {"view": VIEW.numpy()},
    "view is a list: pass a torch.Tensor": {"view": VIEW.tolist()},
    "encode is a Tensor: pass a function": {"encode": TABLE},
    "generator is a int: pass a torch.Generator": {"generator": 0},
    "The batch holds 1 sample: at least 2 are needed": {
        "z1": TABLE[:1, 0],
        "z2": TABLE[:1, 1],
        "index": INDEX[:1],
        "view": VIEW[:, :1],
    },
    "z2 is not normalised (lengths from 2 to 2): pass vectors of length 1": {"z2": 2 * TABLE[INDEX, 1]},
    "z1 holds NaN or infinite values": {"z1": nan_at_one_place(TABLE[INDEX, 0])},
    "z2 holds vectors of length 0 (1 of 3): the encoder's output there is all zeros": {"z2": one_row_of_zeros()},
    "z1 is torch.int64: pass floating-point embeddings": {"z1": torch.ones(3, 4).long()},
    "index holds 3 more than once: each sample may come once a batch": {"index": torch.tensor([3, 1, 3])},
    "index holds -1: dataset indices must be": {"index": torch.tensor([3, -1, 7])},
    "index is torch.int32 of shape (3,) on cpu: pass torch.int64 of shape (3,)": {"index": INDEX.int()},
    "index is torch.int64 of shape (2,)": {"index": INDEX[:2]},
    "view is torch.int64 of shape (3, 2) on cpu: pass torch.int64 of shape (2, 3)": {"view": VIEW.T},
    "view holds -1: view numbers start at 0": {"view": VIEW - 1},
    "view holds 0 twice for sample 3: the two views of a sample must differ": {"view": 0 * VIEW},
}
OUT_OF_RANGE = {
    "index holds 10: dataset indices must be from 0 to 9 (num_samples = 10)": {"index": torch.tensor([3, 10, 7])},
}
NO_ENCODING = {
    "was called without encode: pass encode(index, view)": {"encode": None},
    "it must return one embedding a view": {"encode": lambda i, v: TABLE[i, v][:, :2]},
    "What encode returned is a NoneType: pass a torch.Tensor": {"encode": lambda i, v: None},
    "What encode returned is a ndarray: pass a torch.Tensor": {"encode": lambda i, v: TABLE[i, v].numpy()},
    "What encode returned is torch.int64 on cpu: pass floating-point embeddings": {
        "encode": lambda i, v: TABLE[i, v].long()
    },
    "What encode returned holds vectors of length 0": {"encode": lambda i, v: 0 * TABLE[i, v]},
    "What encode returned is not normalised": {"encode": lambda i, v: 3 * TABLE[i, v]},
    "What encode returned holds NaN": {"encode": lambda i, v: math.nan * TABLE[i, v]},
}
FOR = dict.fromkeys(LOSSES, BAD_BATCHES)
FOR |= {name: FOR[name] | OUT_OF_RANGE for name in LOSSES if name not in ("NT-Xent", "DCL")}
FOR |= {name: FOR[name] | NO_ENCODING for name in ("cache", "EMC2", "EMC2 multiproposal", *REMEMBERED)}


@pytest.mark.parametrize(
    ("name", "sentence"), [(name, sentence) for name, sentences in FOR.items() for sentence in sentences]
)
def test_a_bad_batch_is_refused_in_one_sentence_and_changes_nothing(name, sentence):
    criterion = visited(name)
    with Untouched(criterion):
        assert sentence in refusal_of(lambda: criterion(**batch(**FOR[name][sentence])))


@pytest.mark.parametrize(("name", "kept"), {"cache": "cache", **dict.fromkeys(REMEMBERED, "memory")}.items())
def test_embeddings_of_another_length_than_the_kept_ones_are_refused(name, kept):
    wide = embedding_table(num_samples=10, dim=5)
    criterion = visited(name)
    with Untouched(criterion):
        z1, z2 = wide[INDEX].unbind(1)
        sentence = refusal_of(lambda: criterion(z1, z2, INDEX, encode=lambda i, v: wide[i, v]))
    assert f"z1 has d = 5, but the {kept} was made for dim = 4" in sentence


@pytest.mark.parametrize("kernel", ["metropolis", "multiproposal"])
def test_a_call_refused_after_sampling_does_not_change_the_chains(kernel):
    """Slot 0 is captive and needs an encoding with gradient, at the end; slot 1 is new and would have moved."""
    criterion = EMC2Loss(num_samples=10, temperature=0.2, held="stale", kernel=kernel)
    criterion.chain_index[:, 0], criterion.chain_score[:, 0] = 9, 1000
    with Untouched(criterion):
        sentence = refusal_of(lambda: criterion(**batch(encode=lambda i, v: math.nan * TABLE[i, v])))
    assert "What encode returned holds NaN" in sentence and criterion.stats is None


def test_a_call_refused_after_sampling_does_not_change_the_cache():
    """Encoding the refreshed entries succeeds, encoding the drawn ones fails: cache and cursor do not change."""
    criterion, calls = NegativeCacheLoss(10, 4, 0.2, refresh=0.3, num_negatives=20, check_encode=False), []
    criterion.cache.copy_(embedding_table(num_samples=10, dim=4, seed=1))
    criterion.cache_view.copy_(torch.arange(2).expand(10, 2))

    def failing_the_second_time(index, view):
        calls.append(torch.is_grad_enabled())
        return TABLE[index, view] * (1 if len(calls) == 1 else math.nan)

    with Untouched(criterion):
        sentence = refusal_of(lambda: criterion(**batch(encode=failing_the_second_time)))
    assert "What encode returned holds NaN" in sentence and calls == [False, True]
    criterion(**batch())
    assert criterion.cursor == 6


@pytest.mark.parametrize("name", ["cache", "EMC2", "EMC2 multiproposal"])
def test_encodings_without_gradient_are_checked_too(name):
    """Encodings for scores or for the cache are broken; those with gradient, at the end of the call, are sound."""
    criterion = visited(name)
    if name == "cache":
        criterion.refresh = 1
    with Untouched(criterion):
        broken = batch(encode=lambda i, v: TABLE[i, v] * (1 if torch.is_grad_enabled() else math.nan))
        assert "What encode returned holds NaN" in refusal_of(lambda: criterion(**broken))


@pytest.mark.parametrize("name", ["cache", "EMC2", "EMC2 stale", "EMC2 multiproposal", *REMEMBERED])
def test_an_encoding_without_gradient_is_refused_where_it_counts(name):
    """Temperature 0.001; batch views at right angles, all others in their middle, 577 nats nearer than a batch view."""
    table = torch.tensor([1.0, 1, 1, 0]).div(math.sqrt(3)).repeat(10, 2, 1)
    table[INDEX] = torch.eye(4)[:3, None]
    criterion = LOSSES[name](10, 4, 0.001)
    if name == "cache":
        criterion.cache.copy_(table)
        criterion.cache_view.copy_(torch.arange(2).expand(10, 2))
    else:
        criterion.chain_index[:], criterion.chain_score[:] = 9, 577
    if name in REMEMBERED:
        criterion.chain_embedding.copy_(table)
    z1, z2 = table.requires_grad_()[INDEX].unbind(1)

    def call():
        return criterion(z1, z2, INDEX, encode=lambda i, v: table.detach()[i, v], generator=torch.Generator())

    with Untouched(criterion):
        assert "encode returned embeddings without gradient" in refusal_of(call)
    with torch.no_grad():
        call()


BAD_SETTINGS = {
    "burn_in is 1.0: it must be a number from 0, and below 1": lambda: EMC2Loss(10, 0.2, burn_in=1.0),
    "burn_in is -0.1": lambda: EMC2Loss(10, 0.2, burn_in=-0.1),
    "burn_in is nan": lambda: EMC2Loss(10, 0.2, burn_in=math.nan),
    "burn_in is '0.5': it must be a number": lambda: EMC2Loss(10, 0.2, burn_in="0.5"),
    "burn_in is 0.4, and nothing reads it where kernel is 'multiproposal'": lambda: EMC2Loss(
        10, 0.2, burn_in=0.4, kernel="multiproposal"
    ),
    "held is 'cached': use one of encoded, remembered, stale, dropped": lambda: EMC2Loss(10, 0.2, held="cached"),
    "kernel is 'gibbs': use one of metropolis, multiproposal": lambda: EMC2Loss(10, 0.2, kernel="gibbs"),
    "kernel is None: use one of": lambda: EMC2Loss(10, 0.2, kernel=None),
    'kernel is "multiproposal" and held "dropped"': lambda: EMC2Loss(10, 0.2, held="dropped", kernel="multiproposal"),
    'held is "remembered" and dim None: pass dim': lambda: EMC2Loss(10, 0.2, held="remembered"),
    "reencode is 1.5: it must be a number from 0 to 1": lambda: EMC2Loss(
        10, 0.2, held="remembered", dim=4, reencode=1.5
    ),
    "reencode is 0.5, and nothing reads it where held is 'encoded'": lambda: EMC2Loss(10, 0.2, reencode=0.5),
    "check_encode is False, and nothing reads it where held is 'dropped'": lambda: EMC2Loss(
        10, 0.2, held="dropped", check_encode=False
    ),
    "num_samples is 1: it must be a whole number from 2 to 2,147,483,647": lambda: EMC2Loss(1, 0.2),
    "num_samples is '5': it must be a whole number": lambda: EMC2Loss(num_samples="5", temperature=0.2),
    "num_samples is 1: it must be": lambda: SogCLRLoss(1, 0.2),
    "num_samples is 0: it must be": lambda: NegativeCacheLoss(0, 4, 0.2),
    "gamma is 0: it must be a number above 0 and at most 1": lambda: SogCLRLoss(10, 0.2, gamma=0),
    "gamma is 1.5": lambda: SogCLRLoss(10, 0.2, gamma=1.5),
    "gamma is nan": lambda: SogCLRLoss(10, 0.2, gamma=math.nan),
    "gamma is 'x': it must be a number": lambda: SogCLRLoss(10, 0.2, gamma="x"),
    "refresh is -0.1: it must be a number from 0 to 1": lambda: NegativeCacheLoss(10, 4, 0.2, -0.1),
    "refresh is 1.1": lambda: NegativeCacheLoss(10, 4, 0.2, 1.1),
    "refresh is nan": lambda: NegativeCacheLoss(10, 4, 0.2, math.nan),
    "dim is 0: it must be a whole number from 1 to 65,536": lambda: NegativeCacheLoss(10, 0, 0.2),
    "dim is 4.0": lambda: NegativeCacheLoss(10, 4.0, 0.2),
    "num_negatives is 0: it must be a whole number of 1 or more": lambda: NegativeCacheLoss(
        10, 4, 0.2, num_negatives=0
    ),
    "num_negatives is 1.5": lambda: NegativeCacheLoss(10, 4, 0.2, num_negatives=1.5),
    "EMC2 has no setting 'gamma': it has burn_in, held": lambda: make_criterion(
        "EMC2", num_samples=10, dim=4, temperature=0.2, gamma=0.9
    ),
    "chunk_size is '4': it must be a whole number": lambda: global_contrastive_loss(TABLE, 0.2, chunk_size="4"),
}


@pytest.mark.parametrize(("sentence", "make"), BAD_SETTINGS.items(), ids=BAD_SETTINGS)
def test_bad_settings_are_refused_in_one_sentence(sentence, make):
    assert sentence in refusal_of(make)


DAMAGE = {
    "EMC2": {
        "The saved chains hold samples 10 to 10 of 10: the state is damaged": {"chain_index": torch.full((10, 2), 10)},
        "The saved chains hold samples -2 to -2 of 10": {"chain_index": torch.full((10, 2), -2)},
        "The saved chains have shape (10, 1)": {"chain_view": torch.zeros(10, 1)},
        "The saved chains have shape ()": {"chain_score": torch.zeros(())},
    },
    "EMC2 remembered": {
        "The saved chains have shape (10, 2, 5)": {"chain_embedding": torch.zeros(10, 2, 5)},
        "The saved chains remember vectors that are not of length 1": {"chain_embedding": torch.full((10, 2, 4), 1.0)},
        "The saved chains remember vectors that are not of length 1, or NaN: the state is damaged": {
            "chain_embedding": nan_at_one_place(torch.full((10, 2, 4), 0.5))
        },
    },
    "SogCLR": {
        "The saved averages have shape (10,), but this loss was made for 10 samples": {"log_u": torch.zeros(10)},
        "The saved averages hold NaN or infinity: the state is damaged": {
            "log_u": nan_at_one_place(torch.zeros(10, 2))
        },
        "The saved averages hold NaN or infinity": {"log_u": torch.full((10, 2), math.inf)},
    },
    "cache": {
        "The saved cache entries have shape (10, 2, 5)": {"cache": torch.zeros(10, 2, 5)},
        "The saved cache entries have shape (1,)": {"cursor": torch.zeros(1, dtype=torch.int64)},
        "The saved cache entries have shape (10, 1)": {"cache_view": torch.zeros(10, 1, dtype=torch.int64)},
        "The saved cache holds vectors that are not of length 1, or NaN": {"cache": torch.full((10, 2, 4), math.nan)},
        "The saved cache holds vectors that are not of length 1": {"cache": torch.zeros(10, 2, 4)},
    },
}


@pytest.mark.parametrize(
    ("name", "sentence"), [(name, sentence) for name, sentences in DAMAGE.items() for sentence in sentences]
)
def test_a_damaged_state_is_refused_before_anything_is_loaded(name, sentence):
    criterion, other = LOSSES[name](10, 4, 0.2), visited(name)
    with Untouched(criterion):
        assert sentence in refusal_of(lambda: criterion.load_state_dict(other.state_dict() | DAMAGE[name][sentence]))


STATEFUL = {"SogCLR": "averages", "cache": "cache entries", "EMC2": "chains", "EMC2 remembered": "chains"}


@pytest.mark.parametrize(("name", "kept"), STATEFUL.items())
def test_the_state_of_another_dataset_is_refused_before_anything_is_loaded(name, kept):
    criterion, other = LOSSES[name](11, 4, 0.2), visited(name)
    with Untouched(criterion):
        sentence = refusal_of(lambda: criterion.load_state_dict(other.state_dict()))
    assert f"The saved {kept} have shape (10, 2" in sentence and "this loss was made for 11 samples" in sentence


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("left", ["one buffer missing", "one too many", "that of another loss"])
def test_a_state_of_other_buffers_is_refused_before_anything_is_loaded(name, left):
    """A state dict that is cut short, or another loss's, must not load in part."""
    saved = visited(name).state_dict()
    if left == "one buffer missing":
        saved.popitem()
    elif left == "one too many":
        saved |= {"momentum": torch.zeros(())}
    else:
        saved = visited("EMC2" if name == "SogCLR" else "SogCLR").state_dict()
    criterion = LOSSES[name](10, 4, 0.2)
    with Untouched(criterion), pytest.raises((RuntimeError, ValueError)):
        criterion.load_state_dict(saved)
