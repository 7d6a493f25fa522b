"""Rows of COPY cut out of lines of a plan: whatever columns are called and values hold, they are what the line says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.plan.file import change_line
from reconciler.plan.step import WHOLE, Change, Kept, Step, Verb
from reconciler.systems.postgres.staging import _image_row, _update_row  # pyright: ignore[reportPrivateUsage]
from reconciler.systems.storage.copytext import fields

ODD = ["after", "before", "reason", "kept", "key", "has", 'a"b', 'x":"y', "a,b", "\\", "}", "é", '},"after":{', "null"]
names = st.lists(st.sampled_from(ODD) | st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True).map(
    sorted
)
texts = st.sampled_from(
    ['"', "\\", 'a\\"', '","', '"],"has":', '},"after":null,"reason":"', "\t\n\r\b\f", "null", "", ",", '",']
) | st.text(max_size=8)
values = st.none() | texts


def step(verb: Verb, columns: list[str], *, unique: bool = False, whole: bool = False) -> Step:
    key = (WHOLE,) if whole else ("id",)
    shown = ("k",) if unique else ()
    return Step("rows.t[public.t]/x", "production", "public.t", verb, key, dict.fromkeys(columns, "text"), unique=shown)


def images(data: st.DataObject, columns: list[str]) -> dict[str, str | None]:
    return {name: data.draw(values) for name in columns}


@settings(max_examples=300)
@given(names, st.booleans(), st.booleans(), st.data())
def test_an_image(columns: list[str], unique: bool, whole: bool, data: st.DataObject) -> None:
    verb = data.draw(st.sampled_from([Verb.INSERT, Verb.DELETE]))
    loses = verb is Verb.DELETE and (unique or whole)
    of = step(verb, columns, unique=unique or whole, whole=whole)
    image, key, stays = (
        images(data, columns),
        (data.draw(texts),),
        tuple(data.draw(st.lists(texts, min_size=1, max_size=3))),
    )
    before, after = (None, image) if verb is Verb.INSERT else (image, None)
    reason = data.draw(texts)
    kept = Kept(stays, data.draw(values), data.draw(values)) if unique or whole else None
    line = f"{change_line(Change(of.id, key, before, after, reason, kept))}\n".encode()
    expected = [image[name] for name in columns]
    expected += key if whole else ()
    expected += (*stays, reason) if loses else ()
    assert list(fields(_image_row(of, columns)(line)[:-1])) == expected


def test_texts_that_end_like_the_place_between_two() -> None:
    of = step(Verb.DELETE, ["a"], unique=True)
    line = change_line(Change(of.id, ("1",), {"a": "x,"}, None, "r", Kept(('x",', ","), None, None)))
    assert list(fields(_image_row(of, ["a"])(f"{line}\n".encode())[:-1])) == ["x,", 'x",', ",", "r"]


@settings(max_examples=300)
@given(names, st.data())
def test_an_update(columns: list[str], data: st.DataObject) -> None:
    some = st.lists(st.sampled_from(columns), unique=True).map(sorted)
    before, after = images(data, data.draw(some)), images(data, data.draw(some))
    key = tuple(data.draw(st.lists(values, min_size=1, max_size=3)))
    line = f"{change_line(Change('rows.t[public.t]/x', key, before, after, data.draw(texts)))}\n".encode()  # pyright: ignore[reportArgumentType]
    expected = [*key, *(image.get(name) for image in (before, after) for name in columns)]
    expected += ["".join("01"[name in image] for name in columns) for image in (before, after)]
    assert list(fields(_update_row(columns)(line)[:-1])) == expected
