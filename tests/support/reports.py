"""Hypothesis strategies for the reports of an owner: each field of any value of its declared type."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import strategies as st

from wsadapter.contract.ipc.reports import REPORTS, OwnerReport
from wsadapter.contract.reasons import KINDS, Reason

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
numbers = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.one_of(st.none(), st.booleans(), integers, numbers, texts, st.sampled_from(sorted(KINDS)))
names = st.sampled_from(
    ["kind", "code", "text", "status", "body", "retry_after", "exit_code", "signal", "reason", "stream", "headers", "index"]
)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(names, texts), inner, max_size=4)),
    max_leaves=12,
)
"""Anything that JSON can carry."""
reasons = st.builds(
    Reason,
    kind=st.sampled_from(sorted(KINDS)),
    code=st.none() | integers,
    text=texts,
    status=st.none() | integers,
    body=texts,
    retry_after=st.none() | numbers,
    exit_code=st.none() | integers,
    signal=st.none() | texts.filter(bool),
)
counts = st.integers(0, 2**48 - 1)
subscriptions = texts | st.dictionaries(texts, json_values, max_size=3)
of_type: dict[str, st.SearchStrategy[object]] = {
    "str": texts,
    "str | None": st.none() | texts,
    "bool": st.booleans(),
    "int": integers,
    "int | None": st.none() | integers,
    "Count": counts,
    "float": numbers,
    "Any": json_values,
    "Subscription": subscriptions,
    "Reason": reasons,
    "tuple[Subscription, ...]": st.lists(subscriptions, max_size=4).map(tuple),
    "tuple[Change, ...]": st.lists(st.tuples(counts, counts, st.lists(subscriptions, max_size=2).map(tuple))).map(tuple),
    "tuple[str, ...]": st.lists(texts, max_size=4).map(tuple),
    "dict[str, str]": st.dictionaries(texts, texts, max_size=4),
    "dict[str, str | None]": st.dictionaries(texts, st.none() | texts, max_size=4),
    "dict[str, float]": st.dictionaries(texts, numbers, max_size=4),
}
"""By the annotation of a field."""


def owner_reports() -> st.SearchStrategy[OwnerReport]:
    """Every report, each with any values of the right types."""
    return st.one_of([st.builds(kind, **{f.name: of_type[str(f.type)] for f in fields(kind)}) for kind in REPORTS.values()])
