"""Right and wrong answers to the exercise of chapter 00; letters: rows a and b."""

from torch.nn import functional as F

from emc2_lite.course.checks import start

similarity = start.similarity.reference

RIGHT = [
    (start.similarity, lambda a, b: F.cosine_similarity(a[:, None], b[None], dim=2)),
    (start.similarity, lambda a, b: [[(x @ y / x.norm() / y.norm()).item() for y in b] for x in a]),
]

WRONG = [
    (start.similarity, lambda a, b: (a @ b.T) / (a.norm() * b.norm())),
    (start.similarity, lambda a, b: similarity(a, b).abs()),
    (start.similarity, lambda a, b: similarity(a, b).mean()),
    (start.similarity, lambda a, b: similarity(a, b).clamp_min(0)),
    (start.similarity, lambda a, b: similarity(a, b).acos()),
]
