"""JSON Schemas as people write them, for hypothesis. In the bounded ones every string, array and number has an end, so that
random weights come to one too."""

from hypothesis import strategies as st

NAMES = st.sampled_from(["name", "total", "line items", "ja?", "größe", "価格", 'quote"d', "a/b"])


def between(most: int):
    """A lower and an upper bound."""
    return st.tuples(st.integers(0, most), st.integers(0, most)).map(sorted)


@st.composite
def strings(draw, bounded: bool) -> dict:
    kind = draw(st.sampled_from(["length", "enum", "pattern", "date"] + ([] if bounded else ["free"])))
    if kind == "enum":
        return {"enum": draw(st.lists(st.text(max_size=8), min_size=1, max_size=4, unique=True))}
    if kind == "pattern":
        return {"type": "string", "pattern": draw(st.sampled_from(["^[A-Z]{2,4}$", r"^\d{1,3}-[a-f]{2}$", "^(yes|no|perhaps)$"]))}
    if kind == "date":
        return {"type": "string", "format": "date"}
    if kind == "free":
        return {"type": "string"}
    least, most = draw(between(12))
    return {"type": "string", "minLength": least, "maxLength": most}


@st.composite
def numbers(draw, bounded: bool) -> dict:
    if not bounded and draw(st.booleans()):
        return {"type": "number"}
    low = draw(st.integers(-1000, 1000))
    return {"type": "integer", "minimum": low, "maximum": low + draw(st.integers(0, 5000))}


PLAIN = st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": "fixed"}, {"const": [1, {"a": None}]}])


@st.composite
def arrays(draw, inner, bounded: bool) -> dict:
    least, most = draw(between(3))
    schema = {"type": "array", "items": draw(inner), "minItems": least}
    return schema | {"maxItems": most} if bounded else schema


@st.composite
def objects(draw, inner) -> dict:
    properties = draw(st.dictionaries(NAMES, inner, min_size=1, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


@st.composite
def choices(draw, inner) -> dict:
    return {"anyOf": draw(st.lists(inner, min_size=1, max_size=3))}


def schemas(bounded: bool = True):
    """An object's schema, with others in it."""
    leaves = st.one_of(strings(bounded), numbers(bounded), PLAIN)
    inner = st.recursive(leaves, lambda it: st.one_of(arrays(it, bounded), objects(it), choices(it)), max_leaves=6)
    return objects(inner)
