"""The named cases that every peer is timed on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One shape with its options: head h of the queries reads head h / (heads / kv_heads) of the keys."""

    name: str
    group: str
    layer: bool = False  # with projections: x (batch, queries, heads · dim)
    batch: int = 1
    heads: int = 8
    kv_heads: int = 8
    queries: int = 1024
    keys: int = 1024
    dim: int = 64
    dtype: str = "float32"
    causal: bool = False
    mask: str = ""  # "", "bool" (half of the pairs, at random) or "float" (a bias per head)

    @property
    def flops(self) -> float:
        """Useful operations: pairs excluded by causality don't count, those of a mask given as data do."""
        if self.causal:
            pairs = sum(min(position + 1, self.keys) for position in range(self.queries))
        else:
            pairs = self.queries * self.keys
        attention = 4.0 * self.batch * self.heads * pairs * self.dim
        width = self.heads * self.dim
        return attention + (8.0 * self.batch * self.queries * width * width if self.layer else 0.0)

    @property
    def bytes_read(self) -> float:
        """Keys and values once: what limits decode."""
        return 2.0 * self.batch * self.kv_heads * self.keys * self.dim * (8 if self.dtype == "float64" else 4)

    @property
    def reads_memory(self) -> bool:
        return self.group == "decode"

    @property
    def series(self) -> tuple[str, str]:
        """What cases of a row of a table have in common, ending in what tells them apart, and that of this case."""
        if self.layer:
            return "layer, batch × tokens × width / heads", (
                f"{self.batch}×{self.queries}×{self.heads * self.dim}/{self.heads}"
            )
        if self.group == "many":
            return "many small, batch × heads × N × D", f"{self.batch}×{self.heads}×{self.queries}×{self.dim}"
        if self.group == "decode":
            heads = f"{self.heads}:{self.kv_heads}" if self.heads > self.kv_heads else f"{self.heads}"
            queries = f", {self.queries} queries" if self.queries > 1 else ""
            return f"decode, {heads} heads of {self.dim}{queries}, keys", f"{self.keys}"
        if self.queries != self.keys:
            return f"cross attention, D={self.dim}, queries × keys", f"{self.queries}×{self.keys}"
        kind = "causal" if self.causal else "prefill"
        kind = {"": kind, "bool": "boolean mask, half at random", "float": "bias of each head"}[self.mask]
        heads = f", {self.heads}:{self.kv_heads} heads" if self.heads > self.kv_heads else ""
        double = " in double" if self.dtype == "float64" else ""
        return f"{kind}{double}{heads}, D={self.dim}, N", f"{self.queries}"


def _square(name: str, group: str, dim: int, length: int, **options: object) -> Case:
    return Case(f"{name}-d{dim}-n{length}", group, queries=length, keys=length, dim=dim, **options)  # type: ignore[arg-type]


def _all_cases() -> list[Case]:
    cases = [
        _square("prefill", "prefill", dim, length)
        for dim in (32, 64, 128)
        for length in (16, 64, 128, 256, 512, 1024, 2048, 4096)
    ]
    cases += [
        _square("causal", "causal", dim, length, causal=True)
        for dim in (32, 64, 128)
        for length in (128, 512, 1024, 4096)
    ]
    for dim in (64, 128):
        cases += [_square("float64", "float64", dim, length, dtype="float64") for length in (128, 1024, 4096)]
        cases.append(_square("float64-causal", "float64", dim, 1024, dtype="float64", causal=True))
    cases += [
        *(_square("prefill", "options", dim, 1024) for dim in (80, 96, 256)),
        Case("cross-d64-n77-k1500", "options", queries=77, keys=1500),
        Case("mask-bool-d64-n1024", "options", mask="bool"),
        Case("mask-float-d64-n1024", "options", mask="float"),
        Case("grouped-causal-h32-8-d128-n1024", "options", heads=32, kv_heads=8, dim=128, causal=True),
    ]
    for kv_heads in (32, 8):
        decode = dict(group="decode", heads=32, kv_heads=kv_heads, dim=128)
        cases += [
            Case(f"decode-h32-{kv_heads}-d128-k{keys}", queries=1, keys=keys, **decode)  # type: ignore[arg-type]
            for keys in (512, 4096, 32768)
        ]
        cases.append(Case(f"decode-h32-{kv_heads}-d128-k4096-n4", queries=4, keys=4096, **decode))  # type: ignore[arg-type]
    cases += [
        Case(f"decode-h{heads}-{heads}-d64-k65536", "decode", heads=heads, kv_heads=heads, queries=1, keys=65536)
        for heads in (2, 1)
    ]
    cases += [
        Case("many-b256-h12-d64-n50", "many", batch=256, heads=12, kv_heads=12, queries=50, keys=50),
        Case("many-b32-h8-d64-n128", "many", batch=32, queries=128, keys=128),
    ]
    for batch, length, width, heads in ((1, 128, 512, 8), (1, 1024, 768, 12), (8, 512, 768, 12), (1, 64, 64, 4)):
        cases.append(
            Case(
                f"layer-b{batch}-n{length}-e{width}-h{heads}",
                "layer",
                layer=True,
                batch=batch,
                heads=heads,
                kv_heads=heads,
                queries=length,
                keys=length,
                dim=width // heads,
            )
        )
    return cases


CASES = {case.name: case for case in _all_cases()}

# A minute's impression of every kind.
SHORT = (
    "prefill-d64-n16",
    "prefill-d64-n128",
    "prefill-d64-n1024",
    "causal-d64-n1024",
    "float64-d64-n1024",
    "mask-bool-d64-n1024",
    "decode-h32-8-d128-k4096",
    "layer-b1-n128-e512-h8",
)


def choose(wanted: str) -> list[Case]:
    """Cases by comma-separated beginnings of their names or groups; "short", "all"; -BEGINNING leaves out."""

    def hit(case: Case, beginning: str) -> bool:
        return (
            beginning == "all"
            or (beginning == "short" and case.name in SHORT)
            or case.name.startswith(beginning)
            or case.group.startswith(beginning)
        )

    words = wanted.split(",")
    taken = [word for word in words if not word.startswith("-")] or ["all"]
    left_out = [word[1:] for word in words if word.startswith("-")]
    unknown = [word for word in taken + left_out if not any(hit(case, word) for case in CASES.values())]
    if unknown:
        raise SystemExit(f"no case begins with {', '.join(unknown)}; --list shows all")
    return [
        case
        for case in CASES.values()
        if any(hit(case, word) for word in taken) and not any(hit(case, word) for word in left_out)
    ]
